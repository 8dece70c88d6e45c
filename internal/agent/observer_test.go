package agent

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"tombolo/internal/kernel"
	"tombolo/internal/key"
	"tombolo/internal/state"
)

// A tunnel is mute when it sends for long and nothing at all comes back.
func TestMuteTunnels(t *testing.T) {
	type count struct{ sent, received uint64 }
	still := func(n int, c count) (all []count) {
		for range n {
			all = append(all, c)
			c.sent += 100
		}
		return all
	}
	for what, c := range map[string]struct {
		every  time.Duration
		counts []count
		want   bool
	}{
		"sends in vain":            {5 * time.Second, still(5, count{100, 100}), true},
		"does so for less":         {5 * time.Second, still(4, count{100, 100}), false},
		"is seldom looked at":      {21 * time.Second, still(2, count{100, 100}), true},
		"hears at last":            {5 * time.Second, append(still(6, count{100, 100}), count{900, 132}), false},
		"hears nothing again":      {5 * time.Second, append(still(6, count{100, 100}), still(3, count{900, 132})...), false},
		"cannot send":              {5 * time.Second, slices.Repeat([]count{{100, 100}}, 8), true},
		"is another of its name":   {5 * time.Second, append(still(6, count{500, 500}), count{200, 100}), false},
		"has never heard anything": {5 * time.Second, still(5, count{100, 0}), true},
	} {
		o := newObserver(&Machine{}, newProblems(newHub(quietLog())))
		now := time.Unix(10_000, 0)
		for _, n := range c.counts {
			o.measure(sight{}, map[string]kernel.Tunnel{"wg-b": {Peers: []state.Peer{{PublicKey: key.Public{1}, Sent: n.sent, Received: n.received}}}}, now)
			now = now.Add(c.every)
		}
		if o.mute["wg-b"] != c.want {
			t.Errorf("a tunnel that %s is mute: %v", what, !c.want)
		}
	}
}

func TestRatesAreOfTheLastSeconds(t *testing.T) {
	o := newObserver(&Machine{}, newProblems(newHub(quietLog())))
	now := time.Unix(10_000, 0)
	id := peerID{"wg-b", key.Public{1}}
	var rates map[peerID]rate
	sent := uint64(0)
	for i := range 60 { // 1 kB/s, and for the last 16 seconds none
		if i < 52 {
			sent += 2000
		}
		rates = o.measure(sight{}, map[string]kernel.Tunnel{"wg-b": {Peers: []state.Peer{{PublicKey: id.peer, Sent: sent}}}}, now)
		now = now.Add(2 * time.Second)
		if i == 50 && (rates[id].tx != 1000 || rates[id].rx != 0) {
			t.Errorf("the rate is %+v", rates[id])
		}
	}
	if rates[id].tx != 0 {
		t.Errorf("long after the last packet the rate is %+v", rates[id])
	}
	if n := len(o.samples[id]); n > 7 {
		t.Errorf("%d samples are kept", n)
	}
}

// Of many tunnels a few are looked at each time, each in its turn, and those on which an
// announcement depends always; what was seen of the others stands.
func TestManyTunnelsAreLookedAtInTurns(t *testing.T) {
	r := router("10.0.0.0/8")
	eyes := &fakeEyes{tunnels: map[string]kernel.Tunnel{}}
	const n = 50
	set := func(received uint64) {
		for i := range n {
			name := fmt.Sprintf("wg-%02d", i)
			eyes.tunnels[name] = kernel.Tunnel{Peers: []state.Peer{{PublicKey: key.Public{byte(i)}, Received: received, Handshake: 1}}}
		}
	}
	set(100)
	for _, name := range slices.Sorted(maps.Keys(eyes.tunnels)) {
		r.Interfaces = append(r.Interfaces, state.Interface{Name: name, WireGuard: &state.WireGuard{
			Peers: []state.Peer{{PublicKey: eyes.tunnels[name].Peers[0].PublicKey}},
		}})
	}
	r.Babel = &state.Babel{Announce: []state.Announcement{{Dst: prefix("10.1.0.0/16"), While: state.Handshake, Device: "wg-07", Peer: "c"}}}
	m := machine(nil, nil, eyes, nil)
	o := newObserver(&m, newProblems(newHub(quietLog())))
	drifts := 0
	o.drift = func() { drifts++ }
	look := func(at int) {
		t.Helper()
		if err := o.lookAt(t.Context(), Wanted{Router: r}, nil, at, false); err != nil {
			t.Fatal(err)
		}
	}
	fresh := func() (count int) {
		for _, tunnel := range o.sight().tunnels {
			if tunnel.Peers[0].Received == 200 {
				count++
			}
		}
		return count
	}
	look(allTunnels)
	set(200)
	for i := range 5 {
		look(someTunnels)
		if _, always := o.sight().tunnels["wg-07"]; !always || o.sight().tunnels["wg-07"].Peers[0].Received != 200 {
			t.Error("it has not looked at what an announcement depends on")
		}
		if want := min((i+1)*lookMost, n); fresh() < want || fresh() > want+1 || len(o.sight().tunnels) != n {
			t.Errorf("after %d times it has looked at %d of %d, want %d", i+1, fresh(), len(o.sight().tunnels), want)
		}
	}
	if slices.Max(eyes.looked[1:]) > lookMost+1 {
		t.Errorf("it looked at %v", eyes.looked)
	}
	if len(o.samples) != n || drifts > 0 {
		t.Errorf("%d samples, %d drifts", len(o.samples), drifts)
	}
	delete(eyes.tunnels, "wg-20")
	r.Interfaces = slices.DeleteFunc(r.Interfaces, func(f state.Interface) bool { return f.Name == "wg-20" })
	eyes.tunnels["wg-30"].Peers[0].PublicKey = key.Public{99}
	for range 5 {
		look(someTunnels)
	}
	if _, there := o.sight().tunnels["wg-20"]; there {
		t.Error("what is no interface any more is still seen")
	}
	if drifts == 0 {
		t.Error("nobody noticed another peer")
	}
}

func TestWhatIsAnnouncedFollowsItsCondition(t *testing.T) {
	r := router("10.0.0.0/8")
	r.Interfaces = []state.Interface{{Name: "wg-c", WireGuard: &state.WireGuard{Peers: []state.Peer{{Name: "c", PublicKey: key.Public{3}}}}}}
	r.Babel = new(babelConfig())
	o := newObserver(&Machine{}, newProblems(newHub(quietLog())))
	o.works = func(six bool) bool { return six }
	host := netip.MustParseAddr("192.168.1.10")
	up, plugged := kernel.Device{Up: true}, kernel.Device{Up: true, Carrier: true}
	shake := func(ago time.Duration) map[string]kernel.Tunnel {
		return map[string]kernel.Tunnel{"wg-c": {Peers: []state.Peer{{PublicKey: key.Public{3}, Handshake: time.Now().Add(-ago).Unix()}}}}
	}
	answers, silent := &probe{}, &probe{}
	answers.there.Store(true)
	for _, c := range []struct {
		a       state.Announcement
		devices map[string]kernel.Device
		tunnels map[string]kernel.Tunnel
		probe   *probe
		want    bool
		why     string
	}{
		{a: state.Announcement{While: state.Always}, want: true, why: "always"},
		{a: state.Announcement{While: state.Carrier, Device: "lan0"}, why: "lan0 is missing"},
		{a: state.Announcement{While: state.Carrier, Device: "lan0"}, devices: map[string]kernel.Device{"lan0": {}}, why: "lan0 is down"},
		{a: state.Announcement{While: state.Carrier, Device: "lan0"}, devices: map[string]kernel.Device{"lan0": up}, why: "lan0 is without carrier"},
		{a: state.Announcement{While: state.Carrier, Device: "lan0"}, devices: map[string]kernel.Device{"lan0": plugged}, want: true, why: "lan0 has carrier"},
		{a: state.Announcement{While: state.Probe, Device: "lan0", Probe: host}, devices: map[string]kernel.Device{"lan0": plugged}, why: "192.168.1.10 does not answer"},
		{a: state.Announcement{While: state.Probe, Device: "lan0", Probe: host}, devices: map[string]kernel.Device{"lan0": plugged}, probe: silent, why: "192.168.1.10 does not answer"},
		{a: state.Announcement{While: state.Probe, Device: "lan0", Probe: host}, devices: map[string]kernel.Device{"lan0": plugged}, probe: answers, want: true, why: "192.168.1.10 answers"},
		{a: state.Announcement{While: state.Probe, Device: "lan0", Probe: host}, devices: map[string]kernel.Device{"lan0": up}, probe: answers, why: "lan0 is without carrier"},
		{a: state.Announcement{While: state.Handshake, Device: "wg-c", Peer: "c"}, why: "c never had a handshake"},
		{a: state.Announcement{While: state.Handshake, Device: "wg-c", Peer: "c"}, tunnels: shake(100 * time.Second), want: true, why: "c is connected"},
		{a: state.Announcement{While: state.Handshake, Device: "wg-c", Peer: "c"}, tunnels: shake(200 * time.Second)},
		{a: state.Announcement{While: state.Works, Dst: prefix("0.0.0.0/0")}, why: "no uplink works"},
		{a: state.Announcement{While: state.Works, Dst: prefix("::/0")}, want: true, why: "an uplink works"},
		{a: state.Announcement{While: "sunshine"}, why: `this version does not know the condition "sunshine"`},
	} {
		o.probes = map[netip.Addr]*probe{}
		if c.probe != nil {
			o.probes[host] = c.probe
		}
		now, why := o.condition(r, sight{devices: c.devices, tunnels: c.tunnels}, c.a)
		if now != c.want || c.why != "" && why != c.why {
			t.Errorf("%+v: %v because %q, want %v because %q", c.a, now, why, c.want, c.why)
		}
	}
}

// A LAN's cable is pulled and put back: the speaker is told, and so are those who watch.
func TestALANIsAnnouncedWhileItHasCarrier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := router("10.0.0.0/8")
		r.Babel = new(babelConfig())
		r.Babel.Announce = []state.Announcement{{Dst: prefix("192.168.1.0/24"), While: state.Carrier, Device: "br-lan"}}
		b := start(t, &Wanted{Router: r}, nil)
		defer func() { _ = b.stop() }()
		events, end := b.agent.hub.subscribe()
		defer end()
		announced := func() int {
			v, _, _, err := b.agent.routing.host().view(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return len(v.Announced)
		}
		if n := announced(); n != 0 {
			t.Errorf("%d prefixes are announced without a device", n)
		}
		for _, c := range []struct {
			d    kernel.Device
			want int
			kind string
		}{{kernel.Device{Up: true, Carrier: true, Index: 2}, 1, Announce}, {kernel.Device{Up: true, Index: 2}, 0, Withdraw}} {
			b.eyes.mu.Lock()
			b.eyes.devices["br-lan"] = c.d
			b.eyes.mu.Unlock()
			b.kernel.meddle(func(*state.Router) {}, kernel.Change{Links: []kernel.LinkState{{Name: "br-lan"}}})
			time.Sleep(time.Second)
			synctest.Wait()
			if n := announced(); n != c.want {
				t.Errorf("%d prefixes are announced, want %d", n, c.want)
			}
			if e := <-events; e.Kind != c.kind || e.Route != "192.168.1.0/24" || e.Device != "br-lan" {
				t.Errorf("the event is %+v", e)
			}
		}
	})
}

// A link is spoken on when its device is up and has our address, and not before.
func TestALinkIsSpokenOnWhenItCanBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours := netip.MustParsePrefix("fe80::1/64")
		r := router("10.0.0.0/8")
		r.Interfaces = []state.Interface{{Name: "wg-b", Kind: state.WireGuardKind, Alias: "tombolo n b", MTU: 1420, Addresses: []netip.Prefix{ours}}}
		r.Babel = new(babelConfig())
		r.Babel.Links = r.Babel.Links[:1]
		b := start(t, &Wanted{Router: r}, nil)
		defer func() { _ = b.stop() }()
		speaks := func() bool {
			for len(b.socket.sent) > 0 {
				<-b.socket.sent
			}
			time.Sleep(5 * time.Second)
			return len(b.socket.sent) > 0
		}
		see := func(d kernel.Device) {
			b.eyes.mu.Lock()
			b.eyes.devices["wg-b"] = d
			b.eyes.mu.Unlock()
			b.agent.observer.look()
			time.Sleep(100 * time.Millisecond)
		}
		for _, c := range []struct {
			what string
			d    kernel.Device
			want bool
		}{
			{"is down", kernel.Device{Index: 3, Addresses: []netip.Prefix{ours}}, false},
			{"has no address", kernel.Device{Index: 3, Up: true}, false},
			{"is well", kernel.Device{Index: 3, Up: true, Addresses: []netip.Prefix{ours}}, true},
			{"is another of its name", kernel.Device{Index: 4, Up: true, Addresses: []netip.Prefix{ours}}, true},
			{"is down again", kernel.Device{Index: 4, Addresses: []netip.Prefix{ours}}, false},
		} {
			see(c.d)
			if got := speaks(); got != c.want {
				t.Errorf("on a device that %s it speaks: %v", c.what, got)
			}
		}
	})
}

// When no routes are to be learned any more, those that were are taken away; when the agent
// ends they stay.
func TestLearnedRoutesGoWithTheSpeakerAndNotWithTheAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := router("10.0.0.0/8")
		r.Babel = new(babelConfig())
		b := start(t, &Wanted{Router: r}, nil)
		b.learned.Meddle(func(r *state.Router) { r.Routes = append(r.Routes, old("10.5.0.0/16")) })
		count := func() int {
			rs, _ := b.learned.Routes(t.Context(), nil, learned)
			return len(rs)
		}
		if err := b.stop(); err != nil || count() != 1 {
			t.Errorf("at the agent's end %d learned routes are left, %v", count(), err)
		}
		b = start(t, &Wanted{Router: r}, nil)
		b.learned.Meddle(func(r *state.Router) { r.Routes = append(r.Routes, old("10.5.0.0/16")) })
		defer func() { _ = b.stop() }()
		b.records.mu.Lock()
		static := router("10.0.0.0/8")
		b.records.applied = &Wanted{Router: static}
		b.records.mu.Unlock()
		poke(b.agent.base.record)
		time.Sleep(time.Second)
		if count() != 0 {
			t.Error("the routes of a speaker that is gone are left")
		}
	})
}

// Of a tunnel's peers the kernel tells no changes: they are seen when it is looked at.
func TestMissingPeersAreSeen(t *testing.T) {
	r := router("10.0.0.0/8")
	r.Interfaces = []state.Interface{{Name: "wg-c", WireGuard: &state.WireGuard{Peers: []state.Peer{{Name: "c", PublicKey: key.Public{3}}}}}}
	peers := func(keys ...byte) map[string]kernel.Tunnel {
		t := kernel.Tunnel{}
		for _, k := range keys {
			t.Peers = append(t.Peers, state.Peer{PublicKey: key.Public{k}})
		}
		return map[string]kernel.Tunnel{"wg-c": t}
	}
	for _, c := range []struct {
		tunnels map[string]kernel.Tunnel
		want    bool
	}{{peers(3), false}, {peers(), true}, {peers(4), true}, {peers(3, 4), true}, {nil, false}} {
		if got := otherPeers(r, c.tunnels); got != c.want {
			t.Errorf("%v: %v", c.tunnels, got)
		}
	}
}

// A static neighbour's prefixes are withdrawn when its handshake is too old, which no event
// tells, and announced again after the next one.
func TestAStaticNeighbourIsAnnouncedWhileItsHandshakeIsFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := router("10.0.0.0/8")
		r.Interfaces = []state.Interface{{Name: "wg-c", Kind: state.WireGuardKind, Alias: "tombolo n c", MTU: 1420, WireGuard: &state.WireGuard{PublicKey: key.Public{1}, Peers: []state.Peer{{Name: "c", PublicKey: key.Public{3}}}}}}
		r.Babel = new(babelConfig())
		r.Babel.Announce = []state.Announcement{{Dst: prefix("10.3.0.0/24"), While: state.Handshake, Device: "wg-c", Peer: "c"}}
		b := start(t, &Wanted{Router: r}, nil)
		defer func() { _ = b.stop() }()
		events, end := b.agent.hub.subscribe()
		defer end()
		shake := func() {
			b.eyes.mu.Lock()
			b.eyes.tunnels = map[string]kernel.Tunnel{"wg-c": {Peers: []state.Peer{{PublicKey: key.Public{3}, Handshake: time.Now().Unix()}}}}
			b.eyes.mu.Unlock()
		}
		announced := func(want int) {
			t.Helper()
			synctest.Wait()
			if b.agent.routing.host() == nil {
				t.Fatal(b.agent.problems.list())
			}
			v, _, _, err := b.agent.routing.host().view(t.Context())
			if err != nil || len(v.Announced) != want {
				t.Errorf("%d prefixes are announced, want %d: %v", len(v.Announced), want, err)
			}
		}
		time.Sleep(time.Second)
		announced(0)
		shake()
		time.Sleep(lookEvery + time.Second)
		announced(1)
		time.Sleep(sessionLife - 2*lookEvery)
		announced(1)
		time.Sleep(3 * lookEvery)
		announced(0)
		shake()
		time.Sleep(lookEvery + time.Second)
		announced(1)
		for _, kind := range []string{Announce, Withdraw, Announce} {
			if e := <-events; e.Kind != kind || e.Route != "10.3.0.0/24" {
				t.Errorf("the event is %+v, want %s", e, kind)
			}
		}
	})
}
