package api

import "net"

// Root has a room of its own: whatever others do, `apply` and `down` find the agent. And
// those who stay leave place for those who ask and go.
const (
	maxRoot    = 64
	maxOthers  = 32
	maxLasting = 16 // of those of a room, who watch or ping
)

// room is for clients of one kind.
type room struct{ clients, lasting chan struct{} }

func newRoom(size int) room {
	return room{make(chan struct{}, size), make(chan struct{}, maxLasting)}
}

// enter takes a place, if there is one.
func enter(places chan struct{}) bool {
	select {
	case places <- struct{}{}:
		return true
	default:
		return false
	}
}

func leave(places chan struct{}) { <-places }

// full tells a client that there is no place.
func full(c net.Conn) {
	_ = sayTo(c, Reply{Error: "the agent has too many clients: who watches or pings?"})
}

// lasts reports whether a request stays until its client goes.
func lasts(r Request) bool { return r.Do == DoWatch || r.Do == DoPing }
