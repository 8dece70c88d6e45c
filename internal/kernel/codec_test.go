package kernel

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"tombolo/internal/state"
)

// body returns the first message of w without its header.
func body(w writer) []byte { return w.b[unix.NLMSG_HDRLEN:w.end(0)] }

// Attribute for attribute what ip of iproute2 6.1 sends (strace -e sendmsg), without the
// netlink header and in our order. ip adds a zero RTA_DST to a default, and leaves the
// type of a route to remove open.
func TestMessagesAreThoseOfIp(t *testing.T) {
	for _, tt := range []struct {
		name string
		w    func(*writer)
		want string
	}{
		{"ip route add 10.3.0.0/24 via 10.0.0.2 dev #7 table 110 proto 84 src 10.0.0.1 metric 50", func(w *writer) {
			encodeRoute(w, unix.RTM_NEWROUTE, flagsAdd, state.Route{Table: 110, Dst: prefixOf("10.3.0.0/24"), Type: state.Unicast,
				Gateway: addrOf("10.0.0.2"), PrefSrc: addrOf("10.0.0.1"), Metric: 50, Protocol: 84}, 7)
		}, `02 18 00 00 6e 54 00 01 00000000
			0800 0100 0a030000  0800 0500 0a000002  0800 0400 07000000
			0800 0700 0a000001  0800 0600 32000000`},
		{"ip route add 0.0.0.0/0 via inet6 fe80::2 dev #7 table 1000 proto 84", func(w *writer) {
			encodeRoute(w, unix.RTM_NEWROUTE, flagsAdd, state.Route{Table: 1000, Dst: prefixOf("0.0.0.0/0"), Type: state.Unicast,
				Gateway: addrOf("fe80::2"), Protocol: 84}, 7)
		}, `02 00 00 00 00 54 00 01 00000000
			1600 1200 0a00 fe800000000000000000000000000002 0000
			0800 0400 07000000  0800 0f00 e8030000`},
		{"ip -6 route del default from fd07::/48 dev #7 table 110 proto 84 metric 20", func(w *writer) {
			encodeRoute(w, unix.RTM_DELROUTE, 0, state.Route{Table: 110, Dst: prefixOf("::/0"), Src: prefixOf("fd07::/48"),
				Type: state.Unicast, Metric: 20, Protocol: 84}, 7)
		}, `0a 00 30 00 6e 54 00 01 00000000
			1400 0200 fd070000000000000000000000000000
			0800 0400 07000000  0800 0600 14000000`},
		{"ip rule add pref 521 fwmark 0x11000000/0xff000000 iif v0 lookup 1000 suppress_prefixlength 0 protocol 84", func(w *writer) {
			encodeRule(w, unix.RTM_NEWRULE, flagsAdd, state.Rule{Priority: 521, Mark: 0x11000000, Mask: 0xff000000, IIF: "v0",
				Action: state.Lookup, Table: 1000, Suppress: 1, Protocol: 84})
		}, `02 00 00 00 00 00 00 01 00000000
			0800 0600 09020000  0800 0a00 00000011  0800 1000 000000ff
			0700 0300 763000 00  0800 0f00 e8030000  0800 0e00 00000000
			0500 1500 54 000000`},
	} {
		if native.Uint16([]byte{1, 0}) != 1 {
			t.Fatal("the bytes below are those of a little endian machine")
		}
		var w writer
		tt.w(&w)
		want := strings.Join(strings.Fields(tt.want), "")
		if got := hex.EncodeToString(body(w)); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", tt.name, got, want)
		}
		if got := native.Uint32(w.b); int(got) != len(w.b) {
			t.Errorf("%s: length %d of %d", tt.name, got, len(w.b))
		}
	}
}

func drawAddr(t *rapid.T, six bool, label string) netip.Addr {
	n := 4
	if six {
		n = 16
	}
	a, _ := netip.AddrFromSlice(rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, label))
	return a
}

func drawPrefix(t *rapid.T, six bool, least int, label string) netip.Prefix {
	a := drawAddr(t, six, label)
	return netip.PrefixFrom(a, rapid.IntRange(least, a.BitLen()).Draw(t, label+" bits")).Masked()
}

// What is written reads as it was.
func TestRouteAndRuleComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		six := rapid.Bool().Draw(t, "six")
		r := state.Route{
			Table: rapid.Uint32Min(1).Draw(t, "table"), Dst: drawPrefix(t, six, 0, "dst"),
			Metric: rapid.Uint32Min(1).Draw(t, "metric"), Protocol: rapid.Byte().Draw(t, "protocol"),
			Type: rapid.SampledFrom([]state.RouteType{state.Unicast, state.Unreachable, state.Blackhole, state.Prohibit}).Draw(t, "type"),
		}
		if six && rapid.Bool().Draw(t, "source-specific") {
			r.Src = drawPrefix(t, six, 1, "src")
		}
		if rapid.Bool().Draw(t, "prefsrc") {
			r.PrefSrc = drawAddr(t, six, "prefsrc")
		}
		index := 0
		if r.Type == state.Unicast {
			r.Device, index = "v0", 7
			r.OnLink = rapid.Bool().Draw(t, "onlink")
			if rapid.Bool().Draw(t, "gateway") {
				r.Gateway = drawAddr(t, six || rapid.Bool().Draw(t, "via inet6"), "gateway")
			}
		}
		var w writer
		encodeRoute(&w, unix.RTM_NEWROUTE, flagsAdd, r, index)
		if got, ok := decodeRoute(body(w), map[int]string{7: "v0"}); !ok || got != r {
			t.Errorf("route %+v comes back as %+v, %v", r, got, ok)
		}

		u := state.Rule{
			Priority: rapid.Uint32().Draw(t, "priority"), IPv6: six, Protocol: rapid.Byte().Draw(t, "protocol"),
			Action:   rapid.SampledFrom([]state.RuleAction{state.Lookup, state.RuleUnreachable, state.RuleBlackhole, state.RuleProhibit}).Draw(t, "action"),
			IIF:      rapid.StringMatching(`[a-z0-9.-]{0,15}`).Draw(t, "iif"),
			OIF:      rapid.StringMatching(`[a-z0-9.-]{0,15}`).Draw(t, "oif"),
			Suppress: rapid.IntRange(0, 129).Draw(t, "suppress"),
		}
		if u.Mask = rapid.Uint32().Draw(t, "mask"); u.Mask != 0 {
			u.Mark = rapid.Uint32().Draw(t, "mark")
		}
		if u.Action == state.Lookup {
			u.Table = rapid.Uint32Min(1).Draw(t, "table")
		}
		if rapid.Bool().Draw(t, "from") {
			u.From = drawPrefix(t, six, 1, "from")
		}
		if rapid.Bool().Draw(t, "to") {
			u.To = drawPrefix(t, six, 1, "to")
		}
		u.IPProto, u.DPort = rapid.Byte().Draw(t, "ipproto"), rapid.Uint16().Draw(t, "dport")
		w = writer{}
		encodeRule(&w, unix.RTM_NEWRULE, flagsAdd, u)
		if got, ok := decodeRule(body(w)); !ok || got != u || !plainRule(body(w)) {
			t.Errorf("rule %+v comes back as %+v, %v", u, got, ok)
		}
	})
}

// FuzzDecode: whatever a newer kernel sends, no decoder falls over it, and what it reads
// is well formed.
func FuzzDecode(f *testing.F) {
	var w writer
	for _, e := range everyRoute {
		encodeRoute(&w, unix.RTM_NEWROUTE, flagsAdd, e.r, 7)
	}
	for _, e := range everyRule {
		encodeRule(&w, unix.RTM_NEWRULE, flagsAdd, e.r)
	}
	encodeAddress(&w, unix.RTM_NEWADDR, flagsAdd, prefixOf("fd00::1/64"), 7)
	d := Default{Table: 2000, Metric: 9, Hops: []Hop{{Gateway: addrOf("10.0.0.1"), OnLink: true, Weight: 256}, {Gateway: addrOf("fe80::1"), Weight: 1}}}
	encodeDefault(&w, unix.RTM_NEWROUTE, flagsChange, 86, d)
	encodeHops(&w, d, []int{7, 8})
	flow{family: unix.AF_INET, tuple: []byte{8, 0, 1, 0, 10, 0, 0, 1}, id: []byte{1, 2, 3, 4}}.encodeDelete(&w)
	for i := range w.starts {
		f.Add(w.b[w.starts[i]:w.end(i)])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		messages(b, func(h header, data []byte) {
			_ = answer(h, data)
			if r, ok := decodeRoute(data, map[int]string{7: "v0"}); ok {
				if !r.Dst.IsValid() || r.Dst != r.Dst.Masked() || r.Type == "" {
					t.Errorf("read route %+v", r)
				}
			}
			if d, ok := decodeDefault(data, map[int]string{7: "v0"}); ok {
				for _, h := range d.Hops {
					if h.Weight < 1 || h.Weight > maxWeight {
						t.Errorf("read default %+v", d)
					}
				}
			}
			if f, ok := decodeFlow(data); ok && (len(f.tuple) == 0 || len(f.id) != 4) {
				t.Errorf("read flow %+v", f)
			}
			_ = plainRule(data)
			if r, ok := decodeRule(data); ok && r.From.IsValid() && r.From.Addr().Is6() != r.IPv6 {
				t.Errorf("read rule %+v", r)
			}
			if l, ok := decodeLink(data); ok && l.name == "" {
				t.Errorf("read link %+v", l)
			}
			if a, ok := decodeAddress(data); ok && !a.prefix.IsValid() {
				t.Errorf("read address %+v", a)
			}
			if n, ok := decodeTable(data); ok && n.name == "" {
				t.Errorf("read table %+v", n)
			}
			// What is told: whatever it says it is, and by nftables.
			w := &Watcher{owner: state.DefaultOwner(), pids: &pids{}, known: map[int]link{}}
			w.reset()
			told := w.rtnetlink(h, data)
			if c, _ := w.Take(); told == c.Empty() {
				t.Errorf("of kind %d is told %v: %+v", h.kind, told, c)
			}
			h.kind = unix.NFNL_SUBSYS_NFTABLES<<8 | h.kind&0xff
			w.nftables(h, data)
		})
	})
}

// FuzzUnseal: a listing without the seal plus the seal is the listing.
func FuzzUnseal(f *testing.F) {
	f.Add(learning)
	f.Add("table inet t {\n\tchain seal {\n\t\treturn comment \"a b\"\n\t}\n}\n")
	f.Fuzz(func(t *testing.T, listing string) {
		rest, digest := unseal(listing)
		if len(rest) > len(listing) || digest == "" {
			t.Errorf("unsealed %q is %q, digest %q", listing, rest, digest)
		}
		_ = canonical(listing)
		_ = complaint(listing)
	})
}
