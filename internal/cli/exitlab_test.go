package cli_test

import (
	"bufio"
	bits "encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tombolo/internal/lab"
)

// exitLab is a lab whose Internet host tells everybody by which address it sees them: on port
// 7000, with TCP and UDP, and an echo of each line after it.
type exitLab struct{ homeLab }

const tellPort = 7000

func upExits(t *testing.T, name, network, labFile string) exitLab {
	t.Helper()
	l := exitLab{homeLab{testLab: up(t, name, network, labFile)}}
	var err error
	l.lab, err = lab.Open(l.name)
	l.do(err)
	l.mirror("inet", tellPort, l.addresses("inet")...)
	l.Cleanup(func() {
		if l.Failed() {
			for _, n := range l.routers() {
				out, _ := l.try(n, "sh", "-c", "cat /proc/net/nf_conntrack; ip -6 rule; ip -6 route show table all | grep default; cat /run/tombolo/log; nft list ruleset | grep -A12 'chain leave'")
				l.Log(n, out)
			}
		}
	})
	return l
}

// routers returns the names of the sites.
func (l exitLab) routers() (out []string) {
	nodes, err := l.lab.Nodes()
	l.do(err)
	for _, n := range nodes {
		if n.Kind == lab.RouterNode {
			out = append(out, n.Name)
		}
	}
	return out
}

// addresses returns a node's addresses of both families: those of its first device.
func (l exitLab) addresses(node string) []netip.Addr {
	l.Helper()
	n := l.node(node)
	return []netip.Addr{n.Addr(), n.Addr6()}
}

// with is the lab for a test within the test.
func (l exitLab) with(t *testing.T) exitLab {
	return exitLab{homeLab{testLab{t, l.name}, l.lab}}
}

// mirror has a node tell everybody by which address it sees them, who ask it at its addresses.
// A UDP server that is not bound to one answers from whatever address the route has.
func (l exitLab) mirror(node string, port uint16, addresses ...netip.Addr) {
	l.Helper()
	for _, a := range addresses {
		l.mirrorAt(node, netip.AddrPortFrom(a, port).String())
	}
}

func (l exitLab) mirrorAt(node, at string) {
	l.Helper()
	l.do(l.lab.Do(l.Context(), node, func() error {
		tcp, err := net.Listen("tcp", at)
		if err != nil {
			return err
		}
		udp, err := net.ListenPacket("udp", at)
		l.Cleanup(func() { tcp.Close(); udp.Close() })
		if err != nil {
			return err
		}
		go func() {
			for c, err := tcp.Accept(); err == nil; c, err = tcp.Accept() {
				go func() {
					defer c.Close()
					fmt.Fprintln(c, addrOf(c.RemoteAddr()))
					for lines := bufio.NewScanner(c); lines.Scan(); {
						fmt.Fprintln(c, lines.Text())
					}
				}()
			}
		}()
		go func() {
			b := make([]byte, 100)
			for n, from, err := udp.ReadFrom(b); err == nil; n, from, err = udp.ReadFrom(b) {
				_, _ = fmt.Fprintf(datagrams{udp, from}, "%s %s", addrOf(from), b[:n]) // who is not reached asks again
			}
		}()
		return nil
	}))
}

// datagrams go to an address.
type datagrams struct {
	net.PacketConn
	net.Addr
}

func (w datagrams) Write(b []byte) (int, error) { return w.WriteTo(b, w.Addr) }

func addrOf(a net.Addr) netip.Addr { return netip.MustParseAddrPort(a.String()).Addr().Unmap() }

// dial opens a connection from a node.
func (l exitLab) dial(from, network string, local netip.Addr, to netip.AddrPort, wait time.Duration) (c net.Conn, err error) {
	d := net.Dialer{Timeout: wait}
	if local.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
		if network == "udp" {
			d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
		}
	}
	err = l.lab.Do(l.Context(), from, func() error {
		c, err = d.DialContext(l.Context(), network, to.String())
		return err
	})
	return c, err
}

// asks returns by which address a mirror sees a node.
func (l exitLab) asks(from, network string, to netip.AddrPort, wait time.Duration) (netip.Addr, error) {
	c, err := l.dial(from, network, netip.Addr{}, to, wait)
	if err != nil {
		return netip.Addr{}, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(wait))
	if _, err := fmt.Fprintln(c, "who am I?"); err != nil {
		return netip.Addr{}, err
	}
	b := make([]byte, 100)
	n, err := c.Read(b)
	if err != nil {
		return netip.Addr{}, err
	}
	return netip.ParseAddr(strings.Fields(string(b[:n]))[0])
}

// protocols that the tests send, each in both families.
var protocols = []string{"tcp", "udp", "icmp"}

// inet is where the mirror of the Internet is, of one family.
func (l exitLab) inet(six bool) netip.AddrPort {
	l.Helper()
	n := l.node("inet")
	if six {
		return netip.AddrPortFrom(n.Addr6(), tellPort)
	}
	return netip.AddrPortFrom(n.Addr(), tellPort)
}

// outside returns the address of one family by which the Internet knows a router's first
// uplink.
func (l exitLab) outside(site string, six bool) netip.Addr {
	l.Helper()
	n := l.node(site)
	switch nat := n.Devices[0].Public; {
	case six:
		return n.Addr6()
	case nat.IsValid():
		return nat
	}
	return n.Addr()
}

// askedAgain is how long an answer is waited for where nobody may answer yet.
const askedAgain = 300 * time.Millisecond

// leavesAt waits until the Internet sees a node, with TCP and with UDP, by the addresses of a
// site's uplink, of both families.
func (l exitLab) leavesAt(from, site string) {
	l.Helper()
	for _, six := range []bool{false, true} {
		want := l.outside(site, six)
		for _, network := range []string{"tcp", "udp"} {
			wait := askedAgain
			l.soon(func() string {
				got, err := l.asks(from, network, l.inet(six), wait)
				if wait = min(wait*3/2, 5*time.Second); got != want {
					return fmt.Sprintf("with %s %s is seen as %s, and not as %s of %s (%v)", network, from, got, want, site, err)
				}
				return ""
			})
		}
	}
}

// blocked waits until what a LAN's host sends outside ends at its router. The host is told so
// but now and then (icmp_ratelimit, and net/ipv4/route.c, ip_error).
func (l exitLab) blocked(site, lan string) {
	l.Helper()
	for i, from := range l.addresses(site + ".host") {
		to := l.inet(i == 1).Addr()
		l.soon(func() string {
			out, err := l.try(site, "ip", "route", "get", to.String(), "from", from.String(), "iif", lan)
			if err == nil {
				return "it is sent somewhere: " + out
			}
			return ""
		})
	}
}

// browses sends all protocols of both families from a node.
func (l exitLab) browses(from string) {
	l.Helper()
	for _, six := range []bool{false, true} {
		to := l.inet(six)
		for _, network := range []string{"tcp", "udp"} {
			if _, err := l.asks(from, network, to, patience); err != nil {
				l.Errorf("%s: %v", from, err)
			}
		}
		if _, err := l.lab.Ping(l.Context(), from, lab.Echo{To: to.Addr()}); err != nil {
			l.Error(err)
		}
	}
}

// overheard is what passes a device, both ways.
type overheard struct {
	again func() // what is to be overheard, once more; nil: it goes on by itself, or was
	exitLab
	where string
	file  *os.File

	mu   sync.Mutex
	seen map[passing]bool
}

type passing struct {
	from, to netip.Addr
	protocol string
}

// overhear listens at a device from now on (packet(7)).
func (l exitLab) overhear(node, device string) *overheard {
	l.Helper()
	o := &overheard{exitLab: l, where: node + "/" + device, seen: map[passing]bool{}}
	l.do(l.lab.Do(l.Context(), node, func() error {
		i, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		all := bits.NativeEndian.Uint16(bits.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(all))
		if err != nil {
			return err
		}
		o.file = os.NewFile(uintptr(fd), o.where)
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index})
	}))
	l.Cleanup(func() { o.file.Close() })
	go func() {
		b := make([]byte, 2000)
		for n, err := o.file.Read(b); err == nil; n, err = o.file.Read(b) {
			o.take(b[:n])
		}
	}()
	return o
}

func (o *overheard) take(b []byte) {
	var p passing
	var number byte
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		p.from, p.to, number = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:])), b[9]
	case len(b) >= 40 && b[0]>>4 == 6:
		p.from, p.to, number = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:])), b[6]
	default:
		return
	}
	p.protocol = map[byte]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_ICMP: "icmp", unix.IPPROTO_ICMPV6: "icmp"}[number]
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seen[p] = true
}

// sources checks that what went to the Internet host had these sources, each with all
// protocols, and no other.
func (o *overheard) sources(want ...netip.Addr) {
	o.Helper()
	o.soon(func() string {
		if o.again != nil {
			o.again()
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		for _, a := range want {
			for _, p := range protocols {
				if to := o.inet(a.Is6()).Addr(); !o.seen[passing{a, to, p}] {
					return fmt.Sprintf("at %s nothing passes from %s to %s with %s: %v", o.where, a, to, p, o.seen)
				}
			}
		}
		return ""
	})
	o.mu.Lock()
	defer o.mu.Unlock()
	for p := range o.seen {
		if p.to == o.inet(p.to.Is6()).Addr() && !slices.Contains(want, p.from) {
			o.Errorf("at %s %s reaches the Internet host with the source %s", o.where, p.protocol, p.from)
		}
	}
}

// applies has all routers, or those named, follow another network file.
func (l exitLab) applies(network string, sites ...string) {
	l.Helper()
	if len(sites) == 0 {
		sites = l.routers()
	}
	l.apply(network, sites...)
}

// apply has sites follow another network file.
func (l homeLab) apply(network string, sites ...string) {
	l.Helper()
	file := filepath.Join(l.lab.Dir(), "network.yaml")
	l.do(os.WriteFile(file, []byte(network), 0o600))
	for _, site := range sites {
		l.in(site, binary, "apply", file, "--site", site, "--keys", filepath.Join(l.lab.Dir(), "keys"), "--partial")
	}
}

// nothingLeft checks that sites' providers were handed nothing for the Internet since the lab
// came up, nor anything with a wrong source.
func (l exitLab) nothingLeft(sites ...string) {
	l.Helper()
	counts, err := l.lab.Uplinks(l.Context(), sites...)
	l.do(err)
	for _, c := range counts {
		for _, s := range c.Sent {
			if s.Destination == lab.ToInternet || s.WrongSource {
				l.Errorf("the provider at %s was handed %d packets of %s from %s to %s %s (wrong source: %v)", c.Uplink, s.Packets, s.Protocol, s.From, s.To, s.Place, s.WrongSource)
			}
		}
	}
}
