package cli_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"tombolo/internal/spec"
)

// truthNetwork makes network files at random, of what the language has.
type truthNetwork struct {
	*rand.Rand
	file  strings.Builder
	sites []truthSite
	doors []string
	phone bool
	full  bool // its whole traffic
	away  bool // at no door at first
	apart bool // doors do not hear of each other: a device counts as being at the first one for three minutes
	wire  bool // the first two sites are on one, and have no tunnel between them
}

type truthSite struct {
	name    string
	mapped  bool
	static  bool
	lans    int // with a host each
	six     bool
	uplinks []string // devices
	checked bool     // what they do is found out by asking somebody
	plain   bool     // it runs nothing of ours
	guest   bool     // and enters at a door
	behind  bool     // a NAT
}

func (n *truthNetwork) write(format string, args ...any) { fmt.Fprintf(&n.file, format, args...) }

// one says yes once in so many times.
func (n *truthNetwork) one(in int) bool { return n.IntN(in) == 0 }

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func (n *truthNetwork) site() *truthSite { return &n.sites[n.IntN(len(n.sites))] }

// prefix is how the network sees a LAN: of one that is mapped, what it is mapped to.
func (s *truthSite) prefix(lan int, six bool) string {
	i := s.name[1:]
	if six {
		return fmt.Sprintf("fd00:%s:%d::/64", i, lan)
	}
	return fmt.Sprintf("10.%s.%d.0/24", i, lan)
}

// host is how the network sees a LAN's host.
func (s *truthSite) host(lan int, six bool) string {
	if six {
		return strings.Replace(s.prefix(lan, six), "/64", "10", 1)
	}
	return strings.Replace(s.prefix(lan, six), "0/24", "10", 1)
}

const truthLabFile = "defaults: {nat: none}\ninternet: {inet: {address: [198.18.0.10, 2001:db8::10]}}\n"

// makeTruthNetwork makes one that is right, with the lab file for it. Of what it makes the parser may refuse
// some: then it makes another.
func makeTruthNetwork(t *testing.T, r *rand.Rand) (n *truthNetwork, network *spec.Network, labFile string) {
	t.Helper()
	for range 1000 {
		n = &truthNetwork{Rand: r}
		n.make()
		var warnings spec.Diagnostics
		network, warnings = spec.Parse("network.yaml", []byte(n.file.String()))
		n.apart = slices.ContainsFunc(warnings, func(d spec.Diagnostic) bool { return d.Code == "far-door" })
		if network != nil {
			return n, network, truthLabFile + n.providers()
		}
	}
	_, mistakes := spec.Parse("network.yaml", []byte(n.file.String()))
	t.Fatalf("no random network is right; of the last one:\n%s\n%v", n.file.String(), mistakes)
	return nil, nil, ""
}

// devices are the lab's arguments about the phone.
func (n *truthNetwork) devices() []string {
	if n.away {
		return []string{"--devices", "off"}
	}
	return nil
}

// providers is the rest of the lab file: who is behind a NAT.
func (n *truthNetwork) providers() string {
	var b strings.Builder
	for i := range n.sites {
		if s := &n.sites[i]; s.behind {
			if b.Len() == 0 {
				b.WriteString("sites:\n")
			}
			fmt.Fprintf(&b, "  %s: {eth0: {nat: %s}}\n", s.name, pick(n.Rand, "full-cone", "port-restricted", "symmetric"))
		}
	}
	return b.String()
}

func (n *truthNetwork) make() {
	n.write("network: truth\noverlay: 10.200.0.0/24\nsites:\n")
	n.wire = n.one(4)
	for i := range 3 + n.IntN(6) {
		n.makeSite(i + 1)
	}
	n.makeLinks()
	n.makeClients()
	n.makeExits()
	n.makeNAT()
	n.makePublished()
	n.makePolicy()
}

func (n *truthNetwork) makeSite(i int) {
	s := truthSite{name: fmt.Sprintf("r%d", i), mapped: n.one(4), static: n.one(8), lans: 1, six: !n.one(4)}
	if n.one(4) {
		s.lans = 2
	}
	if n.one(6) {
		s.lans = 0
	}
	n.write("  %s:\n    address: 10.200.0.%d\n", s.name, i)
	wired := n.wire && i <= 2
	s.behind = i > 1 && !wired && n.one(5)
	if s.plain = i > 2 && !s.static && n.one(8); s.plain {
		s.mapped, s.guest = false, n.one(2)
		n.write("    kind: plain\n")
	}
	s.uplinks = []string{"eth0"}
	if !s.plain && !s.behind && n.one(3) {
		s.uplinks = append(s.uplinks, "eth1")
		s.checked = n.one(2)
	}
	switch {
	case s.behind:
	case len(s.uplinks) > 1: // others find it by the second one too
		n.write("    endpoint: [%s.example.net, 211.%d.1.2]\n", s.name, i)
	default:
		n.write("    endpoint: %s.example.net\n", s.name)
	}
	if s.static {
		n.write("    routing: static\n")
	}
	for k := range s.lans {
		if k == 0 {
			n.write("    lan:\n")
		}
		n.write("      lan%d: [%s]\n", k, strings.Join(s.lan(k), ", "))
	}
	n.write("    uplink:\n")
	for k, device := range s.uplinks {
		words := []string{"dhcp: true"}
		if wired && k == 0 {
			words = []string{fmt.Sprintf("address: 211.99.0.%d/29, gateway: 211.99.0.1", i+1)}
		} else if !s.behind && (k > 0 || n.one(2)) {
			words = []string{fmt.Sprintf("address: 211.%d.%d.2/30, gateway: 211.%d.%d.1", i, k, i, k)}
		}
		if len(s.uplinks) > 1 {
			words = append(words, fmt.Sprintf("weight: %d", 1+n.IntN(3)))
			if n.one(4) {
				words = append(words, "preference: 2")
			}
		}
		if s.checked {
			words = append(words, `check: [198.18.0.10, "2001:db8::10"], check-interval: 200ms`)
		}
		if n.one(8) {
			words = append(words, "masquerade: false")
		}
		n.write("      %s: {%s}\n", device, strings.Join(words, ", "))
	}
	n.sites = append(n.sites, s)
}

// lan is how the file describes one.
func (s *truthSite) lan(k int) (prefixes []string) {
	for _, six := range []bool{false, true} {
		if six && !s.six {
			continue
		}
		p := s.prefix(k, six)
		if s.mapped && k == 0 {
			own := "192.168.1.0/24"
			if six {
				own = "fd00:ffff::/64"
			}
			p = fmt.Sprintf("{prefix: %q, as: %q}", own, p)
		} else {
			p = fmt.Sprintf("%q", p)
		}
		prefixes = append(prefixes, p)
	}
	return prefixes
}

func (n *truthNetwork) makeLinks() {
	var names, pairs, every []string
	costs := !n.one(3)
	for _, s := range n.sites {
		if s.guest {
			continue
		}
		to := n.IntN(max(len(names), 1))
		for i, other := range names {
			pair := fmt.Sprintf("[%s, %s]", other, s.name)
			if n.wire && len(names) == 1 {
				pair = fmt.Sprintf("{between: %s, transport: none, on: {%s: eth0, %s: eth0}}", pair, other, s.name)
			} else if costs {
				pair = fmt.Sprintf("{between: %s, cost: %d}", pair, 1+n.IntN(400))
			}
			every = append(every, pair)
			if i == to {
				pairs = append(pairs, pair)
			}
		}
		names = append(names, s.name)
	}
	first, last := names[0], names[len(names)-1]
	if n.one(2) && len(names) > 2 {
		pairs = append(pairs, fmt.Sprintf("{between: [%s, %s], cost: %d}", first, last, 1+n.IntN(500)))
	}
	n.Shuffle(len(names), func(i, k int) { names[i], names[k] = names[k], names[i] })
	shapes := []string{"[" + strings.Join(every, ", ") + "]", "[" + strings.Join(pairs, ", ") + "]"}
	if !n.wire {
		shapes = append(shapes, fmt.Sprintf("{chain: [%s]}", strings.Join(names, ", ")))
		if len(names) == len(n.sites) { // else it would join those that enter at a door
			shapes = append(shapes, "mesh", fmt.Sprintf("{star: %s}", names[0]))
		}
	}
	n.write("links: %s\n", pick(n.Rand, shapes...))
}

func (n *truthNetwork) makeClients() {
	for i := range n.sites {
		if !n.sites[i].static && !n.sites[i].plain && !n.sites[i].behind && n.one(2) {
			n.doors = append(n.doors, n.sites[i].name)
		}
	}
	if n.phone = len(n.doors) > 0 && !n.one(3); !n.phone {
		return
	}
	n.full, n.away = n.one(2), n.one(4)
	n.write("clients:\n  pool: 10.31.0.0/24\n  at: [%s]\n  devices:\n    phone: {address: 10.31.0.10, full: %v}\n", strings.Join(n.doors, ", "), n.full)
}

func (n *truthNetwork) makeExits() {
	had := map[string]bool{}
	for i := range n.IntN(3) {
		whose, first, second := n.site().name, n.site().name, n.site().name
		if n.phone && n.full && n.one(4) {
			whose = "phone"
		}
		if s := n.site(); s.lans > 1 {
			whose = fmt.Sprintf("%q", s.prefix(1, s.six && n.one(2)))
		}
		if had[whose] || whose == first || whose == second || first == second {
			continue
		}
		if len(had) == 0 {
			n.write("exits:\n")
		}
		had[whose] = true
		via := pick(n.Rand, first, fmt.Sprintf("[%s, %s]", first, second))
		n.write("  - {for: %s, via: %s, otherwise: %s, router: %v}\n", whose, via, pick(n.Rand, "local", "block"), i == 0 && whose[0] == 'r' && n.one(3))
	}
}

func (n *truthNetwork) makeNAT() {
	if !n.one(3) {
		return
	}
	at, to := n.site().name, n.site().name
	if at == to {
		n.write("nat: [{at: %s, masquerade: %s}]\n", at, at)
		return
	}
	n.write("nat:\n  - {at: %s, masquerade: %s, %s}\n", at, pick(n.Rand, at, n.site().name), pick(n.Rand, "to: "+to, "to: "+to, "out: wg-"+to))
}

func (n *truthNetwork) makePublished() {
	first := true
	for range n.IntN(4) {
		at, to := n.site(), n.site()
		if to.lans == 0 {
			continue
		}
		if first {
			n.write("publish:\n")
		}
		first = false
		target := to.host(n.IntN(to.lans), to.six && n.one(3))
		if strings.Contains(target, ":") {
			target = "[" + target + "]"
		}
		n.write("  - {at: %s, port: %d/%s, to: %q}\n", at.name, askedAt, pick(n.Rand, "tcp", "udp"), fmt.Sprintf("%s:%d", target, askedAt))
	}
}

// group is whom a rule may be about.
func (n *truthNetwork) group() string {
	s := n.site()
	if n.phone && n.one(6) {
		return pick(n.Rand, "phone", "clients")
	}
	if s.lans > 0 && n.one(2) {
		lan := n.IntN(s.lans)
		six := s.six && n.one(2)
		return pick(n.Rand, fmt.Sprintf("%s:lan%d", s.name, lan), fmt.Sprintf("%q", s.prefix(lan, six)), fmt.Sprintf("%q", s.host(lan, six)))
	}
	return pick(n.Rand, s.name, s.name, s.name, "any", "internet")
}

func (n *truthNetwork) makePolicy() {
	if !n.one(2) {
		return
	}
	n.write("policy:\n  default: %s\n  rules:\n", pick(n.Rand, "allow", "deny"))
	for range 2 + n.IntN(6) {
		n.write("    - {from: %s, to: %s, %s}\n", n.group(), n.group(),
			pick(n.Rand, "allow: all", "deny: all", "allow: 7007/tcp", "deny: udp/7000-7010", "allow: icmp", "deny: [icmp, tcp]", "allow: [tcp/7007, udp/53]"))
	}
}
