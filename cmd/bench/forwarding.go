package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"tombolo/internal/lab"
)

const (
	forwardingRounds = 4
	forwardingSecond = "2" // of each measurement, after half a second that is not counted
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
	server := exec.Command("iperf3", "--server")
	if err := l.Start(ctx, "inet", server); err != nil {
		return nil, err
	}
	defer func() {
		_ = server.Process.Kill() // and an error only says that it was
		_ = server.Wait()
	}()
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
	_, err := outputOf(ctx, l, "a", "sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
	return err
}

// packetRate returns how many packets of the LAN's host reach the Internet's in a second.
func packetRate(ctx context.Context, l *lab.Lab) (float64, error) {
	out, err := outputOf(ctx, l, "a.host", "iperf3", "--client", "198.18.0.10", "--udp", "--bitrate", "0", "--length", "64",
		"--time", forwardingSecond, "--omit", "0.5", "--json")
	if err != nil {
		return 0, err
	}
	var report struct {
		End struct {
			Sum struct {
				Packets int     `json:"packets"`
				Lost    int     `json:"lost_packets"`
				Seconds float64 `json:"seconds"`
			} `json:"sum"`
		} `json:"end"`
	}
	if err := json.Unmarshal(out, &report); err != nil {
		return 0, fmt.Errorf("read iperf3's report: %w", err)
	}
	s := report.End.Sum
	if s.Seconds == 0 || s.Packets == 0 {
		return 0, fmt.Errorf("iperf3 carried nothing:\n%s", out)
	}
	return float64(s.Packets-s.Lost) / s.Seconds, nil
}
