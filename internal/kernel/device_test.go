package kernel

import (
	"context"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tombolo/internal/state"
)

func deviceOf(t testing.TB, k *Kernel, name string) Device {
	t.Helper()
	d, found, err := k.Device(name)
	if err != nil || !found {
		t.Fatalf("device %s: found %v, %v", name, found, err)
	}
	return d
}

func TestDeviceIsWhatItIs(t *testing.T) {
	namespace(t)
	sh(t, `ip link add wan0 mtu 1480 type veth peer name w; ip link add lan0 type veth peer name l
		for d in wan0 w; do ip link set $d addrgenmode none; ip link set $d up; done; ip link set lan0 up
		ip address add 192.0.2.7/24 dev wan0; ip address add 192.0.2.5/24 dev wan0
		ip address add 2001:db8::7/64 dev wan0 nodad; ip address add fe80::7/64 dev wan0 nodad
		ip address add 10.9.0.1/24 dev lan0
		ip route add default via 192.0.2.2 dev wan0 metric 200 proto dhcp
		ip route add default via 192.0.2.1 dev wan0 metric 100 proto dhcp
		ip route add default via 10.9.0.9 dev lan0 metric 300 proto static
		ip route add default via 192.0.2.3 dev wan0 metric 1 proto 84
		ip route add 10.0.0.0/8 via 192.0.2.4 dev wan0
		ip route add default via 192.0.2.6 dev wan0 table 201
		ip -6 route add default via fe80::1 dev wan0 proto ra
		ip -6 route add default from 2001:db8:1::/48 via fe80::2 dev wan0`)
	k := open(t)
	eventually(t, "the carrier is there", func() bool { return deviceOf(t, k, "wan0").Carrier })
	got := deviceOf(t, k, "wan0")
	want := Device{
		Name: "wan0", Index: got.Index, MTU: 1480, Up: true, Carrier: true,
		Addresses: []netip.Prefix{prefixOf("192.0.2.5/24"), prefixOf("192.0.2.7/24"), prefixOf("2001:db8::7/64"), prefixOf("fe80::7/64")},
		Global:    []netip.Prefix{prefixOf("192.0.2.5/24"), prefixOf("192.0.2.7/24"), prefixOf("2001:db8::7/64")},
		Gateways:  []netip.Addr{addrOf("192.0.2.1"), addrOf("192.0.2.2"), addrOf("fe80::1")},
		Defaults: []DeviceDefault{
			{Gateway: addrOf("192.0.2.1"), Metric: 100}, {Gateway: addrOf("192.0.2.2"), Metric: 200},
			{Gateway: addrOf("fe80::1"), IPv6: true, Metric: 1024},
			{Gateway: addrOf("fe80::2"), Src: prefixOf("2001:db8:1::/48"), IPv6: true, Metric: 1024},
		},
	}
	if d := cmp.Diff(want, got, equalAddrs, equalPrefixes); d != "" {
		t.Errorf("wanted, read: %s", d)
	}
	specifics, err := k.Specifics(t.Context(), "wan0", 10)
	if err != nil {
		t.Fatal(err)
	}
	var to []string
	for _, r := range specifics {
		to = append(to, r.Dst.String()+" via "+r.Gateway.String())
	}
	if d := cmp.Diff([]string{"10.0.0.0/8 via 192.0.2.4", "192.0.2.0/24 via invalid IP", "2001:db8::/64 via invalid IP"}, to); d != "" {
		t.Error(d)
	}
	if few, err := k.Specifics(t.Context(), "wan0", 2); err != nil || len(few) != 2 {
		t.Errorf("of more than two routes there are %v, %v", few, err)
	}
	// The other end is down, and so there is no carrier.
	if lan := deviceOf(t, k, "lan0"); !lan.Up || lan.Carrier || len(lan.Addresses) != 1 || len(lan.Gateways) != 1 {
		t.Errorf("a device without carrier reads %+v", lan)
	}
	if l := deviceOf(t, k, "l"); l.Up || l.Carrier || l.Addresses != nil || l.Gateways != nil {
		t.Errorf("a device that is down reads %+v", l)
	}
	if d, found, err := k.Device("none0"); found || err != nil {
		t.Errorf("a device that is not there reads %+v, %v, %v", d, found, err)
	}
}

// What an uplink leads by: without a gateway, among others, for some sources only, with
// whatever protocol, but not what is ours.
func TestDeviceDefaultsOfEveryKind(t *testing.T) {
	namespace(t)
	uplinks(t)
	sh(t, `ip route add default dev ppp0 metric 5 proto static
		ip route add default metric 4 nexthop via 192.0.20.1 dev w0 nexthop dev ppp0 nexthop via inet6 fe80::9 dev w1
		ip route add default via 192.0.20.7 dev w0 metric 2 proto boot onlink
		ip route add unreachable default metric 100
		for p in 84 85 86; do
			ip route add default via 192.0.20.3 dev w0 metric $p proto $p; ip route add default dev ppp0 metric 1$p proto $p
			ip -6 route add default via fe80::$p dev w0 metric $p proto $p
		done
		ip -6 route add default metric 3 nexthop via fe80::1 dev w0 nexthop via fe80::2 dev w1
		ip -6 route add default from 2001:db8:7::/48 via fe80::1 dev w0 metric 2
		ip -6 route add default dev ppp0; ip -6 route add unreachable default metric 5000
		ip address add 169.254.7.7/16 dev w0; ip address add 10.7.7.7/32 dev w0 scope link; ip address add 10.7.7.8/32 dev w0
		ip -6 address flush dev w0 scope link; ip address add 2001:db8:0:1::7/64 dev w0 preferred_lft 0 nodad`)
	k := open(t)
	src := prefixOf("2001:db8:7::/48")
	for _, strict := range []bool{true, false} {
		if !strict {
			notStrict(t, k)
		}
		for name, want := range map[string][]DeviceDefault{
			"w0": {{Gateway: addrOf("192.0.20.7"), Metric: 2}, {Gateway: addrOf("192.0.20.1"), Metric: 4},
				{Gateway: addrOf("fe80::1"), Src: src, IPv6: true, Metric: 2}, {Gateway: addrOf("fe80::1"), IPv6: true, Metric: 3}},
			"w1":   {{Gateway: addrOf("fe80::9"), Metric: 4}, {Gateway: addrOf("fe80::2"), IPv6: true, Metric: 3}},
			"ppp0": {{Metric: 4}, {Metric: 5}, {IPv6: true, Metric: 1024}},
			"ppp1": nil,
		} {
			if d := cmp.Diff(want, deviceOf(t, k, name).Defaults, equalAddrs, equalPrefixes); d != "" {
				t.Errorf("strict %v, %s: wanted, read: %s", strict, name, d)
			}
		}
	}
	global := []netip.Prefix{prefixOf("10.7.7.8/32"), prefixOf("192.0.20.2/24"), prefixOf("2001:db8::2/64"), prefixOf("2001:db8:0:1::7/64")}
	if d := cmp.Diff(global, deviceOf(t, k, "w0").Global, equalPrefixes); d != "" {
		t.Errorf("wanted, read: %s", d)
	}
}

// An address that another has too, or that is still being asked about, cannot be used.
func TestDeviceLeavesTentativeAddressesOut(t *testing.T) {
	namespace(t)
	sh(t, `ip link add a0 address 02:00:00:00:00:0a type veth peer name b0 address 02:00:00:00:00:0b
		for d in a0 b0; do ip link set $d addrgenmode none; sysctl -q -w net.ipv6.conf.$d.accept_dad=1; ip link set $d up; done
		sysctl -q -w net.ipv6.conf.b0.dad_transmits=3
		ip address add fe80::1/64 dev a0 nodad; ip address add fe80::1/64 dev b0; ip address add fe80::2/64 dev b0`)
	k := open(t)
	if a := deviceOf(t, k, "b0").Addresses; len(a) != 0 {
		t.Errorf("before it can have asked it has %v", a)
	}
	eventually(t, "the address that nobody else has is there", func() bool {
		a := deviceOf(t, k, "b0").Addresses
		if len(a) > 0 && a[0] == prefixOf("fe80::1/64") {
			t.Fatalf("it has an address that is another's: %v", a)
		}
		return len(a) == 1 && a[0] == prefixOf("fe80::2/64")
	})
}

func TestRoutesOfAProtocolInATable(t *testing.T) {
	namespace(t)
	veth(t)
	sh(t, `ip route add 10.8.0.0/24 dev v0 table 110 proto 85
		ip route add 10.8.1.0/24 dev v0 table 110 proto 84
		ip route add 10.8.2.0/24 dev v0 table 1000 proto 85
		ip route add 10.8.3.0/24 dev v0 table 111 proto 85
		ip route add 10.8.4.0/24 dev v0 proto 85
		ip -6 route add unreachable fd08::/64 table 110 proto 85
		ip -6 route add default from fd09::/64 dev v0 metric 20 table 110 proto 85
		ip -6 route add fd09::/64 dev v0 table 110 proto 84`)
	want := []state.Route{
		{Table: 110, Dst: prefixOf("10.8.0.0/24"), Type: state.Unicast, Device: "v0", Protocol: 85},
		{Table: 110, Dst: prefixOf("::/0"), Src: prefixOf("fd09::/64"), Metric: 20, Type: state.Unicast, Device: "v0", Protocol: 85},
		{Table: 110, Dst: prefixOf("fd08::/64"), Type: state.Unreachable, Protocol: 85},
		{Table: 1000, Dst: prefixOf("10.8.2.0/24"), Type: state.Unicast, Device: "v0", Protocol: 85},
	}
	k := open(t)
	for _, strict := range []bool{true, false} {
		if !strict {
			notStrict(t, k)
		}
		got, err := k.Routes(context.Background(), []uint32{1000, 110, 4711}, 85)
		if d := cmp.Diff(want, got, equalAddrs, equalPrefixes); err != nil || d != "" {
			t.Errorf("strict %v: %v, wanted, read: %s", strict, err, d)
		}
	}
}
