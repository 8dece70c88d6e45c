package internet

import (
	"cmp"
	"hash/fnv"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/gaissmai/bart"
)

// Engine is the Internet as a state machine. It is not safe for concurrent
// use: one goroutine owns it ([Runner] where packets are real).
//
// Times must come from one clock; an earlier time than the last one given is
// taken for that last one.
type Engine struct {
	seed  uint64
	epoch time.Time // of instants; the first time seen
	now   instant
	swept instant // when state was last cleaned up

	places    map[string]*place
	elsewhere locus // of addresses that are in no place
	table     *bart.Table[locus]
	boxes     map[netip.Addr]*box
	paths     map[endpoints]Impairment
	pipes     map[[2]*place]*pipe
	busy      pipeHeap
	seq       uint64
	fragments fragments
	malformed uint64
	local     uint64
	out       [][]byte // what Due returns, used again
}

// instant is a time as the engine keeps it: since its epoch.
type instant time.Duration

// New makes an Internet without places and paths. The same seed and the same
// calls give the same packets at the same times.
func New(seed uint64) *Engine {
	e := &Engine{
		seed:   seed,
		places: make(map[string]*place),
		table:  new(bart.Table[locus]),
		boxes:  make(map[netip.Addr]*box),
		paths:  make(map[endpoints]Impairment),
		pipes:  make(map[[2]*place]*pipe),
	}
	e.fragments.records = make(map[fragmentKey]*fragmentRecord)
	e.elsewhere.place = e.place("")
	return e
}

// random makes the source for one pair or NAT, so that what happens there
// does not depend on the traffic elsewhere.
func (e *Engine) random(a, b string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(a))
	h.Write([]byte{0})
	h.Write([]byte(b))
	return rand.New(rand.NewPCG(e.seed, h.Sum64()))
}

// tick takes the time and cleans up now and then.
func (e *Engine) tick(now time.Time) instant {
	if e.epoch.IsZero() {
		e.epoch = now
	}
	e.now = max(e.now, instant(now.Sub(e.epoch)))
	if e.now-e.swept > instant(sweepInterval) {
		e.sweep()
	}
	return e.now
}

// sweepInterval is how often expired NAT state is freed. Expiry itself is
// exact, at lookup; this only bounds memory.
const sweepInterval = 10 * time.Second

func (e *Engine) sweep() {
	e.swept = e.now
	for _, b := range e.boxes {
		b.sweep(e.now)
	}
	e.sweepFragments()
}

// Handle takes in an IPv4 or IPv6 packet. It returns true when it keeps it,
// rewritten where a NAT was in the way: a later Due returns it, unless a cut
// comes first or it is a fragment that a NAT drops after all. The caller must
// not touch it before. False says that the packet is dropped (and counted),
// and that its bytes are the caller's again.
func (e *Engine) Handle(now time.Time, packet []byte) bool {
	t := e.tick(now)
	h, ok := parseHeader(packet, false)
	if !ok {
		e.malformed++
		return false
	}
	packet = packet[:h.length]
	if h.local() {
		e.local++
		return false
	}
	from, to := e.locate(h.src), e.locate(h.dst)
	if from.box == nil && to.box == nil {
		return e.carry(t, e.pipe(from.place, to.place), packet)
	}
	seg, ok := parseSegment(packet, h)
	if !ok {
		e.malformed++
		return false
	}
	if seg.fragment {
		return e.handleFragment(t, packet, &seg, from, to)
	}
	to, ok = e.traverse(t, packet, &seg, from, to)
	p := e.pipe(from.place, to.place)
	if !ok {
		p.filter(len(packet))
		return false
	}
	return e.carry(t, p, packet)
}

// traverse takes a packet through the NATs at both ends, rewriting it and
// seg. It returns where the packet's destination is in the end, or false when
// a NAT drops it.
func (e *Engine) traverse(t instant, packet []byte, seg *segment, from, to locus) (locus, bool) {
	if from.inside() && to.inside() && from.box == to.box {
		return to, true // neighbours on the inside: the NAT is not on their way
	}
	if seg.v6 {
		return to, (!from.inside() || from.box.leave6(t, seg)) && (!to.inside() || to.box.enter6(t, packet, seg))
	}
	if from.inside() && !from.box.outbound(t, packet, seg) {
		return to, false
	}
	switch {
	case to.box == nil:
		return to, true
	case !to.public:
		return to, false // addresses behind a NAT are not on the Internet
	case !to.box.inbound(t, packet, seg):
		return to, false
	}
	return e.locate(seg.dst), true
}

// carry puts a packet on its pipe.
func (e *Engine) carry(t instant, p *pipe, packet []byte) bool {
	due, ok := p.admit(t, len(packet))
	if !ok {
		return false
	}
	e.seq++
	p.queue.push(item{due: due, seq: e.seq, packet: packet})
	if p.queue.len() == 1 || p.imp.Reorder {
		e.busy.update(p)
	}
	return true
}

// Due returns the packets that are due, in the order to send them: by due
// time, then by arrival. The slice is good until the next Due; the packets
// are the caller's.
func (e *Engine) Due(now time.Time) [][]byte {
	t := e.tick(now)
	clear(e.out)
	e.out = e.out[:0]
	for len(e.busy) > 0 {
		p := e.busy[0]
		if p.queue.first().due > t {
			break
		}
		packet := p.queue.pop()
		p.counters.Sent++
		p.counters.SentBytes += uint64(len(packet))
		e.busy.update(p)
		e.out = append(e.out, packet)
	}
	return e.out
}

// Next is when the next packet is due, or false when none is on its way.
func (e *Engine) Next() (time.Time, bool) {
	if len(e.busy) == 0 {
		return time.Time{}, false
	}
	return e.epoch.Add(time.Duration(e.busy[0].queue.first().due)), true
}

// Counters is a snapshot of what happened so far.
type Counters struct {
	// Pairs is sorted by From, then To; a pair is there from its first packet on.
	Pairs []PairCounters `json:"pairs"`
	// Malformed packets were dropped before it was known where they belong.
	Malformed uint64 `json:"malformed"`
	// Local packets, multicast or IPv6 link-local, were dropped: they stay on
	// their link. The TUN device's own kernel sends some.
	Local uint64 `json:"local"`
	// Held fragments wait at a NAT for the first fragment of their packet. They
	// are in no pair's counters yet.
	Held int `json:"held"`
}

// PairCounters counts packets of one ordered pair of places. Received is
// always Sent + Lost + Cut + Overflow + Filtered + Queued.
type PairCounters struct {
	From          string `json:"from"`
	To            string `json:"to"`
	Received      uint64 `json:"received"`
	ReceivedBytes uint64 `json:"receivedBytes"`
	Sent          uint64 `json:"sent"`
	SentBytes     uint64 `json:"sentBytes"`
	Lost          uint64 `json:"lost"`     // by Loss
	Cut           uint64 `json:"cut"`      // by Cut
	Overflow      uint64 `json:"overflow"` // by a full queue before Rate
	Filtered      uint64 `json:"filtered"` // by a NAT
	Queued        int    `json:"queued"`   // on their way now
}

// Counters returns what happened so far.
func (e *Engine) Counters() Counters {
	c := Counters{Malformed: e.malformed, Local: e.local, Held: e.fragments.held}
	for _, p := range e.pipes {
		pair := p.counters
		pair.Queued = p.queue.len()
		c.Pairs = append(c.Pairs, pair)
	}
	slices.SortFunc(c.Pairs, func(a, b PairCounters) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
	return c
}
