package cli

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"tombolo/internal/compile"
	"tombolo/internal/key"
	"tombolo/internal/spec"
	"tombolo/internal/state"
	"tombolo/internal/trace/learned"
)

func (a *app) traceCommand() *cobra.Command {
	var o traceOptions
	c := &cobra.Command{
		Use:   "trace FILE FROM TO [PROTOCOL/PORT]",
		Short: "Follow a flow through the network that a file describes, and its answer back",
		Long: `Follow a flow through the network that a file describes, and its answer back: at every router
what Linux does with it, in its order, and why. Nothing is sent and nothing needs to run.

FROM and TO are SITE:ADDRESS for a host, SITE for a router, DEVICE for a roaming device, an
address for whoever has it, or outside. The protocol is icmp, or as in tcp/22 or 22/tcp. TO is also
SITE:PORT/PROTOCOL, a published port at the site's public address. SITE and DEVICE as TO have the
family of FROM's address.

With --svg it is also drawn over the picture that ` + "`draw`" + ` makes of the network: the way there, the
way back dashed, and a cross where it is lost.

With --live it is followed through what the routers hold now. All are asked at once, by ssh as
--ask says. A router that does not answer is taken as it should be, and that is said.

Where a route has several next hops, the flow is followed by the first, and what becomes of it by the
others is said if that differs.

The exit code is 0 if it is delivered and answered by whatever way, and 2 if it is lost.`,
		Example: `  tombolo trace home.yaml op2:192.168.36.10 8.8.8.8 udp/53
  tombolo trace home.yaml phone op3:192.168.37.5 tcp/22 --at phone=op2
  tombolo trace home.yaml outside office:8443/tcp
  tombolo trace home.yaml op2 op3 --down op2-op3
  tombolo trace home.yaml op2:192.168.36.10 8.8.8.8 --svg way.svg
  tombolo trace home.yaml op2 op3 --live --ask "ssh root@{site} tombolo state"`,
		Args:              cobra.RangeArgs(3, 4),
		ValidArgsFunction: a.completeFlow,
		RunE:              func(c *cobra.Command, args []string) error { return a.trace(c.Context(), args, &o) },
	}
	o.flags(a, c)
	c.Flags().IntVar(&o.size, "size", 0, "how large the packets are, in bytes with the headers of IP; 0: they fit")
	c.Flags().BoolVarP(&o.all, "all", "a", false, "print also what was looked at and did not match")
	c.Flags().StringVar(&o.svg, "svg", "", "a file to draw the way into; - prints the picture instead of the steps")
	return c
}

// worldOf is what the file describes, with what does not work, and where devices are.
func worldOf(n *spec.Network, down, at []string) (learned.World, error) {
	w := learned.World{Doors: map[string]string{}, Takes: map[string][]netip.Prefix{}}
	devices, err := standIns(n)
	if err != nil {
		return w, err
	}
	w.Routers = compile.All(n, compile.Options{Keys: devices})
	links, dead := map[[2]string]bool{}, map[[2]string]bool{}
	for _, word := range down {
		site, device, isDevice := strings.Cut(word, "/")
		i, isSite := n.Site(site)
		switch {
		case isSite && isDevice:
			if devices := devicesOf(&w.Routers[i]); !slices.Contains(devices, device) {
				return w, hinted{fmt.Errorf("--down: site %q has no device %q", site, device), "its devices are " + strings.Join(devices, ", ")}
			}
			dead[[2]string{site, device}] = true
		case isSite:
			dead[[2]string{site, ""}] = true
		default:
			a, b, ok := linkOf(n, word)
			if !ok {
				return w, hinted{fmt.Errorf("--down: there is no site or link %q", word), "sites, links as A-B, or SITE/DEVICE"}
			}
			links[[2]string{a, b}] = true
		}
	}
	w.Down = func(a, b string) bool { return links[[2]string{a, b}] || links[[2]string{b, a}] }
	w.Dead = func(site, device string) bool { return dead[[2]string{site, device}] || dead[[2]string{site, ""}] }
	if n.Clients != nil {
		for _, d := range n.Clients.Devices {
			w.Doors[d.Name], w.Takes[d.Name] = n.Clients.At[0], destinations(n, d.Full)
		}
		for i := range n.Sites {
			if n.Roams(i) {
				w.Doors[n.Sites[i].Name] = n.Clients.At[0]
			}
		}
	}
	for _, word := range at {
		device, site, ok := strings.Cut(word, "=")
		if _, known := w.Doors[device]; !ok || !known {
			return w, hinted{fmt.Errorf("--at: there is no roaming device %q", device), "DEVICE=SITE"}
		}
		if site != "" && !slices.Contains(n.Clients.At, site) {
			return w, hinted{fmt.Errorf("--at: %q is no door", site), "doors are " + strings.Join(n.Clients.At, ", ")}
		}
		w.Doors[device] = site
	}
	return w, nil
}

// devicesOf are those of a router that may be dead.
func devicesOf(r *state.Router) (out []string) {
	for i := range r.Interfaces {
		out = append(out, r.Interfaces[i].Name)
	}
	for i := range r.LANs {
		out = append(out, r.LANs[i].Device)
	}
	for i := range r.Uplinks {
		out = append(out, r.Uplinks[i].Device)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// destinations are what a roaming device sends into its tunnel; nil: everything.
func destinations(n *spec.Network, full bool) []netip.Prefix {
	if full {
		return nil
	}
	out := []netip.Prefix{n.Overlay, n.Overlay6, n.Clients.Pool}
	for i := range n.Sites {
		for _, l := range n.Sites[i].LANs {
			for _, m := range l.Prefixes {
				out = append(out, m.Outside())
			}
		}
		for _, segment := range n.Sites[i].Babel {
			out = append(out, segment.Accept...)
		}
	}
	return out
}

// standIns gives every site and device without a key one that stands for it: where packets go
// does not depend on which.
func standIns(n *spec.Network) (map[string]key.Public, error) {
	out := map[string]key.Public{}
	stand := func(name string, have key.Public) error {
		if !have.IsZero() {
			return nil
		}
		private, err := key.NewPrivate(rand.Reader)
		if err == nil {
			out[name] = private.Public()
		}
		return err
	}
	for i := range n.Sites {
		if err := stand(n.Sites[i].Name, n.Sites[i].Key); err != nil {
			return nil, err
		}
	}
	if n.Clients == nil {
		return out, nil
	}
	for _, d := range n.Clients.Devices {
		if err := stand(d.Name, d.Key); err != nil {
			return nil, err
		}
	}
	return out, stand(spec.AccessKey, n.Clients.Key)
}

// linkOf finds two sites in A-B; names may have hyphens themselves.
func linkOf(n *spec.Network, word string) (a, b string, ok bool) {
	for i := range word {
		if word[i] != '-' {
			continue
		}
		x, oneIs := n.Site(word[:i])
		y, otherIs := n.Site(word[i+1:])
		if oneIs && otherIs && n.Links.Has(x, y) {
			return word[:i], word[i+1:], true
		}
	}
	return "", "", false
}
