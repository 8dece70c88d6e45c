package babel

import (
	"testing"
	"time"

	"tombolo/internal/babel/wire"
)

// Who hears that a neighbour has lost its way looks at once whether its own still lives.
func TestARetractionHasTheOwnWayLookedAt(t *testing.T) {
	r := newRig(t, nil, "a", "b")
	a, b := r.up("a", 1, rtt), r.up("b", 2, rtt)
	k := key("10.1.0.0/16")
	a.announce(k, router(1), 1, 0)
	b.announce(k, router(1), 1, 500)
	a.every = 4 * time.Second // idle
	r.run(30 * time.Second)
	r.want(k, "a")
	for heard := r.neighbour(a).Heard; r.neighbour(a).Heard == heard; { // its next hello is far
		r.run(10 * time.Millisecond)
	}
	a.silent = true
	r.run(100 * time.Millisecond)
	if state := r.neighbour(a).State; state != "up" {
		t.Fatalf("before anybody says a word the silent neighbour is %s", state)
	}
	b.announce(k, router(1), 1, wire.Infinity)
	r.run(200 * time.Millisecond)
	if state := r.neighbour(a).State; state != "dead" {
		t.Errorf("after a retraction by the other the silent neighbour is %s", state)
	}
}
