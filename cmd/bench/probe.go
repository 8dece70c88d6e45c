package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/ipv4"

	"tombolo/internal/lab"
)

const (
	probeInterval = 10 * time.Millisecond
	probePort     = 9000
	probeTTL      = 64

	// probePatience is how long a packet may be on its way before it counts as lost. No
	// way through the triangle takes a quarter of it.
	probePatience = 250 * time.Millisecond
)

// stream sends a numbered UDP packet every 10 ms from one node, and notes which come to
// others, when, and through how many routers: each takes one from the TTL, and so a packet
// says which way it took.
type stream struct {
	stop func()
	done sync.WaitGroup

	mu      sync.Mutex
	packets []packet // by number
}

// packet is one of a stream.
type packet struct {
	sent time.Time
	came time.Time // zero: it did not, or has not yet
	hops int       // routers on its way
	at   int       // which receiver it came to
}

// newStream starts a stream from a node to an address that the receivers have, each in its
// time.
func newStream(ctx context.Context, l *lab.Lab, from string, to netip.Addr, receivers ...string) (*stream, error) {
	ctx, cancel := context.WithCancel(ctx)
	s := &stream{}
	out, err := listenUDP(ctx, l, from, 0)
	if err != nil {
		cancel()
		return nil, err
	}
	conns := []*net.UDPConn{out}
	closeAll := func() {
		for _, c := range conns {
			_ = c.Close() // nothing more is wanted of it
		}
	}
	for _, node := range receivers {
		in, err := listenUDP(ctx, l, node, probePort)
		if err != nil {
			cancel()
			closeAll()
			return nil, err
		}
		conns = append(conns, in)
	}
	for i, in := range conns[1:] {
		s.done.Go(func() { s.receive(in, i) })
	}
	s.done.Go(func() { s.send(ctx, out, netip.AddrPortFrom(to, probePort)) })
	s.stop = func() {
		cancel()
		closeAll()
		s.done.Wait()
	}
	return s, nil
}

// listenUDP opens an IPv4 socket inside a node.
func listenUDP(ctx context.Context, l *lab.Lab, node string, port int) (c *net.UDPConn, err error) {
	err = l.Do(ctx, node, func() (err error) {
		c, err = net.ListenUDP("udp4", &net.UDPAddr{Port: port})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open a socket on %s: %w", node, err)
	}
	return c, nil
}

func (s *stream) send(ctx context.Context, c *net.UDPConn, to netip.AddrPort) {
	for next := time.Now(); ctx.Err() == nil; next = next.Add(probeInterval) {
		time.Sleep(time.Until(next))
		s.mu.Lock()
		b := binary.BigEndian.AppendUint64(make([]byte, 0, 64), uint64(len(s.packets)))
		s.packets = append(s.packets, packet{sent: time.Now()})
		s.mu.Unlock()
		// What cannot be sent does not come, and that is what is measured.
		_, _ = c.WriteToUDPAddrPort(b, to)
	}
}

func (s *stream) receive(c *net.UDPConn, at int) {
	in := ipv4.NewPacketConn(c)
	if err := in.SetControlMessage(ipv4.FlagTTL, true); err != nil {
		return // then every packet counts as lost
	}
	for b := make([]byte, 64); ; {
		n, cm, _, err := in.ReadFrom(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n != 8 || cm == nil {
			continue
		}
		now, number := time.Now(), binary.BigEndian.Uint64(b)
		s.mu.Lock()
		if number < uint64(len(s.packets)) {
			p := &s.packets[number]
			p.came, p.hops, p.at = now, probeTTL-cm.TTL, at
		}
		s.mu.Unlock()
	}
}

// decided is the number of packets whose fate is known. s.mu is held.
func (s *stream) decided() int {
	end := len(s.packets)
	for end > 0 && s.packets[end-1].came.IsZero() && time.Since(s.packets[end-1].sent) < probePatience {
		end--
	}
	return end
}

// since returns the packets sent at a time and after, without those whose fate is not
// known yet.
func (s *stream) since(t time.Time) []packet {
	s.mu.Lock()
	defer s.mu.Unlock()
	end := s.decided()
	begin := end
	for begin > 0 && !s.packets[begin-1].sent.Before(t) {
		begin--
	}
	return slices.Clone(s.packets[begin:end])
}

// steady says since when all packets from a time on have come as they should, and for how
// long that has been so.
func (s *stream) steady(from time.Time, should func(packet) bool) (since time.Time, held time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	end := s.decided()
	begin := end
	for begin > 0 {
		if p := s.packets[begin-1]; p.sent.Before(from) || p.came.IsZero() || !should(p) {
			break
		}
		begin--
	}
	if begin == end {
		return time.Time{}, 0
	}
	since = s.packets[begin].sent
	return since, s.packets[end-1].sent.Sub(since)
}

// lost counts the packets of a time that did not come. Its end must be some time ago.
func (s *stream) lost(from, to time.Time) int {
	n := 0
	for _, p := range s.since(from) {
		if p.sent.Before(to) && p.came.IsZero() {
			n++
		}
	}
	return n
}

// turns counts how often the way changed among the packets sent from a time on.
func (s *stream) turns(from time.Time) int {
	n, last := 0, 0
	for _, p := range s.since(from) {
		switch {
		case p.came.IsZero():
		case last != 0 && p.hops != last:
			n++
			fallthrough
		default:
			last = p.hops
		}
	}
	return n
}

// flow is a stream each way between two hosts.
type flow [2]*stream

// newFlow starts a stream each way.
func newFlow(ctx context.Context, l *lab.Lab, a, b string) (f flow, err error) {
	for i, ends := range [2][2]string{{a, b}, {b, a}} {
		to, err := l.Node(ends[1])
		if err == nil {
			f[i], err = newStream(ctx, l, ends[0], to.Addr(), ends[1])
		}
		if err != nil {
			f.stop()
			return f, err
		}
	}
	return f, nil
}

func (f flow) stop() {
	for _, s := range f {
		if s != nil {
			s.stop()
		}
	}
}

// await waits until all packets sent from a time on have come both ways as they should for
// some time, and returns when the later way began to. Not within the limit, it is false.
func (f flow) await(ctx context.Context, from time.Time, hold, limit time.Duration, should func(packet) bool) (time.Time, bool, error) {
	for time.Since(from) < limit+hold+probePatience {
		there, a := f[0].steady(from, should)
		back, b := f[1].steady(from, should)
		if a >= hold && b >= hold {
			if there.Before(back) {
				there = back
			}
			return there, there.Sub(from) <= limit, nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return time.Time{}, false, ctx.Err()
		}
	}
	return time.Time{}, false, nil
}

// lost counts the packets of a time that did not come, of the way that lost more.
func (f flow) lost(ctx context.Context, from, to time.Time) (int, error) {
	select {
	case <-time.After(time.Until(to.Add(probePatience + probeInterval))):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	return max(f[0].lost(from, to), f[1].lost(from, to)), nil
}

// came is what every packet should do; by(n) is one that came through n routers.
func came(packet) bool { return true }

func by(hops int) func(packet) bool { return func(p packet) bool { return p.hops == hops } }
