package cli

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"tombolo/internal/agent"
	"tombolo/internal/compile"
	"tombolo/internal/endpoint"
	"tombolo/internal/kernel"
	"tombolo/internal/key"
	"tombolo/internal/plan"
	"tombolo/internal/spec"
	"tombolo/internal/state"
	"tombolo/internal/tunnel"
)

// target says which router of which file a command is about.
type target struct {
	file, site, keys string
	partial          bool
	alone            bool // apply leaves no agent behind
	lab              bool // plain sites too, whose stock WireGuard the lab stands in for
}

func (t *target) flags(a *app, c *cobra.Command) {
	c.Flags().StringVar(&t.site, "site", "", "the site that this router is (default: the host's name, if it is one)")
	c.Flags().StringVar(&t.keys, "keys", "", "folder of the key files (default: keys/ beside FILE, else /etc/tombolo)")
	_ = c.RegisterFlagCompletionFunc("site", a.completeSite)
	_ = c.MarkFlagDirname("keys")
}

// load reads the network file and finds the site.
func (a *app) load(t *target) (file, error) {
	n, err := a.parse(t.file, false)
	if err != nil {
		return n, err
	}
	return a.site(n, t)
}

// site finds which site of the file this router is.
func (a *app) site(n file, t *target) (file, error) {
	if t.site == "" {
		host, _ := os.Hostname()
		if _, ok := n.Site(host); !ok {
			return n, hinted{errors.New("which site is this router?"), "say --site NAME; " + siteNames(n.Network)}
		}
		t.site = host
	}
	i, ok := n.Site(t.site)
	if !ok {
		return n, unknownSite(n.Network, t.site)
	}
	if n.Sites[i].Kind == spec.Plain && !t.lab {
		return n, fmt.Errorf("site %q is plain: it runs nothing of ours", t.site)
	}
	return n, nil
}

// want returns what the router must hold, its endpoints resolved. Without a private key of
// its own it makes one only if mayMake.
func (a *app) want(ctx context.Context, n file, t *target, mayMake bool) (agent.Wanted, error) {
	store := key.Store{Dir: keyDir(t.keys, t.file)}
	if mayMake {
		if err := a.ownKey(n.Network, t.site, store); err != nil {
			return agent.Wanted{}, err
		}
	}
	known, err := knownKeys(n.Network, store)
	if err != nil {
		return agent.Wanted{}, err
	}
	i, _ := n.Site(t.site)
	for _, w := range mismatches(&n.Sites[i]) {
		a.say("warning: %s", w)
	}
	o := surroundings(&n.Sites[i])
	o.Keys = known
	r, err := compile.Router(n.Network, t.site, o)
	if err != nil {
		return agent.Wanted{}, err
	}
	for _, w := range shadowed(o, r) {
		a.say("warning: %s", w)
	}
	if err := a.sameOwner(r.Owner); err != nil {
		return agent.Wanted{}, err
	}
	if err := missing(n, known, r, store); err != nil {
		return agent.Wanted{}, err
	}
	r, unresolved := endpoint.Resolve(ctx, r, endpoint.System, endpoint.Routed)
	for _, err := range unresolved {
		a.say("warning: %v", err)
	}
	return agent.Wanted{Router: r, Keys: store, File: absolute(t.file), Digest: digest(n.text), Sites: sitesOf(n.Network)}, nil
}

// absolute returns the path of a network file as an agent knows it; "-" is itself.
func absolute(path string) string {
	if whole, err := filepath.Abs(path); err == nil && path != "-" {
		return whole
	}
	return path
}

func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

// sitesOf returns the sites of a network, so that an agent can name them.
func sitesOf(n *spec.Network) []agent.Site {
	out := make([]agent.Site, len(n.Sites))
	for i, s := range n.Sites {
		four := s.Address.As4()
		out[i] = agent.Site{Name: s.Name, Address: s.Address, Address6: s.Address6, Babel: binary.BigEndian.Uint32(four[:])}
	}
	return out
}

// ownKey makes the router's own private key where it has none, and says which line the
// network file then needs.
func (a *app) ownKey(n *spec.Network, site string, store key.Store) error {
	if i, _ := n.Site(site); !n.Sites[i].Key.IsZero() {
		if _, err := store.Private(key.Ref(site)); errors.Is(err, key.ErrMissing) {
			return hinted{
				fmt.Errorf("site %q has key %s in the file, and its private key is not in %s", site, n.Sites[i].Key, store.Dir),
				"say where it is with --keys; or, if it is lost, take the `key:` line away, and a new one is made",
			}
		}
	}
	p, made, err := store.Make(key.Ref(site), rand.Reader)
	if err != nil {
		return err
	}
	if made {
		a.say("made %s", filepath.Join(store.Dir, site+".key"))
	}
	if i, _ := n.Site(site); n.Sites[i].Key.IsZero() {
		a.say("add this line to site %q in %s, on every router:\n    key: %s", site, n.File, p.Public())
	}
	return nil
}

// sameOwner refuses settings under which what was applied is no longer ours: nobody would
// ever take it away.
func (a *app) sameOwner(o state.Owner) error {
	applied, _, err := a.wanted()
	if err != nil || applied.Owner == o {
		return nil
	}
	return hinted{
		errors.New("the file's `priority`, `protocol` or `nft-table` is not the one that was applied: what was set up with it would stay for ever"),
		"tombolo down, and then apply; or set them back",
	}
}

// missing reports the keys without which the router cannot be set up, all at once.
func missing(n file, known map[string]key.Public, r state.Router, store key.Store) error {
	keyless := false
	var errs []error
	for _, f := range r.Interfaces {
		for _, p := range f.WireGuard.Peers {
			if p.PublicKey.IsZero() {
				keyless = true
			}
			if p.Preshared == "" {
				continue
			}
			_, err := store.Preshared(p.Preshared)
			if errors.Is(err, key.ErrMissing) {
				err = hinted{fmt.Errorf("the preshared key of the link %s–%s is missing: %s", r.Site, p.Name, filepath.Join(store.Dir, string(p.Preshared)+".psk")),
					fmt.Sprintf("tombolo key psk %s %s, once, and copy the file to both routers", r.Site, p.Name)}
			}
			errs = append(errs, err)
		}
	}
	errs = append(errs, missingMACs(r, store), missingAccess(n, r, store))
	if keyless {
		whole := *n.Network
		whole.Sites = slices.Clone(n.Sites)
		for i := range whole.Sites {
			if k, ok := known[whole.Sites[i].Name]; ok {
				whole.Sites[i].Key = k
			}
		}
		i, _ := n.Site(r.Site)
		errs = append(errs, whole.MissingKeys(i, n.text).Err())
	}
	return errors.Join(errs...)
}

// missingAccess reports that the key is missing without which nobody can enter at a door.
func missingAccess(n file, r state.Router, store key.Store) error {
	if r.Clients == nil {
		return nil
	}
	_, err := store.Private(spec.AccessKey)
	if !errors.Is(err, key.ErrMissing) {
		return err
	}
	hint := "tombolo client add NAME makes it with the first device, and its `key:` in `clients:`"
	if !n.Clients.Key.IsZero() {
		hint = fmt.Sprintf("tombolo key export %s, where it is, and here: tombolo key import %s", spec.AccessKey, spec.AccessKey)
	}
	return hinted{fmt.Errorf("site %q lets clients in, and the key that all doors share is missing: %s", r.Site, filepath.Join(store.Dir, spec.AccessKey+".key")), hint}
}

// missingMACs reports the keys without which a speaker would not be heard.
func missingMACs(r state.Router, store key.Store) error {
	if r.Babel == nil {
		return nil
	}
	var errs []error
	for _, l := range r.Babel.Links {
		if l.Key == "" {
			continue
		}
		_, err := store.MAC(key.Ref(l.Key))
		if errors.Is(err, key.ErrMissing) {
			err = hinted{fmt.Errorf("the key %q of device %s is missing: %s", l.Key, l.Device, filepath.Join(store.Dir, l.Key+".mac")),
				fmt.Sprintf("tombolo key mac %s, once, and copy the file to every router on %s", l.Key, l.Device)}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// asRoot refuses a user who may not look at the router's keys, nor change anything.
func asRoot() error {
	if os.Geteuid() == 0 {
		return nil
	}
	return hinted{errors.New("only root sees and changes what a router holds"), "sudo " + strings.Join(os.Args, " ")}
}

// wireGuardEnv names the environment variable that, set to "embedded", keeps tombolo from
// the kernel's own WireGuard, also in the processes that it leaves behind.
const wireGuardEnv = "TOMBOLO_WIREGUARD"

// open opens the kernel of this machine for the router's objects.
func (a *app) open(r state.Router, store key.Store) (*kernel.Kernel, error) {
	if _, err := exec.LookPath("nft"); err != nil {
		return nil, hinted{errors.New("the program nft is missing"), "on Debian and Ubuntu: apt install nftables; on OpenWrt it is there"}
	}
	return kernel.Open(kernel.Options{
		Owner: r.Owner, Store: store, RunDir: a.runDir,
		Embedded: a.tunnels(), ForceEmbedded: forceEmbedded(),
	})
}

func forceEmbedded() bool { return os.Getenv(wireGuardEnv) == "embedded" }

// tunnels is the client of this router's tunnel process.
func (a *app) tunnels() *tunnel.Client {
	return tunnel.New(a.runDir, []string{selfExe, "tunnel", "--run-dir", a.runDir})
}

// selfExe is the running program, also after its file was replaced.
const selfExe = "/proc/self/exe"

// lockWait is how long a command waits for another one that changes the same router.
const lockWait = 10 * time.Second

var errLocked = errors.New("another tombolo is changing this router")

// lock keeps two commands from changing one router at the same time; it waits for the
// other one, and returns errLocked when that takes too long. The caller calls the function
// that it returns.
func (a *app) lock(ctx context.Context) (func(), error) {
	if err := os.MkdirAll(a.runDir, 0o700); err != nil {
		return nil, fmt.Errorf("make run folder: %w", err)
	}
	path := filepath.Join(a.runDir, "lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock this router: %w", err)
	}
	for end := time.Now().Add(lockWait); ; time.Sleep(20 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if ctx.Err() != nil || time.Now().After(end) {
			_ = f.Close()
			return nil, fmt.Errorf("%w (%s is locked)", errLocked, path)
		}
	}
}

func (a *app) planCommand() *cobra.Command {
	var t target
	c := &cobra.Command{
		Use:   "plan FILE",
		Short: "Show what apply would change on this router",
		Long: `Show what apply would change on this router: what is added (+), changed (~) and removed
(-), object by object. Nothing is touched. The exit code is 0 if there is nothing to do,
2 if there is, and 1 on an error.

Where another program's nftables table (OpenWrt's fw4, ufw, Docker, …) would drop what must
pass, a note says which, and what to type there. The rules of iptables-legacy are not seen.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeFile,
		RunE: func(c *cobra.Command, args []string) error {
			if err := asRoot(); err != nil {
				return err
			}
			t.file = args[0]
			n, err := a.load(&t)
			if err != nil {
				return err
			}
			w, err := a.want(c.Context(), n, &t, false)
			if err != nil {
				return err
			}
			want := w.Router
			k, err := a.open(want, w.Keys)
			if err != nil {
				return err
			}
			defer k.Close()
			have, err := k.Read(c.Context(), want)
			if err != nil {
				return err
			}
			p := plan.Diff(have, a.roamed(have, want))
			found := a.obstacles(c.Context(), k, want)
			if err := a.printPlan(p, found); err != nil {
				return err
			}
			a.tellObstacles(want, found)
			switch {
			case len(p.Conflicts) > 0:
				return exitCode(exitError)
			case len(p.Ops) > 0:
				return exitCode(exitChanges)
			}
			return nil
		},
	}
	t.flags(a, c)
	return c
}

// roamed returns want such that peers which answer from elsewhere than their names lead
// are left there.
func (a *app) roamed(have, want state.Router) state.Router {
	last, _, _ := a.wanted() // an empty one, where nothing was applied
	return endpoint.Roamed(have, want, last, time.Now())
}

func siteNames(n *spec.Network) string {
	var h hinted
	if errors.As(unknownSite(n, ""), &h) {
		return h.hint
	}
	return ""
}
