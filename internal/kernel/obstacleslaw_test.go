package kernel

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// lawDevices are those of the router in the law. The other end of each is a host whose packets
// the test writes and reads.
var lawDevices = []string{"br-lan", "wg-a", "wg-b", "eth0"}

// hostMAC is the address of all hosts, and not that of the wire's end: the router, in whose
// namespace that is too, would forward what comes there once more.
var hostMAC = [6]byte{2, 0, 0, 0, 0, 2}

// wires are the hosts' ends.
type wires struct {
	sockets []int     // by device
	to      [][6]byte // the routers' addresses on the wire
	sent    int
}

func upWires(t *testing.T) *wires {
	t.Helper()
	namespace(t)
	sh(t, `sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0`)
	w := &wires{}
	for i, d := range lawDevices {
		sh(t, fmt.Sprintf(`ip link add %[1]s type veth peer name h%[2]d
			ip link set %[1]s addrgenmode none up; ip link set h%[2]d addrgenmode none up
			ip address add 10.0.%[2]d.1/24 dev %[1]s; ip address add fd00:%[2]d::1/64 dev %[1]s nodad
			ip neigh add 10.0.%[2]d.2 lladdr 02:00:00:00:00:02 dev %[1]s; ip neigh add fd00:%[2]d::2 lladdr 02:00:00:00:00:02 dev %[1]s`, d, i))
		router, err := net.InterfaceByName(d)
		if err != nil {
			t.Fatal(err)
		}
		end, err := net.InterfaceByName(fmt.Sprint("h", i))
		if err != nil {
			t.Fatal(err)
		}
		const all = unix.ETH_P_ALL
		s, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, all<<8&0xff00|all>>8)
		if err == nil {
			err = unix.Bind(s, &unix.SockaddrLinklayer{Protocol: all<<8&0xff00 | all>>8, Ifindex: end.Index})
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(s) })
		w.sockets = append(w.sockets, s)
		w.to = append(w.to, [6]byte(router.HardwareAddr))
	}
	nftLoad(t, "table inet tombolo { chain forward { type filter hook forward priority 200; ct state new; }; }") // conntrack looks
	sh(t, "sysctl -qw net.netfilter.nf_conntrack_checksum=0")
	return w
}

// frame is the first packet of a connection from one host to another, known by a number.
func (w *wires) frame(from, to int, s sample, number uint16) []byte {
	b := append([]byte{}, w.to[from][:]...)
	b = append(b, hostMAC[:]...)
	protocol, payload := byte(unix.IPPROTO_UDP), binary.BigEndian.AppendUint16(nil, number)
	switch s.protocol {
	case "udp":
		payload = append(binary.BigEndian.AppendUint16(payload, s.port), 0, 9, 0, 0, 'x')
	case "tcp":
		protocol = unix.IPPROTO_TCP
		payload = append(binary.BigEndian.AppendUint16(payload, s.port), 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0)
	case "icmp":
		protocol = unix.IPPROTO_ICMP
		payload = append(append([]byte{8, 0, 0, 0}, payload...), 0, 1)
		if s.six {
			protocol, payload[0] = unix.IPPROTO_ICMPV6, 128
		}
	}
	if s.six {
		b = append(b, 0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(payload)), protocol, 64)
		b = append(append(b, lawAddress(from, true).AsSlice()...), lawAddress(to, true).AsSlice()...)
		return append(b, payload...)
	}
	h := append([]byte{0x45, 0, 0, byte(20 + len(payload)), 0, 0, 0, 0, 64, protocol, 0, 0}, lawAddress(from, false).AsSlice()...)
	h = append(h, lawAddress(to, false).AsSlice()...)
	sum := uint32(0)
	for i := 0; i < len(h); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum+sum>>16))
	return append(append(append(b, 8, 0), h...), payload...)
}

func lawAddress(device int, six bool) netip.Addr {
	return netip.MustParseAddr(pick(six, fmt.Sprintf("fd00:%d::2", device), fmt.Sprintf("10.0.%d.2", device)))
}

// arrived reads what came to a host, by number. What the router says itself has none of ours.
func (w *wires) arrived(device int, into map[uint16]bool) {
	for b := make([]byte, 2000); ; {
		n, _, err := unix.Recvfrom(w.sockets[device], b, 0)
		if err != nil {
			return
		}
		if n < 42 || [6]byte(b[6:12]) == hostMAC { // too short, or what the host sent
			continue
		}
		protocol, payload := b[23], b[34:n]
		if b[12] == 0x86 {
			protocol, payload = b[20], b[min(54, n):n]
		}
		switch {
		case (protocol == unix.IPPROTO_UDP || protocol == unix.IPPROTO_TCP) && len(payload) >= 4:
			into[binary.BigEndian.Uint16(payload)] = true
		case len(payload) >= 8 && (payload[0] == 8 || payload[0] == 128):
			into[binary.BigEndian.Uint16(payload[4:])] = true
		}
	}
}

// Of what says a protocol a rule has one at most: nft refuses two that exclude each other.
var lawProtocols = []string{
	"meta l4proto tcp", "meta l4proto { tcp, udp }", "meta l4proto icmp", "meta l4proto != udp", "meta l4proto ipv6-icmp",
	"meta nfproto ipv4", "meta nfproto ipv6", "ip protocol tcp", "ip protocol != icmp", "ip6 nexthdr udp", "meta protocol ip", "meta protocol ip6",
	"tcp dport 54321", "tcp dport != 22", "tcp dport { 22, 50000-60000 }", "udp dport 53", "udp dport != 53", "th dport 54321", "tcp dport 1-1024",
	"icmp type echo-request", "icmpv6 type { echo-request, echo-reply }", "icmpv6 type . icmpv6 code { echo-request . 0 }", "icmp type != echo-request",
	"tcp flags syn", "tcp flags syn / syn,ack", "tcp flags & (fin | syn | rst | ack) == syn", "tcp flags & (fin | rst) != 0", "tcp flags ack",
	"ip daddr 224.0.0.0/4", "ip6 daddr ff00::/8", "ip saddr 10.0.1.0/24", "ip daddr 10.0.2.2", "ip6 saddr fd00:1::2", "ip ttl < 10",
	"iifname . meta l4proto { \"wg-b\" . tcp, \"eth0\" . udp }",
}

// lawMatches are what else rules look at.
var lawMatches = []string{
	"ct state new", "ct state established,related", "ct state { new, established }", "ct state != established", "ct state invalid",
	"ct direction original", "ct direction reply", "ct status dnat", "ct status != dnat", "ct state new,untracked",
	"meta mark 0", "meta mark != 0", "meta mark & 0xff == 1", "meta mark 1-9",
	"limit rate 10000/second burst 10000 packets", "fib daddr type unicast", "fib daddr type local", "meta pkttype host",
	`iif "br-lan"`, `oif != "wg-a"`, `iifname . oifname { "br-lan" . "wg-a", "wg-a" . "br-lan" }`, "counter",
}

// lawVerdicts are what rules do; the last two look at a protocol too.
var lawVerdicts = []string{
	"accept", "drop", "reject", "return", "counter", "accept", "drop", `ct state vmap { established : accept, related : accept, invalid : drop }`, `ct state vmap { new : drop }`,
	`iifname . oifname vmap { "br-lan" . "eth0" : accept, "eth0" . "br-lan" : drop }`, "oifname vmap @ways", "iifname @own accept",
	`tcp dport vmap { 22 : drop, 54321 : accept }`, `meta l4proto tcp reject with tcp reset`,
}

func lawRule(t *rapid.T, chains []string) string {
	var words []string
	device := rapid.SampledFrom([]string{`"br-lan"`, `"wg-a"`, `"wg-b"`, `"eth0"`, `"wg-*"`, `"none0"`, `{ "wg-a", "eth0" }`, `{ "br-lan", "wg-b", "none0" }`})
	for _, side := range []string{"iifname ", "oifname "} {
		switch rapid.IntRange(0, 3).Draw(t, side) {
		case 0:
			words = append(words, side+device.Draw(t, "device"))
		case 1:
			words = append(words, side+"!= "+device.Draw(t, "device"))
		}
	}
	if rapid.IntRange(0, 2).Draw(t, "looks") == 0 {
		words = append(words, rapid.SampledFrom(lawMatches).Draw(t, "match"))
	}
	verdicts := lawVerdicts
	for _, c := range chains {
		verdicts = append([]string{"jump " + c, "goto " + c, fmt.Sprintf(`iifname vmap { "br-lan" : accept, "wg-a" : drop, "wg-b" : jump %s }`, c), fmt.Sprintf(`ct state vmap { new : goto %s }`, c)}, verdicts...)
	}
	if rapid.Bool().Draw(t, "protocol") {
		words = append(words, rapid.SampledFrom(lawProtocols).Draw(t, "protocols"))
		verdicts = verdicts[:len(verdicts)-2]
	}
	return strings.Join(append(words, rapid.SampledFrom(verdicts).Draw(t, "verdict")), " ")
}

// What is said to pass passes, and what is said to be dropped is, whatever the rules.
func TestObstaclesAreWhatPacketsMeet(t *testing.T) {
	w := upWires(t)
	k := open(t)
	sure, all := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		rules := lawRules(t)
		if _, err := k.nft.run(context.Background(), rules, "-f", "-"); err != nil {
			t.Fatalf("%v\n%s", err, rules)
		}
		listing, err := k.nft.run(context.Background(), "", "-j", "list", "ruleset")
		if err != nil {
			t.Fatal(err)
		}
		f, err := readFilter([]byte(listing), "", "tombolo")
		if err != nil {
			t.Fatal(err)
		}
		type flow struct {
			sample
			passes, drops bool
		}
		asked := map[uint16]flow{}
		for i, in := range lawDevices {
			for j, out := range lawDevices {
				for n := range 6 {
					if i == j {
						continue
					}
					s := sample{in: in, out: out, six: n%2 == 1, protocol: []string{"tcp", "udp", "icmp"}[n/2], port: anyPort}
					x := flow{s, true, false}
					for _, table := range f.tables {
						for _, base := range table.bases {
							o := (&walk{sample: s, table: table}).base(base)
							x.passes, x.drops = x.passes && o.passes, x.drops || o.drops
						}
					}
					w.sent++
					number := uint16(1024 + w.sent%50000)
					asked[number] = x
					if err := unix.Sendto(w.sockets[i], w.frame(i, j, s, number), 0, &unix.SockaddrLinklayer{Ifindex: lawIndex(t, i)}); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		got := map[uint16]bool{}
		for end := time.Now().Add(time.Second); ; time.Sleep(5 * time.Millisecond) {
			before, missing := len(got), 0
			for i := range lawDevices {
				w.arrived(i, got)
			}
			for number, x := range asked {
				if !got[number] && !x.drops {
					missing++
				}
			}
			if missing == 0 && len(got) == before || time.Now().After(end) {
				break
			}
		}
		for number, x := range asked {
			all++
			if x.passes != x.drops {
				sure++
			}
			if got[number] && !x.passes || !got[number] && !x.drops {
				t.Errorf("%+v: arrived %v\n%s", x, got[number], rules)
			}
		}
	})
	if sure < all/2 {
		t.Errorf("of %d packets only %d were not said to be perhaps dropped", all, sure)
	}
	t.Logf("%d packets, of %d it was sure", all, sure)
}

func lawIndex(t *rapid.T, device int) int {
	i, err := net.InterfaceByName(fmt.Sprint("h", device))
	if err != nil {
		t.Fatal(err)
	}
	return i.Index
}

func lawRules(t *rapid.T) string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet law; delete table inet law; table inet law {\n")
	b.WriteString("set own { type ifname; elements = { \"br-lan\", \"wg-b\" }; }\nmap ways { type ifname : verdict; elements = { \"eth0\" : accept, \"wg-a\" : drop }; }\n")
	chains := []string{"last", "second", "first"}
	for i, c := range chains {
		writeChain(&b, c, "", rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string { return lawRule(t, chains[:i]) }), 0, 4).Draw(t, c))
	}
	for n := range rapid.IntRange(1, 2).Draw(t, "bases") {
		policy := rapid.SampledFrom([]string{"accept", "drop"}).Draw(t, "policy")
		writeChain(&b, fmt.Sprint("forward", n), fmt.Sprintf("type filter hook forward priority %d; policy %s;", n, policy),
			rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string { return lawRule(t, chains) }), 0, 6).Draw(t, "rules"))
	}
	b.WriteString("}\n")
	return b.String()
}

func writeChain(b *strings.Builder, name, head string, rules []string) {
	fmt.Fprintf(b, "chain %s {\n%s\n%s\n}\n", name, head, strings.Join(rules, "\n"))
}
