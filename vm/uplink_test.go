//go:build vm

package vm

import (
	"strings"
	"testing"
)

// The kernel's WireGuard keeps the source address that it once had. When the provider behind
// that address dies, the tunnel moves to the other uplink, with the exit that lies beyond it.
func TestKernelTunnelMovesToAnotherUplink(t *testing.T) {
	n := newQuietNetwork(t, "upa", "upb")
	n.write(`
sites:
  upa:
    lan: {lan0: 10.1.0.0/24}
    uplink:
      w1: {address: 10.201.0.2/30, gateway: 10.201.0.1, check: 192.0.2.1, check-interval: 200ms}
      w2: {address: 10.202.0.2/30, gateway: 10.202.0.1, check: 192.0.2.1, check-interval: 200ms, preference: 2}
  upb: {endpoint: 198.51.100.2, lan: {lan0: 10.2.0.0/24}, uplink: {eth0: {address: 198.51.100.2/24, gateway: 198.51.100.254}}}
exits:
  - {for: upb, via: upa, otherwise: block}
`)
	n.sh("net", "ip address add 198.51.100.254/24 dev br0; ip address add 192.0.2.1/32 dev lo; sysctl -qw net.ipv4.ip_forward=1")
	n.sh("upa", "ip link delete eth0")
	for _, i := range []string{"1", "2"} {
		n.sh("net", "ip link add n"+i+" up type veth peer w"+i+" netns upa; ip address add 10.20"+i+".0.1/30 dev n"+i)
		n.sh("upa", "ip address add 10.20"+i+".0.2/30 dev w"+i+"; ip link set w"+i+" up")
	}
	n.sh("upb", "ip route add default via 198.51.100.254")
	n.applyAll()
	from := func(address string) {
		t.Helper()
		n.answers("upa.host", n.host(1))
		n.answers("upb.host", "192.0.2.1")
		if out := n.sh("upb", "wg show wg-upa endpoints"); !strings.Contains(out, address+":") {
			t.Errorf("the tunnel comes from %s, want %s", out, address)
		}
	}
	n.answers("upa.host", "192.0.2.1")
	from("10.201.0.2")
	// Nobody is told: what provider 1 is handed, and what it is to hand over, vanishes.
	n.sh("net", `nft 'add table inet cut; add chain inet cut pre { type filter hook prerouting priority raw; }; add rule inet cut pre iifname n1 drop;
add chain inet cut post { type filter hook postrouting priority 300; }; add rule inet cut post oifname n1 drop'`)
	n.sh("upb", `end=$((SECONDS + 60)); until wg show wg-upa endpoints | grep -q 10.202.0.2; do [ $SECONDS -lt $end ] || exit 1; sleep 0.2; done`)
	from("10.202.0.2")
	for _, s := range n.sites {
		n.holds(s)
	}
}
