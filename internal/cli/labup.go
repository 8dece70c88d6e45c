//go:build !router

package cli

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"tombolo/internal/compile"
	"tombolo/internal/key"
	"tombolo/internal/lab"
	"tombolo/internal/spec"
	"tombolo/internal/state"
)

// labUp is a lab that is about to come up.
type labUp struct {
	name    string
	network file
	routers []state.Router
	clients []lab.Client
	file    lab.File
}

// loadLab reads a network file and its lab file.
func (a *app) loadLab(path, labPath, name string) (labUp, error) {
	n, err := a.parse(path, false)
	if err != nil {
		return labUp{}, err
	}
	var text []byte
	asked := labPath != ""
	if !asked {
		labPath = strings.TrimSuffix(path, filepath.Ext(path)) + ".lab" + filepath.Ext(path)
	}
	if text, err = readFile(labPath); err != nil && (asked || !errors.Is(err, fs.ErrNotExist)) {
		return labUp{}, fmt.Errorf("read lab file: %w", err)
	}
	return a.newLab(n, labPath, text, name)
}

func (a *app) newLab(n file, labPath string, text []byte, name string) (labUp, error) {
	up := labUp{name: name, network: n, routers: compile.All(n.Network, compile.Options{}), clients: labClients(n.Network)}
	if name == "" {
		up.name = n.Name
	}
	// Who can be dialled comes first: see upLab.
	slices.SortStableFunc(up.routers, func(x, y state.Router) int {
		return cmp.Compare(min(1, len(y.Endpoints)), min(1, len(x.Endpoints)))
	})
	var mistakes lab.Mistakes
	up.file, mistakes = lab.ParseFile(labPath, text, up.routers, up.clients)
	for _, m := range mistakes {
		fmt.Fprint(a.err, spec.Diagnostic{Severity: spec.Error, File: m.File, Line: m.Line, Column: m.Column,
			Message: m.Message, Hint: m.Hint, Excerpt: m.Excerpt})
	}
	if len(mistakes) > 0 {
		return up, exitCode(exitError)
	}
	return up, nil
}

// upLab brings the lab up: its routers run `tombolo apply`, as they would anywhere.
func (a *app) upLab(ctx context.Context, up labUp) (*lab.Lab, error) {
	p := a.newProgress()
	defer p.end()
	var prepare sync.Once
	var prepared error
	// A handshake with a router that is not there yet is lost, and WireGuard tries again
	// after five seconds: so whoever dials waits for those who can be dialled.
	var waiting atomic.Int32
	answering := make(chan struct{}) // closed when all who can be dialled were started
	for _, r := range up.routers {
		if len(r.Endpoints) > 0 {
			waiting.Add(1)
		}
	}
	dials := map[string]bool{}
	for _, r := range up.routers {
		dials[r.Site] = len(r.Endpoints) == 0 && waiting.Load() > 0
	}
	return lab.Up(ctx, lab.Config{
		Name: up.name, Routers: up.routers, Clients: up.clients, File: up.file,
		Command:  []string{selfExe, "lab", "serve"},
		Progress: p.show,
		Start: func(ctx context.Context, l *lab.Lab, site string) error {
			prepare.Do(func() { prepared = prepareLab(l, up) })
			if prepared != nil {
				return prepared
			}
			if dials[site] {
				select {
				case <-answering:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			if err := startRouter(ctx, l, site); err != nil || dials[site] {
				return err
			}
			if waiting.Add(-1) == 0 {
				close(answering)
			}
			return nil
		},
	})
}

const (
	labNetwork = "network.yaml" // in the lab's folder: a copy of the network file
	labKeys    = "keys"         // and the keys of all
)

// prepareLab puts what the routers need into the lab's folder. On real routers nobody has
// the private keys of all.
func prepareLab(l *lab.Lab, up labUp) error {
	if err := os.WriteFile(filepath.Join(l.Dir(), labNetwork), up.network.text, 0o600); err != nil {
		return fmt.Errorf("copy the network file: %w", err)
	}
	store := key.Store{Dir: filepath.Join(l.Dir(), labKeys)}
	for _, r := range up.routers {
		if _, _, err := store.Make(key.Ref(r.Site), rand.Reader); err != nil {
			return err
		}
		if r.Babel != nil {
			for _, l := range r.Babel.Links {
				if l.Key == "" {
					continue
				}
				if _, _, err := store.MakeMAC(key.Ref(l.Key), rand.Reader); err != nil {
					return err
				}
			}
		}
		for _, f := range r.Interfaces {
			for _, p := range f.WireGuard.Peers {
				if p.Preshared == "" {
					continue
				}
				if _, _, err := store.MakePreshared(p.Preshared, rand.Reader); err != nil {
					return err
				}
			}
		}
	}
	return prepareClients(l, up.network.Network, store)
}

func startRouter(ctx context.Context, l *lab.Lab, site string) error {
	c := exec.CommandContext(ctx, selfExe, "apply", filepath.Join(l.Dir(), labNetwork),
		"--site", site, "--keys", filepath.Join(l.Dir(), labKeys), "--partial", "--lab")
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := l.Run(ctx, site, c); err != nil {
		return fmt.Errorf("apply: %w\n%s", err, out.String())
	}
	return nil
}

// overlayOrAddr returns the address by which a node is reached: a router's overlay
// address, another node's own.
func overlayOrAddr(l *lab.Lab, n lab.Node) (netip.Addr, error) {
	if n.Kind != lab.RouterNode {
		return n.Addr(), nil
	}
	network, err := labNetworkOf(l)
	if err != nil {
		return netip.Addr{}, err
	}
	i, _ := network.Site(n.Site)
	return network.Sites[i].Address, nil
}
