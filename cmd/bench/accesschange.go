package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"tombolo/internal/lab"
)

const (
	accessChanges  = 10
	accessReplaced = 100 // rules of a change
)

// changeAccess changes the policy of a router again and again while a flow goes on between two of
// its LANs, and counts what is lost. As much as that may be lost by the machine itself is told by
// the same without changes.
func changeAccess(ctx context.Context, o options, l *lab.Lab, dir string) (all []result, err error) {
	const site = 1
	name := accessSite(site)
	change := 0
	apply := func() error {
		change++
		return applyAccess(ctx, o, l, dir, site, changedRules(site, change), "--no-agent")
	}
	if err := apply(); err != nil {
		return nil, err
	}
	p, err := newPaced(ctx, l, name+".host-lan1", name+".host", net.IPv4(10, 100, site, 10), 11)
	if err != nil {
		return nil, err
	}
	defer p.close()
	var took time.Duration
	changed, err := p.during(ctx, func() error {
		took, err = replaced(ctx, l, name, apply)
		return err
	})
	if err != nil {
		return nil, err
	}
	still, err := p.during(ctx, func() error { return pause(ctx, changed.took) })
	if err != nil {
		return nil, err
	}
	progress("access: lost while the policy changes: %v; and while it does not: %v", changed, still)
	what := fmt.Sprintf("a flow of %d packets/s each way from LAN to LAN, policy of %d rules: ", pacedRate, accessMany)
	return []result{
		fact(what+"lost without changes", still.String()),
		{what + fmt.Sprintf("lost while `tombolo apply` replaces %d rules, %d times", accessReplaced, accessChanges), changed.String(), "none", changed.lost() == 0},
		fact(fmt.Sprintf("such a `tombolo apply`, policy of %d rules", accessMany), rounded(took)),
	}, nil
}

// changedRules are many rules about a site, of which some are others after each change.
func changedRules(site, change int) string {
	return accessRules(site, accessMany-accessReplaced-1, 1000) + accessRules(site, accessReplaced, 20_000+accessReplaced*change) + measuredRule(site)
}

// replaced changes a router's rules, several times, and sees that each time others are loaded. It
// returns the median time of a change.
func replaced(ctx context.Context, l *lab.Lab, site string, apply func() error) (time.Duration, error) {
	seal := func() ([]byte, error) {
		return outputOf(ctx, l, site, "nft", "list", "chain", "inet", "tombolo", "seal")
	}
	before, err := seal()
	if err != nil {
		return 0, err
	}
	var times []time.Duration
	for range accessChanges {
		if err := pause(ctx, 300*time.Millisecond); err != nil {
			return 0, err
		}
		start := time.Now()
		if err := apply(); err != nil {
			return 0, err
		}
		times = append(times, time.Since(start))
		after, err := seal()
		if err != nil {
			return 0, err
		}
		if bytes.Equal(after, before) {
			return 0, errors.New("a change of the policy changed no rules")
		}
		before = after
	}
	return median(times), pause(ctx, 300*time.Millisecond)
}
