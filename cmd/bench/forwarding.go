package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/ipv4"

	"tombolo/internal/lab"
)

const (
	forwardingRounds = 150
	forwardingTime   = 100 * time.Millisecond // of each router in each round
	forwardingRatio  = 0.97
)

// costFile has three routers whose LANs browse by one of two uplinks, with an exit for others:
// so all the chains and rules are there that a packet of the LAN can meet.
const costFile = `network: cost
overlay: 10.9.0.0/24
sites:
  a:
    address: 10.9.0.1
    endpoint: 211.200.1.2
    lan: {lan0: 10.1.0.0/24}
    uplink: {eth1: {address: 211.200.1.2/30, gateway: 211.200.1.1}, eth2: {address: 58.56.1.2/30, gateway: 58.56.1.1, preference: 2}}
  b:
    address: 10.9.0.2
    endpoint: 211.200.2.2
    lan: {lan0: 10.2.0.0/24}
    uplink: {eth1: {address: 211.200.2.2/30, gateway: 211.200.2.1}, eth2: {address: 58.56.2.2/30, gateway: 58.56.2.1, preference: 2}}
  c:
    address: 10.9.0.3
    endpoint: 211.200.3.2
    lan: {lan0: 10.3.0.0/24}
    uplink: {eth1: {address: 211.200.3.2/30, gateway: 211.200.3.1}, eth2: {address: 58.56.3.2/30, gateway: 58.56.3.1, preference: 2}}
  d: {address: 10.9.0.4, lan: {lan0: 10.4.0.0/24}, uplink: {eth0: {address: 58.57.0.2/30, gateway: 58.57.0.1}}}
links: mesh
exits:
  - {for: d, via: [a, b, c], otherwise: block}
`

const costPaths = "internet:\n  inet: {address: [198.18.0.10, 2001:db8::10]}\ndefaults: {nat: none}\n"

// plainRules are what a router would have without tombolo: connection tracking and
// masquerading.
const plainRules = `table inet plain {
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		oifname "eth1" masquerade
	}
}
`

// benchForwarding compares how many small packets routers forward from their LANs to the
// Internet: one with what tombolo applied, two without, in turns of a tenth of a second. The
// second plain one says how much of a difference is noise.
func benchForwarding(ctx context.Context, o options) (all []result, err error) {
	dir, err := os.MkdirTemp("", "tombolo-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a temporary folder
	l, err := upOf(ctx, o, dir, "cost", costFile, costPaths)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, downLab(ctx, o, l)) }()
	if err := until(ctx, func() (bool, error) { return carries(ctx, o, l, "a", "eth1") }); err != nil {
		return nil, err
	}
	counter, err := sink(ctx, l, "inet")
	if err != nil {
		return nil, err
	}
	var flows []*ipv4.PacketConn
	for i, site := range []string{"a", "b", "c"} {
		if i > 0 {
			if err := makePlain(ctx, o, l, site); err != nil {
				return nil, err
			}
		}
		socket, err := spoken(ctx, l, site+".host", net.IPv4(198, 18, 0, 10))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", site, err)
		}
		defer func() { _ = socket.Close() }() // nothing waits in it
		flows = append(flows, ipv4.NewPacketConn(socket))
	}
	rates, err := inTurns([]string{"tombolo", "plain", "plain again"}, func(k int) (float64, error) {
		return packetRate(ctx, flows[k], counter, sameFlow)
	})
	if err != nil {
		return nil, err
	}
	_, again := ratioOf(rates, "plain again", "plain")
	ours, text := ratioOf(rates, "tombolo", "plain")
	const what = "forwarding UDP of 64 bytes from a LAN to the Internet, "
	return []result{
		fact(what+"plain, with connection tracking", fmt.Sprintf("%.0f packets/s", median(rates["plain"]))),
		fact(what+"plain again, which is noise", again),
		{what + "with the rules and marks of two uplinks and an exit", text, fmt.Sprintf("at least %.2f of plain", forwardingRatio), ours >= forwardingRatio},
	}, nil
}

// inTurns measures several things in many rounds, each a moment after the other, and which is first
// changes. The first rounds are not counted.
func inTurns(names []string, measure func(k int) (float64, error)) (map[string][]float64, error) {
	rates := map[string][]float64{}
	for round := range forwardingRounds + 10 {
		for i := range names {
			k := (round + i) % len(names)
			rate, err := measure(k)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", names[k], err)
			}
			if round >= 10 { // warm
				rates[names[k]] = append(rates[names[k]], rate)
			}
		}
	}
	return rates, nil
}

// ratioOf compares rates in packets/s with others of the same rounds.
func ratioOf(rates map[string][]float64, name, than string) (float64, string) {
	var ratios []float64
	for i, r := range rates[name] {
		ratios = append(ratios, r/rates[than][i])
	}
	slices.Sort(ratios)
	m, n := median(ratios), len(ratios)
	return m, fmt.Sprintf("%.0f packets/s, %.3f of %s (half of %d rounds: %.2f to %.2f)", median(rates[name]), m, than, n, ratios[n/4], ratios[3*n/4])
}

// makePlain takes away from a router what tombolo applied, and sets it up by hand.
func makePlain(ctx context.Context, o options, l *lab.Lab, site string) error {
	if _, err := outputOf(ctx, l, site, o.tombolo, "down"); err != nil {
		return err
	}
	c := exec.CommandContext(ctx, "nft", "-f", "-")
	c.Stdin = strings.NewReader(plainRules)
	if err := l.Run(ctx, site, c); err != nil {
		return fmt.Errorf("load the plain rules: %w", err)
	}
	// As strict with sources as tombolo is.
	_, err := outputOf(ctx, l, site, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0",
		"net.ipv4.conf.eth1.rp_filter=0", "net.ipv4.conf.lan0.rp_filter=1")
	return err
}

// sink has a host answer the first packet of a flow, and drop the others as soon as they are
// counted. It returns what counts them.
func sink(ctx context.Context, l *lab.Lab, host string) (counter *os.File, err error) {
	const rules = "add table inet sink; add chain inet sink in { type filter hook prerouting priority raw; }; add rule inet sink in udp dport 9 udp length > 9 drop"
	if _, err := outputOf(ctx, l, host, "nft", rules); err != nil {
		return nil, err
	}
	return counter, l.Do(ctx, host, func() (err error) {
		if counter, err = os.Open("/proc/thread-self/net/dev"); err != nil {
			return err
		}
		c, err := net.ListenUDP("udp4", &net.UDPAddr{Port: 9})
		if err != nil {
			return err
		}
		go func() { // until the lab is down, and this program with it
			b := make([]byte, 1)
			for {
				_, from, err := c.ReadFromUDPAddrPort(b)
				if err != nil {
					return
				}
				_, _ = c.WriteToUDPAddrPort(b, from) // who waits for it says that it did not come
			}
		}()
		return nil
	})
}

// spoken opens a flow from a LAN's host to where a sink is, in which both have spoken.
func spoken(ctx context.Context, l *lab.Lab, host string, to net.IP) (socket *net.UDPConn, err error) {
	err = l.Do(ctx, host, func() (err error) {
		socket, err = net.DialUDP("udp4", nil, &net.UDPAddr{IP: to, Port: 9})
		return err
	})
	if err != nil {
		return nil, err
	}
	for range 10 {
		if _, err = socket.Write([]byte{0}); err != nil {
			continue
		}
		_ = socket.SetReadDeadline(time.Now().Add(time.Second)) // it can
		if _, err = socket.Read(make([]byte, 1)); err == nil {
			return socket, nil
		}
	}
	return nil, errors.Join(err, socket.Close())
}

// packetRate returns how many packets of what a socket sends arrive in a second. fill fills a
// packet, and says whether there is another; sameFlow does nothing.
func packetRate(ctx context.Context, socket *ipv4.PacketConn, counter *os.File, fill func(*ipv4.Message) bool) (float64, error) {
	batch := make([]ipv4.Message, 32)
	for i := range batch {
		batch[i].Buffers = [][]byte{make([]byte, 64)}
	}
	before, err := received(counter)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	for more := true; more && time.Since(start) < forwardingTime; {
		for i := range batch {
			more = fill(&batch[i]) && more
		}
		if _, err := socket.WriteBatch(batch, 0); err != nil {
			return 0, fmt.Errorf("send: %w", err)
		}
	}
	took := time.Since(start)
	after, err := received(counter)
	if err == nil && after == before {
		err = errors.New("nothing arrived")
	}
	return float64(after-before) / took.Seconds(), errors.Join(err, ctx.Err())
}

func sameFlow(*ipv4.Message) bool { return true }

// received returns how many packets a counter's eth0 got so far.
func received(counter *os.File) (int, error) {
	if _, err := counter.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(counter)
	for lines.Scan() {
		name, counters, _ := strings.Cut(strings.TrimSpace(lines.Text()), ":")
		if f := strings.Fields(counters); name == "eth0" && len(f) > 1 {
			return strconv.Atoi(f[1])
		}
	}
	return 0, errors.Join(errors.New("the host has no eth0"), lines.Err())
}
