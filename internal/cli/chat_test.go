package cli_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// chat is a conversation with a mirror that goes on: a line every ten milliseconds, over UDP,
// or over TCP, of which each is as long as makes a transfer of a few megabytes per second.
type chat struct {
	question
	conn net.Conn
	end  chan struct{}
	done sync.WaitGroup

	mu    sync.Mutex
	said  []time.Time
	heard []heard
	err   error // of a TCP connection that ended
}

// heard is one answer.
type heard struct {
	number int
	at     time.Time
	seen   netip.Addr
}

const (
	chatEvery = 10 * time.Millisecond
	longLine  = 32 << 10
)

// chat begins one.
func (l homeLab) chat(q question) *chat {
	l.Helper()
	c, err := l.dial(q, forAnswer)
	l.do(err)
	return l.chatOver(q, c)
}

// unbound is a UDP socket that has no source address, and so may have another with each
// packet: as one that is connected never has.
type unbound struct {
	net.PacketConn
	to net.Addr
}

func (u unbound) Write(b []byte) (int, error) { return u.WriteTo(b, u.to) }
func (u unbound) Read(b []byte) (int, error)  { n, _, err := u.ReadFrom(b); return n, err }
func (u unbound) RemoteAddr() net.Addr        { return u.to }

// chatUnbound begins one over such a socket.
func (l homeLab) chatUnbound(q question) *chat {
	l.Helper()
	u := unbound{to: net.UDPAddrFromAddrPort(netip.AddrPortFrom(q.to, askedAt))}
	l.do(l.lab.Do(l.Context(), q.node, func() (err error) {
		u.PacketConn, err = net.ListenPacket(map[bool]string{false: "udp4", true: "udp6"}[q.to.Is6()], ":0")
		return err
	}))
	return l.chatOver(q, u)
}

func (l homeLab) chatOver(q question, c net.Conn) *chat {
	t := &chat{question: q, conn: c, end: make(chan struct{})}
	padding := ""
	if q.network == "tcp" {
		padding = " " + strings.Repeat("x", longLine)
	}
	t.done.Go(func() { t.say(padding) })
	t.done.Go(t.hear)
	l.Cleanup(t.close)
	return t
}

func (t *chat) say(padding string) {
	tick := time.NewTicker(chatEvery)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-t.end:
			return
		case <-tick.C:
		}
		t.mu.Lock()
		t.said = append(t.said, time.Now())
		t.mu.Unlock()
		if _, err := t.conn.Write([]byte(strconv.Itoa(n) + padding + "\n")); err != nil && t.network == "tcp" {
			t.ended(err)
			return
		}
	}
}

func (t *chat) hear() {
	for r := bufio.NewReader(t.conn); ; {
		line, err := r.ReadString('\n')
		if err != nil {
			if t.network == "tcp" || errors.Is(err, net.ErrClosed) {
				t.ended(err)
				return
			}
			continue // a refusal, as "no route to host": it is asked again
		}
		words := strings.Fields(line)
		n, _ := strconv.Atoi(words[0])
		seen, _ := netip.ParseAddr(words[len(words)-1])
		t.mu.Lock()
		t.heard = append(t.heard, heard{n, time.Now(), seen})
		t.mu.Unlock()
	}
}

func (t *chat) ended(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = err
	}
}

// close ends it.
func (t *chat) close() {
	select {
	case <-t.end:
		return
	default:
	}
	close(t.end)
	t.conn.Close()
	t.done.Wait()
}

// last returns the last answer, and how many came; of a connection that ended, why.
func (t *chat) last() (h heard, n int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n = len(t.heard); n > 0 {
		h = t.heard[n-1]
	}
	return h, n, t.err
}

// silence returns the longest time without an answer that began after some time.
func (t *chat) silence(since time.Time) (longest time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range append(slices.Clone(t.heard), heard{at: time.Now()}) {
		if h.at.Before(since) {
			continue
		}
		longest, since = max(longest, h.at.Sub(since)), h.at
	}
	return longest
}

// lost returns how many of the lines that were said between two times were not answered yet.
func (t *chat) lost(since, until time.Time) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	came := map[int]bool{}
	for _, h := range t.heard {
		came[h.number] = true
	}
	for i, at := range t.said {
		if at.After(since) && at.Before(until) && !came[i+1] {
			n++
		}
	}
	return n
}

// sources returns as whom it was seen, since some time.
func (t *chat) sources(since time.Time) (all []netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range t.heard {
		if !h.at.Before(since) && !slices.Contains(all, h.seen) {
			all = append(all, h.seen)
		}
	}
	return all
}

// chatBy begins chats until one leaves by a site's uplink.
func (l homeLab) chatBy(q question, site, device string) *chat {
	l.Helper()
	want := l.outside(site, device, q.to.Is6())
	for range 100 {
		t := l.chat(q)
		if l.begun(t).seen == want {
			return t
		}
		t.close()
	}
	l.Fatalf("no %s leaves by %s", q, device)
	return nil
}

// begun waits for a chat's first answer.
func (l homeLab) begun(t *chat) (h heard) {
	l.Helper()
	for end := time.Now().Add(forAnswer); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		var n int
		var err error
		if h, n, err = t.last(); n > 0 {
			return h
		} else if err != nil {
			l.Fatalf("%s: %v", t.question, err)
		}
	}
	l.Fatalf("%s: no answer", t.question)
	return h
}

// goesOn waits until a chat is answered, and returns as whom it is seen.
func (l homeLab) goesOn(t *chat) (seen netip.Addr) {
	l.Helper()
	begin := time.Now()
	l.soon(func() string {
		h, _, err := t.last()
		if err != nil {
			return t.String() + ": " + err.Error()
		}
		if seen = h.seen; h.at.Before(begin) {
			return t.String() + " is not answered"
		}
		return ""
	})
	return seen
}

// complete waits until all that a chat has said since some time is answered.
func (l homeLab) complete(t *chat, since time.Time) {
	l.Helper()
	now := time.Now()
	l.soon(func() string {
		if _, _, err := t.last(); err != nil {
			return t.String() + ": " + err.Error()
		}
		if n := t.lost(since, now); n > 0 {
			return fmt.Sprintf("%s: %d lines were lost", t, n)
		}
		return ""
	})
}
