package babel

import (
	"math/bits"
	"time"
)

// rtts keeps the round trips to a neighbour of the last minute. The one that counts is the
// smallest: what is longer waited somewhere, which says nothing about the way. Where all of
// a few seconds, or of the last few, are clearly longer, it is the way that became longer,
// and what was before is forgotten. So a spike that is shorter than that is not seen, nor is
// what trembles.
type rtts struct {
	ring   [64]second
	count  int // seconds that had a sample
	kept   int // of these the last, that are not forgotten
	latest time.Duration
}

// second is the smallest of the samples in a second, which begins with the first of them.
type second struct {
	at      Time
	rtt     time.Duration
	samples int
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
	r.latest = rtt
	if s := r.back(0); r.kept > 0 && at < s.at+time.Second {
		s.rtt = min(s.rtt, rtt)
		s.samples++
	} else {
		r.ring[r.count%len(r.ring)] = second{at, rtt, 1}
		r.count++
		r.kept = min(r.kept+1, len(r.ring))
	}
	all, _, _ := r.within(at, rttMemory)
	recent, seconds, samples := r.within(at, rttWindow)
	if samples >= rttSamples && recent-all > max(rttShift, all/8) {
		r.kept = seconds
	}
}

// back returns the last second but n.
func (r *rtts) back(n int) *second { return &r.ring[(r.count-1-n+len(r.ring))%len(r.ring)] }

// within returns the smallest round trip of a time that ends now, and of how many seconds
// and samples it is.
func (r *rtts) within(now Time, span time.Duration) (best time.Duration, seconds, samples int) {
	best = maxRTT
	for seconds < r.kept {
		s := r.back(seconds)
		if samples >= rttSamples && s.at < now-span {
			break
		}
		best = min(best, s.rtt)
		seconds++
		samples += s.samples
	}
	return best, seconds, samples
}

func (r *rtts) last() time.Duration { return r.latest }

// smallest returns the round trip that counts; false if there is none.
func (r *rtts) smallest(now Time) (time.Duration, bool) {
	best, n, _ := r.within(now, rttMemory)
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
