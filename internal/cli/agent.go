package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"os/user"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"tombolo/internal/agent"
	"tombolo/internal/api"
)

// defaultFile is the network file that an agent follows when it is told none.
const defaultFile = "/etc/tombolo/network.yaml"

// agentLock is held by the one agent of a router while it lives, and has its pid.
const agentLock = "agent.lock"

func (a *app) agentCommand() *cobra.Command {
	var t target
	var applied, down bool
	var group string
	c := &cobra.Command{
		Use:   "agent",
		Short: "Keep this router right, and find its routes",
		Long: `Keep this router right: follow the network file, put back what others change, resolve
endpoint names again, and speak Babel with the other routers, so that every prefix is reached
by the fastest way there is. It stays in the foreground; docs/agent.md has a unit for systemd
and a script for OpenWrt. "tombolo apply" leaves an agent behind where none runs.

SIGHUP takes the file, also after another was applied by hand. SIGTERM ends the agent and
leaves all forwarding as it is: "tombolo down", or --down, takes everything away.`,
		Example: "  tombolo agent --site op1\n  tombolo status",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := asRoot(); err != nil {
				return err
			}
			if down {
				return a.lockedDown(c.Context(), t.keys)
			}
			if t.file == "" && !applied {
				if _, err := os.Stat(defaultFile); err == nil {
					t.file = defaultFile
				}
			}
			return a.runAgent(c.Context(), &t, group, !applied)
		},
	}
	t.flags(a, c)
	c.Flags().StringVar(&t.file, "file", "", "the network file to follow (default: "+defaultFile+" if it is there, else what was applied)")
	_ = c.MarkFlagFilename("file", "yaml", "yml")
	c.Flags().StringVar(&group, "group", "", "let this group ask for status, routes, watch and ping")
	c.Flags().BoolVar(&t.partial, "partial", false, "follow the file although it says things that this version does not build")
	c.Flags().BoolVar(&t.lab, "lab", false, "this router is a lab's")
	_ = c.Flags().MarkHidden("lab")
	c.Flags().BoolVar(&applied, "applied", false, "follow no file, only what was applied, and end when nothing is")
	_ = c.Flags().MarkHidden("applied")
	c.Flags().BoolVar(&down, "down", false, "take all that is tombolo's away, and end the agent that runs")
	return c
}

// Memory of an agent: it works little and lives long, so it may collect often.
const (
	agentGC     = 20
	agentMemory = 24 << 20
	agentYoung  = 10 * time.Second // after which it has read and learned most of what it will
)

func (a *app) runAgent(ctx context.Context, t *target, group string, stay bool) error {
	debug.SetGCPercent(agentGC)
	debug.SetMemoryLimit(agentMemory)
	log := slog.New(slog.NewTextHandler(a.err, nil))
	if stay { // a service takes the place of what `apply` left behind
		_, _ = api.One(ctx, a.socketPath(), api.Request{Do: api.DoYield})
	}
	alone, err := a.claim()
	if err != nil {
		return err
	}
	defer func() { _ = alone.Close() }()
	socket, err := a.openSocket(group)
	if err != nil {
		return err
	}
	o := agent.Options{
		Version: version, Records: &records{app: a}, Machine: a.agentMachine(), Socket: socket, Log: log,
		Notify: agent.NewNotifier(), Stay: stay,
	}
	if t.file != "" {
		source, err := a.newSource(t, log)
		if err != nil {
			return err
		}
		o.Source = source
	}
	agent := agent.New(o)
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	ctx, cancel := context.WithCancel(ctx)
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		for {
			select {
			case <-ctx.Done():
				return
			case <-hup:
				o.Notify.Reloading()
				agent.Reload()
			}
		}
	}()
	young := time.AfterFunc(agentYoung, debug.FreeOSMemory) // what the start took
	err = agent.Run(ctx)
	young.Stop()
	o.Notify.Stopping()
	cancel()
	<-heard
	return err
}

// claim makes this process the router's agent. The one that is there may just be ending.
func (a *app) claim() (*os.File, error) {
	if err := os.MkdirAll(a.runDir, 0o700); err != nil {
		return nil, fmt.Errorf("make run folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(a.runDir, agentLock), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("become this router's agent: %w", err)
	}
	for end := time.Now().Add(2 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			if err = f.Truncate(0); err == nil {
				_, err = fmt.Fprintln(f, os.Getpid())
			}
			return f, err
		}
		if time.Now().After(end) {
			_ = f.Close()
			return nil, hinted{errors.New("an agent runs on this router already"), "tombolo status says what it does"}
		}
	}
}

func (a *app) socketPath() string { return filepath.Join(a.runDir, api.SocketName) }

// openSocket opens the agent's socket, for root, and for a group where one is named.
func (a *app) openSocket(group string) (net.Listener, error) {
	path := a.socketPath()
	_ = os.Remove(path) // of an agent that was killed: this one holds the lock
	mask := unix.Umask(0o177)
	l, err := net.Listen("unix", path)
	unix.Umask(mask)
	if err != nil {
		return nil, fmt.Errorf("open the agent's socket: %w", err)
	}
	if group == "" {
		return l, nil
	}
	g, err := user.LookupGroup(group)
	if err == nil {
		var gid int
		if gid, err = strconv.Atoi(g.Gid); err == nil {
			err = errors.Join(os.Chown(path, 0, gid), os.Chmod(path, 0o660), os.Chmod(a.runDir, 0o755))
		}
	}
	if err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("let group %s use the agent's socket: %w", group, err)
	}
	return l, nil
}

// ask sends a request to this router's agent.
func (a *app) ask(ctx context.Context, r api.Request, each func(api.Reply) error) error {
	return explainNoAgent(api.Ask(ctx, a.socketPath(), r, each))
}

func (a *app) askOne(ctx context.Context, r api.Request) (api.Reply, error) {
	reply, err := api.One(ctx, a.socketPath(), r)
	return reply, explainNoAgent(err)
}

func explainNoAgent(err error) error {
	switch {
	case errors.Is(err, api.ErrNoAgent):
		return hinted{err, "tombolo apply FILE leaves one behind; a service runs tombolo agent --site NAME (docs/agent.md)"}
	case errors.Is(err, os.ErrPermission):
		return hinted{errors.New("only root may ask the agent, or the group that it was started with"), "sudo " + strings.Join(os.Args, " ")}
	}
	return err
}

// agentStart is how long a new agent may take to open its socket.
const agentStart = 10 * time.Second

// ensureAgent tells the agent that something else was applied; where none runs, one is
// started that outlives this process.
func (a *app) ensureAgent(ctx context.Context) error {
	_, err := api.One(ctx, a.socketPath(), api.Request{Do: api.DoApplied})
	if !errors.Is(err, api.ErrNoAgent) {
		return err
	}
	if err := a.detach("keeper"); err != nil {
		return fmt.Errorf("start the agent: %w", err)
	}
	for end := time.Now().Add(agentStart); time.Now().Before(end); {
		if c, err := net.Dial("unix", a.socketPath()); err == nil {
			return c.Close()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return fmt.Errorf("the agent did not start: see %s", filepath.Join(a.runDir, "log"))
}

// retireAgent ends the agent, if one runs, with its routes and a goodbye. What does not
// answer is ended the hard way.
func (a *app) retireAgent(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	_, err := api.One(ctx, a.socketPath(), api.Request{Do: api.DoRetire})
	if errors.Is(err, api.ErrNoAgent) {
		return nil
	}
	f, lockErr := os.OpenFile(filepath.Join(a.runDir, agentLock), os.O_RDWR|unix.O_CLOEXEC, 0)
	if lockErr != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if free(ctx, f) {
		return err
	}
	if killErr := a.killAgent(); killErr != nil {
		return errors.Join(killErr, err)
	}
	return nil
}

// agentHangs reports whether an agent runs and does not say how it is.
func (a *app) agentHangs(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, err := api.One(ctx, a.socketPath(), api.Request{Do: api.DoStatus})
	return err != nil && !errors.Is(err, api.ErrNoAgent)
}

// killAgent ends an agent that does not end by itself. The lock's file says which it is.
func (a *app) killAgent() error {
	text, err := os.ReadFile(filepath.Join(a.runDir, agentLock))
	if err != nil {
		return fmt.Errorf("the agent does not end: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 1 {
		return fmt.Errorf("the agent does not end: %s does not say which process it is", agentLock)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("the agent does not end: kill process %d: %w", pid, err)
	}
	a.say("warning: the agent did not answer and was killed; if a service starts it again, stop that, and then: tombolo down")
	return nil
}

// free waits until nobody holds an agent's lock; false when ctx ends.
func free(ctx context.Context, f *os.File) bool {
	for unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil { // it still lives
		select {
		case <-ctx.Done():
			return false
		case <-time.After(10 * time.Millisecond):
		}
	}
	return true
}
