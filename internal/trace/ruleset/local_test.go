package ruleset_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"tombolo/internal/trace/ruleset"
)

// translated looks at what was translated in the same hook.
const translated = `table inet tombolo {
	chain dstnat-router {
		type nat hook output priority -100; policy accept;
		ip daddr { 10.1.0.0/24 } dnat ip prefix to ip daddr map { 10.1.0.0/24 : 10.2.0.0/24 }
		udp dport 80-90 dnat ip to 10.4.0.9
		dnat ip to meta l4proto . th dport map { udp . 53 : 10.4.0.9 . 54 }
	}
	chain guard-router {
		type filter hook output priority filter - 5; policy accept;
		ct status dnat ip daddr 10.2.0.0/24 drop
		ct status dnat meta mark set meta mark & 0xffffff | 0x5000000
		udp dport 54 ip daddr 10.4.0.9 drop
	}
}
`

// What the router itself sends passes other hooks.
func TestKernelAgreesAboutTheRoutersOwn(t *testing.T) {
	texts := map[string]string{"access": rulesets(t, access)["north"], "strange": rulesets(t, strangeDevices)["a"], "translated": translated}
	for seed := range uint64(25) {
		texts[fmt.Sprint(seed)] = randomTable(rand.New(rand.NewPCG(seed, 6)))
	}
	x := newRouter(t, slices.Collect(maps.Values(texts))...)
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		text := texts[name]
		t.Run(name, func(t *testing.T) {
			x.reset(t, text, rand.New(rand.NewPCG(uint64(len(text)), 9)))
			count := map[string]int{}
			for range 40 {
				count[x.speak(t)]++
			}
			t.Logf("%v", count)
		})
	}
}

// speak sends a packet from the router and returns what became of it.
func (x *router) speak(t *testing.T) string {
	t.Helper()
	x.port++
	ip6 := x.r.IntN(3) == 0
	p := ruleset.Packet{Dst: x.address(ip6), Protocol: 17, SPort: x.port, DPort: generatedPortNumbers[x.r.IntN(len(generatedPortNumbers))]}
	p.Src = x.own[x.devices[x.r.IntN(len(x.devices))]][one(ip6)]
	p.Mark = []uint32{0, 0, 0x5000000, 0x21000000, 0x7f000000, 0x42}[x.r.IntN(6)]
	sent := p
	f := &flow{conn: ruleset.Conn{State: "new", OrigSrc: p.Src, OrigDst: p.Dst}, dst: p.Dst, src: p.Src, port: p.DPort, origPort: p.DPort}
	before := *f
	want := x.expect(&p, f, true)
	if x.local(sent.Dst) || x.local(f.dst) {
		return "skipped" // it would come in again
	}
	x.In(func() {
		if err := sendFrom(sent); err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) {
			t.Errorf("%+v: %v", sent, err)
		}
	})
	x.same(t, sent, before, p, x.follow(t), want)
	return want.end
}

func sendFrom(p ruleset.Packet) error {
	family := unix.AF_INET
	if p.Dst.Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(p.Mark)); err != nil {
		return err
	}
	if err := unix.Bind(fd, sockaddr(p.Src, p.SPort)); err != nil {
		return err
	}
	return unix.Sendto(fd, []byte("payload!"), 0, sockaddr(p.Dst, p.DPort))
}

func sockaddr(a netip.Addr, port uint16) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Port: int(port), Addr: a.As4()}
	}
	return &unix.SockaddrInet6{Port: int(port), Addr: a.As16()}
}
