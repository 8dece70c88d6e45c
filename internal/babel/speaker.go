package babel

import (
	"cmp"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"tombolo/internal/babel/wire"
)

// Speaker is a Babel router. It serves one goroutine. Every method that takes a time
// returns what is to be done now; after each, Next may have changed.
type Speaker struct {
	now    Time
	began  Time
	config Config
	timing Timing
	seqno  uint16 // the newest of our own routes
	rand   *rand.Rand
	timers timers

	links []*link // by name
	slots int     // that entries keep of links

	entries map[Key]*entry
	order   []*entry // the same, by key
	touched []*entry // whose hop may have changed in this call
	asked   map[question]*request
	sweeper *timer
	checker *timer // set while something is kept

	replies []reply // TLVs to send at the end of this call
	opaque  uint16  // of the last acknowledgment request
	out     Output

	refused, malformed, unsigned uint64
	told                         map[refusal]bool // refusals that were told

	highest map[Key]claim // of hosts that roam: the highest that is known, of whomever
}

// withDefaults fills in what is zero.
func (t Timing) withDefaults() Timing {
	t.Active = cmp.Or(t.Active, 100*time.Millisecond)
	t.Idle = cmp.Or(t.Idle, 2*time.Second)
	t.Segment = cmp.Or(t.Segment, time.Second)
	t.Linger = cmp.Or(t.Linger, 10*time.Second)
	t.Update = cmp.Or(t.Update, time.Minute)
	return t
}

// New returns a speaker whose links are all down and which announces nothing. seed makes
// its jitter and nonces; it should be random, but for tests.
func New(now Time, c Config, seed uint64) *Speaker {
	s := &Speaker{
		now: now, began: now, seqno: c.Seqno, rand: rand.New(rand.NewPCG(seed, 0x42)),
		entries: map[Key]*entry{}, asked: map[question]*request{}, told: map[refusal]bool{}, highest: map[Key]claim{},
	}
	s.sweeper, s.checker = newTimer(s.sweep), newTimer(s.check)
	s.timers.reset(s.sweeper, now+sweepEvery)
	s.configure(c)
	return s
}

// do runs one call: what f does, and then what follows from it.
func (s *Speaker) do(now Time, f func()) Output {
	s.now = max(s.now, now)
	f()
	s.settle()
	out := s.out
	s.out = Output{}
	return out
}

// settle sends what has gathered, and says which hops have changed.
func (s *Speaker) settle() {
	s.sendReplies()
	for _, e := range s.touched {
		e.touched = false
		hop := e.wantedHop()
		if hop == nil && e.hop == nil || hop != nil && e.hop != nil && *hop == *e.hop {
			continue
		}
		e.hop = hop
		s.out.Routes = append(s.out.Routes, RouteChange{e.Key, copyHop(hop)})
	}
	s.touched = s.touched[:0]
}

func copyHop(h *Hop) *Hop {
	if h == nil {
		return nil
	}
	c := *h
	return &c
}

// Tick does what is due. To call it too early does nothing.
func (s *Speaker) Tick(now Time) Output {
	return s.do(now, func() {
		for t := s.timers.due(s.now); t != nil; t = s.timers.due(s.now) {
			t.fire(s.now)
		}
	})
}

// Next returns when Tick must be called at the latest.
func (s *Speaker) Next() Time {
	at, _ := s.timers.next() // the sweeper is always set
	return at
}

// Handle takes a packet in.
func (s *Speaker) Handle(now Time, p Packet) Output {
	return s.do(now, func() {
		if l := s.link(p.Link); l != nil && l.up {
			l.handle(p)
		}
	})
}

// SetLink says that a link of the configuration can be sent on, or no longer. A link that
// comes up again is a new one.
func (s *Speaker) SetLink(now Time, link string, up bool) Output {
	return s.do(now, func() {
		l := s.link(link)
		if l == nil || l.up == up {
			return
		}
		if up {
			l.start()
		} else {
			l.stop("the link is down")
		}
	})
}

// Traffic says how many packets a link has carried so far, both ways and with the
// speaker's own, by any counter that only grows. The host calls it a few times a second.
func (s *Speaker) Traffic(now Time, link string, packets uint64) Output {
	return s.do(now, func() {
		if l := s.link(link); l != nil && l.up {
			l.traffic(packets)
		}
	})
}

// Mute says that a tunnel has sent for long and has received nothing, not even WireGuard's
// own answers, or that this is over. What is kept for the sake of a neighbour there is then
// given up.
func (s *Speaker) Mute(now Time, link string, mute bool) Output {
	return s.do(now, func() {
		l := s.link(link)
		if l == nil || !l.up {
			return
		}
		l.mute = mute
		for _, n := range l.beforeAnd() {
			switch {
			case !mute:
			case n.cost < wire.Infinity:
				n.suspectNow()
			default:
				s.giveUpOn(n)
			}
		}
	})
}

// Announce replaces the set of what this router originates; see own.go for what others
// originate too.
func (s *Speaker) Announce(now Time, own []Announcement) Output {
	return s.do(now, func() {
		next := make(map[Key]uint16, len(own))
		for _, a := range own {
			next[a.Key] = a.Metric
		}
		for _, e := range s.order {
			if _, ok := next[e.Key]; e.own && e.device == "" && !ok {
				e.own = false
				s.choose(e, true)
			}
		}
		for _, a := range own {
			e := s.entry(a.Key)
			metric := next[a.Key]
			if e.device != "" {
				continue // a host that roams is not announced like this
			}
			if e.own && e.ownMetric == metric {
				continue
			}
			if e.own && metric > e.ownMetric {
				s.raise(e) // or those who hold the smaller one would refuse it
			}
			if !e.own {
				e.ownSeqno = s.seqno
			}
			e.own, e.ownMetric = true, metric
			s.choose(e, true)
			s.spread(e, urgent)
		}
	})
}

// Configure replaces the configuration, but for its RouterID and Seqno. Links that stay
// keep their neighbours; new ones are down.
func (s *Speaker) Configure(now Time, c Config) Output {
	return s.do(now, func() {
		c.RouterID = s.config.RouterID
		s.configure(c)
	})
}

// Retract says goodbye: it retracts all that was announced, on every link, in one packet that
// may be lost. For a router that is taken down, not for one whose speaker will start again.
func (s *Speaker) Retract(now Time) Output {
	return s.do(now, func() {
		for _, l := range s.links {
			if l.up {
				l.send(l.everybody(), wire.Update{Metric: wire.Infinity, Interval: wire.IntervalOf(s.timing.Update)})
			}
		}
	})
}

func (s *Speaker) link(name string) *link {
	i, ok := slices.BinarySearchFunc(s.links, name, func(l *link, name string) int { return strings.Compare(l.Name, name) })
	if !ok {
		return nil
	}
	return s.links[i]
}

// configure takes a configuration on. A link whose own address or keys changed is a new
// one: nothing that a neighbour knows of it holds any more.
func (s *Speaker) configure(c Config) {
	s.config, s.timing = c, c.Timing.withDefaults()
	wanted := make(map[string]Link, len(c.Links))
	for _, l := range c.Links {
		wanted[l.Name] = l
	}
	var stay []*link
	for _, l := range s.links {
		w, ok := wanted[l.Name]
		if !ok || !l.same(w) {
			l.stop("it is not spoken on any more")
			s.forgetSlot(l)
			continue
		}
		l.Link = w
		l.enc = nil // the size may be another
		for _, n := range l.neighbours {
			n.reckon()
		}
		stay = append(stay, l)
		delete(wanted, l.Name)
	}
	s.links = stay
	for _, w := range c.Links {
		if _, ok := wanted[w.Name]; ok {
			s.links = append(s.links, s.newLink(w))
		}
	}
	slices.SortFunc(s.links, func(a, b *link) int { return strings.Compare(a.Name, b.Name) })
	s.enforce()
}

// enforce drops what the policy no longer allows, and asks again for what it may allow now:
// neighbours say nothing twice, until they say everything again.
func (s *Speaker) enforce() {
	clear(s.told)
	s.release()
	for _, l := range s.links {
		for _, n := range l.neighbours {
			if n.denied {
				n.denied = false
				l.queue.ask(n)
			}
		}
	}
	for _, e := range s.order {
		for _, r := range slices.Clone(e.routes) {
			if !s.allowed(r.neighbour.link, e.Key, r.id) {
				r.neighbour.denied = true
				s.retracted(e, r.neighbour)
			}
		}
		if k := e.kept; k != nil && !s.mayKeep(e.Key, k) {
			s.giveUp(e)
		}
	}
}

// reply is a TLV for a neighbour.
type reply struct {
	link *link
	to   netip.Addr
	tlv  wire.TLV
}

// say sends a TLV to somebody at the end of this call, together with what else goes there.
func (s *Speaker) say(l *link, to netip.Addr, t wire.TLV) {
	s.replies = append(s.replies, reply{l, to, t})
}

func (s *Speaker) sendReplies() {
	for len(s.replies) > 0 {
		first := s.replies[0]
		var together []wire.TLV
		rest := s.replies[:0:0]
		for _, r := range s.replies {
			if r.link == first.link && r.to == first.to {
				together = append(together, r.tlv)
			} else {
				rest = append(rest, r)
			}
		}
		s.replies = rest
		if first.link.up {
			first.link.send(first.to, together...)
		}
	}
}

func (s *Speaker) event(e Event) { s.out.Events = append(s.out.Events, e) }

// upTo returns a random time below d.
func (s *Speaker) upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(s.rand.Int64N(int64(d)))
}
