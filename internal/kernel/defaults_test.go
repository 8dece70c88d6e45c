package kernel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// uplinks gives the namespace three devices with hosts, w0 to w2, and a point to point one.
func uplinks(t testing.TB) {
	t.Helper()
	sh(t, `for i in 0 1 2; do
			ip link add w$i type veth peer name x$i; ip link set w$i up; ip link set x$i up
			ip address add 192.0.2$i.2/24 dev w$i; ip address add 2001:db8:$i::2/64 dev w$i nodad
		done
		for i in 0 1; do ip tuntap add mode tun ppp$i; ip link set ppp$i up; ip address add 198.51.100.$i/32 dev ppp$i; done`)
}

func defaultsOf(t testing.TB, k *Kernel, tables ...uint32) []Default {
	t.Helper()
	out, err := k.Defaults(context.Background(), tables, 86)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func setDefault(t testing.TB, k *Kernel, d Default) {
	t.Helper()
	if err := k.SetDefault(context.Background(), 86, d); err != nil {
		t.Fatal(err)
	}
}

// shapes are default routes of every kind, with the words of ip for them.
func shapes(six bool) (out []struct {
	ip   string
	hops []Hop
}) {
	add := func(ip string, hops ...Hop) {
		out = append(out, struct {
			ip   string
			hops []Hop
		}{ip, hops})
	}
	gateway := func(i int) Hop {
		h := Hop{Device: fmt.Sprintf("w%d", i), Gateway: addrOf(fmt.Sprintf("192.0.2%d.1", i)), Weight: 1}
		if six {
			h.Gateway = addrOf("fe80::1")
		}
		return h
	}
	with := func(h Hop, change func(*Hop)) Hop { change(&h); return h }
	weight := func(n int) func(*Hop) { return func(h *Hop) { h.Weight = n } }
	outside := Hop{Device: "w0", Gateway: addrOf("203.0.113.1"), OnLink: true, Weight: 1}
	if six {
		outside.Gateway = addrOf("2001:db8:99::1")
	}
	g0, g1 := gateway(0).Gateway, gateway(1).Gateway
	ppp := Hop{Device: "ppp0", Weight: 1}
	add(fmt.Sprintf("via %s dev w0", g0), gateway(0))
	add("dev ppp0", ppp)
	add(fmt.Sprintf("via %s dev w0 onlink", outside.Gateway), outside)
	add(fmt.Sprintf("nexthop via %s dev w0 weight 1 nexthop via %s dev w1 weight 1", g0, g1), gateway(0), gateway(1))
	add(fmt.Sprintf("nexthop via %s dev w0 weight 256 nexthop via %s dev w1 weight 3", g0, g1),
		with(gateway(0), weight(256)), with(gateway(1), weight(3)))
	add(fmt.Sprintf("nexthop via %s dev w0 onlink weight 2 nexthop via %s dev w1 weight 1", outside.Gateway, g1), with(outside, weight(2)), gateway(1))
	add("", ppp, gateway(0), gateway(1), gateway(2)) // of IPv6, ip cannot
	add("", ppp, with(Hop{Device: "ppp1"}, weight(4)))
	return out
}

// From every kind of default route to every other, with what ip makes of its own as the
// witness, and none but the one that is wanted left.
func TestDefaultsReplaceEachOther(t *testing.T) {
	for _, six := range []bool{false, true} {
		t.Run(fmt.Sprintf("IPv6 %v", six), func(t *testing.T) {
			namespace(t)
			uplinks(t)
			k := open(t)
			show := func(table uint32) string {
				return strings.TrimSpace(sh(t, fmt.Sprintf("exec %s route show table %d", ipFamily(six), table)))
			}
			byIP := map[string]string{} // what ip makes, by how it is told
			for _, table := range []uint32{200, 2110} {
				for i, a := range shapes(six) {
					for _, b := range shapes(six) {
						for _, hops := range [][]Hop{a.hops, b.hops} {
							d := Default{Table: table, IPv6: six, Metric: uint32(i % 2 * 7), Hops: hops}
							setDefault(t, k, d)
							if got := defaultsOf(t, k, table); len(got) != 1 || !got[0].Equal(d) {
								t.Fatalf("from %v to %v: read %v", a.hops, b.hops, got)
							}
							setDefault(t, k, d)
						}
						ours := show(table)
						setDefault(t, k, Default{Table: table, IPv6: six, Metric: uint32(i % 2 * 7)})
						if left := defaultsOf(t, k, table); len(left) > 0 {
							t.Fatalf("of %v is left: %v", b.hops, left)
						}
						if b.ip == "" {
							continue
						}
						line := fmt.Sprintf("exec %s route add default table %d metric %d proto 86 %s", ipFamily(six), table, i%2*7, b.ip)
						if byIP[line] == "" {
							sh(t, strings.Replace(line, "metric 0 ", "", 1))
							byIP[line] = show(table)
							setDefault(t, k, Default{Table: table, IPv6: six, Metric: uint32(i % 2 * 7)})
							if left := show(table); left != "" {
								t.Fatalf("of %q is left: %s", line, left)
							}
						}
						if byIP[line] != ours {
							t.Errorf("ip made %q, we made %q", byIP[line], ours)
						}
					}
				}
				if left := show(table); left != "" { // what our own eyes do not see
					t.Fatalf("at the end is left: %s", left)
				}
			}
		})
	}
}

// While it is replaced there is always one, in every look that another takes at the table.
func TestDefaultIsNeverMissing(t *testing.T) {
	namespace(t)
	uplinks(t)
	k, other := open(t), open(t)
	for _, six := range []bool{false, true} {
		setDefault(t, k, Default{Table: 200, IPv6: six, Hops: shapes(six)[0].hops})
		stop, looks := make(chan struct{}), make(chan int)
		go func() {
			n := 0
			defer func() { looks <- n }()
			for {
				select {
				case <-stop:
					return
				default:
				}
				routes, err := other.tableDefaults(200, six, 86, nil)
				if err != nil || len(routes) == 0 || len(routes[0].Hops) == 0 {
					t.Errorf("IPv6 %v: it sees %v, %v", six, routes, err)
				}
				n++
			}
		}()
		for range 50 {
			for _, s := range shapes(six) {
				setDefault(t, k, Default{Table: 200, IPv6: six, Hops: s.hops})
			}
		}
		close(stop)
		if n := <-looks; n < 100 {
			t.Errorf("IPv6 %v: it looked only %d times", six, n)
		}
	}
}

func TestDefaultsThatCannotBeSet(t *testing.T) {
	namespace(t)
	uplinks(t)
	k := open(t)
	sh(t, "ip link set w2 down; ip route add default via 192.0.20.1 table 201 proto static; ip route add default via 192.0.20.1 table 202 metric 5 proto static || true")
	good := []Hop{{Device: "w0", Gateway: addrOf("192.0.20.1")}, {Device: "w1", Gateway: addrOf("192.0.21.1")}}
	good6 := []Hop{{Device: "w0", Gateway: addrOf("fe80::1")}, {Device: "w1", Gateway: addrOf("fe80::1")}}
	setDefault(t, k, Default{Table: 200, Hops: good})
	setDefault(t, k, Default{Table: 200, IPv6: true, Hops: good6})
	before := defaultsOf(t, k, 200, 201)
	for _, tt := range []struct {
		d    Default
		is   error
		want string
	}{
		{Default{Table: 200, Hops: append([]Hop{{Device: "gone0"}}, good...)}, unix.ENODEV, "set default of table 200: device gone0: no such device"},
		{Default{Table: 200, IPv6: true, Hops: append([]Hop{{Device: "gone0"}}, good6...)}, unix.ENODEV, "set IPv6 default of table 200: device gone0: no such device"},
		{Default{Table: 200, Hops: append([]Hop{{Device: "w2", Gateway: addrOf("192.0.22.1")}}, good...)}, unix.ENETDOWN, "set default of table 200: device w2: network is down"},
		{Default{Table: 200, Hops: []Hop{good[0], {Device: "w1", Gateway: addrOf("203.0.113.1")}}}, unix.ENETUNREACH, "set default of table 200: Nexthop has invalid gateway (network is unreachable)"},
		{Default{Table: 200, IPv6: true, Hops: []Hop{good6[0], {Device: "w1", Gateway: addrOf("2001:db8:99::1")}}}, unix.EHOSTUNREACH, ""},
		{Default{Table: 200, IPv6: true, Hops: []Hop{good6[0], {Device: "w1"}}}, nil, "set IPv6 default of table 200: device w1: it has many neighbours, and so it needs a gateway"},
		{Default{Table: 200, IPv6: true, Hops: []Hop{good6[0], good6[0]}}, nil, "set IPv6 default of table 200: device w0 with gateway fe80::1 stands there twice"},
		{Default{Table: 201, Hops: good}, nil, "set default of table 201: another's is there: its protocol is 4, not 86"},
	} {
		err := k.SetDefault(context.Background(), 86, tt.d)
		if err == nil || tt.want != "" && err.Error() != tt.want || tt.is != nil && !errors.Is(err, tt.is) {
			t.Errorf("%v: %v, want %q", tt.d.Hops, err, tt.want)
		}
		if got := defaultsOf(t, k, 200, 201); !slices.EqualFunc(got, before, Default.Equal) {
			t.Fatalf("after %v it reads %v", err, got)
		}
	}
	// Another's stays when ours is removed, and one with another metric is in nobody's way.
	setDefault(t, k, Default{Table: 201})
	setDefault(t, k, Default{Table: 201, Metric: 7, Hops: good})
	setDefault(t, k, Default{Table: 4711})
	if out := sh(t, "ip route show table 201"); !strings.Contains(out, "proto static") || !strings.Contains(out, "metric 7") {
		t.Error(out)
	}
}

// Somebody puts a second one beside ours: it reads as another than what was set, and goes.
func TestSecondDefaultBesideOursGoes(t *testing.T) {
	namespace(t)
	uplinks(t)
	k := open(t)
	for _, six := range []bool{false, true} {
		d := Default{Table: 200, IPv6: six, Hops: shapes(six)[3].hops}
		setDefault(t, k, d)
		for _, more := range []string{"dev ppp0", "dev ppp1"} {
			sh(t, ipFamily(six)+" route append default table 200 proto 86 "+more)
		}
		if got := defaultsOf(t, k, 200); len(got) == 0 || got[len(got)-1].Equal(d) {
			t.Errorf("it reads %v", got)
		}
		setDefault(t, k, d)
		got := defaultsOf(t, k, 200)
		if last := got[len(got)-1]; !last.Equal(d) {
			t.Errorf("it reads %v", got)
		}
		// One that leads nowhere is replaced too.
		sh(t, ipFamily(six)+" route replace unreachable default table 203 proto 86")
		d.Table = 203
		setDefault(t, k, d)
		if got := defaultsOf(t, k, 203); !got[len(got)-1].Equal(d) {
			t.Errorf("it reads %v", got)
		}
	}
}

// What becomes of a route by several next hops when one of their devices goes: to set what is
// left mends it, whatever it is.
func TestDefaultWhoseDeviceGoes(t *testing.T) {
	namespace(t)
	uplinks(t)
	k := open(t)
	for _, six := range []bool{false, true} {
		setDefault(t, k, Default{Table: 200, IPv6: six, Hops: append([]Hop{{Device: "ppp0"}}, shapes(six)[3].hops...)})
	}
	sh(t, "ip link del w1")
	for _, six := range []bool{false, true} {
		d := Default{Table: 200, IPv6: six, Hops: append([]Hop{{Device: "ppp0"}}, shapes(six)[0].hops...)}
		setDefault(t, k, d)
		got := slices.DeleteFunc(defaultsOf(t, k, 200), func(d Default) bool { return d.IPv6 != six })
		if len(got) != 1 || !got[0].Equal(d) {
			t.Errorf("IPv6 %v: it reads %+v", six, got)
		}
	}
	sh(t, "ip link del w0")
	for _, d := range defaultsOf(t, k, 200) {
		if len(d.Hops) != 1 || d.Hops[0] != (Hop{Device: "ppp0", Weight: 1}) {
			t.Errorf("it reads %v", d)
		}
	}
}

func TestDefaultsAreSortedAndOfOneProtocol(t *testing.T) {
	namespace(t)
	uplinks(t)
	k := open(t)
	w0 := Hop{Device: "w0", Gateway: addrOf("192.0.20.1"), Weight: 1}
	via6 := Hop{Device: "w1", Gateway: addrOf("fe80::1"), Weight: 1}
	want := []Default{
		{Table: 200, Hops: []Hop{{Device: "ppp0", Weight: 2}, w0, via6}},
		{Table: 200, Metric: 9, Hops: []Hop{via6}},
		{Table: 200, IPv6: true, Metric: 0, Hops: []Hop{via6}},
		{Table: 2000, Hops: []Hop{w0}},
	}
	for _, d := range want {
		setDefault(t, k, d)
	}
	sh(t, `ip route add default dev ppp0 table 200 metric 3 proto 84; ip route add 10.0.0.0/8 dev ppp0 table 200 proto 86
		ip -6 route add default from 2001:db8:7::/48 dev ppp0 table 200 proto 86; ip route add default dev ppp0 table 300 proto 86`)
	for _, strict := range []bool{true, false} {
		if !strict {
			notStrict(t, k)
		}
		if d := cmp.Diff(want, defaultsOf(t, k, 2000, 200, 200), equalAddrs); d != "" {
			t.Errorf("strict %v: wanted, read: %s", strict, d)
		}
	}
	if err := k.SetDefault(context.Background(), 86, Default{Table: 200, IPv6: true, Metric: 1024}); err != nil {
		t.Error(err)
	}
	if got := defaultsOf(t, k, 200); len(got) != 2 {
		t.Errorf("it reads %v", got)
	}
}
