package udp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"tombolo/internal/babel/space"
	"tombolo/internal/babel/wire"
)

// router is a network namespace with a socket.
type router struct {
	*space.Space
	socket *Socket        // nil: none
	batch  *Batch         //
	own    netip.Addr     // its link-local address
	index  map[string]int // of its devices
}

func newRouter(t testing.TB, own string) *router {
	t.Helper()
	return &router{Space: space.New(t), own: netip.MustParseAddr(own), batch: NewBatch(), index: map[string]int{}}
}

// device gives a device the router's link-local address and brings it up.
func (r *router) device(name string) int {
	r.T.Helper()
	r.Sh(fmt.Sprintf(`ip link set %[1]s addrgenmode none
		ip address add %[2]s/64 dev %[1]s nodad; ip link set %[1]s up`, name, r.own))
	r.In(func() {
		i, err := net.InterfaceByName(name)
		if err != nil {
			r.T.Error(err)
			return
		}
		r.index[name] = i.Index
	})
	return r.index[name]
}

// open opens the router's socket and joins the group on its devices.
func (r *router) open(start time.Time) {
	r.T.Helper()
	var err error
	r.In(func() { r.socket, err = Open(start) })
	if err != nil {
		r.T.Fatal(err)
	}
	r.T.Cleanup(func() { r.socket.Close() })
	for _, index := range r.index {
		if err := r.socket.Join(index); err != nil {
			r.T.Fatal(err)
		}
	}
}

// pair is two routers with sockets, of one clock, at the ends of a veth v0–v0.
func pair(t testing.TB, start time.Time) (a, b *router) {
	t.Helper()
	a, b = newRouter(t, "fe80::a"), newRouter(t, "fe80::b")
	a.Sh(fmt.Sprintf(`ip link add v0 mtu 9000 address 02:00:00:00:00:0a type veth peer name v0 mtu 9000 address 02:00:00:00:00:0b netns %d`, b.Thread))
	for _, r := range []*router{a, b} {
		r.device("v0")
		r.open(start)
	}
	// They know each other's address, lest a burst wait for that.
	a.Sh("ip neighbour replace fe80::b lladdr 02:00:00:00:00:0b dev v0")
	b.Sh("ip neighbour replace fe80::a lladdr 02:00:00:00:00:0a dev v0")
	a.greet(b, "v0")
	b.greet(a, "v0")
	return a, b
}

// greet sends to the group until the other hears it: a device that has just come up drops
// what it is given.
func (r *router) greet(other *router, device string) {
	r.T.Helper()
	for end := time.Now().Add(10 * time.Second); ; {
		_ = r.socket.Send(r.index[device], r.own, wire.Group, []byte("first"))
		if len(other.receive(20*time.Millisecond)) > 0 {
			break
		}
		if time.Now().After(end) {
			r.T.Fatal("10 s after the device came up no packet to the group arrives")
		}
	}
	for len(other.receive(20*time.Millisecond)) > 0 {
	}
}

func (r *router) send(device string, to netip.Addr, payload string) {
	r.T.Helper()
	if err := r.socket.Send(r.index[device], r.own, to, []byte(payload)); err != nil {
		r.T.Fatal(err)
	}
}

// receive waits for packets at most for so long; none then.
func (r *router) receive(wait time.Duration) []Packet {
	r.T.Helper()
	if err := r.socket.file.SetReadDeadline(time.Now().Add(wait)); err != nil {
		r.T.Fatal(err)
	}
	got, err := r.socket.Receive(r.batch)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		r.T.Fatal(err)
	}
	return got
}

// one waits for one packet.
func (r *router) one() Packet {
	r.T.Helper()
	got := r.receive(10 * time.Second)
	if len(got) != 1 {
		r.T.Fatalf("%d packets came, want 1", len(got))
	}
	return got[0]
}

// quiet checks that nothing comes. after makes sure that what was sent before has come:
// it sends what does.
func (r *router) quiet(after func()) {
	r.T.Helper()
	after()
	if p := r.one(); string(p.Payload) != "last" {
		r.T.Errorf("came: %q from %s to %s", p.Payload, p.From, p.To)
	}
}

func (r *router) flags(device string) (flags net.Flags) {
	r.In(func() {
		i, err := net.InterfaceByName(device)
		if err != nil {
			r.T.Error(err)
			return
		}
		flags = i.Flags
	})
	return flags
}
