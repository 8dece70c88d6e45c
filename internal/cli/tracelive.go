package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"tombolo/internal/spec"
	"tombolo/internal/state"
	"tombolo/internal/trace"
	"tombolo/internal/trace/learned"
)

const (
	// defaultAsk is how a site is asked for its state; it must not ask its user for anything.
	defaultAsk = "ssh -o BatchMode=yes {address} tombolo state"

	askTime = 5 * time.Second

	// silentTime is how old the handshake of a tunnel can be that carries anything: WireGuard's
	// REJECT_AFTER_TIME (§6.1 of its paper), in seconds.
	silentTime = 180
)

// live are the sites' answers.
type live struct {
	held    map[string]heldState
	assumed []string // sites that are taken as they should be, as they did not answer
	filter  []string // those whose ruleset alone is
}

// askAll asks all sites at once. Sites of which nothing is known are said.
func (a *app) askAll(ctx context.Context, n *spec.Network, command string) live {
	l := live{held: map[string]heldState{}}
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range n.Sites {
		s := &n.Sites[i]
		if s.Kind == spec.Plain {
			continue // it runs nothing of ours
		}
		all.Go(func() {
			h, err := askSite(ctx, command, s)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				a.say("warning: site %s does not say what it holds, and is taken as it should be: %v", s.Name, err)
				l.assumed = append(l.assumed, s.Name)
				return
			}
			if len(h.Drifted) > 0 {
				a.say("warning: somebody changed the ruleset of site %s; the one of the file is taken", s.Name)
				l.filter = append(l.filter, s.Name)
			}
			l.held[s.Name] = h
		})
	}
	all.Wait()
	slices.Sort(l.assumed)
	slices.Sort(l.filter)
	return l
}

// askSite asks one. No shell reads the command.
func askSite(ctx context.Context, command string, s *spec.Site) (h heldState, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	argv := strings.Fields(command)
	for i := range argv {
		argv[i] = strings.NewReplacer("{site}", s.Name, "{address}", s.Address.String()).Replace(argv[i])
	}
	if len(argv) == 0 {
		return h, errors.New("--ask is empty")
	}
	var out, diagnostics bytes.Buffer
	c := exec.CommandContext(ctx, argv[0], argv[1:]...)
	c.Stdout, c.Stderr, c.WaitDelay = &out, &diagnostics, time.Second
	if err := c.Run(); err != nil {
		if ctx.Err() != nil {
			return h, fmt.Errorf("no answer in %s", askTime)
		}
		return h, errors.New(strings.TrimSpace(complaint(diagnostics.String()) + " (" + err.Error() + ")"))
	}
	d := json.NewDecoder(&out)
	d.DisallowUnknownFields() // half a router would be taken for a whole one
	if err := d.Decode(&h); err != nil {
		return h, fmt.Errorf("read its answer: %w", err)
	}
	if h.State.Version != state.Version {
		return h, fmt.Errorf("its answer is version %d, and this program knows version %d", h.State.Version, state.Version)
	}
	if h.State.Site != s.Name {
		return h, fmt.Errorf("it says that it is site %q", h.State.Site)
	}
	return h, nil
}

// complaint is the line of what a command said that says why: our own error, which has its hint below
// it, or the last, as ssh's comes after whatever banner there is.
func complaint(text string) (line string) {
	for l := range strings.Lines(text) {
		if l = strings.TrimSpace(l); l != "" {
			line = l
		}
		if mistake, ours := strings.CutPrefix(l, "error: "); ours {
			return mistake
		}
	}
	return line
}

// enter puts roaming devices where they are, if at, the user's words, does not say where.
func (l *live) enter(w *learned.World, at []string) {
	for site, h := range l.held {
		for name, now := range h.guests() {
			if now && !slices.ContainsFunc(at, func(word string) bool { return strings.HasPrefix(word, name+"=") }) {
				w.Doors[name] = site
			}
		}
	}
}

// observe puts what sites hold in the place of what they should.
func (l *live) observe(w *learned.World) {
	w.Observed, w.LinkLocal = map[string]learned.Held{}, map[netip.Addr]learned.End{}
	for i := range w.Routers {
		r := &w.Routers[i]
		h, ok := l.held[r.Site]
		if !ok {
			continue
		}
		if len(h.Drifted) > 0 {
			h.State.Rulesets = r.Rulesets
		}
		*r = h.State
		held := learned.Held{Routes: h.Learned.Routes, Rules: h.Learned.Rules, LANs: map[string][]netip.Prefix{}}
		for device, d := range h.LANs {
			held.LANs[device] = d.Addresses
		}
		for _, devices := range []map[string]deviceState{h.LANs, h.Uplinks} {
			for device, d := range devices {
				w.LinkLocal[d.LinkLocal] = learned.End{Site: r.Site, Device: device}
			}
		}
		w.Observed[r.Site] = held
	}
	w.Uplinks = func(site, device string) ([]netip.Prefix, []netip.Addr) {
		d := l.held[site].Uplinks[device]
		return d.Addresses, d.Gateways
	}
	w.Dead, w.Down = l.dead, func(a, b string) bool { return l.silent(a, b) || l.silent(b, a) }
}

// silent reports that a router has had no handshake with another for so long that their link carries
// nothing. Of links without Babel nobody can say: on those there need be no packets.
func (l *live) silent(site, peer string) bool {
	h, ok := l.held[site]
	if !ok || h.State.Babel == nil {
		return false
	}
	for _, f := range h.State.Interfaces {
		speaks := slices.ContainsFunc(h.State.Babel.Links, func(b state.BabelLink) bool { return b.Device == f.Name && b.Tunnel })
		if !speaks || f.WireGuard == nil {
			continue
		}
		for _, p := range f.WireGuard.Peers {
			if p.Name == peer && h.Now-p.Handshake > silentTime {
				return true
			}
		}
	}
	return false
}

// guests are the roaming devices that may enter at a router; true: it has a way to it.
func (h *heldState) guests() map[string]bool {
	out := map[string]bool{}
	if h.State.Clients == nil {
		return out
	}
	for _, d := range h.State.Clients.Devices {
		out[d.Name] = slices.ContainsFunc(h.Learned.Routes, func(r state.Route) bool {
			return r.Device == h.State.Clients.Device && slices.Contains(d.Addresses, r.Dst)
		})
	}
	return out
}

// dead reports which devices carry nothing.
func (l *live) dead(site, device string) bool {
	h, ok := l.held[site]
	if !ok || device == "" {
		return false
	}
	if d, ok := h.Uplinks[device]; ok && !d.Carrier {
		return true
	}
	if d, ok := h.LANs[device]; ok && !d.Carrier {
		return true
	}
	return slices.ContainsFunc(h.State.Interfaces, func(f state.Interface) bool { return f.Name == device && f.Down })
}

// passedBy are the routers that a flow may pass.
func passedBy(ways []trace.Trace) map[string]bool {
	passed := map[string]bool{}
	for _, t := range ways {
		passed[t.Verdict.Router] = true
		for _, s := range slices.Concat(t.There, t.Back) {
			passed[s.Router] = true
		}
	}
	return passed
}

// notes returns of what routers is supposed that it is so, as nobody has seen it; nil: of all.
func (l *live) notes(passed map[string]bool) (notes []string) {
	for _, site := range l.assumed {
		if passed == nil || passed[site] {
			notes = append(notes, fmt.Sprintf("%s did not say what it holds: it is taken as it should be", site))
		}
	}
	for _, site := range l.filter {
		if passed == nil || passed[site] {
			notes = append(notes, fmt.Sprintf("%s has another ruleset than was applied: that of the file is taken", site))
		}
	}
	return notes
}
