package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"tombolo/internal/api"
	"tombolo/internal/lab"
)

const (
	uplinkDefault = 3 * time.Second // of a flow, lost when its provider dies
	uplinkFast    = time.Second     // with checkFast
	checkFast     = "200ms"
	exitFactor    = 2.0 // times the routing's failover, until the next exit is in use

	flowEvery = 10 * time.Millisecond // between packets
	flowBegin = time.Second           // before something dies
	flowAfter = 4 * time.Second       // and after it
	settleMax = 30 * time.Second
)

// officeFile is a router with two providers, of which the first is preferred.
func officeFile(interval string) string {
	check := ""
	if interval != "" {
		check = ", check-interval: " + interval
	}
	return fmt.Sprintf(`network: office
overlay: 10.0.50.0/24
sites:
  office:
    lan: {lan0: 192.168.50.0/24}
    uplink:
      eth1: {address: 211.200.0.2/30, gateway: 211.200.0.1, check: 1.1.1.1%s}
      eth2: {address: 58.56.0.2/30, gateway: 58.56.0.1, check: 9.9.9.9, preference: 2%s}
`, check, check)
}

const officePaths = `internet:
  inet: {address: [198.18.0.10, 2001:db8::10]}
  check-1: {address: 1.1.1.1}
  check-2: {address: 9.9.9.9}
defaults: {rtt: 20ms}
`

// exitFile is the home network's triangle, in which op2 browses through op1, else op3.
const exitFile = `network: exits
overlay: 10.9.0.0/24
sites:
  op1: {address: 10.9.0.1, endpoint: op1.example.net, lan: {lan0: 10.1.0.0/24}, uplink: {eth0: dhcp}}
  op2: {address: 10.9.0.2, endpoint: op2.example.net, lan: {lan0: 10.2.0.0/24}, uplink: {eth0: dhcp}}
  op3: {address: 10.9.0.3, endpoint: op3.example.net, lan: {lan0: 10.3.0.0/24}, uplink: {eth0: dhcp}}
links: mesh
exits:
  - {for: op2, via: [op1, op3], otherwise: block}
`

// benchUplinks measures what is lost when a provider or an exit dies.
func benchUplinks(ctx context.Context, o options) (all []result, err error) {
	dir, err := os.MkdirTemp("", "tombolo-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a temporary folder
	for _, c := range []struct {
		interval, words string
		limit           time.Duration
	}{{"", "default checks", uplinkDefault}, {checkFast, "check-interval: " + checkFast, uplinkFast}} {
		lost, err := providerDies(ctx, o, dir, c.interval)
		if err != nil {
			return nil, err
		}
		all = append(all, result{
			"uplinks: a provider dies, a flow of 100 packets/s, " + c.words + ": traffic lost",
			spread(lost), "median at most " + rounded(c.limit), median(lost) <= c.limit,
		})
	}
	exits, err := exitDies(ctx, o, dir)
	return append(all, exits...), err
}

// upOf brings a lab up from texts.
func upOf(ctx context.Context, o options, dir, name, file, paths string) (*lab.Lab, error) {
	path := filepath.Join(dir, name+".yaml")
	for p, text := range map[string]string{path: file, filepath.Join(dir, name+".lab.yaml"): paths} {
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	l, _, err := upLab(ctx, o, path)
	return l, err
}

// providerDies returns what a flow through the office loses when its provider dies.
func providerDies(ctx context.Context, o options, dir, interval string) (lost []time.Duration, err error) {
	l, err := upOf(ctx, o, dir, "office", officeFile(interval), officePaths)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, downLab(ctx, o, l)) }()
	for range o.runs {
		if err := until(ctx, func() (bool, error) { return carries(ctx, o, l, "office", "eth1") }); err != nil {
			return nil, fmt.Errorf("eth1 carries nothing: %w", err)
		}
		d, err := lossOf(ctx, l, "office.host", "198.18.0.10", func() error { return l.Cut(ctx, "office/eth1", "") })
		if err != nil {
			return nil, err
		}
		progress("uplinks: %s lost", rounded(d))
		lost = append(lost, d)
		if err := l.Heal(ctx, "office/eth1", ""); err != nil {
			return nil, err
		}
	}
	return lost, nil
}

// exitDies returns what is lost when the exit in use dies, and when a link in use does.
func exitDies(ctx context.Context, o options, dir string) (all []result, err error) {
	l, err := upOf(ctx, o, dir, "exits", exitFile, doorPaths)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, downLab(ctx, o, l)) }()
	var links, exits []time.Duration
	for range o.runs {
		for _, c := range []struct {
			to, other string // who is lost, and who is asked
			times     *[]time.Duration
		}{{"op2", "10.3.0.10", &links}, {"", "198.18.0.10", &exits}} {
			if err := pause(ctx, 15*time.Second); err != nil { // back on the better way, after its fifteen seconds
				return nil, err
			}
			d, err := lossOf(ctx, l, "op2.host", c.other, func() error { return l.Cut(ctx, "op1", c.to) })
			if err != nil {
				return nil, err
			}
			progress("uplinks: %s lost, to %s", rounded(d), c.other)
			*c.times = append(*c.times, d)
			if err := l.Heal(ctx, "op1", c.to); err != nil {
				return nil, err
			}
		}
	}
	limit := time.Duration(exitFactor * float64(median(links)))
	return []result{
		fact("exits: a link in use is cut: traffic lost", spread(links)),
		{"exits: the exit in use dies, another takes over: traffic lost", spread(exits), "median at most twice that", median(exits) <= limit},
	}, nil
}

var pingSummary = regexp.MustCompile(`(\d+) packets transmitted, (\d+) received`)

// lossOf returns how much of a flow is lost when something dies.
func lossOf(ctx context.Context, l *lab.Lab, from, to string, dies func() error) (time.Duration, error) {
	var out bytes.Buffer
	ping := exec.CommandContext(ctx, "ping", "-n", "-q", "-i", strconv.FormatFloat(flowEvery.Seconds(), 'f', -1, 64), to)
	ping.Stdout = &out
	if err := l.Start(ctx, from, ping); err != nil {
		return 0, err
	}
	err := errors.Join(pause(ctx, flowBegin), dies(), pause(ctx, flowAfter))
	_ = ping.Process.Signal(os.Interrupt)
	_ = ping.Wait() // it ends with 1 where it lost packets
	if err != nil {
		return 0, err
	}
	m := pingSummary.FindStringSubmatch(out.String())
	if m == nil {
		return 0, fmt.Errorf("ping %s from %s says %q", to, from, out.String())
	}
	sent, _ := strconv.Atoi(m[1]) // digits
	received, _ := strconv.Atoi(m[2])
	if received < int(flowBegin/flowEvery)/2 {
		return 0, fmt.Errorf("ping %s from %s did not come through at first: %s", to, from, m[0])
	}
	return time.Duration(sent-received) * flowEvery, nil
}

// carries reports whether new flows leave by an uplink, and by it alone.
func carries(ctx context.Context, o options, l *lab.Lab, site, device string) (bool, error) {
	out, err := outputOf(ctx, l, site, o.tombolo, "status", "--json")
	if err != nil {
		return false, err
	}
	var s api.Status
	if err := json.Unmarshal(out, &s); err != nil {
		return false, fmt.Errorf("read the status of %s: %w", site, err)
	}
	return !slices.ContainsFunc(s.Uplinks, func(u api.Uplink) bool { return u.Carries != (u.Name == device) || u.Checked && !u.Works }), nil
}

// until waits for something to be so.
func until(ctx context.Context, is func() (bool, error)) error {
	for end := time.Now().Add(settleMax); ; {
		ok, err := is()
		if ok || err != nil {
			return err
		}
		if time.Now().After(end) {
			return errors.New("not within " + rounded(settleMax))
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// outputOf runs a command on a node.
func outputOf(ctx context.Context, l *lab.Lab, node string, argv ...string) ([]byte, error) {
	var out, complaint bytes.Buffer
	c := exec.CommandContext(ctx, argv[0], argv[1:]...)
	c.Stdout, c.Stderr = &out, &complaint
	if err := l.Run(ctx, node, c); err != nil {
		return nil, fmt.Errorf("%s on %s: %w\n%s", strings.Join(argv, " "), node, err, complaint.String())
	}
	return out.Bytes(), nil
}
