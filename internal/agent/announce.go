package agent

import (
	"fmt"
	"time"

	"tombolo/internal/api"
	"tombolo/internal/kernel"
	"tombolo/internal/key"
	"tombolo/internal/state"
)

// announcements says of each prefix of the router whether it is announced now, and why.
func (o *observer) announcements(r state.Router, s sight) []api.Announcement {
	if r.Babel == nil {
		return nil
	}
	out := make([]api.Announcement, 0, len(r.Babel.Announce))
	for _, a := range r.Babel.Announce {
		x := api.Announcement{Announcement: a}
		x.Now, x.Why = o.condition(r, s, a)
		out = append(out, x)
	}
	return out
}

// condition reports whether an announcement's condition holds, in words too.
func (o *observer) condition(r state.Router, s sight, a state.Announcement) (bool, string) {
	switch a.While {
	case state.Always:
		return true, "always"
	case state.Works:
		if o.works(a.Dst.Addr().Is6()) {
			return true, "an uplink works"
		}
		return false, "no uplink works"
	case state.Carrier, state.Probe:
		d, there := s.devices[a.Device]
		if word := deviceState(d, there); word != "up" {
			return false, fmt.Sprintf("%s is %s", a.Device, word)
		}
		if a.While == state.Carrier {
			return true, a.Device + " has carrier"
		}
		if o.probes[a.Probe].well() {
			return true, fmt.Sprintf("%s answers", a.Probe)
		}
		return false, fmt.Sprintf("%s does not answer", a.Probe)
	case state.Handshake:
		at := handshakeOf(r, s.tunnels[a.Device], a.Device, a.Peer)
		if at.IsZero() {
			return false, a.Peer + " never had a handshake"
		}
		if time.Since(at) > sessionLife {
			return false, fmt.Sprintf("%s had its last handshake at %s", a.Peer, at.Format(time.TimeOnly))
		}
		return true, a.Peer + " is connected"
	}
	return false, fmt.Sprintf("this version does not know the condition %q", a.While)
}

// deviceState says in a word how a device is.
func deviceState(d kernel.Device, there bool) string {
	switch {
	case !there:
		return "missing"
	case !d.Up:
		return "down"
	case !d.Carrier:
		return "without carrier"
	}
	return "up"
}

// handshakeOf returns the time of the last handshake with a peer, by its name; zero if there
// was none.
func handshakeOf(r state.Router, t kernel.Tunnel, device, name string) time.Time {
	for _, f := range r.Interfaces {
		if f.Name != device || f.WireGuard == nil {
			continue
		}
		for _, p := range f.WireGuard.Peers {
			if p.Name == name {
				return unixTime(peerOf(t, p.PublicKey).Handshake)
			}
		}
	}
	return time.Time{}
}

func peerOf(t kernel.Tunnel, k key.Public) state.Peer {
	for _, p := range t.Peers {
		if p.PublicKey == k {
			return p
		}
	}
	return state.Peer{}
}

func unixTime(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}
