package babel

import "container/heap"

// timer calls a function at a time. Timers that are due at the same time run in the order
// in which they were set, so that equal histories give equal outputs.
type timer struct {
	fire  func(now Time)
	at    Time
	order uint64
	index int // in the heap; -1: not set
}

func newTimer(fire func(now Time)) *timer { return &timer{fire: fire, index: -1} }

func (t *timer) set() bool { return t.index >= 0 }

// timers is a heap of those that are set.
type timers struct {
	heap  timerHeap
	order uint64
}

// reset sets a timer, also one that is set already.
func (ts *timers) reset(t *timer, at Time) {
	ts.order++
	t.at, t.order = at, ts.order
	if t.set() {
		heap.Fix(&ts.heap, t.index)
		return
	}
	heap.Push(&ts.heap, t)
}

// sooner sets a timer unless it is set for an earlier time.
func (ts *timers) sooner(t *timer, at Time) {
	if !t.set() || at < t.at {
		ts.reset(t, at)
	}
}

func (ts *timers) stop(t *timer) {
	if t != nil && t.set() {
		heap.Remove(&ts.heap, t.index)
	}
}

// next returns the earliest time that a timer is set for.
func (ts *timers) next() (Time, bool) {
	if len(ts.heap) == 0 {
		return 0, false
	}
	return ts.heap[0].at, true
}

// due takes the earliest timer out if its time has come; nil if not.
func (ts *timers) due(now Time) *timer {
	if len(ts.heap) == 0 || ts.heap[0].at > now {
		return nil
	}
	return heap.Pop(&ts.heap).(*timer)
}

type timerHeap []*timer

func (h timerHeap) Len() int { return len(h) }
func (h timerHeap) Less(i, j int) bool {
	if h[i].at != h[j].at {
		return h[i].at < h[j].at
	}
	return h[i].order < h[j].order
}
func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *timerHeap) Push(x any) {
	t := x.(*timer)
	t.index = len(*h)
	*h = append(*h, t)
}
func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.index = -1
	return t
}
