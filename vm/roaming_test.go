//go:build vm

package vm

import (
	"fmt"
	"strings"
	"testing"
)

// A device with the kernel's WireGuard moves between two doors that have it too.
func TestDeviceRoamsBetweenKernelDoors(t *testing.T) {
	n := newQuietNetwork(t, "roa", "rob")
	n.write(named(pair, n.sites...) + "clients:\n  pool: 10.31.0.0/24\n  at: [roa, rob]\n  devices: {phone: {address: 10.31.0.10}}\n")
	for _, k := range []string{"clients", "phone"} {
		n.tombolo("roa", "key", "make", k)
	}
	n.namespace("phone")
	n.sh("net", "ip link add pphone up type veth peer eth0 netns phone; ip link set pphone master br0")
	n.sh("phone", "ip address add 198.51.100.50/24 dev eth0; ip link set eth0 up")
	n.applyAll()
	for i, door := range []string{"roa", "rob"} {
		n.sh("phone", fmt.Sprintf("ip link delete wg0 2>/dev/null || true; ip link add wg0 type wireguard; wg set wg0 private-key keys/phone.key peer $(wg pubkey <keys/clients.key) endpoint 198.51.100.%d:51820 persistent-keepalive 25 allowed-ips 10.0.0.0/8; ip address add 10.31.0.10/32 dev wg0; ip link set wg0 up; ip route add 10.0.0.0/8 dev wg0", 1+i%2))
		other := n.sites[(i+1)%2]
		n.answers("phone", n.host(0))
		n.answers("phone", n.host(1))
		n.answers(other+".host", "10.31.0.10")
		if out := n.sh(other, "ip route show table 110 10.31.0.10"); !strings.Contains(out, "dev wg-"+door) {
			t.Errorf("at %s, %s goes to the phone by %q", door, other, out)
		}
		if out := n.sh(other, "wg show wg-clients latest-handshakes"); !strings.HasSuffix(strings.TrimSpace(out), "\t0") {
			t.Errorf("%s has still a session: %s", other, out)
		}
	}
	for _, s := range n.sites {
		n.holds(s)
	}
}
