package babel

import (
	"math/bits"
	"time"
)

// rtts keeps the last round trips to a neighbour. The one that counts is the smallest of a
// minute: what is longer waited somewhere, which says nothing about the way. Where all of a
// few seconds are clearly longer, it is the way that became longer, and what was before is
// forgotten. So a spike that is shorter than that is not seen, nor is what trembles.
type rtts struct {
	ring  [64]sample
	count int // that were taken
	kept  int // of these the last, that are not forgotten
}

type sample struct {
	at  Time
	rtt time.Duration
}

const (
	rttWindow  = 3 * time.Second
	rttSamples = 3 // that the window has at least, where there are so many
	rttMemory  = time.Minute
	maxRTT     = 10 * time.Second

	// rttShift is by how much a way is clearly longer: so much, and by an eighth.
	rttShift = 2 * time.Millisecond
)

func (r *rtts) add(at Time, rtt time.Duration) {
	r.ring[r.count%len(r.ring)] = sample{at, rtt}
	r.count++
	r.kept = min(r.kept+1, len(r.ring))
	all, _ := r.within(at, rttMemory)
	recent, n := r.within(at, rttWindow)
	if n >= rttSamples && recent-all > max(rttShift, all/8) {
		r.kept = n
	}
}

// within returns the smallest round trip of a time that ends now, and of how many it is.
func (r *rtts) within(now Time, span time.Duration) (best time.Duration, n int) {
	best = maxRTT
	for n < r.kept {
		s := r.ring[(r.count-1-n)%len(r.ring)]
		if n >= rttSamples && s.at < now-span {
			break
		}
		best = min(best, s.rtt)
		n++
	}
	return best, n
}

func (r *rtts) last() time.Duration {
	if r.count == 0 {
		return 0
	}
	return r.ring[(r.count-1)%len(r.ring)].rtt
}

// smallest returns the round trip that counts; false if there is none.
func (r *rtts) smallest(now Time) (time.Duration, bool) {
	best, n := r.within(now, rttMemory)
	return best, n > 0
}

// losses counts which of the last hellos came, by their sequence numbers.
type losses struct {
	bits  [4]uint64 // 1: it did not come
	count int       // hellos that the bits are about
	next  int
}

func (l *losses) add(lost bool) {
	word, bit := &l.bits[l.next/64], uint64(1)<<(l.next%64)
	*word &^= bit
	if lost {
		*word |= bit
	}
	l.next = (l.next + 1) % (64 * len(l.bits))
	l.count = min(l.count+1, 64*len(l.bits))
}

// share is the share of hellos that did not come, without the first of them: a single one
// says nothing.
func (l *losses) share() float64 {
	lost := 0
	for _, b := range l.bits {
		lost += bits.OnesCount64(b)
	}
	if lost <= 1 {
		return 0
	}
	return float64(lost-1) / float64(max(l.count, 32))
}

// seqnos follows the sequence numbers of one kind of hello.
type seqnos struct {
	known bool
	next  uint16

	// Of hellos that were behind, with no other between them: how many had numbers in a row,
	// and the next of these.
	behind     int
	nextBehind uint16
}

// maxGap is how many hellos may be missing in a row. A larger gap is a neighbour that
// began anew.
const maxGap = 32

// maxBehind is how many hellos in a row may be behind: a packet overtook them. More are of a
// neighbour that began anew, and counts from near where it was, as BIRD does.
const maxBehind = 2

// far reports whether a hello is too far from the one that is awaited.
func (q *seqnos) far(seqno uint16) bool {
	gap := seqno - q.next
	return q.known && gap > maxGap && -gap > maxGap
}

// anew reports whether a hello can only be of a neighbour that began anew. It is asked once
// for each.
func (q *seqnos) anew(seqno uint16) bool {
	switch {
	case !q.known || seqno-q.next < 0x8000:
		q.behind = 0
	case q.behind > 0 && seqno == q.nextBehind:
		q.behind++
	default:
		q.behind = 1
	}
	q.nextBehind = seqno + 1
	return q.far(seqno) || q.behind > maxBehind
}

// take takes a hello's number in and says how many are missing before it; false for one
// that is old or came twice.
func (q *seqnos) take(seqno uint16) (missing int, ok bool) {
	gap := seqno - q.next // modulo 2^16
	switch {
	case !q.known || q.far(seqno):
		gap = 0
	case gap >= 0x8000:
		return 0, false
	}
	q.known, q.next = true, seqno+1
	return int(gap), true
}
