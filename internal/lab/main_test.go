package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"testing"
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
	os.Exit(m.Run())
}

// commands are what the test program does when it is not testing.
var commands = map[string]func(ctx context.Context, arg string) error{
	"serve": Serve,
	"down":  Down,
	"up": func(ctx context.Context, name string) error {
		_, err := Up(ctx, Config{Name: name, Routers: examples["home"], Command: serveCommand})
		return err
	},
	"exec": func(ctx context.Context, name string) error {
		l, err := Open(name)
		if err != nil {
			return err
		}
		cmd := exec.Command(os.Args[4], os.Args[5:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		return l.Run(ctx, os.Args[3], cmd)
	},
}

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
