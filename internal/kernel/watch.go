package kernel

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"tombolo/internal/state"
)

// Change is what happened since the last Take. However much that was, it is no larger than
// what there is of devices and tables, so that who reads late has not missed anything.
type Change struct {
	// All says that the kernel had to drop notifications: anything may have changed.
	All bool

	Links     []LinkState   // those that changed, as they are now, by index
	Addresses []string      // devices whose addresses changed, by name
	Routes    []RouteSource // by table and protocol
	Rules     bool          // one in our range that is not learned, or of our protocol
	Ruleset   bool          // a table of our name was changed, made or deleted
}

// Empty reports whether nothing happened.
func (c Change) Empty() bool {
	return !c.All && len(c.Links) == 0 && len(c.Addresses) == 0 && len(c.Routes) == 0 && !c.Rules && !c.Ruleset
}

// LinkState is a device after a change.
type LinkState struct {
	Name    string
	Index   int
	Up      bool // administratively
	Carrier bool // packets can be sent: up and plugged in
	Gone    bool // removed, or moved to another namespace
}

// RouteSource says whose routes, in which table, were changed.
type RouteSource struct {
	Table    uint32
	Protocol uint8
}

// Watcher tells what others change on a router. It has sockets of its own: it may be used
// while the Kernel is, from any goroutine.
//
// # What is told, and what not
//
// What its Kernel (or one given to Ignore) changes itself is not told where that can be known: routes, rules and
// IPv4 addresses, of which a notification names the socket that made the change
// (nlmsg_pid), and rulesets, since nft's process stands at the end of a transaction
// (NFTA_GEN_PROC_PID; in a process id namespace of one's own the number is another, and
// what we load is told). Links and IPv6 addresses are always told (the kernel names nobody).
// Nothing that is told in vain does harm: the next Read finds nothing to do.
//
// Of routes those are told that have our protocol or that of what follows the uplinks, those
// of the tables that Watch was given, and default routes in main: of both families, also
// those for some sources only and by several next hops. Of rules, what is learned is not
// told, and what follows the uplinks is. A link is told when one of its state, name, MTU,
// alias or kind is another than before.
//
// When a device goes down or loses an address the kernel removes IPv4 routes without a
// word, those by several next hops when one of their devices is removed. Who is told of a link that is down, or of addresses, must look at its routes too.
// Settings (sysctls) and WireGuard's peers are not told at all.
type Watcher struct {
	owner   state.Owner
	tables  []uint32
	pids    *pids // of the Kernel's nft
	changed chan struct{}

	listeners []*listener
	running   sync.WaitGroup

	mu        sync.Mutex
	ports     []uint32 // sockets of ours
	err       error
	closed    bool
	known     map[int]link
	all       bool
	links     map[int]LinkState
	addresses map[string]bool
	routes    map[RouteSource]bool
	rules     bool
	ruleset   bool

	touched bool // the nftables transaction that is being told changes a table of our name
}

// Watch begins to watch the Kernel's namespace; tables are those of which every route is
// told. What happens after it returns is told, so that a Read behind it misses nothing.
// The Watcher must be closed; it may outlive the Kernel.
func (k *Kernel) Watch(tables []uint32) (*Watcher, error) {
	if err := k.here(); err != nil {
		return nil, err
	}
	w := &Watcher{
		owner: k.options.Owner, tables: slices.Clone(tables), pids: &k.nft.pids,
		changed: make(chan struct{}, 1), known: map[int]link{},
	}
	w.reset()
	if err := w.Ignore(k); err != nil {
		return nil, err
	}
	route, err := openListener(unix.NETLINK_ROUTE,
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE)
	if err != nil {
		return nil, fmt.Errorf("watch devices and routes: %w", err)
	}
	links, err := k.readLinks()
	if err != nil {
		route.close()
		return nil, err
	}
	for _, l := range links {
		w.known[l.index] = l
	}
	nft, err := openListener(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES)
	switch {
	case errors.Is(err, unix.EPROTONOSUPPORT): // no nftables, no ruleset
	case err != nil:
		route.close()
		return nil, fmt.Errorf("watch nftables: %w", err)
	default:
		w.run("nftables", nft, w.nftables)
	}
	w.run("devices and routes", route, w.rtnetlink)
	return w, nil
}

// Ignore adds a Kernel whose changes of routes, rules and IPv4 addresses are not told, as
// those of the one that the Watcher is from: one for learned routes, say.
func (w *Watcher) Ignore(k *Kernel) error {
	port, err := k.route.port()
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ports = append(w.ports, port)
	return nil
}

// run listens in a goroutine, which Close joins.
func (w *Watcher) run(what string, l *listener, each func(header, []byte) bool) {
	w.listeners = append(w.listeners, l)
	w.running.Go(func() {
		err := l.listen(func(h header, data []byte) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if each(h, data) {
				w.tell()
			}
		}, w.lost)
		w.mu.Lock()
		defer w.mu.Unlock()
		if !w.closed {
			w.err, w.all = errors.Join(w.err, fmt.Errorf("watch %s: %w", what, err)), true
			w.tell()
		}
	})
}

// lost is called where the kernel dropped notifications.
func (w *Watcher) lost() {
	w.mu.Lock()
	defer w.mu.Unlock()
	// What a link was before is not known any more.
	w.all, w.touched, w.known = true, false, map[int]link{}
	w.tell()
}

// tell wakes whoever waits for Changed.
func (w *Watcher) tell() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// Changed has a value when there is something to Take.
func (w *Watcher) Changed() <-chan struct{} { return w.changed }

// Take returns what happened since it was called the last time. An error says that the
// watcher is broken, and tells nothing more: make a new one.
func (w *Watcher) Take() (Change, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := Change{
		All:       w.all,
		Links:     slices.SortedFunc(maps.Values(w.links), func(a, b LinkState) int { return cmp.Compare(a.Index, b.Index) }),
		Addresses: slices.Sorted(maps.Keys(w.addresses)),
		Routes: slices.SortedFunc(maps.Keys(w.routes), func(a, b RouteSource) int {
			return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(a.Protocol, b.Protocol))
		}),
		Rules: w.rules, Ruleset: w.ruleset,
	}
	w.reset()
	return c, w.err
}

func (w *Watcher) reset() {
	w.all, w.rules, w.ruleset = false, false, false
	w.links, w.addresses, w.routes = map[int]LinkState{}, map[string]bool{}, map[RouteSource]bool{}
}

// Close ends it.
func (w *Watcher) Close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	for _, l := range w.listeners {
		l.close()
	}
	w.running.Wait()
}
