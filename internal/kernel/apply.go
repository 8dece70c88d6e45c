package kernel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"tombolo/internal/plan"
)

// ApplyError says which operation of a plan could not be carried out, and what became of
// those before it.
type ApplyError struct {
	Op  plan.Op
	Err error // what the kernel said

	// Undone are operations that had been carried out and were taken back, in the order
	// in which that was done. UndoErr says why others could not be; they stand as they
	// are.
	Undone  []plan.Op
	UndoErr error
}

// Error names what failed, why, and what was undone.
func (e *ApplyError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %v", e.Op, e.Err)
	if len(e.Undone) > 0 {
		fmt.Fprintf(&b, "; undone: %s", opList(e.Undone))
	}
	if e.UndoErr != nil {
		fmt.Fprintf(&b, "; not undone: %v", e.UndoErr)
	}
	return b.String()
}

// Unwrap returns what the kernel said.
func (e *ApplyError) Unwrap() error { return e.Err }

// shownOps is how many operations a text names one by one.
const shownOps = 10

func opList(ops []plan.Op) string {
	var words []string
	for _, op := range ops[:min(shownOps, len(ops))] {
		words = append(words, op.String())
	}
	if more := len(ops) - len(words); more > 0 {
		words = append(words, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(words, ", ")
}

// errGone says that what was to be removed is not there.
var errGone = errors.New("it is gone already")

// Apply carries out the operations in order. On the first error it takes back what it has
// done and returns an *ApplyError. Routes, rules and addresses that follow each other go
// to the kernel together, so that some behind the failed one may have been done; they are
// taken back too.
func (k *Kernel) Apply(ctx context.Context, ops []plan.Op) error {
	if err := k.here(); err != nil {
		return err
	}
	a := &application{Kernel: k}
	did, bad, err := a.run(ctx, ops)
	if err == nil {
		return nil
	}
	done := make([]plan.Op, len(did))
	for i, at := range did {
		done[i] = ops[at]
	}
	e := &ApplyError{Op: ops[bad], Err: err}
	// What was begun is brought back to where it was, also when it was called off.
	e.Undone, e.UndoErr = a.undo(context.WithoutCancel(ctx), done)
	return e
}

// application is one run of Apply.
type application struct {
	*Kernel
	kept keptKeys
}

// run carries out the operations and returns which of them changed something. With an
// error it stops; bad is then the operation that failed.
func (a *application) run(ctx context.Context, ops []plan.Op) (done []int, bad int, err error) {
	for at := 0; at < len(ops); {
		if err := ctx.Err(); err != nil {
			return done, at, err
		}
		if n := batchable(ops[at:]); n > 0 {
			did, bad, err := a.batch(ops[at : at+n])
			for _, i := range did {
				done = append(done, at+i)
			}
			if err != nil {
				return done, at + bad, err
			}
			at += n
			continue
		}
		changed, err := a.one(ctx, ops[at])
		if changed {
			done = append(done, at)
		}
		if err != nil {
			return done, at, err
		}
		at++
	}
	return done, 0, nil
}

// undo takes operations back, last first. One that cannot be taken back does not keep the
// others from it.
func (a *application) undo(ctx context.Context, done []plan.Op) (undone []plan.Op, err error) {
	var back []plan.Op
	var of []int // which of done each of back belongs to
	for i, op := range slices.Backward(done) {
		for _, b := range plan.Undo([]plan.Op{op}) {
			back, of = append(back, b), append(of, i)
		}
	}
	stuck := map[int]bool{}
	var errs []error
	for len(back) > 0 {
		did, bad, err := a.run(ctx, back)
		if err == nil {
			break
		}
		stuck[of[bad]] = true
		errs = append(errs, fmt.Errorf("%s: %w", back[bad], err))
		// Go on behind it, without what was done together with it.
		var rest []plan.Op
		var restOf []int
		for i := bad + 1; i < len(back); i++ {
			if !slices.Contains(did, i) {
				rest, restOf = append(rest, back[i]), append(restOf, of[i])
			}
		}
		back, of = rest, restOf
	}
	for i, op := range slices.Backward(done) {
		if !stuck[i] {
			undone = append(undone, op)
		}
	}
	return undone, errors.Join(errs...)
}

// one carries out an operation that is not batchable. changed reports whether something
// is, or with an error may be, other than it was. To remove what is gone is no error.
func (a *application) one(ctx context.Context, op plan.Op) (changed bool, err error) {
	err = a.remember(op)
	if err == nil {
		changed, err = a.dispatch(ctx, op)
	}
	if op.Verb == plan.Remove && (errors.Is(err, errGone) || errors.Is(err, errNoDevice)) {
		return false, nil
	}
	return changed, err
}

func (a *application) dispatch(ctx context.Context, op plan.Op) (changed bool, err error) {
	switch o := subject(op).(type) {
	case plan.Interface:
		switch op.Verb {
		case plan.Add:
			err := a.addInterface(ctx, o.Interface)
			return err == nil, err
		case plan.Remove:
			err := a.removeInterface(ctx, o.Interface)
			return err == nil, err
		}
		return a.changeInterface(op.Before.(plan.Interface).Interface, o.Interface)
	case plan.Peer:
		switch op.Verb {
		case plan.Add:
			return a.addPeer(o)
		case plan.Remove:
			return a.removePeer(o)
		}
		return a.changePeer(op.Before.(plan.Peer), o)
	case plan.Ruleset:
		if op.Verb == plan.Remove {
			err := a.removeRuleset(ctx, o)
			return err == nil, err
		}
		// Not to be killed half way: nobody would know what the table then holds.
		return a.load(context.WithoutCancel(ctx), o.Ruleset)
	case plan.Sysctl:
		if op.Verb == plan.Change {
			return a.changeSysctl(op.Before.(plan.Sysctl), o)
		}
	}
	panic(fmt.Sprintf("kernel: no way to %s a %T", op.Verb, subject(op)))
}

// subject returns what the operation is about: what is to be, or what was.
func subject(op plan.Op) plan.Object {
	if op.Verb == plan.Remove {
		return op.Before
	}
	return op.Object
}
