package lab

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"tombolo/internal/state"
)

func TestDHCPServerAnswers(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	b := binding{address: prefix("198.18.1.2/24"), gateway: addr("198.18.1.1"), mtu: 1400}
	ip := func(s string) net.IP { return net.ParseIP(s).To4() }
	request := func(kind dhcpv4.MessageType, modifiers ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
		m, err := dhcpv4.New(append(modifiers, dhcpv4.WithHwAddr(mac), dhcpv4.WithMessageType(kind))...)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	wants := func(s string) dhcpv4.Modifier {
		return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(ip(s)))
	}
	server := func(s string) dhcpv4.Modifier { return dhcpv4.WithOption(dhcpv4.OptServerIdentifier(ip(s))) }
	const full = "198.18.1.2 ffffff00 via [198.18.1.1] from 198.18.0.1 for 2m0s, MTU 0578"
	for _, c := range []struct {
		name    string
		request *dhcpv4.DHCPv4
		want    string
	}{
		{"discover", request(dhcpv4.MessageTypeDiscover), "OFFER " + full},
		{"select", request(dhcpv4.MessageTypeRequest, wants("198.18.1.2"), server("198.18.0.1")), "ACK " + full},
		{"renew", request(dhcpv4.MessageTypeRequest, dhcpv4.WithClientIP(ip("198.18.1.2"))), "ACK " + full},
		{"renew what is another's now", request(dhcpv4.MessageTypeRequest, dhcpv4.WithClientIP(ip("198.18.1.9"))), "NAK"},
		{"select another server", request(dhcpv4.MessageTypeRequest, wants("198.18.1.2"), server("192.0.2.1")), "nothing"},
		{"release", request(dhcpv4.MessageTypeRelease), "nothing"},
	} {
		if got := told(replyTo(c.request, b)); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func told(m *dhcpv4.DHCPv4) string {
	switch {
	case m == nil:
		return "nothing"
	case m.MessageType() == dhcpv4.MessageTypeNak:
		return "NAK"
	}
	return fmt.Sprintf("%s %s %s via %s from %s for %s, MTU %x", m.MessageType(), m.YourIPAddr, m.SubnetMask(), m.Router(),
		m.ServerIdentifier(), m.IPAddressLeaseTime(0), m.Options.Get(dhcpv4.OptionInterfaceMTU))
}

func TestNextAddressGoesRoundTheSubnet(t *testing.T) {
	for _, c := range []struct{ leased, other, want string }{
		{"192.0.2.2/24", "192.0.2.77/24", "192.0.2.3/24"},
		{"192.0.2.2/24", "192.0.2.3/24", "192.0.2.4/24"},
		{"192.0.2.254/24", "192.0.2.2/24", "192.0.2.3/24"},
		{"192.0.2.2/30", "198.51.100.1/24", "invalid Prefix"},
	} {
		lease := func(p string) Site {
			return Site{Uplinks: map[string]Uplink{"eth0": {Addresses: []netip.Prefix{prefix(p)}}}}
		}
		routers := []state.Router{{Site: "a", Endpoints: []string{"a.example.net:1"}, Uplinks: dhcp("eth0")}, {Site: "b", Uplinks: dhcp("eth0")}}
		l, err := newLayout("x", routers, nil, File{Sites: map[string]Site{"a": lease(c.leased), "b": lease(c.other)}})
		if err != nil {
			t.Fatal(err)
		}
		if got := l.nextAddress(l.uplink("a", "")).String(); got != c.want {
			t.Errorf("after %s: %s, want %s", c.leased, got, c.want)
		}
	}
}
