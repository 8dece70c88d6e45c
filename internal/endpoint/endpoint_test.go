package endpoint_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tombolo/internal/endpoint"
	"tombolo/internal/key"
	"tombolo/internal/plan"
	"tombolo/internal/state"
)

var errNoSuchHost = errors.New("no such host")

// names is a Lookup over a table.
func names(table map[string][]string) endpoint.Lookup {
	return func(_ context.Context, host string) ([]netip.Addr, error) {
		if a, err := netip.ParseAddr(host); err == nil {
			return []netip.Addr{a}, nil
		}
		texts, ok := table[host]
		if !ok {
			return nil, errNoSuchHost
		}
		var out []netip.Addr
		for _, s := range texts {
			out = append(out, netip.MustParseAddr(s))
		}
		return out, nil
	}
}

func always(netip.Addr) bool     { return true }
func only4(a netip.Addr) bool    { return a.Is4() }
func only6(a netip.Addr) bool    { return a.Is6() }
func nothing(netip.Addr) bool    { return false }
func at(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func router(peers ...state.Peer) state.Router {
	return state.Router{
		Owner: state.DefaultOwner(),
		Interfaces: []state.Interface{{Name: "wg-op1", Alias: "tombolo home op1",
			Kind: state.WireGuardKind, WireGuard: &state.WireGuard{Peers: peers}}},
	}
}

func TestResolvePutsRoutedAddressesFirst(t *testing.T) {
	lookup := names(map[string][]string{"op1.example.net": {"2001:db8::1", "192.0.2.1"}})
	for _, tt := range []struct {
		name  string
		reach endpoint.Reach
		want  []netip.AddrPort
	}{
		{"both families", always, []netip.AddrPort{at("192.0.2.1:51822"), at("[2001:db8::1]:51822")}},
		{"IPv4 alone", only4, []netip.AddrPort{at("192.0.2.1:51822"), at("[2001:db8::1]:51822")}},
		{"IPv6 alone", only6, []netip.AddrPort{at("[2001:db8::1]:51822"), at("192.0.2.1:51822")}},
		{"no route at all", nothing, []netip.AddrPort{at("192.0.2.1:51822"), at("[2001:db8::1]:51822")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, errs := endpoint.Resolve(t.Context(), router(state.Peer{Name: "op1", Endpoints: []string{"op1.example.net:51822"}}), lookup, tt.reach)
			if len(errs) > 0 {
				t.Fatal(errs)
			}
			if got := r.Interfaces[0].WireGuard.Peers[0].Addresses; !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestResolveGoesOnPastANameThatDoesNotResolve(t *testing.T) {
	before := router(
		state.Peer{Name: "op1", Endpoints: []string{"gone.example.net:51822", "192.0.2.9:51822"}},
		state.Peer{Name: "op3", Endpoints: []string{"[2001:db8::3]:51822"}})
	r, errs := endpoint.Resolve(t.Context(), before, names(nil), always)
	if len(errs) != 1 || errs[0].Error() != "resolve endpoint gone.example.net:51822 of op1: no such host" {
		t.Errorf("errors: %v", errs)
	}
	peers := r.Interfaces[0].WireGuard.Peers
	if !slices.Equal(peers[0].Addresses, []netip.AddrPort{at("192.0.2.9:51822")}) ||
		!slices.Equal(peers[1].Addresses, []netip.AddrPort{at("[2001:db8::3]:51822")}) {
		t.Errorf("got %+v", peers)
	}
	if before.Interfaces[0].WireGuard.Peers[0].Addresses != nil {
		t.Error("the argument was changed")
	}
}

// A name that moved is followed; a peer that does not answer is tried at its next address,
// but only while we send to it; and a peer that answers is left where it is.
func TestSteer(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	fresh, old := now.Add(-time.Minute).Unix(), now.Add(-4*time.Minute).Unix()
	k := key.Public{1}
	first, second, elsewhere := at("192.0.2.1:51822"), at("198.51.100.1:51822"), at("203.0.113.7:51822")
	for _, tt := range []struct {
		name         string
		used         []netip.AddrPort
		handshake    int64
		before, sent uint64
		candidates   []netip.AddrPort
		want         []netip.AddrPort // empty: no change
	}{
		{"answers", []netip.AddrPort{first}, fresh, 10, 20, []netip.AddrPort{first, second}, nil},
		{"answers at the second", []netip.AddrPort{second}, fresh, 10, 20, []netip.AddrPort{first, second}, nil},
		{"silent, and we send", []netip.AddrPort{first}, old, 10, 20, []netip.AddrPort{first, second}, []netip.AddrPort{second}},
		{"silent at the last", []netip.AddrPort{second}, old, 10, 20, []netip.AddrPort{first, second}, []netip.AddrPort{first}},
		{"silent, and we do not send", []netip.AddrPort{first}, old, 20, 20, []netip.AddrPort{first, second}, nil},
		{"silent, with one address", []netip.AddrPort{first}, old, 10, 20, []netip.AddrPort{first}, nil},
		{"it roamed, and answers", []netip.AddrPort{elsewhere}, fresh, 10, 20, []netip.AddrPort{first}, nil},
		{"it roamed, and went silent", []netip.AddrPort{elsewhere}, old, 10, 20, []netip.AddrPort{first}, []netip.AddrPort{first}},
		{"never had one", nil, 0, 0, 0, []netip.AddrPort{first}, []netip.AddrPort{first}},
		{"the name does not resolve", []netip.AddrPort{first}, old, 10, 20, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := router(state.Peer{Name: "op1", PublicKey: k, Addresses: tt.candidates, Keepalive: 25})
			have := func(sent uint64) state.Router {
				return router(state.Peer{PublicKey: k, Addresses: tt.used, Handshake: tt.handshake, Sent: sent, Keepalive: 25})
			}
			var w endpoint.Watch
			w.Steer(have(tt.before), want, now.Add(-30*time.Second))
			ops := w.Steer(have(tt.sent), want, now)
			if len(tt.want) == 0 {
				if len(ops) != 0 {
					t.Fatalf("got %v, want no change", ops)
				}
				return
			}
			changed := have(tt.sent).Interfaces[0].WireGuard.Peers[0]
			changed.Addresses = tt.want
			wantOps := []plan.Op{{Verb: plan.Change, Object: plan.Peer{Interface: "wg-op1", Peer: changed},
				Before: plan.Peer{Interface: "wg-op1", Peer: have(tt.sent).Interfaces[0].WireGuard.Peers[0]}}}
			if d := cmp.Diff(wantOps, ops, cmpopts.EquateComparable(netip.AddrPort{})); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestSteerLeavesForeignInterfacesAlone(t *testing.T) {
	want := router(state.Peer{PublicKey: key.Public{1}, Addresses: []netip.AddrPort{at("192.0.2.1:1")}})
	have := router(state.Peer{PublicKey: key.Public{1}})
	have.Interfaces[0].Alias = "made by hand"
	var w endpoint.Watch
	if ops := w.Steer(have, want, time.Unix(1, 0)); len(ops) != 0 {
		t.Errorf("got %v", ops)
	}
}

// Where the routing protocol hears nobody the next address is tried, unless there is data.
func TestSteerTriesTheNextAddressOfWhoIsSilent(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	first, second := at("192.0.2.1:51822"), at("198.51.100.1:51822")
	for _, c := range []struct {
		name           string
		silent         bool
		sent, received uint64
		moves          bool
	}{
		{"silent", true, 20, 10, true},
		{"silent, and there is no route to where it is", true, 10, 10, true},
		{"silent, but there is data", true, 20, 11, false},
		{"heard", false, 20, 10, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := router(state.Peer{PublicKey: key.Public{1}, Addresses: []netip.AddrPort{first, second}})
			have := func(sent, received uint64) state.Router {
				return router(state.Peer{PublicKey: key.Public{1}, Addresses: []netip.AddrPort{first}, Handshake: now.Unix() - 60, Sent: sent, Received: received})
			}
			w := endpoint.Watch{Silent: map[string]bool{"wg-op1": c.silent}}
			w.Steer(have(10, 10), want, now.Add(-time.Second))
			ops := w.Steer(have(c.sent, c.received), want, now)
			if moves := len(ops) == 1 && ops[0].Object.(plan.Peer).Addresses[0] == second; moves != c.moves || len(ops) > 1 {
				t.Errorf("got %v", ops)
			}
		})
	}
}

// A name that moved is followed, also while the old address still answers.
func TestSteerFollowsANameThatMoved(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	want := func(a string) state.Router {
		return router(state.Peer{PublicKey: key.Public{1}, Addresses: []netip.AddrPort{at(a)}})
	}
	have := want("192.0.2.1:51822")
	have.Interfaces[0].WireGuard.Peers[0].Handshake = now.Unix()
	var w endpoint.Watch
	if ops := w.Steer(have, want("192.0.2.1:51822"), now); len(ops) != 0 {
		t.Errorf("got %v, want no change", ops)
	}
	ops := w.Steer(have, want("198.51.100.1:51822"), now)
	if len(ops) != 1 || ops[0].Object.(plan.Peer).Addresses[0] != at("198.51.100.1:51822") {
		t.Errorf("got %v", ops)
	}
}

func TestRoamedPeerIsNoPlan(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	first, elsewhere := at("192.0.2.1:51822"), at("203.0.113.7:40000")
	want := router(state.Peer{PublicKey: key.Public{1}, Addresses: []netip.AddrPort{first}})
	have := router(state.Peer{PublicKey: key.Public{1}, Addresses: []netip.AddrPort{elsewhere}, Handshake: now.Unix() - 60})
	have.Interfaces[0].WireGuard.PublicKey, want.Interfaces[0].WireGuard.PublicKey = key.Public{2}, key.Public{2}
	if p := plan.Diff(have, endpoint.Roamed(have, want, state.Router{}, now)); !p.Empty() {
		t.Errorf("a peer that answers is moved: %v", p.Ops)
	}
	if p := plan.Diff(have, endpoint.Roamed(have, want, have, now)); len(p.Ops) != 1 {
		t.Errorf("a peer whose endpoint the file changed is not moved: %v", p.Ops)
	}
	if got := want.Interfaces[0].WireGuard.Peers[0].Addresses; len(got) != 1 {
		t.Error("the argument was changed")
	}
}

// A peer behind a NAT that somebody removed comes back with the address that it had: we
// speak first, and do not wait for it to find out.
func TestAPeerThatIsGoneKeepsItsAddress(t *testing.T) {
	used, named := at("203.0.113.7:40000"), at("192.0.2.1:51822")
	want := router(state.Peer{PublicKey: key.Public{1}}, state.Peer{PublicKey: key.Public{2}, Addresses: []netip.AddrPort{named}})
	was := router(state.Peer{PublicKey: key.Public{1}, Addresses: []netip.AddrPort{used}}, state.Peer{PublicKey: key.Public{2}, Addresses: []netip.AddrPort{used}})
	there := router(state.Peer{PublicKey: key.Public{1}, Addresses: []netip.AddrPort{at("198.51.100.1:1")}})
	for _, c := range []struct {
		name       string
		have, last state.Router
		want       []netip.AddrPort
	}{
		{"the interface is gone", state.Router{}, was, []netip.AddrPort{used}},
		{"the peer is gone", router(), was, []netip.AddrPort{used}},
		{"it is there", there, was, nil},
		{"nobody remembers it", router(), state.Router{}, nil},
	} {
		peers := endpoint.Remembered(c.have, c.last, want).Interfaces[0].WireGuard.Peers
		if !slices.Equal(peers[0].Addresses, c.want) {
			t.Errorf("%s: %v, want %v", c.name, peers[0].Addresses, c.want)
		}
		if !slices.Equal(peers[1].Addresses, []netip.AddrPort{named}) {
			t.Errorf("%s: who has a name is at %v", c.name, peers[1].Addresses)
		}
	}
	if len(want.Interfaces[0].WireGuard.Peers[0].Addresses) > 0 {
		t.Error("the argument was changed")
	}
}
