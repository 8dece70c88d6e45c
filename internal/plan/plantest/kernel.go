// Package plantest holds a kernel for tests: plan's model behind a mutex.
package plantest

import (
	"context"
	"slices"
	"sync"

	"tombolo/internal/plan"
	"tombolo/internal/state"
)

// Kernel is a router that exists only in memory. It reads and applies as the real one
// does: what a kernel would refuse is an error, and then all that was done is undone.
// Everything that it did it can tell as shell commands. It may be used by several
// goroutines.
type Kernel struct {
	mu       sync.Mutex
	router   state.Router
	commands []string
	refuse   func(plan.Op) error
	changed  chan struct{}
}

// New returns a kernel that holds r.
func New(r state.Router) *Kernel {
	return &Kernel{router: plan.Apply(r, nil), changed: make(chan struct{})}
}

// Read returns what the kernel holds: all of it, whatever is wanted.
func (k *Kernel) Read(ctx context.Context, _ state.Router) (state.Router, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return plan.Apply(k.router, nil), ctx.Err()
}

// Apply does the operations, or none: on the first that does not fit it undoes what it
// did.
func (k *Kernel) Apply(ctx context.Context, ops []plan.Op) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	fit, refusal := len(ops), error(nil)
	for i, op := range ops {
		if k.refuse == nil {
			break
		}
		if refusal = k.refuse(op); refusal != nil {
			fit = i
			break
		}
	}
	after, done, err := plan.Check(k.router, ops[:fit])
	k.tell(ops[:done])
	if err == nil {
		err = refusal
	}
	if err != nil {
		back := plan.Undo(ops[:done])
		var misfit error
		if after, _, misfit = plan.Check(after, back); misfit != nil {
			panic("plantest: what was done cannot be undone: " + misfit.Error())
		}
		k.tell(back)
	}
	if done > 0 {
		k.set(after)
	}
	return err
}

func (k *Kernel) tell(ops []plan.Op) {
	for _, op := range ops {
		k.commands = append(k.commands, op.Commands()...)
	}
}

func (k *Kernel) set(r state.Router) {
	k.router = r
	close(k.changed)
	k.changed = make(chan struct{})
}

// Refuse makes the kernel refuse the operations for which f returns an error; nil lets it
// take all again.
func (k *Kernel) Refuse(f func(plan.Op) error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refuse = f
}

// Meddle changes the router behind everybody's back, as a person with a shell does.
func (k *Kernel) Meddle(change func(*state.Router)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := plan.Apply(k.router, nil)
	change(&r)
	k.set(plan.Apply(r, nil))
}

// Changed returns a channel that is closed when the router changes next.
func (k *Kernel) Changed() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.changed
}

// Commands returns what was done so far, as a person would have typed it.
func (k *Kernel) Commands() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.commands)
}
