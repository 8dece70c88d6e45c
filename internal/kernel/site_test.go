package kernel

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"tombolo/internal/key"
	"tombolo/internal/state"
)

// devName returns an interface name that no other test and no other process has:
// /var/run/wireguard knows no namespaces.
func devName(n int) string { return fmt.Sprintf("kt%d-%d", os.Getpid()%10_000_000, n) }

// site is a router with two WireGuard interfaces, whose keys lie in a store.
type site struct {
	k        *Kernel
	embedded *fakeEmbedded
	store    key.Store
	want     state.Router
}

func publicOf(t testing.TB, s key.Store, ref key.Ref) key.Public {
	t.Helper()
	p, _, err := s.Make(ref, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return p.Public()
}

// newSite uses the kernel's WireGuard where there is one, as a router does.
func newSite(t testing.TB, change ...func(*Options)) *site {
	t.Helper()
	namespace(t)
	veth(t)
	s := &site{embedded: newFakeEmbedded(t), store: key.Store{Dir: t.TempDir()}}
	ours := func(o *Options) { o.Embedded, o.Store = s.embedded, s.store }
	s.k = open(t, append([]func(*Options){ours}, change...)...)
	own := publicOf(t, s.store, "op1")
	if _, _, err := s.store.MakePreshared("op1+op2", rand.Reader); err != nil {
		t.Fatal(err)
	}
	s.want = empty()
	a, b := devName(0), devName(1)
	for i, name := range []string{a, b} {
		s.want.Interfaces = append(s.want.Interfaces, state.Interface{
			Name: name, Kind: state.WireGuardKind, Alias: "tombolo home " + name, MTU: 1420 - 20*i,
			Addresses: []netip.Prefix{
				prefixOf("10.0.32.1/32"), prefixOf("fd00:32::1/128"), prefixOf("fe80::abcd/64"),
			},
			WireGuard: &state.WireGuard{
				PrivateKey: "op1", PublicKey: own, ListenPort: uint16(51821 + i), FwMark: 0x7f000000,
				Peers: []state.Peer{{
					Name: "op2", PublicKey: publicOf(t, s.store, key.Ref(fmt.Sprint("op2", i))), Preshared: "op1+op2",
					Endpoints: []string{"op2.example.net:51821"}, Keepalive: 25,
					Addresses:  []netip.AddrPort{netip.MustParseAddrPort("10.0.0.2:51821"), netip.MustParseAddrPort("[fd00::2]:51821")},
					AllowedIPs: []netip.Prefix{prefixOf("0.0.0.0/0"), prefixOf("::/0")},
				}, {
					Name: "op3", PublicKey: publicOf(t, s.store, key.Ref(fmt.Sprint("op3", i))),
					AllowedIPs: []netip.Prefix{prefixOf("10.3.0.0/24")},
				}},
			},
		})
	}
	s.want.Routes = []state.Route{
		{Table: 110, Dst: prefixOf("10.2.0.0/24"), Type: state.Unicast, Device: a, PrefSrc: addrOf("10.0.32.1"), Protocol: 84},
		{Table: 110, Dst: prefixOf("fd02::/48"), Type: state.Unicast, Device: a, PrefSrc: addrOf("fd00:32::1"), Protocol: 84},
		{Table: 110, Dst: prefixOf("fd03::/48"), Type: state.Unicast, Device: b, Gateway: addrOf("fe80::9"), Protocol: 84},
		{Table: 110, Dst: prefixOf("10.3.0.0/24"), Type: state.Unicast, Device: b, Gateway: addrOf("fe80::9"), Protocol: 84},
	}
	s.want.Rules = []state.Rule{
		{Priority: 500, Mark: 0x7f000000, Mask: 0xff000000, Action: state.Lookup, Table: 254, Protocol: 84},
		{Priority: 520, Action: state.Lookup, Table: 110, Suppress: 1, Protocol: 84},
		{Priority: 520, IPv6: true, Action: state.Lookup, Table: 110, Suppress: 1, Protocol: 84},
	}
	s.want.Rulesets = []state.Ruleset{ruleset(fmt.Sprintf(`table inet tombolo {
	chain input {
		type filter hook input priority filter - 5; policy accept;
		udp dport { 51821, 51822 } accept comment "tunnels"
	}
	chain forward {
		type filter hook forward priority filter - 5; policy accept;
		iifname { "%[1]s", "%[2]s" } accept
		counter
	}
	chain mss {
		type filter hook forward priority mangle; policy accept;
		oifname { "%[1]s", "%[2]s" } tcp flags syn / syn,rst tcp option maxseg size set rt mtu
	}
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		oifname "v0" ip saddr { 10.1.0.0/24, 192.168.0.0/16 } masquerade
	}
}
`, a, b))}
	s.want.Sysctls = []state.Sysctl{
		{Name: "net/ipv4/conf/" + a + "/rp_filter", Value: "0"},
		{Name: "net/ipv4/conf/v0/rp_filter", Value: "1"},
		{Name: "net/ipv4/ip_forward", Value: "1"},
		{Name: "net/ipv6/conf/all/forwarding", Value: "1"},
		{Name: "net/ipv6/conf/none0/accept_ra", Value: "2"},
	}
	s.want.Sort()
	return s
}

// peer returns a peer of the first interface.
func (s *site) peer(name string) *state.Peer {
	peers := s.want.Interfaces[0].WireGuard.Peers
	return &peers[slices.IndexFunc(peers, func(p state.Peer) bool { return p.Name == name })]
}

// enter moves a subtest's thread into the site's namespace.
func (s *site) enter(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Setns(int(s.embedded.ns.Fd()), unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
}

func ruleset(text string) state.Ruleset {
	return state.Ruleset{Family: "inet", Table: "tombolo", Text: text, Digest: state.RulesetDigest(text)}
}

// normal returns a router as Read returns it where it is what was wanted: without what
// only the network file knows.
func normal(r state.Router) state.Router {
	r, err := state.Decode(r.Encode()) // a deep copy
	if err != nil {
		panic(err)
	}
	for i := range r.Interfaces {
		for j := range r.Interfaces[i].WireGuard.Peers {
			p := &r.Interfaces[i].WireGuard.Peers[j]
			p.Name, p.Endpoints, p.Handshake, p.Sent, p.Received = "", nil, 0, 0, 0
			p.Addresses = p.Addresses[:min(1, len(p.Addresses))]
			if len(p.Addresses) == 0 {
				p.Addresses = nil
			}
		}
	}
	for i := range r.Rulesets {
		r.Rulesets[i].Text = ""
	}
	r.Sysctls = slices.DeleteFunc(r.Sysctls, func(s state.Sysctl) bool { return strings.Contains(s.Name, "none0") })
	r.Sort()
	return r
}

func diffRouters(a, b state.Router) string {
	return cmp.Diff(strings.Split(string(a.Encode()), "\n"), strings.Split(string(b.Encode()), "\n"))
}
