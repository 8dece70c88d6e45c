package cli_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// session is a connection that is held open, as one of ssh is, and on which a line goes there and
// back every 50 ms.
type session struct {
	exitLab
	about string
	stop  chan struct{}
	done  chan struct{}

	lines   atomic.Int64  // that came back
	longest time.Duration // that a line took
	err     error
}

// stands reports whether no line comes back for a while.
func (k *session) stands() bool {
	before := k.lines.Load()
	time.Sleep(500 * time.Millisecond)
	return k.lines.Load() == before
}

// talks opens a connection from a node to a mirror.
func (l exitLab) talks(from string, to netip.AddrPort) *session {
	l.Helper()
	c, err := l.dial(from, "tcp", netip.Addr{}, to, patience)
	if err != nil {
		l.Fatalf("from %s: %v", from, err)
	}
	k := &session{exitLab: l, about: fmt.Sprintf("the connection from %s to %s", from, to), stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(k.done)
		defer c.Close()
		lines := bufio.NewReader(c)
		if _, k.err = lines.ReadString('\n'); k.err != nil { // whom it sees
			return
		}
		for n := 0; ; n++ {
			select {
			case <-k.stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
			begin, word := time.Now(), fmt.Sprintln("line", n)
			_ = c.SetDeadline(begin.Add(patience))
			var got string
			if _, k.err = c.Write([]byte(word)); k.err == nil {
				got, k.err = lines.ReadString('\n')
			}
			k.longest = max(k.longest, time.Since(begin))
			if k.err == nil && got != word {
				k.err = fmt.Errorf("%q came back of %q", got, word)
			}
			k.lines.Add(1)
			if k.err != nil {
				return
			}
		}
	}()
	return k
}

// held ends the connection, which must have lived, and not have stood for long.
func (k *session) held(limit time.Duration) {
	k.Helper()
	close(k.stop)
	<-k.done
	if k.err != nil || k.longest > limit {
		k.Errorf("%s: %v; a line took %s", k.about, k.err, k.longest)
	}
}

// flow is a sender with one port, who asks a mirror every 50 ms by which address it is seen.
type flow struct {
	exitLab
	about string

	mu   sync.Mutex
	sent int
	last int        // number of the last question that was answered
	seen netip.Addr // and the answer
}

// flows begins a flow from a node.
func (l exitLab) flows(from string, to netip.AddrPort) *flow {
	l.Helper()
	c, err := l.dial(from, "udp", netip.Addr{}, to, patience)
	l.do(err)
	l.Cleanup(func() { c.Close() })
	f := &flow{exitLab: l, about: fmt.Sprintf("the flow from %s to %s", c.LocalAddr(), to)}
	go func() {
		for n := 1; ; n++ {
			f.mu.Lock()
			f.sent = n
			f.mu.Unlock()
			if _, err := fmt.Fprint(c, n); errors.Is(err, net.ErrClosed) {
				return // else it is told that nobody is reached, and goes on
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	go func() {
		b := make([]byte, 100)
		for {
			n, err := c.Read(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				f.take(string(b[:n]))
			}
		}
	}()
	return f
}

func (f *flow) take(answer string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	by, number, _ := strings.Cut(answer, " ")
	f.seen, _ = netip.ParseAddr(by)
	f.last, _ = strconv.Atoi(number)
}

// answered waits until a question is answered that was asked from now on, with an address.
func (f *flow) answered(want netip.Addr) {
	f.Helper()
	f.mu.Lock()
	now := f.sent
	f.mu.Unlock()
	f.soon(func() string {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.last <= now || f.seen != want {
			return fmt.Sprintf("%s is seen as %s, and not as %s: %d of %d questions were answered", f.about, f.seen, want, f.last, f.sent)
		}
		return ""
	})
}
