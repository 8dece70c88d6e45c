package plan

import "slices"

// A mover is a thing that holds keys of which no two things may hold the same one (UDP
// ports, allowed IPs), and that is to hold others.
type mover[K comparable] struct {
	holds, wants []K
	leaves       bool // it lets go of everything and takes nothing
}

// A step of a reordering: thing i takes what it wants and lets go of the rest, or, so
// that another can go first, only lets go of what it does not want.
type step struct {
	i     int
	letGo bool
}

// reorder says in which order things may take their keys so that no two ever hold the
// same one. It goes by the order of the things where it may. Those that leave have a step
// only when they are in the way, and then the first ones.
//
// What waits for another follows it (Kahn's algorithm). When all wait there is a circle,
// which is broken by letting one thing go of its keys before it takes its new ones.
func reorder[K comparable](things []mover[K]) []step {
	r := reordering[K]{things: things, owner: map[K]int{}, waiting: map[K][]int{}}
	r.blocked = make([]int, len(things))
	for i, t := range things {
		for _, k := range t.holds {
			r.owner[k] = i
		}
	}
	for i, t := range things {
		for _, k := range t.wants {
			if holder, held := r.owner[k]; held && holder != i {
				r.waiting[k] = append(r.waiting[k], i)
				r.blocked[i]++
			}
		}
	}
	for i, t := range things {
		if t.leaves && r.contested(i) {
			r.letGo(i)
		}
	}
	r.run()
	return r.steps
}

type reordering[K comparable] struct {
	things  []mover[K]
	owner   map[K]int   // who holds a key
	waiting map[K][]int // who waits for a key that another holds
	blocked []int       // for how many keys a thing waits
	ready   []int
	steps   []step
}

func (r *reordering[K]) run() {
	r.ready = nil
	for i, t := range r.things {
		if !t.leaves && r.blocked[i] == 0 {
			r.ready = append(r.ready, i)
		}
	}
	for at := 0; ; at++ {
		for len(r.ready) > 0 {
			i := r.ready[0]
			r.ready = r.ready[1:]
			r.take(i)
		}
		// Everything that is left waits: there is a circle, and whoever is on it holds
		// what another wants.
		for at < len(r.things) && (r.blocked[at] == 0 || !r.contested(at)) {
			at++
		}
		if at == len(r.things) {
			break
		}
		r.letGo(at)
	}
	// Where two things want the same key no order is right: the kernel will say so.
	for i, t := range r.things {
		if !t.leaves && r.blocked[i] > 0 {
			r.take(i)
		}
	}
}

// contested reports whether somebody waits for a key that thing i holds.
func (r *reordering[K]) contested(i int) bool {
	for _, k := range r.things[i].holds {
		if len(r.waiting[k]) > 0 && !slices.Contains(r.things[i].wants, k) {
			return true
		}
	}
	return false
}

func (r *reordering[K]) take(i int) {
	r.steps = append(r.steps, step{i, false})
	r.free(i)
}

func (r *reordering[K]) letGo(i int) {
	r.steps = append(r.steps, step{i, true})
	r.free(i)
}

// free gives up what thing i holds and does not want.
func (r *reordering[K]) free(i int) {
	for _, k := range r.things[i].holds {
		if len(r.waiting[k]) == 0 || slices.Contains(r.things[i].wants, k) {
			continue
		}
		for _, w := range r.waiting[k] {
			if r.blocked[w]--; r.blocked[w] == 0 {
				r.ready = append(r.ready, w)
			}
		}
		delete(r.waiting, k)
	}
}
