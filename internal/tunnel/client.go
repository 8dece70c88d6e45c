package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Client talks to the tunnel process of one runtime directory, and starts it when it is
// needed. It holds nothing open between calls; any number of Clients may work at once.
type Client struct {
	dir     string
	command []string
}

// New returns a Client for the tunnel process of runtime directory dir, such as
// /run/tombolo. command is the argv that runs Supervise for the same directory, such as
// {"/proc/self/exe", "tunnel", "--dir", dir}.
func New(dir string, command []string) *Client {
	return &Client{dir: filepath.Clean(dir), command: command}
}

// callTimeout bounds a call whose context has no deadline of its own.
const callTimeout = 30 * time.Second

// errNoProcess says that no supervisor listens.
var errNoProcess = errors.New("no tunnel process runs")

// Add makes the WireGuard interface name (at most 15 bytes) with an MTU in bytes, in the
// network namespace of the calling thread, and starts the tunnel process there when none
// runs. The interface is down and has no key yet; wg(8), wgctrl and netlink can use it as
// soon as Add returns. An interface that the tunnel process has already stays as it is. An
// interface of that name which is not the tunnel process's gives ErrForeign.
func (c *Client) Add(ctx context.Context, name string, mtu int) error {
	if err := errors.Join(checkName(name), checkMTU(mtu)); err != nil {
		return fmt.Errorf("add interface %s: %w", name, err)
	}
	ns, err := namespace()
	if err != nil {
		return fmt.Errorf("add interface %s: %w", name, err)
	}
	if _, err := c.call(ctx, request{Ask: askAdd, Name: name, MTU: mtu, NetNS: ns}, true); err != nil {
		return fmt.Errorf("add interface %s: %w", name, err)
	}
	return nil
}

// Remove deletes the interface name; one that the tunnel process does not have is no error.
// With the last interface the process ends, after a grace.
func (c *Client) Remove(ctx context.Context, name string) error {
	ns, err := namespace()
	if err != nil {
		return fmt.Errorf("remove interface %s: %w", name, err)
	}
	_, err = c.call(ctx, request{Ask: askRemove, Name: name, NetNS: ns}, false)
	if err != nil && !errors.Is(err, errNoProcess) {
		return fmt.Errorf("remove interface %s: %w", name, err)
	}
	return nil
}

// List returns the tunnel process's interfaces, sorted by name; none when none runs.
func (c *Client) List(ctx context.Context) ([]Interface, error) {
	a, err := c.call(ctx, request{Ask: askList}, false)
	if errors.Is(err, errNoProcess) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list tunnel interfaces: %w", err)
	}
	return a.Interfaces, nil
}

// Stop ends the tunnel process and with it all its interfaces. They are gone when it
// returns. It is no error when none runs.
func (c *Client) Stop(ctx context.Context) error {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	_, err := c.call(ctx, request{Ask: askStop}, false)
	if err != nil && !errors.Is(err, errNoProcess) {
		return fmt.Errorf("stop tunnel process: %w", err)
	}
	if err := c.awaitEnd(ctx); err != nil {
		return fmt.Errorf("stop tunnel process: %w", err)
	}
	return nil
}

// awaitEnd returns when supervisor and worker have ended: each holds the lock until then.
func (c *Client) awaitEnd(ctx context.Context) error {
	lock, err := os.Open(lockPath(c.dir))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	for {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
}

// call sends r to the supervisor. With start it starts one when none listens, again if the
// one it found was just ending.
func (c *Client) call(ctx context.Context, r request, start bool) (reply, error) {
	if err := checkDir(c.dir); err != nil {
		return reply{}, err
	}
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	for {
		a, err := c.try(ctx, r)
		if err == nil {
			return a, a.err()
		}
		if !errors.Is(err, errNoProcess) || !start {
			return reply{}, err
		}
		if err := c.startOnce(ctx); err != nil {
			return reply{}, err
		}
	}
}

// startOnce starts a supervisor unless another Client is about to; then it waits a moment.
// Who starts one holds a lock on the directory itself.
func (c *Client) startOnce(ctx context.Context) error {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return err
	}
	dir, err := os.Open(c.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	err = unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return pause(ctx, 5*time.Millisecond)
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", c.dir, err)
	}
	if listens(c.dir) {
		return nil
	}
	return c.start(ctx)
}

// try makes one exchange. errNoProcess means that nothing was done.
func (c *Client) try(ctx context.Context, r request) (reply, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socketPath(c.dir))
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) {
		return reply{}, errNoProcess
	}
	if err != nil {
		return reply{}, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	a, err := exchange(conn, r)
	switch {
	case err == nil && a.Ending:
		return reply{}, errNoProcess
	case ctx.Err() != nil:
		return reply{}, context.Cause(ctx)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		// It ended, or was killed, with the request in its queue. All requests are
		// idempotent, so it may be asked again of the next.
		return reply{}, errNoProcess
	}
	return a, err
}

// start runs the command as launcher (see launch): it returns when a supervisor listens.
func (c *Client) start(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, c.command[0], c.command[1:]...)
	cmd.Env = append(os.Environ(), stageEnv+"="+stageLaunch)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	if text := strings.TrimSpace(string(out)); text != "" {
		return fmt.Errorf("start tunnel process: %s", text)
	}
	return fmt.Errorf("start tunnel process: %w", err)
}

func withTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, callTimeout)
}

// pause sleeps for d or until ctx is done.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
