package agent

import (
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tombolo/internal/api"
	"tombolo/internal/babel"
	"tombolo/internal/babel/wire"
	"tombolo/internal/kernel"
	"tombolo/internal/state"
)

// startDoor runs a whole agent at whose door n devices may enter.
func startDoor(t *testing.T, n int) (*bench, *fakeDoor) {
	door := newFakeDoor()
	for i := range n {
		door.sessions[publicOf(i)] = kernel.Session{Peer: publicOf(i)}
	}
	w := wantedOf(withClients(n))
	b := start(t, &w, nil, func(o *Options) {
		o.Machine.Door = func(Wanted) (Door, error) { return door, nil }
	})
	return b, door
}

func peersOf(r state.Router) []state.Peer { return r.Interfaces[0].WireGuard.Peers }

// A peer that is away for a moment, or is asked whether it is there, is no drift; one that
// does not come back is.
func TestWhatTheRoamingDoesIsNoDrift(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, door := startDoor(t, 3)
		defer func() { _ = b.stop() }()
		wantHolds(t, b.kernel, withClients(3))
		door.removed = func(p state.Peer, gone bool) {
			b.kernel.Meddle(func(r *state.Router) {
				peers := slices.DeleteFunc(peersOf(*r), func(q state.Peer) bool { return q.PublicKey == p.PublicKey })
				if !gone {
					p.Keepalive = 1
					peers = append(peers, p)
				}
				r.Interfaces[0].WireGuard.Peers = peers
			})
			if gone {
				poke(b.agent.base.record)
				time.Sleep(100 * time.Millisecond) // in which there is a pass
			}
		}
		before, reads := len(b.kernel.Commands()), b.kernel.reads.Load()
		door.mu.Lock()
		door.sessions[publicOf(0)] = kernel.Session{Peer: publicOf(0), Endpoint: netip.MustParseAddrPort(at1), Handshake: time.Now().UnixNano()}
		door.mu.Unlock()
		time.Sleep(2 * time.Second)
		b.agent.roaming.displaced(map[uint64]displacement{1: {contested: true}})
		time.Sleep(200 * time.Millisecond)
		poke(b.agent.base.record)
		time.Sleep(200 * time.Millisecond)
		if n := len(b.kernel.Commands()) - before; n != 0 || b.kernel.reads.Load() == reads {
			t.Errorf("in %d reads it found %d things to do: %v", b.kernel.reads.Load()-reads, n, b.kernel.Commands()[before:])
		}
		time.Sleep(time.Second) // it is calm, says the roaming; here it is not, and that is put right
		poke(b.agent.base.record)
		time.Sleep(time.Second)
		wantHolds(t, b.kernel, withClients(3))
		door.removed = func(state.Peer, bool) {}
		b.kernel.Meddle(func(r *state.Router) { r.Interfaces[0].WireGuard.Peers = peersOf(*r)[1:] })
		door.mu.Lock()
		delete(door.sessions, publicOf(0))
		door.mu.Unlock()
		time.Sleep(otherPeersAgain + lookSeldom)
		wantHolds(t, b.kernel, withClients(3))
	})
}

// The endpoint of a device that is not here is not remembered for when its peer is missing.
func TestOnlyDevicesThatAreHereGetTheirEndpointBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, door := startDoor(t, 2)
		defer func() { _ = b.stop() }()
		door.mu.Lock()
		for i := range 2 {
			door.sessions[publicOf(i)] = kernel.Session{Peer: publicOf(i), Endpoint: netip.MustParseAddrPort(at1), Handshake: time.Now().UnixNano()}
		}
		door.mu.Unlock()
		b.kernel.Meddle(func(r *state.Router) {
			for i := range peersOf(*r) {
				peersOf(*r)[i].Addresses = []netip.AddrPort{netip.MustParseAddrPort(at1)}
			}
		})
		poke(b.agent.base.record)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		b.agent.roaming.displaced(map[uint64]displacement{b.agent.roaming.guests[publicOf(1)].visit: {}})
		time.Sleep(time.Second)
		b.kernel.meddle(func(r *state.Router) { r.Interfaces = nil }, kernel.Change{All: true})
		time.Sleep(2 * time.Second)
		synctest.Wait()
		have, err := b.kernel.Kernel.Read(t.Context(), state.Router{})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range peersOf(have) {
			if located := len(p.Addresses) > 0; located != (p.PublicKey == publicOf(0)) {
				t.Errorf("the peer %v was added with %v", p.PublicKey, p.Addresses)
			}
		}
	})
}

// The host is told by the roaming who is here, and tells it of those that another door took:
// all prefixes of a device go together.
func TestTheHostAttachesWhoIsHereAndGivesUpWhoIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, door := startDoor(t, 2)
		defer func() { _ = b.stop() }()
		shake := func(i int) {
			door.mu.Lock()
			door.sessions[publicOf(i)] = kernel.Session{Peer: publicOf(i), Endpoint: netip.MustParseAddrPort(at1), Handshake: time.Now().UnixNano()}
			door.mu.Unlock()
			time.Sleep(lookSeldom)
		}
		h := b.agent.routing.host()
		attached := func() map[string]bool {
			out := map[string]bool{}
			if err := h.do(t.Context(), func() {
				for k, a := range h.attached {
					out[k.Dst.String()] = !a.lost
				}
			}); err != nil {
				t.Fatal(err)
			}
			return out
		}
		shake(0)
		shake(1)
		if d := cmp.Diff(map[string]bool{"10.40.0.0/32": true, "fd40::/128": true, "10.40.0.1/32": true, "fd40::1/128": true}, attached()); d != "" {
			t.Error(d)
		}
		err := h.do(t.Context(), func() {
			h.carry(babel.Output{Displaced: []babel.Displacement{{Key: keyTo("10.40.0.0/32"), By: wire.RouterID{0x0a, 0, 0x20, 2}}}})
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(lookSeldom)
		if did := door.done(); did != "drop device0" {
			t.Errorf("it did %q", did)
		}
		if d := cmp.Diff(map[string]bool{"10.40.0.1/32": true, "fd40::1/128": true}, attached()); d != "" {
			t.Error(d)
		}
		shake(0)
		if d := cmp.Diff(map[string]bool{"10.40.0.0/32": true, "fd40::/128": true, "10.40.0.1/32": true, "fd40::1/128": true}, attached()); d != "" {
			t.Error(d)
		}
	})
}

func TestStatusTellsWhereDevicesAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, door := startDoor(t, 2)
		defer func() { _ = b.stop() }()
		came := time.Now()
		door.mu.Lock()
		door.sessions[publicOf(0)] = kernel.Session{
			Peer: publicOf(0), Endpoint: netip.MustParseAddrPort(at1), Handshake: came.UnixNano(), Received: 100, Sent: 200,
		}
		door.mu.Unlock()
		time.Sleep(10 * time.Second)
		s, err := b.agent.status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := []api.Client{
			{
				Name: "device0", Addresses: addressesOf(0), Here: true, Site: "a", Since: came,
				Handshake: came, Endpoint: netip.MustParseAddrPort(at1), Received: 100, Sent: 200,
			},
			{Name: "device1", Addresses: addressesOf(1)},
		}
		if d := cmp.Diff(want, s.Clients, cmpopts.EquateComparable(netip.Prefix{}, netip.AddrPort{}), cmpopts.EquateApproxTime(0)); d != "" {
			t.Error(d)
		}
		for _, l := range s.Links {
			if l.Device == "wg-clients" {
				t.Errorf("a device is shown as a link: %+v", l)
			}
		}
	})
}

// Who is not here is where its prefixes are announced.
func TestADeviceElsewhereIsAtTheSiteThatAnnouncesIt(t *testing.T) {
	now := time.Unix(10_000, 0)
	v := babel.View{Routes: []babel.EntryView{
		{
			Key: babel.Key{Dst: addressesOf(0)[1]}, Hop: &babel.Hop{Link: "wg-b"}, Since: 10 * time.Second,
			Routes: []babel.RouteView{{RouterID: wire.RouterID{0x0a, 0, 0x20, 2, 1}, Selected: true}, {RouterID: wire.RouterID{9}}},
		},
		{Key: babel.Key{Dst: addressesOf(1)[0]}, Hop: &babel.Hop{Unreachable: true}, Routes: []babel.RouteView{{RouterID: wire.RouterID{0x0a, 0, 0x20, 2}}}},
	}}
	guests := []guest{
		{Client: state.Client{Name: "x", Addresses: addressesOf(0)}}, {Client: state.Client{Name: "y", Addresses: addressesOf(1)}},
	}
	got := clientsOf(wantedOf(withClients(2)), guests, v, now, 15*time.Second)
	if got[0].Site != "b" || got[0].Here || !got[0].Since.Equal(now.Add(-5*time.Second)) {
		t.Errorf("a device that b announces is shown as %+v", got[0])
	}
	if got[1].Site != "" || got[1].Here || !got[1].Since.IsZero() {
		t.Errorf("a device that nobody announces is shown as %+v", got[1])
	}
}

// A device is reached by the interface at which it entered, on which nobody speaks Babel.
func TestARoamingDeviceHasNoGateway(t *testing.T) {
	config := babelConfig()
	r, ok := routeOf(&config, babel.RouteChange{Key: keyTo("10.40.0.0/32"), Hop: &babel.Hop{Link: "wg-clients"}})
	want := state.Route{
		Table: 110, Dst: prefix("10.40.0.0/32"), Metric: learnedMetric, Type: state.Unicast, Device: "wg-clients",
		PrefSrc: config.PrefSrc4, Protocol: learned,
	}
	if !ok || r != want {
		t.Errorf("it is %+v, %v", r, ok)
	}
}

func TestTheSpeakerIsToldWhichPrefixesMove(t *testing.T) {
	r := withClients(1)
	r.Babel.Accept = []state.Accept{
		{Dst: prefix("10.1.0.0/16"), Origins: []uint32{1}}, {Dst: prefix("10.40.0.0/32"), Origins: []uint32{1, 2}, Mobile: true},
	}
	h := &host{wanted: wantedOf(r)}
	c, err := h.newConfig()
	if err != nil || len(c.Accept.Mobile) != 1 || !c.Accept.Mobile[keyTo("10.40.0.0/32")] || len(c.Accept.Exact) != 2 {
		t.Errorf("it is told %+v, %v", c.Accept, err)
	}
}

func TestEventsNameTheDevice(t *testing.T) {
	var text strings.Builder
	h := newHub(slog.New(slog.NewTextHandler(&text, nil)))
	h.emit(api.Event{Kind: ClientMoved, Text: "phone moved to b", Client: "phone", Peer: "b"})
	if got := text.String(); !strings.Contains(got, `client=phone`) || !strings.Contains(got, `peer=b`) {
		t.Errorf("the log says %s", got)
	}
}
