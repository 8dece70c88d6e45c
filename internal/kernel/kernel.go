package kernel

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl"

	"tombolo/internal/key"
	"tombolo/internal/state"
)

// Options says for whom a Kernel works. Owner and RunDir must be set.
type Options struct {
	Owner state.Owner
	Store key.Store // where key Refs are looked up

	// RunDir is a folder that a reboot empties, such as /run/tombolo: it holds the
	// original values of settings that were changed. It is made (0700) when needed.
	RunDir string

	// Embedded makes WireGuard interfaces where the kernel cannot; without it that is
	// an error.
	Embedded Embedded

	// ForceEmbedded uses Embedded even where the kernel has WireGuard.
	ForceEmbedded bool
}

// Embedded makes WireGuard interfaces in user space, in the namespace of the calling
// thread. internal/tunnel's Client is one.
type Embedded interface {
	// Add makes an interface that is down, without an alias and with an MTU in bytes;
	// it can be configured through /var/run/wireguard when Add returns.
	Add(ctx context.Context, name string, mtu int) error

	// Remove takes it away.
	Remove(ctx context.Context, name string) error
}

// Kernel reads and changes what a router holds. See the package's documentation for where
// its methods may be called.
type Kernel struct {
	options   Options
	namespace unix.Stat_t // of /proc/thread-self/ns/net
	route     *socket
	wg        *wgctrl.Client // opened at the first use
	wgKernel  bool           // wg was opened when the kernel had its WireGuard loaded
	nft       nft
	originals originals
}

// Open returns a Kernel for the network namespace of the calling thread.
func Open(o Options) (*Kernel, error) {
	if o.Owner.Alias == "" || o.Owner.Protocol == 0 || o.Owner.RulesetTable == "" || o.RunDir == "" {
		panic("kernel: Options without an Owner or a RunDir")
	}
	k := &Kernel{options: o, originals: originals{dir: o.RunDir}}
	var err error
	if k.namespace, err = currentNamespace(); err != nil {
		return nil, err
	}
	if k.route, err = openSocket(unix.NETLINK_ROUTE); err != nil {
		return nil, err
	}
	return k, nil
}

// Close closes the sockets. What was made stays.
func (k *Kernel) Close() {
	k.route.close()
	if k.wg != nil {
		_ = k.wg.Close()
	}
}

func currentNamespace() (unix.Stat_t, error) {
	var s unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &s); err != nil {
		return s, fmt.Errorf("look at the network namespace: %w", err)
	}
	return s, nil
}

// here panics where the calling thread is in another namespace than k: what follows would
// be done to another router.
func (k *Kernel) here() error {
	s, err := currentNamespace()
	if err == nil && (s.Ino != k.namespace.Ino || s.Dev != k.namespace.Dev) {
		panic("kernel: called from another network namespace than Open")
	}
	return err
}
