package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/net/ipv4"
)

// leaseTime is how long a lease is good for; it is renewed at half of that.
const leaseTime = 2 * time.Minute

// clientPort is where replies go (RFC 2131 §4.1).
const clientPort = 68

// serverIdentifier is the server's address: core's own, which is the same whatever the
// gateway is, so that a client knows who refuses its old address.
var serverIdentifier = emulator4.Addr()

// client is who asks for a lease: a device's MAC address on one of core's devices.
type client struct {
	index int // of core's device
	mac   [6]byte
}

// binding is what a client is given.
type binding struct {
	address netip.Prefix
	gateway netip.Addr
	mtu     int
}

// dhcpServer is the providers' DHCP server (RFC 2131), one for all of core's devices.
type dhcpServer struct {
	conn     *ipv4.PacketConn
	bindings atomic.Pointer[map[client]binding] // never changed, only replaced
}

// newDHCPServer opens the server's socket in core.
func newDHCPServer(core *namespaces) (*dhcpServer, error) {
	s := &dhcpServer{}
	s.bindings.Store(&map[client]binding{})
	err := core.do(func() error {
		lc := net.ListenConfig{Control: allowBroadcast}
		conn, err := lc.ListenPacket(context.Background(), "udp4", ":67")
		if err != nil {
			return fmt.Errorf("open the DHCP server's socket: %w", err)
		}
		s.conn = ipv4.NewPacketConn(conn)
		// Which device a request came in by says whose it is.
		if err := s.conn.SetControlMessage(ipv4.FlagInterface, true); err != nil {
			conn.Close() // it was not used
			return fmt.Errorf("open the DHCP server's socket: %w", err)
		}
		return nil
	})
	return s, err
}

// bind replaces what is leased to whom.
func (s *dhcpServer) bind(b map[client]binding) { s.bindings.Store(&b) }

// run answers until ctx ends, and then closes the socket.
func (s *dhcpServer) run(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { s.conn.Close() })()
	buf := make([]byte, 1500)
	for {
		n, cm, _, err := s.conn.ReadFrom(buf)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil || cm == nil:
			continue // of one packet; the next is another one
		}
		request, err := dhcpv4.FromBytes(buf[:n])
		if err != nil || len(request.ClientHWAddr) != 6 {
			continue
		}
		who := client{cm.IfIndex, [6]byte(request.ClientHWAddr)}
		b, known := (*s.bindings.Load())[who]
		if !known {
			continue
		}
		if reply := replyTo(request, b); reply != nil {
			// A reply that does not leave is asked for again.
			_, _ = s.conn.WriteTo(reply.ToBytes(),
				&ipv4.ControlMessage{IfIndex: cm.IfIndex, Src: b.gateway.AsSlice()}, destination(request))
		}
	}
}

// replyTo returns the reply to a request, or nil for none.
func replyTo(request *dhcpv4.DHCPv4, b binding) *dhcpv4.DHCPv4 {
	if request.OpCode != dhcpv4.OpcodeBootRequest {
		return nil
	}
	server := net.IP(serverIdentifier.AsSlice())
	if id := request.ServerIdentifier(); id != nil && !id.Equal(server) {
		return nil // another server's offer was taken
	}
	kind := dhcpv4.MessageTypeAck
	switch request.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		kind = dhcpv4.MessageTypeOffer
	case dhcpv4.MessageTypeRequest:
		wanted := request.RequestedIPAddress()
		if wanted == nil {
			wanted = request.ClientIPAddr // renewing (RFC 2131 §4.3.2)
		}
		if !wanted.Equal(b.address.Addr().AsSlice()) {
			return reply(request, dhcpv4.WithMessageType(dhcpv4.MessageTypeNak),
				dhcpv4.WithOption(dhcpv4.OptServerIdentifier(server)))
		}
	default:
		return nil
	}
	return reply(request,
		dhcpv4.WithMessageType(kind),
		dhcpv4.WithYourIP(b.address.Addr().AsSlice()),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(server)),
		dhcpv4.WithNetmask(net.CIDRMask(b.address.Bits(), 32)),
		dhcpv4.WithOption(dhcpv4.OptRouter(b.gateway.AsSlice())),
		dhcpv4.WithOption(dhcpv4.OptIPAddressLeaseTime(leaseTime)),
		dhcpv4.WithOption(dhcpv4.OptRenewTimeValue(leaseTime/2)),
		dhcpv4.WithGeneric(dhcpv4.OptionInterfaceMTU, []byte{byte(b.mtu >> 8), byte(b.mtu)}),
	)
}

func reply(request *dhcpv4.DHCPv4, modifiers ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	out, err := dhcpv4.NewReplyFromRequest(request, modifiers...)
	if err != nil {
		return nil // it fails for no request that has a message type
	}
	return out
}

// destination is where the reply goes (RFC 2131 §4.1). We broadcast where it may be
// unicast to an address that the client does not have yet, which needs no ARP entry.
func destination(request *dhcpv4.DHCPv4) *net.UDPAddr {
	to := &net.UDPAddr{IP: net.IPv4bcast, Port: clientPort}
	if ip := request.ClientIPAddr.To4(); ip != nil && !ip.IsUnspecified() {
		to.IP = ip
	}
	return to
}
