package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"tombolo/internal/tunnel"
)

// The test program is also the lab's process, and what Enter runs again.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if command, ok := commands[os.Args[1]]; ok {
			if err := command(context.Background(), os.Args[2]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	if os.Getenv(aloneVariable) != "" {
		if err := arrangeAlone(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// commands are what the test program does when it is not testing.
var commands = map[string]func(ctx context.Context, arg string) error{
	"serve": func(ctx context.Context, dir string) error {
		return Serve(ctx, dir, WireGuard{Embedded: tunnel.New(tunnelDir, []string{"/proc/self/exe", "tunnel", tunnelDir})})
	},
	"tunnel": func(ctx context.Context, dir string) error {
		return tunnel.Supervise(ctx, tunnel.Options{Dir: dir, Worker: []string{"/proc/self/exe", "tunnel-worker", dir}})
	},
	"tunnel-worker": func(ctx context.Context, dir string) error {
		return tunnel.Work(ctx, tunnel.Options{Dir: dir})
	},
	"down": Down,
	"up": func(ctx context.Context, name string) error {
		_, err := Up(ctx, Config{Name: name, Routers: examples["home"], Command: serveCommand})
		return err
	},
	"up-and-wait": func(ctx context.Context, name string) error {
		_, err := Up(ctx, Config{
			Name: name, Routers: examples["home"], Command: serveCommand,
			Start: func(ctx context.Context, l *Lab, site string) error {
				return errors.Join(stubborn(ctx, l, site), sleep(ctx))
			},
		})
		return err
	},
	"up-mesh": func(ctx context.Context, size string) error {
		n, err := strconv.Atoi(size)
		if err != nil {
			return err
		}
		start := time.Now()
		_, err = Up(ctx, Config{
			Name: "mesh" + size, Routers: mesh(n), Command: serveCommand,
			Progress: func(e Event) {
				if e.Done == e.Total {
					fmt.Printf("%6.2f s  %s\n", time.Since(start).Seconds(), e.Text)
				}
			},
		})
		fmt.Printf("%6.2f s  up\n", time.Since(start).Seconds())
		return err
	},
	"enter-and-up": func(ctx context.Context, name string) error {
		if !Privileged() {
			code, err := Enter(ctx, os.Args)
			if err == nil {
				os.Exit(code)
			}
			return err
		}
		_, err := Up(ctx, Config{Name: name, Routers: examples["home"], Command: serveCommand, Start: stubborn})
		return err
	},
	"exec": func(ctx context.Context, name string) error {
		if !Privileged() {
			if err := EnterLab(name, os.Args); err != nil {
				return err
			}
		}
		l, err := Open(name)
		if err != nil {
			return err
		}
		cmd := exec.Command(os.Args[4], os.Args[5:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		return l.Run(ctx, os.Args[3], cmd)
	},
}

// tunnelDir is the directory of a node's tunnel process.
const tunnelDir = "/run/tombolo"

var serveCommand = []string{"/proc/self/exe", "serve"}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, prefix(s))
	}
	return out
}

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, addr(s))
	}
	return out
}

// sleep waits until somebody kills us.
func sleep(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-time.After(time.Minute):
	}
	return ctx.Err()
}
