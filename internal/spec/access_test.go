package spec_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tombolo/internal/spec"
)

// twins is a network with everything that words of `nat:` and `policy:` can name.
const twins = `network: n
overlay: 10.9.0.0/24
overlay6: fd09:0:0::/48
sites:
  north: {address: 10.9.0.1, endpoint: n.example.net, lan: {br-lan: [{prefix: 192.168.1.0/24, as: 10.61.1.0/24}, {prefix: "fd01::/64", as: "fd61:1::/64"}], wg1: 10.66.0.0/24}, uplink: {eth0: dhcp}}
  south: {address: 10.9.0.2, lan: {br-lan: {prefix: 192.168.1.0/24, as: 10.61.2.0/24}}, uplink: {eth0: dhcp}}
  third: {address: 10.9.0.3, babel: {br-core: {accept: [10.20.0.0/16, 10.20.1.0/24]}}, lan: {br-lan: 192.168.3.0/24, br-iot: 192.168.4.0/24}}
clients: {pool: 10.8.0.0/24, at: [north, third], devices: {phone: {address: 10.8.0.10}}}
`

// A published host is kept by the address that all know, however its own site calls it.
func TestPublishedHostsOfMappedLANs(t *testing.T) {
	n := parse(t, twins+`publish:
  - {at: north, port: tcp/80, to: 192.168.1.10:80}
  - {at: south, port: 80-89/udp, to: "10.61.2.10:8000"}
  - {at: north, port: 81/tcp, to: "[fd01::10]:80"}
`)
	want := []spec.Publish{
		{Pos: spec.Pos{Line: 10, Column: 5}, At: "north", Port: spec.PortRange{First: 80, Last: 80}, Protocol: "tcp", To: netip.MustParseAddrPort("10.61.1.10:80")},
		{Pos: spec.Pos{Line: 11, Column: 5}, At: "south", Port: spec.PortRange{First: 80, Last: 89}, Protocol: "udp", To: netip.MustParseAddrPort("10.61.2.10:8000")},
		{Pos: spec.Pos{Line: 12, Column: 5}, At: "north", Port: spec.PortRange{First: 81, Last: 81}, Protocol: "tcp", To: netip.MustParseAddrPort("[fd61:1::10]:80")},
	}
	if d := cmp.Diff(want, n.Publish, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
