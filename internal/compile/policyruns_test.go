package compile

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"tombolo/internal/spec"
	"tombolo/internal/trace/ruleset"
)

var protocolNumbers = map[string]uint8{"tcp": 6, "udp": 17, "gre": 47}

// passing is a new flow's first packet at a router of manySites, with what the rules say of it.
type passing struct {
	packet ruleset.Packet
	hook   ruleset.Hook
	want   string
}

// passing makes one up: from a host or a stranger to another, or to the router itself.
func (c *compiler) passing(i int, all []netip.Prefix, r *rand.Rand) passing {
	s, ip6 := &c.n.Sites[i], r.IntN(4) == 0
	stranger := map[bool]string{false: "198.51.100.7", true: "2001:db8::7"}[ip6]
	pick := func(ours bool) (a netip.Addr, device string) {
		if !ours && r.IntN(4) == 0 {
			return netip.MustParseAddr(stranger), "eth0"
		}
		at := r.IntN(3) * r.IntN(3) // some more often
		if ours {
			at = i
		}
		lan := c.n.Sites[at].LANs[0].Prefixes[one(ip6)].Prefix.Addr().AsSlice()
		lan[len(lan)-1] = []byte{0, 1, 2, 3, 4, 255}[r.IntN(6)]
		a, _ = netip.AddrFromSlice(lan)
		switch {
		case at == i:
			return a, "lan0"
		case i == 0:
			return a, spec.InterfaceName(c.n.Sites[at].Name)
		}
		return a, spec.InterfaceName("s0")
	}
	protocol := []string{"tcp", "udp", "icmp", "gre"}[r.IntN(4)]
	out := passing{hook: ruleset.Forward, want: "accept", packet: ruleset.Packet{Protocol: protocolNumbers[protocol], SYN: true}}
	p := &out.packet
	if protocol == "icmp" {
		p.Protocol = map[bool]uint8{false: 1, true: 58}[ip6]
	}
	p.SPort, p.DPort = 40000, []uint16{1, 40, 41, 42, 50, 53, 60, 100, 443, 1023, 1024, 65535}[r.IntN(12)]
	ours := r.IntN(8) // often one of them is behind this router, seldom both or none
	p.Src, p.IIF.Name = pick(ours%2 == 0)
	if p.Dst, p.OIF.Name = pick(ours == 0 || ours%2 == 1 && ours > 1); p.OIF.Name == "lan0" && r.IntN(4) == 0 {
		out.hook, p.OIF.Name, p.Dst = ruleset.Input, "", map[bool]netip.Addr{false: s.Address, true: s.Address6}[ip6]
	}
	switch {
	case out.hook == ruleset.Input && (p.IIF.Name == "lan0" || p.IIF.Name == "eth0"), p.IIF == p.OIF, p.IIF.Name != "lan0" && p.OIF.Name != "lan0" && out.hook == ruleset.Forward:
	case !denied(c.n, all, p.Src, p.Dst, protocol, int(p.DPort)):
	case p.IIF.Name == "eth0":
		out.want = "drop"
	default:
		out.want = "reject"
	}
	return out
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

// The tables of whole routers decide as the rules of random policies do, at the hub and at the
// ends of a star. What the rules of a table mean is what the kernel makes of them, see ruleset.
func TestTablesDecideAsTheRulesDo(t *testing.T) {
	count := map[string]int{}
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 12))
		n := manySites(t, 6)
		n.Policy = randomPolicy(n, 1+r.IntN(40), 6, r)
		somePorts(n, r)
		all := newCompiler(n, Options{}).allPrefixes()
		for _, i := range []int{0, 1, 4} {
			s, err := Router(n, n.Sites[i].Name, Options{})
			if err != nil {
				t.Fatal(err)
			}
			text := s.Rulesets[0].Text
			table, err := ruleset.Parse(text)
			if err != nil {
				t.Fatalf("seed %d, %s: %v\n%s", seed, s.Site, err, text)
			}
			c := newCompiler(n, Options{})
			for range 200 {
				x := c.passing(i, all, r)
				p := x.packet
				got := table.Run(x.hook, &p, &ruleset.Conn{State: "new", OrigSrc: p.Src, OrigDst: p.Dst}, ruleset.Env{}, false)
				count[x.hook.String()+" "+got.Verdict]++
				if got.Verdict != x.want {
					t.Fatalf("seed %d, %s, %v: %+v: %s by %+v, want %s by %+v\n%s", seed, s.Site, x.hook, p, got.Verdict, got.Why, x.want, n.Policy, text)
				}
			}
		}
	}
	t.Logf("%v", count)
	for _, k := range []string{"forward drop", "forward reject", "forward accept", "input reject", "input accept"} {
		if count[k] == 0 {
			t.Errorf("there is no %s among %v", k, count)
		}
	}
}

// somePorts gives some of the rules neighbours as destinations, and some so many ports that they
// have chains of their own.
func somePorts(n *spec.Network, r *rand.Rand) {
	for k := range n.Policy.Rules {
		x := &n.Policy.Rules[k]
		if r.IntN(3) == 0 {
			x.To = group(n, 0, 1+r.IntN(3))
		}
		if r.IntN(3) == 0 {
			x.Ports = nil
			for port := 40; port < 40+2*r.IntN(40); port += 2 {
				x.Ports = append(x.Ports, spec.PolicyPort{Protocol: []string{"tcp", "udp"}[r.IntN(2)], Ports: spec.PortRange{First: port, Last: port}})
			}
		}
	}
}
