package cli_test

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A router with all that asks nothing itself behind it: plain sites, and one with static routing,
// whose AllowedIPs take the network's sources alone.
const edgesNetwork = `
network: edges
overlay: 10.9.0.0/24
sites:
  hub: {address: 10.9.0.1, endpoint: hub.example.net, lan: {lan0: [10.1.0.0/24, "fd00:1::/64"], lan1: 10.6.0.0/24}, uplink: {eth0: dhcp}}
  far: {address: 10.9.0.2, endpoint: far.example.net, lan: {lan0: [10.2.0.0/24, "fd00:2::/64"]}, uplink: {eth0: dhcp}}
  pa: {kind: plain, address: 10.9.0.3, lan: {lan0: 10.3.0.0/24}, uplink: {eth0: dhcp}}
  pb: {kind: plain, address: 10.9.0.4, lan: {lan0: 10.4.0.0/24}, uplink: {eth0: dhcp}}
  st: {routing: static, address: 10.9.0.5, lan: {lan0: 10.5.0.0/24}, uplink: {eth0: dhcp}}
links: {star: hub}
publish:
  - {at: hub, port: 7007/tcp, to: 10.5.0.10:7007}
  - {at: hub, port: 7007/udp, to: 10.3.0.10:7007}
  - {at: far, port: 7007/tcp, to: 10.2.0.10:7007}
policy:
  default: deny
  rules:
    - {from: pa, to: [far, hub], allow: udp}
    - {from: pa, to: pb, allow: udp}
`

// Edges are also where a router's neighbours ask nothing, and hosts are known by the device too
// that they come from.
func TestPolicyWhereNeighboursAskNothing(t *testing.T) {
	t.Parallel()
	l := open(t, "edges", edgesNetwork, "internet:\n  inet: {address: [198.18.0.10, 2001:db8::10]}\n")
	hosts := map[string]string{"hub.host": "10.1.0.10", "far.host": "10.2.0.10", "pa.host": "10.3.0.10", "pb.host": "10.4.0.10", "st.host": "10.5.0.10"}
	for host, address := range hosts {
		if host != "far.host" {
			l.mirror(host, netip.MustParseAddr(address))
		}
	}
	far := l.mirror("far.host", netip.MustParseAddr("10.2.0.10"), netip.MustParseAddr("fd00:2::10"))
	for _, c := range []struct {
		from, network, to string
		want              bool
	}{
		{"pa.host", "udp", "pb.host", true}, {"pa.host", "tcp", "pb.host", false}, {"pb.host", "udp", "pa.host", false},
		{"pa.host", "udp", "far.host", true}, {"pa.host", "tcp", "far.host", false}, {"pa.host", "udp", "hub.host", true},
	} {
		wait := forNone
		if c.want {
			wait = forAnswer
		}
		q := question{node: c.from, network: c.network, to: netip.MustParseAddr(hosts[c.to])}
		if _, _, err := l.ask(q, wait); (err == nil) != c.want {
			t.Errorf("%s: %v, and it should be answered: %v", q, err, c.want)
		}
	}
	l.answers("pa", "10.9.0.4") // routers reach each other
	// Who comes by the Internet is not known to AllowedIPs.
	hub := l.outside("hub", "eth0", false)
	for network, node := range map[string]string{"tcp": "st.host", "udp": "pa.host"} {
		q := question{node: "inet", network: network, to: hub}
		if by, seen, err := l.ask(q, forAnswer); err != nil || by != node || seen != netip.MustParseAddr("10.9.0.1") {
			t.Errorf("%s: %s answers, and sees %v (%v); want %s, and the router", q, by, seen, err, node)
		}
	}
	// A host that takes the way around, to its own LAN, passes the router within that LAN.
	q := question{node: "far.host", network: "tcp", to: l.outside("far", "eth0", false)}
	if by, _, err := l.ask(q, forAnswer); err != nil || by != "far.host" {
		t.Errorf("%s: %q answers (%v)", q, by, err)
	}
	// An address of which the file knows nothing lets nobody out of the default.
	const other, near = "2001:db8:77::10", "2001:db8:78::10"
	l.in("hub", "ip", "addr", "add", "2001:db8:77::1/64", "dev", "lan0", "nodad")
	l.in("hub", "ip", "addr", "add", "2001:db8:78::1/64", "dev", "lan1", "nodad")
	l.in("hub.host", "ip", "addr", "add", other+"/64", "dev", "eth0", "nodad")
	l.in("hub.host-lan1", "ip", "addr", "add", near+"/64", "dev", "eth0", "nodad")
	for to, m := range map[string]*mirror{"fd00:2::10": far, near: l.mirror("hub.host-lan1", netip.MustParseAddr("10.6.0.10"))} {
		l.in("hub.host", "sh", "-c", "ping -n -c 3 -i 0.2 -W 1 -I "+other+" "+to+"; true")
		time.Sleep(50 * time.Millisecond)
		if m.pinged(netip.MustParseAddr(other)) {
			t.Errorf("a host is heard by %s as %s, which is nobody's", to, other)
		}
	}
}

// pipe is a connection of a node to another, with both ends in hand.
func (l homeLab) pipe(node, to string, address netip.Addr) (near, far net.Conn) {
	l.Helper()
	accepted := make(chan net.Conn, 1)
	at := netip.AddrPortFrom(address, askedAt).String()
	l.do(l.lab.Do(l.Context(), to, func() error {
		in, err := net.Listen("tcp", at)
		if err != nil {
			return err
		}
		go func() {
			defer in.Close()
			if c, err := in.Accept(); err == nil {
				accepted <- c
			}
		}()
		return nil
	}))
	near, err := l.dial(question{node: node, network: "tcp", to: address}, forAnswer)
	l.do(err)
	l.Cleanup(func() { near.Close() })
	select {
	case far = <-accepted:
		l.Cleanup(func() { far.Close() })
	case <-time.After(forAnswer):
		l.Fatalf("%s does not hear %s", to, node)
	}
	return near, far
}

// A connection goes on at the next door, whichever end speaks first there, also if only one may
// open such.
func TestPolicyLetsConnectionsMove(t *testing.T) {
	t.Parallel()
	rules := "    - {from: phone, to: op2, allow: tcp}\n    - {from: op2, to: pi, allow: tcp}\n"
	l := open(t, "policymoves", policyNetwork+rules, "")
	l.roam("phone", "op1")
	l.roam("pi", "op1")
	l.at("phone", "op1")
	l.at("pi", "op1")
	phoneEnd, server := l.pipe("phone", "op2.host", netip.MustParseAddr("10.2.0.10"))
	client, piEnd := l.pipe("op2.host", "pi", netip.MustParseAddr(pi))
	l.roam("phone", "op3")
	l.roam("pi", "op3")
	l.at("phone", "op3")
	l.at("pi", "op3")
	for who, c := range map[string][2]net.Conn{"what a host sends to a device": {server, phoneEnd}, "what a device sends to a host": {piEnd, client}} {
		_, err := c[0].Write([]byte("more"))
		l.do(err)
		_ = c[1].SetReadDeadline(time.Now().Add(forAnswer))
		if _, err := c[1].Read(make([]byte, 4)); err != nil {
			t.Errorf("%s after it moved does not come: %v", who, err)
		}
	}
	l.mirror("phone", netip.MustParseAddr(phone))
	if _, _, err := l.ask(question{node: "op2.host", network: "tcp", to: netip.MustParseAddr(phone)}, forNone); err == nil {
		t.Error("a host opens a connection to a device, which it may not")
	}
}

// What a router sends to many is heard by its own programs.
func TestRouterHearsItself(t *testing.T) {
	t.Parallel()
	l := open(t, "hearsitself", spoofNetwork, "")
	for _, to := range []string{"10.1.0.255:7008", "239.7.7.7:7008"} {
		l.do(l.lab.Do(l.Context(), "sa", func() error {
			lan, err := net.InterfaceByName("lan0")
			if err != nil {
				return err
			}
			group := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to))
			listen := func() (*net.UDPConn, error) { return net.ListenMulticastUDP("udp4", lan, group) }
			if !group.IP.IsMulticast() {
				listen = func() (*net.UDPConn, error) { return net.ListenUDP("udp4", &net.UDPAddr{Port: group.Port}) }
			}
			in, err := listen()
			if err != nil {
				return err
			}
			defer in.Close()
			from, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(10, 1, 0, 1)})
			if err != nil {
				return err
			}
			defer from.Close()
			if err := sendsToMany(from, lan); err != nil {
				return err
			}
			if _, err := from.WriteToUDP([]byte("all"), group); err != nil {
				return err
			}
			_ = in.SetReadDeadline(time.Now().Add(2 * time.Second))
			_, err = in.Read(make([]byte, 3))
			return err
		}))
	}
}

// sendsToMany lets a socket send broadcasts, and multicasts out of a device, which come back.
func sendsToMany(c *net.UDPConn, device *net.Interface) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		mreq := &unix.IPMreqn{Ifindex: int32(device.Index)}
		set = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1),
			unix.SetsockoptIPMreqn(int(fd), unix.IPPROTO_IP, unix.IP_MULTICAST_IF, mreq))
	})
	return errors.Join(err, set)
}
