package main

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"
)

// hostMoves moves a host from op1 to op3, several times. It also moves back, which tells
// nothing: op1 is on the way to op3, and so op2 need not know.
func (r *trial) hostMoves(ctx context.Context) error {
	homes, host := r.homes(), netip.MustParseAddr(movingHost)
	if err := r.put(ctx, "add", homes[0]); err != nil {
		return err
	}
	s, err := newStream(ctx, r.t.lab, "op2.host", host, homes[0], homes[1])
	if err != nil {
		return err
	}
	defer s.stop()
	for i := range 2 * hostMoves {
		at := i % 2 // where it is now
		start := time.Now()
		if i > 0 {
			if start, err = r.move(ctx, homes[1-at], homes[at]); err != nil {
				return err
			}
		}
		from, ok, err := r.await(ctx, flow{s, s}, start, holdShort, moveLimit, func(p packet) bool { return p.at == at })
		if err != nil {
			return err
		}
		if at == 1 {
			r.f.host = append(r.f.host, since(start, from, ok))
			r.say("a host moves from op1 to op3: followed after %s", timeText(since(start, from, ok)))
		}
		if err := pause(ctx, cutPause); err != nil {
			return err
		}
	}
	return nil
}

// put adds the moving host's address to a node, or deletes it.
func (r *trial) put(ctx context.Context, verb, node string) error {
	_, err := r.t.ip(ctx, node, "address", verb, movingHost+"/32", "dev", "lo")
	return err
}

// move moves the host, and returns when that was: before the first that is done, or where
// others tell the contender of it, when both its routers were told. What those took for it
// is not the contender's fault.
func (r *trial) move(ctx context.Context, from, to string) (time.Time, error) {
	start := time.Now()
	g, inner := errgroup.WithContext(ctx)
	heard := make([]time.Time, len(r.told()))
	for i, p := range r.told() {
		g.Go(func() (err error) {
			heard[i], err = r.t.hear(inner, p.node, p.device, netip.MustParseAddr(movingHost), moveLimit)
			return err
		})
	}
	if len(heard) > 0 {
		if err := pause(ctx, 100*time.Millisecond); err != nil { // until they listen
			return start, err
		}
	}
	err := errors.Join(r.put(ctx, "del", from), r.put(ctx, "add", to))
	if err := errors.Join(err, g.Wait()); err != nil {
		return start, err
	}
	for _, at := range heard {
		if start.Before(at) {
			start = at
		}
	}
	return start, nil
}
