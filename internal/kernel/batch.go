package kernel

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"tombolo/internal/plan"
)

// batchable returns how many of the first operations can go to the kernel together: those
// that are each one rtnetlink message.
func batchable(ops []plan.Op) int {
	for i, op := range ops {
		switch subject(op).(type) {
		case plan.Route, plan.Rule, plan.Address:
		default:
			return i
		}
	}
	return len(ops)
}

// batch carries out routes, rules and addresses. It returns which were done; with an
// error, bad is the first that failed. Those whose fate is not known count as done, since
// to take back what was not done does no harm.
func (a *application) batch(ops []plan.Op) (done []int, bad int, err error) {
	w := writer{b: make([]byte, 0, 64*len(ops))}
	e := encoder{application: a, devices: map[string]int{}, ours: map[string]int{}}
	var sent []int // the operation that each message carries out
	for i, op := range ops {
		encErr := e.encode(&w, op)
		if op.Verb == plan.Remove && errors.Is(encErr, errNoDevice) {
			continue // gone with its device
		}
		if encErr != nil {
			bad, err = i, encErr
			break
		}
		sent = append(sent, i)
	}
	// Whatever was refused before stands before an operation that cannot even be sent.
	for len(sent) > 0 {
		outcomes, unknown, sendErr := a.route.execute(&w)
		refused := -1
		for m, outcome := range outcomes {
			switch {
			case outcome == nil:
				done = append(done, sent[m])
			case gone(ops[sent[m]], outcome):
			case refused < 0:
				refused = m
			}
		}
		if refused >= 0 {
			return done, sent[refused], outcomes[refused]
		}
		if sendErr != nil {
			return append(done, sent[len(outcomes):len(outcomes)+unknown]...), sent[len(outcomes)], sendErr
		}
		// A removal of what was gone stops the sending too: go on behind it.
		sent = sent[len(outcomes):]
		w.starts = w.starts[len(outcomes):]
	}
	return done, bad, err
}

// gone reports whether the kernel refused a removal because there is nothing to remove.
func gone(op plan.Op, err error) bool {
	if op.Verb != plan.Remove {
		return false
	}
	switch op.Before.(type) {
	case plan.Route:
		return errors.Is(err, unix.ESRCH)
	case plan.Rule:
		return errors.Is(err, unix.ENOENT)
	case plan.Address:
		return errors.Is(err, unix.EADDRNOTAVAIL)
	}
	return false
}

// encoder makes messages of operations, and asks for each device once.
type encoder struct {
	*application
	devices, ours map[string]int // name to index
}

func (e *encoder) encode(w *writer, op plan.Op) error {
	switch o := subject(op).(type) {
	case plan.Route:
		if !e.options.Owner.OwnsRoute(o.Route) {
			return fmt.Errorf("the route is not ours: its protocol is %d", o.Protocol)
		}
		index := 0
		if o.Device != "" {
			var err error
			if index, err = e.deviceIndex(o.Device); err != nil {
				return err
			}
		}
		kind, flags := verbs(op.Verb, unix.RTM_NEWROUTE, unix.RTM_DELROUTE)
		encodeRoute(w, kind, flags, o.Route, index)
	case plan.Rule:
		if !e.options.Owner.OwnsRule(o.Rule) {
			return fmt.Errorf("the rule is not ours: its protocol is %d", o.Protocol)
		}
		if !e.route.strict && (o.IPProto != 0 || o.DPort != 0) {
			// One without FRA_DPORT_RANGE (Linux 4.17) would leave the port out, and match all.
			return errors.New("the kernel has no rules by protocol and port: that takes Linux 4.20")
		}
		kind, flags := verbs(op.Verb, unix.RTM_NEWRULE, unix.RTM_DELRULE)
		encodeRule(w, kind, flags, o.Rule)
	case plan.Address:
		index, err := e.ourIndex(o.Interface)
		if err != nil {
			return err
		}
		kind, flags := verbs(op.Verb, unix.RTM_NEWADDR, unix.RTM_DELADDR)
		encodeAddress(w, kind, flags, o.Prefix, index)
	}
	return nil
}

// verbs returns type and flags of the message that carries out a verb.
func verbs(v plan.Verb, add, remove uint16) (kind, flags uint16) {
	switch v {
	case plan.Add:
		return add, flagsAdd
	case plan.Change:
		return add, flagsChange
	}
	return remove, 0
}

func (e *encoder) deviceIndex(name string) (int, error) {
	if index, ok := e.devices[name]; ok {
		return index, nil
	}
	l, err := e.findLink(name)
	if err != nil {
		return 0, fmt.Errorf("device %s: %w", name, err)
	}
	e.devices[name] = l.index
	return l.index, nil
}

func (e *encoder) ourIndex(name string) (int, error) {
	if index, ok := e.ours[name]; ok {
		return index, nil
	}
	l, err := e.findOurs(name)
	if err != nil {
		return 0, err
	}
	e.ours[name] = l.index
	return l.index, nil
}
