package cli

import (
	"testing"

	"tombolo/internal/state"
)

func TestALinkWithoutHandshakesIsSilent(t *testing.T) {
	const now = 1_800_000_000
	for _, c := range []struct {
		name      string
		handshake int64
		babel     *state.Babel
		peer      string
		want      bool
	}{
		{"fresh", now - 179, babelOn("wg-b"), "b", false},
		{"old", now - 181, babelOn("wg-b"), "b", true},
		{"never", 0, babelOn("wg-b"), "b", true},
		{"somebody else's", 0, babelOn("wg-b"), "c", false},
		{"on which nobody speaks", 0, babelOn("wg-c"), "b", false},
		{"of a static router", 0, nil, "b", false},
	} {
		h := heldState{Now: now, State: state.Router{Babel: c.babel, Interfaces: []state.Interface{
			{Name: "wg-b", WireGuard: &state.WireGuard{Peers: []state.Peer{{Name: "b", Handshake: c.handshake}}}},
		}}}
		l := live{held: map[string]heldState{"a": h}}
		if got := l.silent("a", c.peer); got != c.want {
			t.Errorf("%s: silent is %v", c.name, got)
		}
		if l.silent("b", "a") {
			t.Errorf("%s: of who did not answer nothing is known", c.name)
		}
	}
}

func babelOn(device string) *state.Babel {
	return &state.Babel{Links: []state.BabelLink{{Device: device, Tunnel: true}}}
}
