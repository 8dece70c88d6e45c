package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"tombolo/internal/lab"
)

const (
	pacedRate   = 10_000 // packets/s
	pacedTick   = time.Millisecond
	pacedLate   = 50 * time.Millisecond // what was not sent by then is not sent
	pacedBuffer = 64 << 20              // bytes, so that no socket loses any
	pacedDrain  = time.Second           // without any packet, and none is on its way
)

// paced is a flow of numbered UDP packets from one host to another, which sends each of them back.
type paced struct {
	out, echo *net.UDPConn
	done      sync.WaitGroup
	there     atomic.Int64 // packets that came to the other host
	back      atomic.Int64 // and back
	last      atomic.Int64 // when one came back, ns
}

// pacedLoss is what became of a flow.
type pacedLoss struct {
	sent, there, back int64
	took              time.Duration
}

// newPaced opens a flow between two hosts, and waits until it is answered.
func newPaced(ctx context.Context, l *lab.Lab, from, host string, to net.IP, port int) (p *paced, err error) {
	p = &paced{}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if p.echo, err = listenUDP(ctx, l, host, port); err != nil {
		return nil, err
	}
	err = l.Do(ctx, from, func() (err error) {
		p.out, err = net.DialUDP("udp4", nil, &net.UDPAddr{IP: to, Port: port})
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, c := range []*net.UDPConn{p.out, p.echo} {
		if err := roomy(c); err != nil {
			return nil, err
		}
	}
	p.done.Go(func() { p.answer() })
	p.done.Go(func() { p.count() })
	return p, until(ctx, func() (bool, error) {
		_, err := p.out.Write(make([]byte, 64))
		time.Sleep(pacedLate)
		return p.back.Load() > 0, err
	})
}

// roomy gives a socket room for what comes while nobody reads.
func roomy(c *net.UDPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, pacedBuffer)
	})
	return errors.Join(err, failed)
}

func (p *paced) close() {
	for _, c := range []*net.UDPConn{p.out, p.echo} {
		if c != nil {
			_ = c.Close() // nothing more is wanted of it
		}
	}
	p.done.Wait()
}

func batchOf(n int) []ipv4.Message {
	batch := make([]ipv4.Message, n)
	for i := range batch {
		batch[i].Buffers = [][]byte{make([]byte, 64)}
	}
	return batch
}

// answer sends back what comes, until its socket is closed.
func (p *paced) answer() {
	c, batch := ipv4.NewPacketConn(p.echo), batchOf(64)
	for {
		n, err := c.ReadBatch(batch, 0)
		if err != nil {
			return
		}
		p.there.Add(int64(n))
		for rest := batch[:n]; len(rest) > 0; {
			sent, err := c.WriteBatch(rest, 0)
			if err != nil {
				return
			}
			rest = rest[sent:]
		}
	}
}

// count counts what comes back, until its socket is closed.
func (p *paced) count() {
	c, batch := ipv4.NewPacketConn(p.out), batchOf(64)
	for {
		n, err := c.ReadBatch(batch, 0)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // it may be told that nobody is there yet
		}
		p.back.Add(int64(n))
		p.last.Store(time.Now().UnixNano())
	}
}

// during sends packets while something is done, and returns what became of them.
func (p *paced) during(ctx context.Context, f func() error) (loss pacedLoss, err error) {
	inner, stop := context.WithCancel(ctx)
	defer stop()
	there, back := p.there.Load(), p.back.Load()
	start := time.Now()
	var sending sync.WaitGroup
	var refused error
	sending.Go(func() { loss.sent, refused = p.send(inner) })
	err = f()
	loss.took = time.Since(start)
	stop()
	sending.Wait()
	if err := errors.Join(err, refused); err != nil {
		return loss, err
	}
	for time.Since(time.Unix(0, p.last.Load())) < pacedDrain {
		if err := pause(ctx, pacedDrain/10); err != nil {
			return loss, err
		}
	}
	loss.there, loss.back = p.there.Load()-there, p.back.Load()-back
	return loss, nil
}

// send sends packets at an even pace until it is told to stop. Where it was kept waiting it does
// not make up for all of it at once: that would lose packets by itself.
func (p *paced) send(ctx context.Context) (sent int64, err error) {
	c, batch := ipv4.NewPacketConn(p.out), batchOf(pacedRate*int(pacedTick)/int(time.Second))
	for next := time.Now(); ctx.Err() == nil; next = next.Add(pacedTick) {
		time.Sleep(time.Until(next))
		if time.Since(next) > pacedLate {
			next = time.Now()
		}
		for i := range batch {
			binary.BigEndian.PutUint64(batch[i].Buffers[0], uint64(sent)+uint64(i))
		}
		for rest := batch; len(rest) > 0; {
			n, err := c.WriteBatch(rest, 0)
			if err != nil {
				return sent, fmt.Errorf("send: %w", err)
			}
			rest, sent = rest[n:], sent+int64(n)
		}
	}
	return sent, nil
}

func (l pacedLoss) String() string {
	return fmt.Sprintf("%d of %d packets there, %d of %d back, at %.0f packets/s each way",
		l.sent-l.there, l.sent, l.there-l.back, l.there, float64(l.sent)/l.took.Seconds())
}

func (l pacedLoss) lost() int64 { return l.sent - l.back }
