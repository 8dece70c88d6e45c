package cli_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tombolo/internal/lab"
)

// open brings a lab up, and opens it for what tests do in it themselves.
func open(t *testing.T, name, network, file string, args ...string) homeLab {
	t.Helper()
	l := homeLab{testLab: up(t, name, network, file, args...)}
	var err error
	l.lab, err = lab.Open(l.name)
	l.do(err)
	return l
}

// outside returns the address of a node's uplink, or of its only device.
func (l homeLab) outside(node, device string, six bool) netip.Addr {
	l.Helper()
	for _, d := range l.node(node).Devices {
		for _, a := range d.Addresses {
			if d.Name == device && a.Addr().Is6() == six {
				return a.Addr()
			}
		}
	}
	l.Fatalf("%s has no address on %s (IPv6: %v)", node, device, six)
	return netip.Addr{}
}

// askedAt is the port of mirrors.
const askedAt = 7007

// mirror is a server on a node that tells who asks what they look like from there: to each
// line it says the line's first word, the node's name, and the asker's address.
type mirror struct {
	node string
	mu   sync.Mutex
	seen map[netip.Addr]bool // whose pings came
}

// mirror starts one. UDP is bound to each address: a server on 0.0.0.0 answers from the
// address that the route has (docs/uplinks.md).
func (l homeLab) mirror(node string, addresses ...netip.Addr) *mirror {
	l.Helper()
	m := &mirror{node: node, seen: map[netip.Addr]bool{}}
	l.do(l.lab.Do(l.Context(), node, func() error {
		for _, a := range addresses {
			at := netip.AddrPortFrom(a, askedAt).String()
			stream, err := net.Listen("tcp", at)
			if err != nil {
				return err
			}
			l.Cleanup(func() { stream.Close() })
			go m.streams(stream)
			datagrams, err := net.ListenPacket("udp", at)
			if err != nil {
				return err
			}
			l.Cleanup(func() { datagrams.Close() })
			go m.datagrams(datagrams)
		}
		for network, request := range map[string]byte{"ip4:icmp": 8, "ip6:ipv6-icmp": 128} {
			pings, err := net.ListenPacket(network, "")
			if err != nil {
				return err
			}
			l.Cleanup(func() { pings.Close() })
			go m.pings(pings, request)
		}
		return nil
	}))
	return m
}

// answer is what a mirror says to a line.
func (m *mirror) answer(line string, asker net.Addr) string {
	word, _, _ := strings.Cut(line, " ")
	at, _ := netip.ParseAddrPort(asker.String())
	return fmt.Sprintf("%s %s %s\n", strings.TrimSpace(word), m.node, at.Addr().Unmap())
}

func (m *mirror) streams(in net.Listener) {
	for {
		c, err := in.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			for r := bufio.NewReader(c); ; {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if _, err := c.Write([]byte(m.answer(line, c.RemoteAddr()))); err != nil {
					return
				}
			}
		}()
	}
}

func (m *mirror) datagrams(in net.PacketConn) {
	for b := make([]byte, 1<<16); ; {
		n, from, err := in.ReadFrom(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			_, _ = in.WriteTo([]byte(m.answer(string(b[:n]), from)), from)
		}
	}
}

// pings notes who pings. The kernel answers.
func (m *mirror) pings(in net.PacketConn, request byte) {
	for b := make([]byte, 1<<16); ; {
		n, from, err := in.ReadFrom(b)
		if err != nil {
			return
		}
		if n > 0 && b[0] == request {
			a, _ := netip.ParseAddr(from.String())
			m.mu.Lock()
			m.seen[a.Unmap()] = true
			m.mu.Unlock()
		}
	}
}

// pinged reports whether an address has pinged since the last question.
func (m *mirror) pinged(by netip.Addr) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	was := m.seen[by]
	delete(m.seen, by)
	return was
}

// question is one that a node asks a mirror, or a ping.
type question struct {
	node    string
	network string     // tcp, udp or icmp
	to      netip.Addr // is what answers, too, else it is no answer
	from    netip.Addr // what it is bound to; zero: nothing
}

func (q question) String() string { return fmt.Sprintf("%s from %s to %s", q.network, q.node, q.to) }

// dial opens what it is asked by.
func (l homeLab) dial(q question, wait time.Duration) (c net.Conn, err error) {
	d := net.Dialer{Timeout: wait}
	if q.from.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(q.from, 0))
		if q.network == "udp" {
			d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(q.from, 0))
		}
	}
	err = l.lab.Do(l.Context(), q.node, func() (err error) {
		c, err = d.Dial(q.network, netip.AddrPortFrom(q.to, askedAt).String())
		return err
	})
	return c, err
}

// ask asks, and returns which mirror answered and what address it saw: nothing of a ping. It
// is one connection, however long it takes: another would perhaps go another way.
func (l homeLab) ask(q question, wait time.Duration) (node string, seen netip.Addr, err error) {
	end := time.Now().Add(wait)
	if q.network == "icmp" {
		_, err = l.lab.Ping(l.Context(), q.node, lab.Echo{To: q.to, From: q.from, Timeout: wait})
		return "", netip.Addr{}, err
	}
	c, err := l.dial(q, wait)
	if err != nil {
		return "", netip.Addr{}, err
	}
	defer c.Close()
	b := make([]byte, 1<<10)
	for again := true; again; again = q.network == "udp" && time.Now().Before(end) {
		if _, err = c.Write([]byte("hello\n")); err != nil {
			continue // of a datagram before that was refused
		}
		until := end
		if q.network == "udp" {
			until = slices.MinFunc([]time.Time{end, time.Now().Add(wait / 5)}, time.Time.Compare)
		}
		_ = c.SetReadDeadline(until)
		var n int
		if n, err = c.Read(b); err == nil {
			words := strings.Fields(string(b[:n]))
			if len(words) != 3 {
				return "", netip.Addr{}, fmt.Errorf("the answer was %q", b[:n])
			}
			seen, err = netip.ParseAddr(words[2])
			return words[1], seen, err
		}
	}
	return "", netip.Addr{}, err
}

// Questions that are to be answered wait long, those that are not short.
const (
	forAnswer = 10 * time.Second
	forNone   = 600 * time.Millisecond
)

// all asks all questions at once, and returns of each what fault finds.
func (l homeLab) all(questions []question, fault func(question) error) (faults []string) {
	l.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, q := range questions {
		wg.Go(func() {
			if err := fault(q); err != nil {
				mu.Lock()
				faults = append(faults, fmt.Sprintf("%s: %v", q, err))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	slices.Sort(faults)
	return faults
}

// unanswered returns the questions that nobody answers in time.
func (l homeLab) unanswered(questions []question, wait time.Duration) []string {
	l.Helper()
	return l.all(questions, func(q question) error {
		_, _, err := l.ask(q, wait)
		return err
	})
}

// seen asks, and returns as whom how many were seen. All must be answered.
func (l homeLab) seen(questions []question) map[netip.Addr]int {
	l.Helper()
	seen := make(chan netip.Addr, len(questions))
	for _, fault := range l.all(questions, func(q question) error {
		_, as, err := l.ask(q, forAnswer)
		seen <- as
		return err
	}) {
		l.Error(fault)
	}
	count := map[netip.Addr]int{}
	for range questions {
		count[<-seen]++
	}
	return count
}

// frozen does something while a site's agent stands still: it would put back what is taken away.
func (l testLab) frozen(site string, do func()) {
	l.Helper()
	// A thread that waits in the kernel stands still later, and others of its process do with it.
	l.in(site, "sh", "-c", "p=$(cat "+agentPID+"); kill -STOP $p; while grep -hs ^State /proc/$p/task/*/status | grep -qv stopped; do sleep 0.01; done")
	defer l.in(site, "sh", "-c", "kill -CONT $(cat "+agentPID+")")
	do()
}

// without takes a site's rules of some priorities away, of both families, and returns what
// puts them back.
func (l testLab) without(site string, priorities ...int) (back func()) {
	l.Helper()
	var away, again []string
	for _, p := range priorities {
		for _, family := range []string{"-4", "-6"} {
			ip := fmt.Sprintf("ip %s rule", family)
			for line := range strings.Lines(l.in(site, "sh", "-c", fmt.Sprintf("%s show pref %d", ip, p))) {
				_, text, _ := strings.Cut(strings.TrimSpace(line), ":")
				away = append(away, fmt.Sprintf("%s del pref %d", ip, p))
				again = append(again, fmt.Sprintf("%s add %s pref %d", ip, text, p))
			}
		}
	}
	if len(away) == 0 {
		l.Fatalf("%s has no rules %v", site, priorities)
	}
	l.in(site, "sh", "-ec", strings.Join(away, "\n"))
	return func() {
		l.Helper()
		l.in(site, "sh", "-ec", strings.Join(again, "\n"))
	}
}

// withoutChain empties a chain of a site's table, and returns what fills it again.
func (l testLab) withoutChain(site, chain string) (back func()) {
	l.Helper()
	text := l.in(site, "nft", "list", "chain", "inet", "tombolo", chain)
	l.in(site, "nft", "flush", "chain", "inet", "tombolo", chain)
	file := l.TempDir() + "/chain.nft"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		l.Fatal(err)
	}
	return func() {
		l.Helper()
		l.in(site, "nft", "-f", file)
	}
}
