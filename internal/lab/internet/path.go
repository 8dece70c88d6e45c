package internet

import (
	"fmt"
	"time"
)

// Impairment is what an ordered pair of places does to packets. The zero
// value passes them on at once.
type Impairment struct {
	// Delay is added to every packet, after it was sent at Rate.
	Delay time.Duration
	// Jitter varies the delay evenly by up to so much, either way (never below
	// zero). Packets keep their order all the same, as with netem's rate: one
	// that draws a shorter delay waits for those before it. Packets that
	// follow each other by less than the jitter are thus delayed towards
	// Delay+Jitter.
	Jitter time.Duration
	// Reorder lets jitter change the order of packets.
	Reorder bool
	// Loss is the part of the packets that is lost, 0 to 1, each by its own
	// draw. A lost packet takes no room in the queue and no time at Rate.
	Loss float64
	// Rate is in bits per second of IP packets, without link headers. Zero is
	// unlimited.
	Rate uint64
	// Queue is how many bytes may wait for Rate, the packet being sent included;
	// what does not fit is dropped (tail drop), but an idle link always takes
	// one packet. Zero with a Rate is 100 ms at that rate, at least 15,000.
	Queue int
	// Cut drops everything in silence, what is on its way included.
	Cut bool
}

// check says what is wrong with an impairment.
func (i Impairment) check() error {
	switch {
	case i.Delay < 0 || i.Delay > time.Hour:
		return fmt.Errorf("delay %s is not between 0 and 1 h", i.Delay)
	case i.Jitter < 0 || i.Jitter > time.Hour:
		return fmt.Errorf("jitter %s is not between 0 and 1 h", i.Jitter)
	case !(i.Loss >= 0 && i.Loss <= 1): // this way round for NaN
		return fmt.Errorf("loss %g is not between 0 and 1", i.Loss)
	case i.Queue < 0:
		return fmt.Errorf("queue of %d bytes is negative", i.Queue)
	}
	return nil
}

// queue is the room for waiting bytes, the default filled in.
func (i Impairment) queue() int64 {
	if i.Queue > 0 {
		return int64(i.Queue)
	}
	return max(15_000, int64(min(i.Rate/80, 1<<40))) // Rate/8 bytes per second, a tenth of it
}

// serialise is the time that n bytes take at the rate.
func (i Impairment) serialise(n int) time.Duration {
	// A packet has less than 2^16 bytes, so this stays below 2^50.
	return time.Duration(uint64(n) * 8 * uint64(time.Second) / i.Rate)
}

// endpoints names an ordered pair; "*" is any place.
type endpoints struct{ from, to string }

// SetPath says what the path from one place to another does, in that
// direction only. "*" stands for any place, "" for the rest of the Internet.
// The most specific setting holds: both named, then the one that names from,
// then the one that names to, then * to *. It holds for packets handled from
// now on; those on their way keep their due time, except that a cut drops
// them.
func (e *Engine) SetPath(from, to string, imp Impairment) error {
	if err := imp.check(); err != nil {
		return fmt.Errorf("path from %q to %q: %w", from, to, err)
	}
	e.paths[endpoints{from, to}] = imp
	e.refreshPipes()
	return nil
}

// ClearPath takes back what SetPath said for exactly these two names, so that
// the next less specific setting holds.
func (e *Engine) ClearPath(from, to string) {
	delete(e.paths, endpoints{from, to})
	e.refreshPipes()
}

// Path is what holds from one place to another.
func (e *Engine) Path(from, to string) Impairment {
	for _, ends := range []endpoints{{from, to}, {from, "*"}, {"*", to}, {"*", "*"}} {
		if imp, ok := e.paths[ends]; ok {
			return imp
		}
	}
	return Impairment{}
}

// refreshPipes gives each pipe its impairment and empties those that are cut.
func (e *Engine) refreshPipes() {
	for _, p := range e.pipes {
		p.imp = e.Path(p.from.name, p.to.name)
		if p.imp.Cut {
			p.counters.Cut += uint64(p.queue.len())
			p.queue = queue{}
			p.sent, p.last = 0, 0
			e.busy.remove(p)
		}
	}
}
