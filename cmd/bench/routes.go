package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tombolo/internal/kernel"
	"tombolo/internal/plan"
	"tombolo/internal/state"
)

const routeCount = 10_000

// benchRoutes times 10,000 routes into an empty table, and the read and the plan over them
// that find nothing to do.
func benchRoutes(ctx context.Context, o options) ([]result, error) {
	var results []result
	err := inNewNamespace(func() (err error) {
		results, err = timeRoutes(ctx, o)
		return err
	})
	return results, err
}

func timeRoutes(ctx context.Context, o options) ([]result, error) {
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "bench0", Flags: 1}, PeerName: "bench1"}
	if err := netlink.LinkAdd(link); err != nil {
		return nil, fmt.Errorf("add link: %w", err)
	}
	for _, name := range []string{"bench0", "bench1"} {
		l, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.LinkSetUp(l)
		}
		if err != nil {
			return nil, fmt.Errorf("set %s up: %w", name, err)
		}
	}
	runDir, err := os.MkdirTemp("", "tombolo-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(runDir) }()
	owner := state.DefaultOwner()
	k, err := kernel.Open(kernel.Options{Owner: owner, RunDir: runDir})
	if err != nil {
		return nil, err
	}
	defer k.Close()
	empty := state.Router{Version: state.Version, Owner: owner}
	want := empty
	for i := range routeCount {
		want.Routes = append(want.Routes, state.Route{
			Table: 110, Dst: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24),
			Type: state.Unicast, Device: "bench0", Protocol: owner.Protocol,
		})
	}
	want.Sort()
	apply, second, err := applyAndPlan(ctx, k, empty, want, o.runs)
	return []result{
		atMost("apply 10,000 routes into an empty table", apply, 120*time.Millisecond),
		atMost("read and plan over them, nothing to do", second, 60*time.Millisecond),
	}, err
}

func applyAndPlan(ctx context.Context, k *kernel.Kernel, empty, want state.Router, runs int) (apply, second time.Duration, err error) {
	var applied, planned []time.Duration
	for range runs {
		start := time.Now()
		have, err := k.Read(ctx, want)
		if err != nil {
			return 0, 0, err
		}
		if err := k.Apply(ctx, plan.Diff(have, want).Ops); err != nil {
			return 0, 0, err
		}
		applied = append(applied, time.Since(start))
		start = time.Now()
		if have, err = k.Read(ctx, want); err != nil {
			return 0, 0, err
		}
		if p := plan.Diff(have, want); !p.Empty() {
			return 0, 0, errors.New("the second plan is not empty")
		}
		planned = append(planned, time.Since(start))
		if err := k.Apply(ctx, plan.Diff(have, empty).Ops); err != nil {
			return 0, 0, err
		}
	}
	return median(applied), median(planned), nil
}

// inNewNamespace runs f in a network namespace of its own, on a thread that ends with it.
func inNewNamespace(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("make a network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}
