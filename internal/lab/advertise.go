package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mdlayher/ndp"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// How long what an advertisement says is good for, and how often it is repeated
// (RFC 4861 §6.2.1).
const (
	routerLifetime  = 9000 * time.Second
	prefixLifetime  = 24 * time.Hour
	advertiseAgain  = 10 * time.Minute
	allNodesAddress = "ff02::1"
)

// advertisement is what is advertised on one of core's devices.
type advertisement struct {
	prefix netip.Prefix
	mtu    int
}

// advertiser sends router advertisements (RFC 4861), one socket for all of core's devices.
type advertiser struct {
	conn *ipv6.PacketConn
	on   atomic.Pointer[map[int]advertisement] // by index of the device; only replaced
}

// newAdvertiser opens the socket in core.
func newAdvertiser(core *namespaces) (*advertiser, error) {
	a := &advertiser{}
	a.on.Store(&map[int]advertisement{})
	err := core.do(func() error {
		conn, err := net.ListenPacket("ip6:ipv6-icmp", "::")
		if err != nil {
			return fmt.Errorf("open the router advertisements' socket: %w", err)
		}
		a.conn = ipv6.NewPacketConn(conn)
		var only ipv6.ICMPFilter
		only.SetAll(true)
		only.Accept(ipv6.ICMPTypeRouterSolicitation)
		err = errors.Join(
			a.conn.SetICMPFilter(&only),
			a.conn.SetControlMessage(ipv6.FlagInterface|ipv6.FlagHopLimit, true),
		)
		if err != nil {
			conn.Close() // it was not used
			return fmt.Errorf("open the router advertisements' socket: %w", err)
		}
		return nil
	})
	return a, err
}

// advertise replaces what is advertised, and sends it at once.
func (a *advertiser) advertise(on map[int]advertisement) {
	a.on.Store(&on)
	a.sendAll()
}

// run answers solicitations and repeats advertisements until ctx ends, and then closes
// the socket. What routers ask when they come up core's kernel receives for us: it is in
// the all-routers group.
func (a *advertiser) run(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { a.conn.Close() })()
	buf := make([]byte, 1500)
	for next := time.Now().Add(advertiseAgain); ; {
		if time.Now().After(next) {
			a.sendAll()
			next = time.Now().Add(advertiseAgain)
		}
		// On a closed socket it fails, and so does reading then.
		_ = a.conn.SetReadDeadline(next)
		_, cm, _, err := a.conn.ReadFrom(buf)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil || cm == nil || cm.HopLimit != 255: // not from the link (RFC 4861 §6.1.1)
			continue
		}
		if what, ok := (*a.on.Load())[cm.IfIndex]; ok {
			a.send(cm.IfIndex, what)
		}
	}
}

func (a *advertiser) sendAll() {
	for index, what := range *a.on.Load() {
		a.send(index, what)
	}
}

// send sends an advertisement to all nodes on a device. One that is lost is repeated or
// asked for.
func (a *advertiser) send(index int, what advertisement) {
	b, err := ndp.MarshalMessage(&ndp.RouterAdvertisement{
		CurrentHopLimit: 64,
		RouterLifetime:  routerLifetime,
		Options: []ndp.Option{
			ndp.NewMTU(uint32(what.mtu)),
			&ndp.PrefixInformation{
				PrefixLength:                   uint8(what.prefix.Bits()),
				OnLink:                         true,
				AutonomousAddressConfiguration: true,
				ValidLifetime:                  prefixLifetime,
				PreferredLifetime:              prefixLifetime,
				Prefix:                         what.prefix.Addr(),
			},
		},
	})
	if err != nil {
		panic("lab: an advertisement always has a form: " + err.Error())
	}
	cm := &ipv6.ControlMessage{IfIndex: index, HopLimit: 255, Src: linkLocalGateway.Addr().AsSlice()}
	_, _ = a.conn.WriteTo(b, cm, &net.IPAddr{IP: net.ParseIP(allNodesAddress)})
}

// allowBroadcast lets a socket send to the broadcast address.
func allowBroadcast(_, _ string, c syscall.RawConn) error {
	var inner error
	outer := c.Control(func(fd uintptr) {
		inner = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1)
	})
	return errors.Join(outer, inner)
}
