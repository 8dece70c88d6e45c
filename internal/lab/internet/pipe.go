package internet

import (
	"math/rand/v2"
	"slices"
	"time"
)

// pipe carries the packets of one ordered pair of places.
type pipe struct {
	from, to *place
	imp      Impairment
	random   *rand.Rand
	queue    queue
	sent     instant // when the last packet is through at Rate
	last     instant // the latest due time given out, for order
	counters PairCounters
	index    int // in the heap of busy pipes, -1 outside
}

// pipe finds or makes the pipe of an ordered pair.
func (e *Engine) pipe(from, to *place) *pipe {
	key := [2]*place{from, to}
	p := e.pipes[key]
	if p == nil {
		p = &pipe{
			from: from, to: to,
			imp: e.Path(from.name, to.name),
			// Its own source: the losses of a pair depend on no other traffic.
			random:   e.random(from.name, to.name),
			counters: PairCounters{From: from.name, To: to.name},
			index:    -1,
		}
		e.pipes[key] = p
	}
	return p
}

// admit decides a packet's fate on the pipe. It returns when the packet is
// due, or false for a drop, which it counts.
func (p *pipe) admit(now instant, size int) (due instant, ok bool) {
	p.counters.Received++
	p.counters.ReceivedBytes += uint64(size)
	if p.imp.Cut {
		p.counters.Cut++
		return 0, false
	}
	if p.imp.Loss > 0 && p.random.Float64() < p.imp.Loss {
		p.counters.Lost++
		return 0, false
	}
	due = now
	if p.imp.Rate > 0 {
		if p.sent > now {
			// The queue is what has not been sent yet, in bytes at Rate.
			waiting := int64(float64(p.sent-now) * float64(p.imp.Rate) / 8e9)
			if waiting+int64(size) > p.imp.queue() {
				p.counters.Overflow++
				return 0, false
			}
			due = p.sent
		}
		due += instant(p.imp.serialise(size))
		p.sent = due
	}
	delay := p.imp.Delay
	if j := int64(p.imp.Jitter); j > 0 {
		delay = max(0, delay+time.Duration(p.random.Int64N(2*j+1)-j))
	}
	due += instant(delay)
	if !p.imp.Reorder {
		due = max(due, p.last)
	}
	p.last = max(due, p.last)
	return due, true
}

// item is a packet on its way.
type item struct {
	due    instant
	seq    uint64 // of arrival, to keep order among equal due times
	packet []byte
}

// queue holds items by due time, oldest first among equals.
type queue struct {
	items []item
	head  int
}

func (q *queue) len() int { return len(q.items) - q.head }

func (q *queue) first() *item { return &q.items[q.head] }

func (q *queue) push(it item) {
	at := len(q.items)
	for at > q.head && q.items[at-1].due > it.due { // only with Reorder
		at--
	}
	if at == len(q.items) {
		q.items = append(q.items, it)
		return
	}
	q.items = slices.Insert(q.items, at, it)
}

func (q *queue) pop() []byte {
	packet := q.items[q.head].packet
	q.items[q.head] = item{}
	q.head++
	switch {
	case q.head == len(q.items):
		q.items, q.head = q.items[:0], 0
	case q.head >= 1024 && q.head*2 >= len(q.items):
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	return packet
}

// pipeHeap orders the pipes that hold packets by their first one.
type pipeHeap []*pipe

func (h pipeHeap) before(i, j int) bool {
	a, b := h[i].queue.first(), h[j].queue.first()
	if a.due != b.due {
		return a.due < b.due
	}
	return a.seq < b.seq
}

// update puts p where its first packet belongs: in, elsewhere, or out.
func (h *pipeHeap) update(p *pipe) {
	if p.queue.len() == 0 {
		h.remove(p)
		return
	}
	if p.index < 0 {
		p.index = len(*h)
		*h = append(*h, p)
	}
	h.up(p.index)
	h.down(p.index)
}

func (h *pipeHeap) remove(p *pipe) {
	i := p.index
	if i < 0 {
		return
	}
	last := len(*h) - 1
	h.swap(i, last)
	(*h)[last] = nil
	*h = (*h)[:last]
	p.index = -1
	if i < last {
		moved := (*h)[i]
		h.up(moved.index)
		h.down(moved.index)
	}
}

func (h pipeHeap) swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h pipeHeap) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !h.before(i, parent) {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

func (h pipeHeap) down(i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h); child++ {
			if h.before(child, least) {
				least = child
			}
		}
		if least == i {
			return
		}
		h.swap(i, least)
		i = least
	}
}

// filter counts a packet that a NAT dropped.
func (p *pipe) filter(size int) {
	p.counters.Received++
	p.counters.ReceivedBytes += uint64(size)
	p.counters.Filtered++
}
