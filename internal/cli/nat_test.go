package cli_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// op1 hides the phones of a tunnel that somebody made by hand (here it is a LAN like others)
// towards op2, by the device; op2 hides its LAN from op3, by the site; op3 itself from all.
const natNetwork = `
network: hidden
overlay: 10.9.0.0/24
overlay6: "fd00:9::/48"
sites:
  op1: {address: 10.9.0.1, endpoint: op1.example.net, lan: {lan0: [10.1.0.0/24, "fd00:1::/64"], wg1: [10.66.0.0/24, "fd00:66::/64"]}, uplink: {eth0: dhcp}}
  op2: {address: 10.9.0.2, endpoint: op2.example.net, lan: {lan0: [10.2.0.0/24, "fd00:2::/64"]}, uplink: {eth0: dhcp}}
  op3: {address: 10.9.0.3, endpoint: op3.example.net, lan: {lan0: [10.3.0.0/24, "fd00:3::/64"]}, uplink: {eth0: dhcp}}
links: mesh
exits:
  - {for: op3, via: op1}
nat:
  - {at: op1, masquerade: [10.66.0.0/24, "fd00:66::/64"], out: wg-op2}
  - {at: op2, masquerade: op2, to: op3}
  - {at: op3, masquerade: op3}
`

// Whom nat: hides has its router's address where it is to be hidden, and its own elsewhere; an
// exit is found by the true one.
func TestSourcesAreHiddenWhereTheFileSays(t *testing.T) {
	t.Parallel()
	l := open(t, "nat", natNetwork, "internet:\n  inet: {address: [198.18.0.10, 2001:db8::10]}\n")
	l.reached()
	overlay := map[string][2]netip.Addr{}
	for i := range 3 {
		overlay[fmt.Sprintf("op%d", i+1)] = [2]netip.Addr{netip.AddrFrom4([4]byte{10, 9, 0, byte(i + 1)}), netip.MustParseAddr(fmt.Sprintf("fd00:9::%d", i+1))}
	}
	hosts := []string{"op1.host", "op1.host-wg1", "op2.host", "op3.host"}
	for _, h := range hosts {
		l.mirror(h, l.outside(h, "eth0", false), l.outside(h, "eth0", true))
	}
	l.mirror("inet", l.outside("inet", "eth0", false))
	hidden := map[[2]string]string{ // from and to: by which router
		{"op1.host-wg1", "op2.host"}: "op1",
		{"op2.host", "op3.host"}:     "op2",
		{"op3.host", "op1.host"}:     "op3", {"op3.host", "op1.host-wg1"}: "op3", {"op3.host", "op2.host"}: "op3",
	}
	look := func() (faults []string) {
		for _, to := range hosts {
			var questions []question
			for _, from := range hosts {
				for _, network := range []string{"tcp", "udp", "icmp"} {
					for _, six := range []bool{false, true} {
						if from != to {
							questions = append(questions, question{node: from, network: network, to: l.outside(to, "eth0", six)})
						}
					}
				}
			}
			faults = append(faults, l.asks(questions, to, func(q question) netip.Addr {
				if by, hides := hidden[[2]string{q.node, to}]; hides {
					return overlay[by][map[bool]int{true: 1}[q.to.Is6()]]
				}
				return l.outside(q.node, "eth0", q.to.Is6())
			})...)
		}
		return faults
	}
	for _, fault := range look() {
		t.Error(fault)
	}
	// The exit's router is asked for the Internet, and not the host's own.
	exit := question{node: "op3.host", network: "udp", to: l.outside("inet", "eth0", false)}
	l.soon(func() string {
		if _, seen, err := l.ask(exit, forNone); err != nil || seen != l.outside("op1", "eth0", false) {
			return fmt.Sprintf("the Internet sees op3's host as %s (%v), want op1's uplink", seen, err)
		}
		return ""
	})
	l.in("op2", "nft", "flush", "ruleset")
	begin := time.Now()
	l.soon(func() string {
		_, seen, err := l.ask(question{node: "op2.host", network: "udp", to: l.outside("op3.host", "eth0", false)}, forNone)
		if err != nil || seen != overlay["op2"][0] {
			return fmt.Sprintf("op2's host is seen as %s (%v)", seen, err)
		}
		return ""
	})
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("it was put back after %v", took)
	}
	for _, fault := range look() {
		t.Errorf("after a flush: %s", fault)
	}
}
