package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/ipv4"

	"tombolo/internal/lab"
)

const (
	forwardingRounds = 15
	forwardingWarm   = 200 * time.Millisecond // not counted
	forwardingTime   = 2 * time.Second
	forwardingRatio  = 0.97
)

// costFile is a router whose LAN browses by one of two uplinks, with an exit for others: so
// all the chains and rules are there that a packet of the LAN can meet.
const costFile = `network: cost
overlay: 10.9.0.0/24
sites:
  a:
    address: 10.9.0.1
    endpoint: 211.200.0.2
    lan: {lan0: 10.1.0.0/24}
    uplink:
      eth1: {address: 211.200.0.2/30, gateway: 211.200.0.1}
      eth2: {address: 58.56.0.2/30, gateway: 58.56.0.1, preference: 2}
  b: {address: 10.9.0.2, lan: {lan0: 10.2.0.0/24}, uplink: {eth0: {address: 58.57.0.2/30, gateway: 58.57.0.1}}}
links: mesh
exits:
  - {for: b, via: a, otherwise: block}
`

const costPaths = "internet:\n  inet: {address: [198.18.0.10, 2001:db8::10]}\ndefaults: {nat: none}\n"

// plainRules are what the router would have without tombolo: connection tracking and
// masquerading.
const plainRules = `table inet plain {
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		oifname "eth1" ip saddr 10.1.0.0/24 masquerade
	}
}
`

// forwardingCost compares how many small packets a router forwards from its LAN to the
// Internet, with what tombolo applied and without, in turns. Each round is compared with
// its own plain one, and a second plain one says how much of a difference is noise.
func forwardingCost(ctx context.Context, o options, dir string) (all []result, err error) {
	l, err := upOf(ctx, o, dir, "cost", costFile, costPaths)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, downLab(ctx, o, l)) }()
	if err := sink(ctx, l); err != nil {
		return nil, err
	}
	applied := true
	rates := map[string][]float64{}
	ways := []string{"plain", "plain again", "tombolo"}
	for round := range forwardingRounds + 1 {
		for i := range ways {
			name := ways[(round+i)%len(ways)]
			if ours := name == "tombolo"; ours != applied {
				if err := turn(ctx, o, l, dir, ours); err != nil {
					return nil, err
				}
				applied = ours
			}
			rate, err := packetRate(ctx, l)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			if round > 0 {
				rates[name] = append(rates[name], rate)
			}
		}
		progress("forwarding, round %d of %d", round, forwardingRounds)
	}
	ratio := func(name string) (float64, string) {
		var ratios []float64
		for i, r := range rates[name] {
			ratios = append(ratios, r/rates["plain"][i])
		}
		m := median(ratios)
		return m, fmt.Sprintf("%.0f packets/s, %.3f of plain (rounds: %.2f to %.2f)", median(rates[name]), m, slices.Min(ratios), slices.Max(ratios))
	}
	_, again := ratio("plain again")
	ours, text := ratio("tombolo")
	const what = "forwarding UDP of 64 bytes from a LAN to the Internet, "
	return []result{
		fact(what+"plain, with connection tracking", fmt.Sprintf("%.0f packets/s", median(rates["plain"]))),
		fact(what+"plain again, which is noise", again),
		{what + "with the rules and marks of two uplinks and an exit", text, fmt.Sprintf("at least %.2f of plain", forwardingRatio), ours >= forwardingRatio},
	}, nil
}

// turn sets the router up with what tombolo applies, or by hand.
func turn(ctx context.Context, o options, l *lab.Lab, dir string, ours bool) error {
	if ours {
		if _, err := outputOf(ctx, l, "a", "nft", "delete", "table", "inet", "plain"); err != nil {
			return err
		}
		if _, err := outputOf(ctx, l, "a", o.tombolo, "apply", dir+"/cost.yaml", "--site", "a", "--keys", l.Dir()+"/keys"); err != nil {
			return err
		}
		return until(ctx, func() (bool, error) { return carries(ctx, o, l, "a", "eth1") })
	}
	if _, err := outputOf(ctx, l, "a", o.tombolo, "down"); err != nil {
		return err
	}
	c := exec.CommandContext(ctx, "nft", "-f", "-")
	c.Stdin = strings.NewReader(plainRules)
	if err := l.Run(ctx, "a", c); err != nil {
		return fmt.Errorf("load the plain rules: %w", err)
	}
	// As strict with sources as tombolo is.
	_, err := outputOf(ctx, l, "a", "sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.eth1.rp_filter=0", "net.ipv4.conf.lan0.rp_filter=1")
	return err
}

// sink has the Internet's host answer the first packet of a flow, and drop the others as soon
// as they are counted.
func sink(ctx context.Context, l *lab.Lab) error {
	const rules = "add table inet sink; add chain inet sink in { type filter hook prerouting priority raw; }; add rule inet sink in udp dport 9 udp length > 9 drop"
	if _, err := outputOf(ctx, l, "inet", "nft", rules); err != nil {
		return err
	}
	return l.Do(ctx, "inet", func() error {
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

// spoken opens a flow from the LAN's host to the Internet's, in which both have spoken.
func spoken(ctx context.Context, l *lab.Lab) (socket *net.UDPConn, err error) {
	err = l.Do(ctx, "a.host", func() (err error) {
		socket, err = net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(198, 18, 0, 10), Port: 9})
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

// packetRate returns how many packets of a flow reach the Internet's host in a second.
func packetRate(ctx context.Context, l *lab.Lab) (float64, error) {
	socket, err := spoken(ctx, l)
	if err != nil {
		return 0, err
	}
	defer func() { _ = socket.Close() }() // nothing waits in it
	batch := make([]ipv4.Message, 64)
	for i := range batch {
		batch[i].Buffers = [][]byte{make([]byte, 64)}
	}
	conn := ipv4.NewPacketConn(socket)
	blast := func(d time.Duration) (time.Duration, error) {
		start := time.Now()
		for time.Since(start) < d {
			if _, err := conn.WriteBatch(batch, 0); err != nil {
				return 0, fmt.Errorf("send: %w", err)
			}
		}
		return time.Since(start), nil
	}
	if _, err := blast(forwardingWarm); err != nil {
		return 0, err
	}
	before, err := received(ctx, l)
	if err != nil {
		return 0, err
	}
	took, err := blast(forwardingTime)
	if err != nil {
		return 0, err
	}
	after, err := received(ctx, l)
	if err == nil && after == before {
		err = errors.New("nothing arrived")
	}
	return float64(after-before) / took.Seconds(), err
}

// received returns how many packets the Internet's host got so far.
func received(ctx context.Context, l *lab.Lab) (int, error) {
	out, err := outputOf(ctx, l, "inet", "cat", "/proc/net/dev")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(out)) {
		name, counters, _ := strings.Cut(strings.TrimSpace(line), ":")
		if f := strings.Fields(counters); name == "eth0" && len(f) > 1 {
			return strconv.Atoi(f[1])
		}
	}
	return 0, errors.New("inet has no eth0")
}
