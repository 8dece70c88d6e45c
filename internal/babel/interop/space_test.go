package interop

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"tombolo/internal/babel"
	"tombolo/internal/babel/space"
)

// node is a network namespace with a bridge that stands for a LAN.
type node struct {
	*space.Space
	number int // the last octet of its addresses
}

func newNode(t *testing.T, number int) *node {
	t.Helper()
	n := &node{space.New(t), number}
	n.Sh("ip link add lan type bridge; ip link set lan up")
	return n
}

// child is a program that runs in a namespace until the test ends.
type child struct {
	*exec.Cmd
	ended chan struct{}
	log   *buffer
}

// spawn starts a program. It dies with the thread of the namespace at the latest.
func (s *node) spawn(name string, args ...string) *child {
	s.T.Helper()
	c := &child{Cmd: exec.Command(name, args...), ended: make(chan struct{}), log: &buffer{}}
	c.Stdout, c.Stderr = c.log, c.log
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var err error
	s.In(func() { err = c.Start() })
	if err != nil {
		s.T.Fatalf("start %s: %v", name, err)
	}
	go func() { _ = c.Wait(); close(c.ended) }()
	s.T.Cleanup(func() { c.end(syscall.SIGKILL) })
	return c
}

func (c *child) end(signal syscall.Signal) {
	_ = c.Process.Signal(signal) // it may have ended
	<-c.ended
}

// link4 and link6 are the addresses of a namespace on the link with a number.
func (s *node) link4(link int) netip.Addr {
	return netip.AddrFrom4([4]byte{192, 0, byte(link), byte(s.number)})
}

func (s *node) link6() netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("fe80::%d", s.number))
}

// device names the device of a link: the same at both ends.
func device(link int) string { return fmt.Sprintf("v%d", link) }

// bare is for a link that has no IPv4 addresses.
type bare bool

// join makes the link with a number between two namespaces.
func join(a, b *node, link int, without4 bare) {
	a.T.Helper()
	a.Sh(fmt.Sprintf("ip link add %s type veth peer name %[1]s netns %d", device(link), b.Thread))
	a.address(device(link), link, without4)
	b.address(device(link), link, without4)
	a.reaches(b, link)
}

// reaches waits until packets go both ways: a device that has just come up drops them.
func (s *node) reaches(other *node, link int) {
	s.T.Helper()
	s.Sh(fmt.Sprintf("for i in 1 2 3 4 5 6 7 8 9 10; do ping -q -c 1 -W 1 %s%%%s && exit; sleep 0.1; done; exit 1", other.link6(), device(link)))
}

// segment joins namespaces on their links 0 by a bridge.
func segment(t *testing.T, nodes ...*node) {
	t.Helper()
	hub := newNode(t, 99)
	hub.Sh("ip link set lan type bridge mcast_snooping 0")
	for _, s := range nodes {
		s.Sh(fmt.Sprintf("ip link add v0 type veth peer name p%d netns %d", s.number, hub.Thread))
		hub.Sh(fmt.Sprintf("ip link set p%d master lan up", s.number))
		s.address(device(0), 0, false)
	}
	for i, s := range nodes {
		s.reaches(nodes[(i+1)%len(nodes)], 0)
	}
}

// address gives a device the addresses of a link, and brings it up.
func (s *node) address(name string, link int, without4 bare) {
	s.T.Helper()
	s.Sh(fmt.Sprintf("ip link set %s addrgenmode none; ip address add %s/64 dev %[1]s nodad", name, s.link6()))
	if !without4 {
		s.Sh(fmt.Sprintf("ip address add %s/24 dev %s", s.link4(link), name))
	}
	s.Sh("ip link set " + name + " up")
}

// index returns that of a device.
func (s *node) index(name string) int {
	s.T.Helper()
	index := 0
	s.In(func() {
		i, err := net.InterfaceByName(name)
		if err != nil {
			s.T.Error(err)
			return
		}
		index = i.Index
	})
	return index
}

// cut drops what goes in or out by a device, and tells nobody.
func (s *node) cut(name string) {
	s.T.Helper()
	s.Sh(fmt.Sprintf(`nft 'table netdev cut { chain in { type filter hook ingress device "%s" priority 0; policy drop; }; }
		table inet cut { chain out { type filter hook output priority 0; oifname "%[1]s" drop; }; }'`, name))
}

func (s *node) heal() {
	s.T.Helper()
	s.Sh("nft delete table netdev cut; nft delete table inet cut")
}

// kernelRoutes returns the next hops of the routes with a protocol.
func (s *node) kernelRoutes(protocol string) map[babel.Key]netip.Addr {
	s.T.Helper()
	routes := map[babel.Key]netip.Addr{}
	for _, family := range []string{"-4", "-6"} {
		var list []struct {
			Dst, From, Gateway string
			Via                struct{ Host string }
		}
		out := s.Sh("ip -j " + family + " route show table all proto " + protocol)
		if err := json.Unmarshal([]byte(out), &list); out != "" && err != nil {
			s.T.Fatalf("%q: %v", out, err)
		}
		for _, r := range list {
			k := babel.Key{Dst: prefix(r.Dst, family)}
			if r.From != "" {
				k.Src = prefix(r.From, family)
			}
			next, _ := netip.ParseAddr(r.Gateway + r.Via.Host) // an unreachable one has none
			routes[k] = next
		}
	}
	return routes
}

// prefix reads one as ip prints it: without a length where it is an address, and by name
// where it is everything.
func prefix(s, family string) netip.Prefix {
	switch {
	case s == "default" && family == "-4":
		return netip.MustParsePrefix("0.0.0.0/0")
	case s == "default":
		return netip.MustParsePrefix("::/0")
	case strings.Contains(s, "/"):
		return netip.MustParsePrefix(s)
	}
	a := netip.MustParseAddr(s)
	return netip.PrefixFrom(a, a.BitLen())
}

// key reads "DST" or "DST from SRC".
func key(s string) babel.Key {
	dst, src, specific := strings.Cut(s, " from ")
	k := babel.Key{Dst: netip.MustParsePrefix(dst)}
	if specific {
		if p := netip.MustParsePrefix(src); p.Bits() > 0 {
			k.Src = p
		}
	}
	return k
}

// buffer is a bytes.Buffer that a process writes while a test reads.
type buffer struct {
	lock  sync.Mutex
	bytes bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.lock.Lock()
	defer b.lock.Unlock()
	return b.bytes.Write(p)
}

func (b *buffer) String() string {
	b.lock.Lock()
	defer b.lock.Unlock()
	return b.bytes.String()
}
