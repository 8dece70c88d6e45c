package agent

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Notifier tells systemd how a service is (sd_notify(3)): a datagram on the socket that
// NOTIFY_SOCKET names. Its methods do nothing on a nil Notifier.
type Notifier struct {
	address  net.UnixAddr
	watchdog time.Duration // within which a sign of life is wanted; 0: none is
}

// NewNotifier returns the notifier that the environment asks for; nil if it does not. The
// variables are taken away, so that no child speaks for the service.
func NewNotifier() *Notifier {
	name := os.Getenv("NOTIFY_SOCKET")
	usec, _ := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		usec = 0
	}
	for _, v := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		_ = os.Unsetenv(v)
	}
	if name == "" {
		return nil
	}
	return &Notifier{net.UnixAddr{Name: name, Net: "unixgram"}, time.Duration(usec) * time.Microsecond}
}

// send sends a state; a supervisor that is gone is nobody's trouble.
func (n *Notifier) send(text string) {
	if n == nil {
		return
	}
	c, err := net.DialUnix("unixgram", nil, &n.address)
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	_, _ = c.Write([]byte(text))
}

func (n *Notifier) ready() { n.send("READY=1") }

// Reloading says that a reload begins; ready ends it (Type=notify-reload).
func (n *Notifier) Reloading() {
	n.send(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", monotonic()/time.Microsecond))
}

// Stopping says that the agent ends by itself.
func (n *Notifier) Stopping() { n.send("STOPPING=1") }

// run sends signs of life while alive returns in time.
func (n *Notifier) run(ctx context.Context, alive func(context.Context) error) {
	if n.watchdog <= 0 {
		return
	}
	tick := time.NewTicker(n.watchdog / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		in, cancel := context.WithTimeout(ctx, n.watchdog)
		if alive(in) == nil {
			n.send("WATCHDOG=1")
		}
		cancel()
	}
}

// monotonic returns the machine's monotonic clock, which systemd compares with its own.
func monotonic() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // it cannot fail on Linux
	return time.Duration(t.Nano())
}
