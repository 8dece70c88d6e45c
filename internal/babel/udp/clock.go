package udp

import "time"

// maxAge is how long a packet may have waited for us. One that says it waited longer has
// a time of another clock.
const maxAge = time.Second

// stepTolerance is by how much the wall clock may seem to have moved against the
// monotonic one without having been set: they are read one after the other. Adjustments
// by NTP move both alike (kernel/time/timekeeping.c).
const stepTolerance = time.Millisecond

// arrivals turns the kernel's times of receipt, which are of the wall clock, into times of
// the monotonic one. How long ago a packet came is the difference of two times of the wall
// clock, which is right unless somebody set the clock in between.
type arrivals struct {
	start time.Time

	offset time.Duration // wall clock less monotonic clock, at the last look
	known  bool          // there was one
	set    bool          // the clock was set, and there may be older packets still
}

// reading is both clocks at one moment.
type reading struct {
	wall  time.Duration // since 1970
	since time.Duration // since start, monotonic
	set   bool          // the wall clock is not to be trusted
}

// look reads both clocks; more reports whether packets were left behind when it was called
// the last time.
func (a *arrivals) look(now time.Time, more bool) reading {
	return a.take(time.Duration(now.UnixNano()), now.Sub(a.start), more)
}

func (a *arrivals) take(wall, since time.Duration, more bool) reading {
	offset := wall - since
	moved := a.known && (offset-a.offset).Abs() > stepTolerance
	a.set = moved || a.set && more
	a.offset, a.known = offset, true
	return reading{wall: wall, since: since, set: a.set}
}

// at returns when a packet came, of which the kernel says that it came at stamp (since
// 1970). Where that cannot be told, it came now: a delay that is measured too long does
// less harm than one too short, which would be the best one for a while.
func (r reading) at(stamp time.Duration) time.Duration {
	age := r.wall - stamp
	if r.set || age < 0 || age > maxAge {
		age = 0
	}
	return r.since - age
}
