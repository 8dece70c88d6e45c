package kernel

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"tombolo/internal/state"
)

// Obstacle is a place where another program's firewall stops what must pass.
type Obstacle struct {
	In  string `json:"in"`            // of the Forward; or those of its devices that are meant
	Out string `json:"out,omitempty"` // empty: the router itself
	Why string `json:"why"`           // it must pass: of the Forward

	Answers bool         `json:"answers,omitempty"` // it stops what answers, which goes from In to Out
	Only    []state.Flow `json:"only,omitempty"`    // what of it is stopped, where not everything must pass
	What    []string     `json:"what,omitempty"`    // of what is stopped; none: all of it

	Family   string   `json:"family"` // of the table
	Table    string   `json:"table"`
	Chain    string   `json:"chain"`            // the base chain
	Within   string   `json:"within,omitempty"` // the chain of the rule, where it is another
	Rule     string   `json:"rule,omitempty"`   // as nft writes it; empty: the base chain's policy
	Firewall Firewall `json:"firewall"`         // whose it is

	// Perhaps says that a rule may let it pass which looks at what is not known of it: Unless.
	Perhaps bool   `json:"perhaps,omitempty"`
	Unless  string `json:"unless,omitempty"`
}

// Obstacles are what stops at a router what must pass.
type Obstacles struct {
	Found []Obstacle

	// Zones are the zones of OpenWrt's firewall that have the devices of the Forwards, as they
	// are named there.
	Zones map[string]string
}

// Obstacles reads the nftables tables that are not ours, those of iptables-nft too, and returns
// what in them stops what must pass according to want.Forwards. What is in iptables-legacy is not
// seen, nor what is done before packets are forwarded: in the hooks prerouting and ingress.
func (k *Kernel) Obstacles(ctx context.Context, want state.Router) (Obstacles, error) {
	if err := k.here(); err != nil {
		return Obstacles{}, err
	}
	there, err := allTables()
	if err != nil || len(want.Forwards) == 0 || !slices.ContainsFunc(there, func(t table) bool { return t.name != k.options.Owner.RulesetTable }) {
		return Obstacles{}, err
	}
	listing, err := k.nft.run(ctx, "", "-j", "list", "ruleset")
	if err != nil {
		return Obstacles{}, fmt.Errorf("read the rules of other programs: %w", err)
	}
	texts, err := k.nft.run(ctx, "", "-t", "-a", "list", "ruleset")
	if err != nil {
		return Obstacles{}, fmt.Errorf("read the rules of other programs: %w", err)
	}
	f, err := readFilter([]byte(listing), texts, k.options.Owner.RulesetTable)
	if err != nil {
		return Obstacles{}, err
	}
	return f.obstacles(want), nil
}

// obstacles returns what stops what must pass.
func (f *filter) obstacles(want state.Router) Obstacles {
	all := Obstacles{Zones: map[string]string{}}
	x := search{filter: f, want: want}
	for _, r := range want.Rulesets {
		x.translated = x.translated || strings.Contains(r.Text, "dnat")
	}
	for _, w := range want.Forwards {
		for _, d := range []string{w.In, w.Out} {
			if zone := f.zone(x.devices(d)); d != "" && zone != "" {
				all.Zones[d] = zone
			}
		}
		all.Found = append(all.Found, x.forward(w)...)
	}
	return all
}

// search looks for obstacles to what one router wants.
type search struct {
	*filter
	want       state.Router
	translated bool // there are destinations that our own table translates
}

// devices returns the devices that a name means, also those that are only planned.
func (x *search) devices(name string) []string {
	begin, all := strings.CutSuffix(name, "*")
	if !all {
		return []string{name}
	}
	var out []string
	for _, i := range x.want.Interfaces {
		if strings.HasPrefix(i.Name, begin) {
			out = append(out, i.Name)
		}
	}
	slices.Sort(out)
	return out
}

// kinds puts devices together that no rule tells apart. Of three hundred links two or three
// need to be walked for.
func (x *search) kinds(name string) [][]string {
	if name == "" {
		return [][]string{{""}}
	}
	var wild []string
	for w := range x.words {
		if strings.HasSuffix(w, "*") {
			wild = append(wild, w)
		}
	}
	slices.Sort(wild)
	at := map[string]int{}
	var out [][]string
	for _, d := range x.devices(name) {
		sign := ""
		if x.words[d] {
			sign = d
		}
		for _, w := range wild {
			if strings.HasPrefix(d, strings.TrimSuffix(w, "*")) {
				sign += " " + w
			}
		}
		k, met := at[sign]
		if !met {
			k = len(out)
			at[sign] = k
			out = append(out, nil)
		}
		out[k] = append(out[k], d)
	}
	return out
}

// forward returns the obstacles to one Forward.
func (x *search) forward(w state.Forward) []Obstacle {
	ins, outs := x.kinds(w.In), x.kinds(w.Out)
	at := map[place]int{} // how many pairs it stops
	var found []Obstacle
	pairs := 0
	for _, in := range ins {
		for _, out := range outs {
			pair := [2]string{in[0], out[len(out)-1]} // of one kind two, if there are two
			if pair[0] == pair[1] && len(ins) > 1 {
				continue // from one tunnel to itself nothing goes
			}
			pairs++
			for _, o := range x.pair(w, pair) {
				o.In, o.Out = named(w.In, in), named(w.Out, out)
				at[place{o.Family, o.Table, o.Chain, o.Answers}]++
				found = append(found, o)
			}
		}
	}
	met := map[where]bool{}
	out := found[:0]
	for _, o := range found {
		if at[place{o.Family, o.Table, o.Chain, o.Answers}] == pairs {
			o.In, o.Out = w.In, w.Out
		}
		if o.Answers {
			o.In, o.Out = o.Out, o.In
		}
		if k := (where{place{o.Family, o.Table, o.Chain, o.Answers}, o.In, o.Out}); !met[k] {
			met[k] = true
			out = append(out, o)
		}
	}
	return out
}

// place is a base chain, and which way.
type place struct {
	family, table, chain string
	answers              bool
}

// where tells obstacles apart.
type where struct {
	place
	in, out string
}

// named returns the name for devices of one kind: their own, where it is one of many.
func named(name string, devices []string) string {
	if len(devices) == 1 {
		return devices[0]
	}
	return name
}

// pair returns the obstacles between two devices.
func (x *search) pair(w state.Forward, pair [2]string) []Obstacle {
	var found []Obstacle
	hook := "forward"
	if pair[1] == "" {
		hook = "input"
	}
	for _, t := range x.tables {
		for _, c := range t.bases {
			if c.hook != hook {
				continue
			}
			if o, ok := x.stopped(t, c, w, x.packets(w, pair, false)); ok {
				found = append(found, o)
			}
			if pair[1] == "" || x.openBack(w) {
				continue
			}
			if o, ok := x.stopped(t, c, w, x.packets(w, pair, true)); ok {
				o.Answers = true
				found = append(found, o)
			}
		}
	}
	return found
}

// openBack reports whether everything must pass the other way too, so that nothing needs to be
// said of answers.
func (x *search) openBack(w state.Forward) bool {
	return slices.ContainsFunc(x.want.Forwards, func(o state.Forward) bool {
		return o.In == w.Out && o.Out == w.In && len(o.Only) == 0
	})
}
