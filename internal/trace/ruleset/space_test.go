package ruleset_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"tombolo/internal/babel/space"
	"tombolo/internal/trace/ruleset"
)

// router is a router in a namespace. Its devices are TUN devices with an address of each family.
type router struct {
	watcher
	tuns map[string]*os.File
	own  map[string][2]netip.Addr // of devices, by family
	port uint16                   // the last source port: no two flows have the same

	// of the table that is loaded
	r       *rand.Rand
	table   *ruleset.Table
	text    string
	devices []string                // that it names, and one more
	routes  map[netip.Prefix]string // devices
	pool    []netip.Prefix          // from which addresses are drawn
}

var (
	deviceWord  = regexp.MustCompile(`"([^"]+)"`)
	addressWord = regexp.MustCompile(`[0-9a-f:.]*(?:\.[0-9]+|:[0-9a-f:]*)(?:/[0-9]+)?`)
)

// other is a device that no table names.
const other = "other0"

// devicesOf returns those that are named in tables, but for some that are not there.
func devicesOf(texts ...string) []string {
	out := []string{other}
	for _, text := range texts {
		for _, m := range deviceWord.FindAllStringSubmatch(text, -1) {
			if name := m[1]; !slices.Contains(out, name) && !strings.HasPrefix(name, "gone") {
				out = append(out, name)
			}
		}
	}
	slices.Sort(out)
	return out
}

// newRouter makes one with the devices of all tables that it will have.
func newRouter(t testing.TB, texts ...string) *router {
	t.Helper()
	x := &router{watcher: watcher{Space: space.New(t)}, tuns: map[string]*os.File{}, own: map[string][2]netip.Addr{}, port: 10000}
	x.Sh("nft -f - <<'EOF'\n" + watchTable + "EOF\n") // brings connection tracking and its sysctls
	// Without link-local addresses it sends no redirects, which would be in the flows, too.
	x.Sh("sysctl -qw net.ipv6.conf.default.addr_gen_mode=1 net.ipv6.conf.all.addr_gen_mode=1  net.ipv4.ip_forward=1 net.netfilter.nf_conntrack_tcp_be_liberal=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 " +
		"net.ipv4.conf.all.accept_local=1 net.ipv4.conf.default.accept_local=1 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.default.send_redirects=0 net.ipv6.conf.default.accept_dad=0")
	var script strings.Builder
	devices := devicesOf(texts...)
	for i, name := range devices {
		tun := x.Tun(name, unix.IFF_TUN)
		go func() { _, _ = io.Copy(io.Discard, tun) }()
		x.tuns[name] = tun
		x.own[name] = [2]netip.Addr{netip.AddrFrom4([4]byte{172, 30, 0, byte(i + 1)}), netip.MustParseAddr(fmt.Sprintf("fd30::%x", i+1))}
		fmt.Fprintf(&script, "link set %s up\naddr add %v/32 dev %[1]s\naddr add %[3]v/128 dev %[1]s nodad\n", name, x.own[name][0], x.own[name][1])
	}
	x.Sh("ip -batch - <<'EOF'\n" + script.String() + "EOF\n")
	// The kernel makes the routes to IPv6 addresses a little later.
	x.Sh(fmt.Sprintf("until [ $(ip -6 route show table local type local | grep -c fd30:) = %d ]; do sleep 0.01; done", len(devices)))
	x.listen(t)
	return x
}

// reset loads another table, and gives the prefixes that it names to some of its devices.
func (x *router) reset(t testing.TB, text string, r *rand.Rand) {
	t.Helper()
	x.T = t
	var err error
	if x.table, err = ruleset.Parse(text); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	x.r, x.text, x.devices = r, text, devicesOf(text)
	x.routes, x.pool = map[netip.Prefix]string{}, nil
	script := ""
	route := func(p netip.Prefix, device string) {
		x.routes[p] = device
		script += fmt.Sprintf("route add %v dev %s\n", p, device)
	}
	route(netip.MustParsePrefix("0.0.0.0/0"), x.devices[0])
	route(netip.MustParsePrefix("::/0"), x.devices[0])
	for _, word := range addressWord.FindAllString(text, -1) {
		p, err := netip.ParsePrefix(word)
		if a, err2 := netip.ParseAddr(word); err2 == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if p = p.Masked(); err != nil || p.Addr().IsLinkLocalUnicast() || p.Addr().IsLoopback() || p.Bits() < 8 || slices.Contains(x.pool, p) {
			continue
		}
		x.pool = append(x.pool, p)
		if p.Bits() < p.Addr().BitLen() || r.IntN(2) == 0 {
			route(p, x.devices[r.IntN(len(x.devices))])
		}
	}
	for _, stranger := range []string{"198.51.100.0/24", "2001:db8::/64", "172.30.0.0/29", "fd30::/125"} {
		x.pool = append(x.pool, netip.MustParsePrefix(stranger))
	}
	x.Sh("ip route flush table main; ip -6 route flush table main; ip -batch - <<'EOF'\n" + script + "EOF\n")
	x.load(t, text)
}

// device returns that by which an address is reached.
func (x *router) device(a netip.Addr) string {
	for bits := a.BitLen(); bits >= 0; bits-- {
		p, err := a.Prefix(bits)
		if d := x.routes[p]; err == nil && d != "" {
			return d
		}
	}
	return ""
}

func (x *router) local(a netip.Addr) bool {
	for _, own := range x.own {
		if own[0] == a || own[1] == a {
			return true
		}
	}
	return false
}

func (x *router) env() ruleset.Env {
	return ruleset.Env{Local: x.local, RouteBack: func(p ruleset.Packet) bool {
		return !x.local(p.Src) && x.device(p.Src) == p.IIF.Name
	}}
}

// address draws one.
func (x *router) address(ip6 bool) netip.Addr {
	for {
		p := x.pool[x.r.IntN(len(x.pool))]
		if p.Addr().Is6() != ip6 {
			continue
		}
		b := p.Addr().AsSlice()
		if free := p.Addr().BitLen() - p.Bits(); free > 0 {
			last := len(b) - 1
			b[last] |= byte(x.r.IntN(256)) & byte(1<<min(free, 8)-1)
			if free > 8 && x.r.IntN(4) == 0 {
				b[last-1] |= byte(x.r.IntN(256)) & byte(1<<min(free-8, 8)-1)
			}
		}
		a, _ := netip.AddrFromSlice(b)
		if ip6 && b[15] == 0 { // an anycast address, perhaps
			continue
		}
		return a
	}
}

// packet draws the first one of a flow, and the words that a rule has for its ports.
func (x *router) packet(ports []uint16) ruleset.Packet {
	ip6 := x.r.IntN(3) == 0
	x.port++
	p := ruleset.Packet{Src: x.address(ip6), Dst: x.address(ip6), SPort: x.port, DPort: ports[x.r.IntN(len(ports))], IIF: x.table.Device(x.devices[x.r.IntN(len(x.devices))])}
	if x.r.IntN(2) == 0 { // from where it belongs
		p.IIF = ruleset.Device{Name: x.device(p.Src)}
	}
	switch x.r.IntN(6) {
	case 0:
		p.Protocol, p.ICMPType, p.DPort = 1, 8, 0
		if ip6 {
			p.Protocol, p.ICMPType = 58, 128
		}
	case 1, 2:
		p.Protocol = 17
	case 3:
		p.Protocol, p.ACK = 6, true
		p.SYN = x.r.IntN(4) == 0
	default:
		p.Protocol, p.SYN = 6, true
	}
	return p
}

// bytes makes a packet of it. Those of errors quote another.
func packetBytes(t testing.TB, p ruleset.Packet, quoted []byte) []byte {
	t.Helper()
	ip4 := &layers.IPv4{Version: 4, TTL: 60, Protocol: layers.IPProtocol(p.Protocol), SrcIP: p.Src.AsSlice(), DstIP: p.Dst.AsSlice()}
	ip6 := &layers.IPv6{Version: 6, HopLimit: 60, NextHeader: layers.IPProtocol(p.Protocol), SrcIP: p.Src.AsSlice(), DstIP: p.Dst.AsSlice()}
	var network gopacket.NetworkLayer = ip4
	all := []gopacket.SerializableLayer{ip4}
	if p.Dst.Is6() {
		network, all = ip6, []gopacket.SerializableLayer{ip6}
	}
	payload := []byte("payload!")
	if quoted != nil {
		payload = quoted
	}
	switch p.Protocol {
	case 1:
		all = append(all, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(p.ICMPType, 3*one(p.ICMPType == 3)), Id: p.SPort * uint16(one(quoted == nil))})
	case 58:
		i := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(p.ICMPType, 4*one(p.ICMPType == 1))}
		_ = i.SetNetworkLayerForChecksum(network)
		all = append(all, i)
		payload = append(binary.BigEndian.AppendUint32(nil, uint32(p.SPort)<<16*uint32(one(quoted == nil))), payload...)
	case 6:
		h := &layers.TCP{SrcPort: layers.TCPPort(p.SPort), DstPort: layers.TCPPort(p.DPort), SYN: p.SYN, ACK: p.ACK, Seq: 1000, Window: 1000}
		if p.ACK {
			h.Ack = 1001
		}
		if !p.SYN {
			h.Seq = 1001
		}
		_ = h.SetNetworkLayerForChecksum(network)
		all = append(all, h)
	case 17:
		h := &layers.UDP{SrcPort: layers.UDPPort(p.SPort), DstPort: layers.UDPPort(p.DPort)}
		_ = h.SetNetworkLayerForChecksum(network)
		all = append(all, h)
	}
	b := gopacket.NewSerializeBuffer()
	all = append(all, gopacket.Payload(payload))
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...); err != nil {
		t.Fatal(err)
	}
	return slices.Clone(b.Bytes())
}

func one(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}
