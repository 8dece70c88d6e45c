package main

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// frr is FRR with OSPF: three programs on each router, which drop root.
type frr struct {
	rivalHomes
	tuned bool
}

const frrPrograms = "/usr/lib/frr"

func (f frr) start(ctx context.Context, t *triangle) error {
	return onRouters(ctx, func(ctx context.Context, site string) error {
		if err := addSubnets(ctx, t, site); err != nil {
			return err
		}
		dir, err := frrFolder(t, site)
		if err != nil {
			return err
		}
		path := func(name string) string { return filepath.Join(dir, name) }
		programs := []string{"zebra", "ospfd"}
		if f.tuned {
			programs = []string{"zebra", "bfdd", "ospfd"}
		}
		for _, name := range programs {
			config := path(name + ".conf")
			if err := os.WriteFile(config, []byte(f.config(site, name)), 0o644); err != nil {
				return err
			}
			argv := []string{filepath.Join(frrPrograms, name), "-f", config, "-i", path(name + ".pid"),
				"-z", path("zebra.api"), "--vty_socket", dir, "-P", "0", "--log", "stdout", "--log-level", "warnings"}
			if name == "bfdd" {
				argv = append(argv, "--bfdctl", path("bfdd.sock"))
			}
			if err := t.begin(ctx, site, argv...); err != nil {
				return err
			}
			if name == "zebra" {
				if err := awaitFile(ctx, t, path("zebra.api")); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// frrFolder makes the folder of FRR's programs on a router anew, for their own user.
func frrFolder(t *triangle, site string) (string, error) {
	who, err := user.Lookup("frr")
	if err != nil {
		return "", err
	}
	uid, err := strconv.Atoi(who.Uid)
	if err != nil {
		return "", err
	}
	gid, err := strconv.Atoi(who.Gid)
	if err != nil {
		return "", err
	}
	dir := t.path(site, "frr")
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	return dir, os.Chown(dir, uid, gid)
}

// awaitFile waits until a program has made a file.
func awaitFile(ctx context.Context, t *triangle, path string) error {
	for range 500 {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		if err := t.running(); err != nil {
			return err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return fmt.Errorf("nobody makes %s", path)
}

func (f frr) config(site, program string) string {
	switch program {
	case "bfdd":
		return "bfd\n profile fast\n  detect-multiplier 3\n  receive-interval 100\n  transmit-interval 100\n"
	case "ospfd":
	default:
		return ""
	}
	var s strings.Builder
	for _, n := range neighbours(site) {
		fmt.Fprintf(&s, "interface %s\n ip ospf network point-to-point\n ip ospf cost %d\n", n.device, n.rtt)
		if f.tuned {
			s.WriteString(" ip ospf dead-interval minimal hello-multiplier 5\n ip ospf bfd\n ip ospf bfd profile fast\n")
		}
	}
	fmt.Fprintf(&s, `router ospf
 ospf router-id %s
 passive-interface br-lan
 passive-interface lo
 network 10.99.0.0/16 area 0
 network 192.168.0.0/16 area 0
 network 10.0.31.0/24 area 0
`, overlayOf(site))
	return s.String()
}
