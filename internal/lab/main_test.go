package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"testing"

	"tombolo/internal/state"
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
		_, err := Up(ctx, Config{Name: name, Routers: home(), Command: serveCommand})
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

// home is what the compiler makes of examples/home.yaml, as far as a lab looks at it.
func home() []state.Router {
	return []state.Router{
		{
			Network: "home", Site: "op1", Endpoints: []string{"op1.example.net:51820"},
			LANs:    []state.LAN{{Device: "br-lan", Prefixes: prefixes("192.168.35.0/24")}},
			Uplinks: []state.Uplink{{Device: "eth0", DHCP: true, MTU: 1500}},
		},
		{
			Network: "home", Site: "op2",
			LANs:    []state.LAN{{Device: "br-lan", Prefixes: prefixes("192.168.36.0/24")}},
			Uplinks: []state.Uplink{{Device: "eth0", DHCP: true, MTU: 1500}},
		},
		{
			Network: "home", Site: "op3", Endpoints: []string{"203.0.113.3:51820"},
			LANs: []state.LAN{{Device: "br-lan", Prefixes: prefixes("192.168.37.0/24", "fd00:37::/64")}},
			Uplinks: []state.Uplink{{
				Device: "eth0", MTU: 1500,
				Addresses: prefixes("203.0.113.3/24"), Gateways: []netip.Addr{addr("203.0.113.1")},
			}},
		},
	}
}
