package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/ipv4"

	"tombolo/internal/lab"
)

const accessRatio = 0.95

// rated is a router through whose policy packets go from one LAN to the other.
type rated struct {
	site    string
	to      net.IP
	flow    *net.UDPConn // in which both have spoken
	fresh   *net.IPConn  // whose packets are each of another flow
	counter *os.File     // of what arrives
}

// rateAccess compares routers with few rules and with many, in turns of a tenth of a second. The
// second one with few says how much of a difference is noise.
func rateAccess(ctx context.Context, o options, l *lab.Lab, dir string) (all []result, err error) {
	few, many := fmt.Sprintf("%d rules", accessFew), fmt.Sprintf("%d rules", accessMany)
	names := []string{many, few, few + " again"}
	var routers []*rated
	for i, rules := range []int{accessMany, accessFew, accessFew} {
		if err := applyAccess(ctx, o, l, dir, i+1, accessRules(i+1, rules-1, 1000)+measuredRule(i+1), "--no-agent"); err != nil {
			return nil, err
		}
		r, err := newRated(ctx, l, i+1)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", accessSite(i+1), err)
		}
		defer r.close()
		routers = append(routers, r)
	}
	for _, c := range []struct {
		words   string
		measure func(r *rated) (float64, error)
	}{
		{"packets of a flow that is known", func(r *rated) (float64, error) {
			return packetRate(ctx, ipv4.NewPacketConn(r.flow), r.counter, sameFlow)
		}},
		{"each packet a flow of its own", func(r *rated) (float64, error) { return r.freshRate(ctx, l) }},
	} {
		rates, err := inTurns(names, func(k int) (float64, error) { return c.measure(routers[k]) })
		if err != nil {
			return nil, err
		}
		what := "UDP of 64 bytes from LAN to LAN, " + c.words + ", policy of "
		_, again := ratioOf(rates, few+" again", few)
		ratio, text := ratioOf(rates, many, few)
		progress("access: %s: %s", c.words, text)
		all = append(all,
			fact(what+few, fmt.Sprintf("%.0f packets/s", median(rates[few]))),
			fact(what+few+" again, which is noise", again),
			result{what + many, text, fmt.Sprintf("at least %.2f of %s", accessRatio, few), ratio >= accessRatio})
	}
	return all, nil
}

// applyAccess has a router of the lab hold what a file of many sites says.
func applyAccess(ctx context.Context, o options, l *lab.Lab, dir string, site int, rules string, more ...string) error {
	name := accessSite(site)
	file := filepath.Join(dir, name+".yaml")
	if err := os.WriteFile(file, []byte(accessFile(accessSites, rules)), 0o600); err != nil {
		return err
	}
	argv := []string{o.tombolo, "apply", file, "--site", name, "--keys", filepath.Join(l.Dir(), "keys")}
	_, err := outputOf(ctx, l, name, append(argv, more...)...)
	return err
}

// newRated opens what is measured at a site, and looks whether its policy is in force.
func newRated(ctx context.Context, l *lab.Lab, site int) (r *rated, err error) {
	r = &rated{site: accessSite(site), to: net.IPv4(10, 100, byte(site), 10)}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	from, host := r.site+".host-lan1", r.site+".host"
	node, err := l.Node(host)
	if err != nil {
		return nil, err
	}
	if _, err := l.Ping(ctx, from, lab.Echo{To: node.Addr()}); err == nil {
		return nil, errors.New("what no rule allows is answered")
	}
	if r.counter, err = sink(ctx, l, host); err != nil {
		return nil, err
	}
	if r.flow, err = spoken(ctx, l, from, r.to); err != nil {
		return nil, err
	}
	return r, l.Do(ctx, from, func() (err error) {
		r.fresh, err = net.ListenIP("ip4:udp", nil)
		return err
	})
}

func (r *rated) close() {
	if r.flow != nil {
		_ = r.flow.Close() // nothing waits in it
	}
	if r.fresh != nil {
		_ = r.fresh.Close() // as above
	}
	if r.counter != nil {
		_ = r.counter.Close() // it was only read
	}
}

// freshRate is packetRate for packets of which each has a source port of its own, and so is the
// first of a flow. What the router knows of earlier ones is forgotten before.
func (r *rated) freshRate(ctx context.Context, l *lab.Lab) (float64, error) {
	if err := l.Do(ctx, r.site, func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) }); err != nil {
		return 0, fmt.Errorf("forget connections: %w", err)
	}
	port, to := uint16(1024), &net.IPAddr{IP: r.to}
	return packetRate(ctx, ipv4.NewPacketConn(r.fresh), r.counter, func(m *ipv4.Message) bool {
		b := m.Buffers[0]
		if len(b) == 64 {
			b = make([]byte, 8+64)
			binary.BigEndian.PutUint16(b[2:], 9)
			binary.BigEndian.PutUint16(b[4:], uint16(len(b))) // and no checksum
			m.Buffers[0], m.Addr = b, to
		}
		binary.BigEndian.PutUint16(b, port)
		port++
		return port < 65000
	})
}
