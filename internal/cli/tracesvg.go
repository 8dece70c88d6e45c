package cli

import (
	"cmp"
	"os"
	"slices"
	"strings"

	"tombolo/internal/draw"
	"tombolo/internal/spec"
	"tombolo/internal/trace"
)

// drawTrace draws a flow's way over the picture of its network, into a file or to our output.
func (a *app) drawTrace(path string, n *spec.Network, f trace.Flow, t trace.Trace, others []trace.Other) error {
	w := wayOf(n, f, t)
	w.Verdict = append(w.Verdict, describeOthers(others)...)
	picture := draw.SVGWay(n, w)
	if path == "-" {
		_, err := a.out.Write(picture)
		return err
	}
	return os.WriteFile(path, picture, 0o644)
}

// wayOf is a trace in the words of a picture.
func wayOf(n *spec.Network, f trace.Flow, t trace.Trace) *draw.Way {
	v := t.Verdict
	w := &draw.Way{Flow: describeFlow(f) + " from " + f.From.String(), Verdict: describeVerdict(v), Reason: v.Reason}
	there := stopsOf(n, t.There)
	begin := draw.Stop{}
	switch f.From.Kind {
	case trace.Host:
		begin = draw.Stop{Name: f.From.Site, LAN: true}
	case trace.Router:
		begin.Name = f.From.Site
	case trace.Device:
		begin.Name = f.From.Name
	case trace.Internet:
	}
	w.There = joined(n, append([]draw.Stop{begin}, there...))
	if len(t.Back) > 0 {
		w.Back = stopsOf(n, t.Back)
		if last := w.There[len(w.There)-1]; len(w.Back) == 0 || w.Back[0].Name != last.Name || last.LAN {
			w.Back = append([]draw.Stop{last}, w.Back...)
		}
		w.Back = joined(n, w.Back)
	}
	if !v.Delivered {
		w.Lost = &draw.Stop{Name: v.Router}
	}
	return w
}

// stopsOf are the routers that steps are at, with the uplinks that the packet itself takes, and
// where it is delivered.
func stopsOf(n *spec.Network, steps []trace.Step) []draw.Stop {
	var out []draw.Stop
	for _, s := range steps {
		if s.Depth > 0 || s.Passed {
			continue
		}
		if s.Stage == trace.Delivered {
			out = append(out, draw.Stop{Name: s.Router}, deliveredTo(s)) // what is there twice is left out later
			continue
		}
		if len(out) == 0 || out[len(out)-1].Name != s.Router {
			out = append(out, draw.Stop{Name: s.Router})
		}
		at := &out[len(out)-1]
		device := ""
		if words := strings.Fields(s.Text); len(words) == 2 {
			device = words[1]
		}
		switch {
		case !isUplink(n, s.Router, device):
		case s.Stage == trace.Arrives:
			at.In = device
		case s.Stage == trace.Leaves:
			at.Out = device
		}
	}
	return out
}

// deliveredTo is the end that a step speaks of.
func deliveredTo(s trace.Step) draw.Stop {
	to := strings.TrimPrefix(s.Text, "delivered to ")
	switch {
	case s.Router == "" || to == "outside" || strings.HasPrefix(to, "outside ("):
		return draw.Stop{}
	case strings.HasPrefix(to, s.Router+":"):
		return draw.Stop{Name: s.Router, LAN: true}
	}
	return draw.Stop{Name: to}
}

// joined leaves out what is there twice, and puts the Internet between sites that talk through it.
func joined(n *spec.Network, stops []draw.Stop) []draw.Stop {
	var out []draw.Stop
	for _, s := range stops {
		if k := len(out) - 1; k >= 0 {
			last := &out[k]
			if last.Name == s.Name && last.LAN == s.LAN {
				last.In, last.Out = cmp.Or(last.In, s.In), cmp.Or(last.Out, s.Out)
				continue
			}
			if last.Out != "" && s.In != "" && !wired(n, last.Name, s.Name) {
				out = append(out, draw.Stop{})
			}
		}
		out = append(out, s)
	}
	return out
}

// wired reports whether two sites are linked without a tunnel.
func wired(n *spec.Network, a, b string) bool {
	x, one := n.Site(a)
	y, other := n.Site(b)
	return one && other && n.Links.Has(x, y) && n.Links.Options(x, y).NoTunnel
}

func isUplink(n *spec.Network, site, device string) bool {
	i, ok := n.Site(site)
	return ok && slices.ContainsFunc(n.Sites[i].Uplinks, func(u spec.Uplink) bool { return u.Device == device })
}
