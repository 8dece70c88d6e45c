package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// awaitQuiet waits until the kernel has taken down the network namespaces that nobody holds
// any more. It does so later and in batches (net/core/net_namespace.c, cleanup_net), seconds
// after a large lab is gone, and who makes interfaces meanwhile waits for it: the next lab
// would be charged with it. A namespace that ends now is in the last batch; the second time
// also those are, whose mounts and sockets were let go of late.
func awaitQuiet(ctx context.Context) error {
	for range 2 {
		if err := inNewNamespace(func() error { return sentinel(ctx) }); err != nil {
			return fmt.Errorf("wait for the kernel: %w", err)
		}
	}
	return nil
}

// sentinel makes a veth with its other end in a namespace that then ends, and waits until
// the veth is gone. Its thread must be in a namespace of its own, and end.
func sentinel(ctx context.Context) error {
	const name = "sentinel"
	if err := addSentinel(name); err != nil {
		return err
	}
	for {
		_, err := netlink.LinkByName(name)
		if gone := (netlink.LinkNotFoundError{}); errors.As(err, &gone) {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func addSentinel(name string) error {
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer func() { _ = here.Close() }() // it was only read
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	there, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer func() { _ = there.Close() }() // that ends the namespace
	if err := unix.Setns(int(here.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	return netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name, PeerNamespace: netlink.NsFd(there.Fd()),
	})
}
