package kernel

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"tombolo/internal/plan"
	"tombolo/internal/state"
)

func watch(t testing.TB, k *Kernel, tables ...uint32) *Watcher {
	t.Helper()
	w, err := k.Watch(tables)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// told returns what is told until a mark of the test's own comes: a device whose MTU it
// changes when everything else is done, and which is left out. rtnetlink tells in order.
func told(t testing.TB, w *Watcher, mark *int) Change {
	t.Helper()
	*mark++
	sh(t, fmt.Sprintf("ip link set lo mtu %d", 60_000+*mark))
	var all Change
	for {
		select {
		case <-w.Changed():
		case <-time.After(10 * time.Second):
			t.Fatalf("after 10 s only this is told: %+v", all)
		}
		c, err := w.Take()
		if err != nil {
			t.Fatal(err)
		}
		marked := false
		for _, l := range c.Links {
			if l.Name == "lo" {
				marked = true
			} else {
				all.Links = append(all.Links, l)
			}
		}
		all.All = all.All || c.All
		all.Addresses = append(all.Addresses, c.Addresses...)
		all.Routes = append(all.Routes, c.Routes...)
		all.Rules = all.Rules || c.Rules
		all.Ruleset = all.Ruleset || c.Ruleset
		if marked {
			return all
		}
	}
}

// What is told of each thing that somebody does.
func TestWatchTellsWhatOthersDo(t *testing.T) {
	namespace(t)
	veth(t)
	sh(t, "ip link add br0 type bridge; ip link set br0 up; ip link add b0 type veth peer name b1")
	k := open(t)
	w := watch(t, k, 110)
	index := func(name string) int {
		l, err := k.findLink(name)
		if err != nil {
			t.Fatal(err)
		}
		return l.index
	}
	v0, v1 := index("v0"), index("v1")
	mark := 0
	for _, tt := range []struct {
		by   string
		want Change
	}{
		{"ip route add 10.8.0.0/24 dev v0 table 110", Change{Routes: []RouteSource{{110, unix.RTPROT_BOOT}}}},
		{"ip route del 10.8.0.0/24 table 110", Change{Routes: []RouteSource{{110, unix.RTPROT_BOOT}}}},
		{"ip -6 route add fd08::/64 dev v0 table 110 proto 84", Change{Routes: []RouteSource{{110, 84}}}},
		{"ip -6 route del fd08::/64 table 110", Change{Routes: []RouteSource{{110, 84}}}},
		{"ip route add 10.8.0.0/24 dev v0 table 1000 proto 84", Change{Routes: []RouteSource{{1000, 84}}}},
		{"ip route add 10.8.0.0/24 dev v0 table 1001 proto bird", Change{}},
		{"ip route add 10.8.0.0/24 dev v0", Change{}},
		{"ip route add default via 10.0.0.9 proto dhcp", Change{Routes: []RouteSource{{254, unix.RTPROT_DHCP}}}},
		{"ip route add default metric 9 nexthop via 10.0.0.9 dev v0 nexthop dev v0", Change{Routes: []RouteSource{{254, unix.RTPROT_BOOT}}}},
		{"ip -6 route add default via fe80::9 dev v0 proto ra", Change{Routes: []RouteSource{{254, unix.RTPROT_RA}}}},
		{"ip -6 route add default from fd07::/48 via fe80::9 dev v0 proto ra", Change{Routes: []RouteSource{{254, unix.RTPROT_RA}}}},
		{"ip -6 route del default from fd07::/48", Change{Routes: []RouteSource{{254, unix.RTPROT_RA}}}},
		{"ip -6 route add default metric 9 nexthop via fe80::8 dev v0 nexthop via fe80::9 dev v0", Change{Routes: []RouteSource{{254, unix.RTPROT_BOOT}}}},
		{"ip route add default dev v0 table 201 proto 86", Change{Routes: []RouteSource{{201, 86}}}},
		{"ip route del default table 201", Change{Routes: []RouteSource{{201, 86}}}},
		{"ip -6 route add default table 201 proto 86 nexthop via fe80::8 dev v0 nexthop via fe80::9 dev v0", Change{Routes: []RouteSource{{201, 86}}}},
		{"ip -6 route del default table 201", Change{Routes: []RouteSource{{201, 86}}}},
		{"ip rule add pref 550 from 10.0.0.1 lookup 201 protocol 86", Change{Rules: true}},
		{"ip rule del pref 550", Change{Rules: true}},
		{"ip rule add pref 553 lookup 130 protocol 85", Change{}},
		{"ip rule add pref 520 lookup 7", Change{Rules: true}},
		{"ip rule del pref 520", Change{Rules: true}},
		{"ip -6 rule add pref 7000 lookup 7 protocol 84", Change{Rules: true}},
		{"ip rule add pref 7000 lookup 7", Change{}},
		{"ip address add 10.77.0.1/32 dev v0", Change{Addresses: []string{"v0"}}},
		{"ip address add fd77::1/128 dev v1 nodad noprefixroute", Change{Addresses: []string{"v1"}}},
		{"nft add table inet tombolo", Change{Ruleset: true}},
		{"nft 'add chain inet tombolo c; add rule inet tombolo c drop'", Change{Ruleset: true}},
		{"nft 'add table inet other; add chain inet other c; add rule inet other c drop'", Change{}},
		{"nft 'delete table inet other; flush chain inet tombolo c'", Change{Ruleset: true}},
		{"nft flush ruleset", Change{Ruleset: true}},
		{"ip link set b0 up; ip link set b1 up; ip link set b0 master br0", Change{Links: []LinkState{
			{Name: "b0", Index: index("b0"), Up: true, Carrier: true}}}},
		{"ip link set b0 nomaster", Change{}},
		{"ip link set v1 down", Change{Links: []LinkState{{Name: "v0", Index: v0, Up: true}, {Name: "v1", Index: v1}}}},
		{"ip link del v0", Change{Links: []LinkState{{Name: "v0", Index: v0, Gone: true}, {Name: "v1", Index: v1, Gone: true}}}},
	} {
		sh(t, tt.by)
		switch {
		case strings.HasPrefix(tt.by, "nft"):
			settle(w) // of another socket
		case strings.HasPrefix(tt.by, "ip link"):
			time.Sleep(1100 * time.Millisecond) // a carrier is told once a second (net/core/link_watch.c)
		}
		got := told(t, w, &mark)
		if strings.HasSuffix(tt.by, "nomaster") && slices.ContainsFunc(got.Links, func(l LinkState) bool { return l.Gone }) {
			t.Errorf("%s: a port that leaves its bridge is told as gone", tt.by)
		}
		if d := cmp.Diff(tt.want.Links, lastOf(got.Links, tt.want.Links)); d != "" {
			t.Errorf("%s: wanted, told of links: %s", tt.by, d)
		}
		if strings.HasPrefix(tt.by, "ip link") {
			continue // what else is told then is the kernel's choice
		}
		got.Links = nil
		tt.want.Links = nil
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s: wanted, told: %s", tt.by, d)
		}
	}
}

// settle waits until something is told, or long enough for nothing.
func settle(w *Watcher) {
	select {
	case <-w.Changed():
		w.tell() // it is still to be taken
	case <-time.After(300 * time.Millisecond):
	}
}

// lastOf returns the last that was told of each wanted device.
func lastOf(told, wanted []LinkState) (out []LinkState) {
	for _, want := range wanted {
		var last LinkState
		for _, l := range told {
			if l.Index == want.Index {
				last = l
			}
		}
		out = append(out, last)
	}
	return out
}

// A port that leaves a bridge, and a wireless device that tells how well it hears, are no
// change of a link.
func TestWatchKnowsALinkThatStays(t *testing.T) {
	w := &Watcher{known: map[int]link{}, links: map[int]LinkState{}}
	message := func(family uint8, mtu uint32) []byte {
		var m writer
		h := linkHeader(7)
		h[0] = family
		native.PutUint32(h[linkFlagsAt:], unix.IFF_UP|unix.IFF_RUNNING|unix.IFF_LOWER_UP)
		m.begin(unix.RTM_NEWLINK, 0, h)
		m.text(unix.IFLA_IFNAME, "w0")
		m.uint32(unix.IFLA_MTU, mtu)
		return m.b[unix.NLMSG_HDRLEN:]
	}
	if !w.noteLink(message(unix.AF_UNSPEC, 1400), false) || w.links[7] != (LinkState{Name: "w0", Index: 7, Up: true, Carrier: true}) {
		t.Errorf("a new link is told as %+v", w.links)
	}
	w.links = map[int]LinkState{}
	if w.noteLink(message(unix.AF_UNSPEC, 1400), false) || w.noteLink(message(unix.AF_BRIDGE, 1400), true) || len(w.links) > 0 {
		t.Errorf("told: %+v", w.links)
	}
	if !w.noteLink(message(unix.AF_UNSPEC, 1300), false) {
		t.Error("another MTU is not told")
	}
}

// What we do ourselves is not told, so that an agent does not run after itself; what
// another does in between is.
func TestWatchIsSilentOfOurOwn(t *testing.T) {
	s := newSite(t)
	w := watch(t, s.k, 110)
	mark := 0
	apply(t, s.k, s.want) // makes interfaces: these are told
	settle(w)
	told(t, w, &mark)
	moved := s.want
	moved.Routes = nil
	moved.Rules = moved.Rules[:1]
	moved.Rulesets = []state.Ruleset{ruleset("table inet tombolo {\n\tchain c {\n\t}\n}\n")}
	apply(t, s.k, moved)
	apply(t, s.k, s.want)
	time.Sleep(300 * time.Millisecond) // of the other socket nothing may come
	if got := told(t, w, &mark); !got.Empty() {
		t.Errorf("of our own routes, rules and ruleset it tells %+v", got)
	}
	sh(t, "nft flush chain inet tombolo input; ip route flush table 110")
	settle(w)
	if got := told(t, w, &mark); !got.Ruleset || len(got.Routes) == 0 {
		t.Errorf("of another's it tells %+v", got)
	}
}

func TestWatchIgnoresAnotherKernelOfOurs(t *testing.T) {
	namespace(t)
	veth(t)
	k := open(t)
	learned := open(t, func(o *Options) { o.Owner.Protocol = 85 })
	w := watch(t, k, 110)
	r := plan.Route{Route: state.Route{Table: 110, Dst: prefixOf("10.8.0.0/24"), Type: state.Unicast, Device: "v0", Protocol: 85}}
	mark := 0
	for _, ops := range [][]plan.Op{{{Verb: plan.Add, Object: r}}, {{Verb: plan.Remove, Before: r}}} {
		if err := learned.Apply(context.Background(), ops); err != nil {
			t.Fatal(err)
		}
		if got := told(t, w, &mark); len(got.Routes) != 1 {
			t.Errorf("of a Kernel that it does not know it tells %+v", got)
		}
	}
	if err := w.Ignore(learned); err != nil {
		t.Fatal(err)
	}
	if err := learned.Apply(context.Background(), []plan.Op{{Verb: plan.Add, Object: r}}); err != nil {
		t.Fatal(err)
	}
	if got := told(t, w, &mark); !got.Empty() {
		t.Errorf("of one that it does it tells %+v", got)
	}
}

// Default routes that the Kernel sets itself are not told; that somebody removes one is.
func TestWatchIsSilentOfDefaultsWeSet(t *testing.T) {
	namespace(t)
	uplinks(t)
	k := open(t)
	w := watch(t, k)
	mark := 0
	time.Sleep(1100 * time.Millisecond)
	told(t, w, &mark) // what comes of the devices being new
	for _, six := range []bool{false, true} {
		for _, s := range shapes(six) {
			setDefault(t, k, Default{Table: 201, IPv6: six, Hops: s.hops})
		}
		if got := told(t, w, &mark); !got.Empty() {
			t.Errorf("of our own it tells %+v", got)
		}
		sh(t, ipFamily(six)+" route flush table 201")
		if got := told(t, w, &mark); !slices.Contains(got.Routes, RouteSource{201, 86}) {
			t.Errorf("of another's it tells %+v", got)
		}
	}
}

// A slow reader is told once, whatever happened; one for whom the kernel dropped
// notifications is told that it must look at everything.
func TestWatchCoalescesAndSurvivesOverflow(t *testing.T) {
	namespace(t)
	veth(t)
	k := open(t)
	w := watch(t, k, 110)
	mark := 0
	time.Sleep(1100 * time.Millisecond)
	told(t, w, &mark) // what comes of the devices being new
	sh(t, routesByIP(t, 1000, "add"))
	time.Sleep(300 * time.Millisecond) // the reader is slow
	got, err := w.Take()
	want := Change{Routes: []RouteSource{{110, 99}}}
	if d := cmp.Diff(want, got, cmp.Comparer(sameEmpty)); err != nil || d != "" {
		t.Errorf("of a thousand routes: %v, wanted, told: %s", err, d)
	}
	<-w.Changed()
	// Its goroutine is held up, and the socket's buffer small.
	route := w.listeners[len(w.listeners)-1]
	if err := route.raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4096)
	}); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	sh(t, routesByIP(t, 1000, "del"))
	w.mu.Unlock()
	end := time.After(10 * time.Second)
	for all := false; !all; {
		select {
		case <-w.Changed():
		case <-end:
			t.Fatal("10 s later it does not say that notifications were lost")
		}
		c, err := w.Take()
		if err != nil {
			t.Fatal(err)
		}
		all = c.All
	}
	sh(t, "ip route add 10.99.0.0/24 dev v0 table 110 proto 99")
	if got := told(t, w, &mark); len(got.Routes) != 1 {
		t.Errorf("afterwards it tells %+v", got)
	}
}

func sameEmpty(a, b Change) bool {
	return fmt.Sprintf("%+v", a) == fmt.Sprintf("%+v", b)
}

// routesByIP returns the command that adds or removes n routes in table 110.
func routesByIP(t testing.TB, n int, verb string) string {
	t.Helper()
	var b strings.Builder
	for i := range n {
		a := netip.AddrFrom4([4]byte{10, 100, byte(i >> 8), byte(i)})
		fmt.Fprintf(&b, "route %s %s/32 dev v0 table 110 proto 99\n", verb, a)
	}
	name := t.TempDir() + "/batch"
	if err := os.WriteFile(name, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return "ip -batch " + name
}

func TestWatcherThatBreaksSaysSo(t *testing.T) {
	namespace(t)
	k := open(t)
	w := watch(t, k)
	w.listeners[0].close()
	select {
	case <-w.Changed():
	case <-time.After(10 * time.Second):
		t.Fatal("it says nothing")
	}
	if c, err := w.Take(); err == nil || !c.All {
		t.Errorf("it says %+v, %v", c, err)
	}
}
