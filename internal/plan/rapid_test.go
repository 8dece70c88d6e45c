package plan

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"tombolo/internal/key"
	"tombolo/internal/state"
)

// difference returns how two values differ; an empty list is as good as none.
func difference(a, b any) string {
	if reflect.DeepEqual(a, b) {
		return "" // much faster, and nearly always
	}
	return cmp.Diff(a, b, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{}, netip.AddrPort{}))
}

// The pools from which routers are drawn are so small that both sides of a plan often
// hold the same things, and things in each other's place.
var (
	somePorts    = []uint16{51820, 51821, 51822, 51823, 51824}
	someNames    = []string{"wg-a", "wg-b", "wg-c", "wg-d"}
	someAllowed  = prefixes("10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16", "fd01::/64", "0.0.0.0/0")
	someAddrs    = prefixes("10.0.0.1/24", "10.0.0.2/24", "10.0.0.1/32", "fd00::1/64", "fd00::1/128", "fe80::1/64")
	someDsts     = prefixes("10.1.0.0/16", "10.2.0.0/16", "fd01::/64", "0.0.0.0/0")
	someSysctls  = []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv6/conf/eth0/accept_ra"}
	someEndpoint = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:51820"), netip.MustParseAddrPort("192.0.2.2:51820"), netip.MustParseAddrPort("[2001:db8::1]:51820")}
)

func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, t := range texts {
		out = append(out, netip.MustParsePrefix(t))
	}
	return out
}

func publicKeyOf(n int) key.Public { return key.Public{byte(n + 1)} }

// drawer draws a router. One that is observed may hold things of others, and what only a
// kernel knows; one that is wanted holds only what can be.
type drawer struct {
	*rapid.T
	observed bool
	r        state.Router
	ports    []uint16
}

func routers(observed bool) *rapid.Generator[state.Router] {
	return rapid.Custom(func(t *rapid.T) state.Router {
		d := drawer{T: t, observed: observed, r: state.Router{Version: state.Version, Owner: state.DefaultOwner()}}
		d.ports = rapid.Permutation(somePorts).Draw(t, "ports")
		for _, name := range someNames {
			d.drawInterface(name)
		}
		d.drawRoutes()
		d.drawRules()
		d.drawRulesets()
		d.drawSysctls()
		d.r.Sort()
		return d.r
	})
}

// yes is true once in n times.
func (d *drawer) yes(n int, label string) bool {
	return rapid.IntRange(0, n-1).Draw(d.T, label) == 0
}

func (d *drawer) drawInterface(name string) {
	if d.yes(3, "without "+name) {
		return
	}
	foreign := d.observed && d.yes(12, "foreign interface")
	i := state.Interface{Name: name, Kind: state.WireGuardKind, Alias: "tombolo home " + name, MTU: pick(d, 1280, 1420)}
	if foreign {
		i.Alias = pick(d, "", "tombolo-no", "mine")
	}
	w := &state.WireGuard{
		PublicKey: publicKeyOf(pick(d, 100, 101)),
		FwMark:    pick(d, uint32(0), 0x7f000000),
	}
	if d.yes(8, "any port") && !d.observed {
		w.ListenPort = 0
	} else {
		w.ListenPort, d.ports = d.ports[0], d.ports[1:]
	}
	i.WireGuard = w
	for _, p := range someAddrs {
		// An IPv6 address exists once.
		there := slices.ContainsFunc(i.Addresses, func(o netip.Prefix) bool { return o.Addr().Is6() && o.Addr() == p.Addr() })
		if !there && d.yes(3, "address") {
			i.Addresses = append(i.Addresses, p)
		}
	}
	d.drawPeers(w)
	if d.observed && !foreign {
		i.Down = d.yes(8, "down")
		if d.yes(8, "its process is gone") {
			i.Kind, i.WireGuard = "tun", nil
		}
	}
	d.r.Interfaces = append(d.r.Interfaces, i)
}

func (d *drawer) drawPeers(w *state.WireGuard) {
	for n := range 4 {
		if d.yes(3, "no peer") {
			continue
		}
		p := state.Peer{PublicKey: publicKeyOf(n), Keepalive: pick(d, 0, 25), Preshared: pick(d, key.Ref(""), "a+b")}
		if d.observed {
			p.Handshake, p.Sent = int64(n), 7
			p.Preshared = pick(d, p.Preshared, state.UnknownKey)
			if d.yes(2, "endpoint") {
				p.Addresses = []netip.AddrPort{rapid.SampledFrom(someEndpoint).Draw(d.T, "endpoint in use")}
			}
		} else {
			p.Name, p.Endpoints = fmt.Sprintf("site%d", n), []string{"op.example.net:51820"}
			p.Addresses = rapid.SliceOfNDistinct(rapid.SampledFrom(someEndpoint), 0, 2, rapid.ID).Draw(d.T, "addresses")
		}
		w.Peers = append(w.Peers, p)
	}
	for _, a := range someAllowed {
		if len(w.Peers) > 0 && !d.yes(5, "allowed at nobody") {
			i := rapid.IntRange(0, len(w.Peers)-1).Draw(d.T, "allowed at")
			w.Peers[i].AllowedIPs = append(w.Peers[i].AllowedIPs, a)
		}
	}
}

func (d *drawer) drawRoutes() {
	devices := []string{"eth0"}
	for _, i := range d.r.Interfaces {
		devices = append(devices, i.Name)
	}
	for _, dst := range someDsts {
		for _, metric := range []uint32{0, 5} {
			if d.yes(2, "route") {
				continue
			}
			r := state.Route{Table: pick(d, uint32(110), 120), Dst: dst, Metric: metric, Type: state.Unicast, Protocol: 84}
			r.Device = rapid.SampledFrom(devices).Draw(d.T, "device")
			if d.yes(3, "source") && dst.Addr().Is4() {
				r.PrefSrc = netip.MustParseAddr("10.0.0.1")
			}
			if d.yes(5, "nowhere") {
				r.Type, r.Device = state.Unreachable, ""
			}
			d.r.Routes = append(d.r.Routes, d.observedRoutes(r)...)
		}
	}
}

// observedRoutes returns what a kernel may show where a route could be wanted.
func (d *drawer) observedRoutes(r state.Route) []state.Route {
	if !d.observed {
		return []state.Route{r}
	}
	if r.Dst.Addr().Is6() && r.Metric == 0 {
		r.Metric = 1024
	}
	out := []state.Route{r}
	switch {
	case d.yes(12, "foreign route"):
		out[0].Protocol = 4
	case r.Dst.Addr().Is4() && d.yes(16, "a second of that key"):
		other := r
		other.PrefSrc = netip.MustParseAddr("10.0.0.9")
		if d.yes(3, "which is foreign") {
			other.Protocol = 4
		}
		out = append(out, other)
	}
	return out
}

func (d *drawer) drawRules() {
	for _, priority := range []uint32{500, 501, 520} {
		for _, six := range []bool{false, true} {
			if d.yes(2, "rule") {
				continue
			}
			r := state.Rule{Priority: priority, IPv6: six, Action: state.Lookup, Table: pick(d, uint32(110), 254), Protocol: 84}
			r.Mark, r.Mask = 0x7f000000, pick(d, uint32(0xff000000), 0xffffffff)
			d.r.Rules = append(d.r.Rules, r)
			if d.observed && d.yes(6, "foreign rule") {
				r.Protocol, r.Priority = pick(d, uint8(84), 3), pick(d, priority, 700)
				if !d.r.Owner.OwnsRule(r) {
					d.r.Rules = append(d.r.Rules, r)
				}
			}
		}
	}
}

func (d *drawer) drawRulesets() {
	for _, family := range []string{"inet", "ip"} {
		if d.yes(2, "ruleset") {
			continue
		}
		text := pick(d, "table "+family+" tombolo {\n}\n", "table "+family+" tombolo {\n\tchain a {\n\t}\n}\n")
		digest := state.RulesetDigest(text)
		if d.observed && d.yes(4, "drifted") {
			digest = state.DriftedDigest
		}
		d.r.Rulesets = append(d.r.Rulesets, state.Ruleset{Family: family, Table: "tombolo", Text: text, Digest: digest})
	}
	if d.observed && d.yes(2, "foreign ruleset") {
		d.r.Rulesets = append(d.r.Rulesets, state.Ruleset{Family: "inet", Table: "fw4", Text: "table inet fw4 {\n}\n"})
	}
}

func (d *drawer) drawSysctls() {
	names := slices.Clone(someSysctls)
	for _, i := range d.r.Interfaces {
		names = append(names, "net/ipv4/conf/"+i.Name+"/rp_filter")
	}
	for _, name := range names {
		if d.yes(3, "no setting") {
			continue
		}
		s := state.Sysctl{Name: name, Value: pick(d, "0", "1", "2")}
		if !d.observed && d.yes(3, "only") {
			s.Only = pick(d, "0", "1")
		}
		d.r.Sysctls = append(d.r.Sysctls, s)
	}
}

func pick[T any](d *drawer, from ...T) T { return rapid.SampledFrom(from).Draw(d.T, "pick") }
