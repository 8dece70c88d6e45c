package cli

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tombolo/internal/kernel"
	"tombolo/internal/state"
)

// ourZone is the zone of OpenWrt's firewall that has the tunnels where no other has.
const ourZone = "tombolo"

// fw4 makes UCI commands for OpenWrt's firewall.
type fw4 struct {
	want  state.Router
	zones map[string]string // of devices
	lines []string
	made  map[string]bool // sections
}

// fw4Mend returns the commands that let through what OpenWrt's firewall stops. Where the tunnels
// are in no zone, they make one, with all that it needs.
func fw4Mend(want state.Router, stopped []kernel.Obstacle, zones map[string]string) []string {
	w := fw4{want: want, zones: zones, made: map[string]bool{}}
	var need []state.Forward
	for _, f := range want.Forwards {
		if w.fresh(f.In) || w.fresh(f.Out) {
			need = append(need, f)
		}
	}
	for _, o := range stopped {
		if o.Answers {
			continue // it always lets them through
		}
		f := state.Forward{In: o.In, Out: o.Out, Why: o.Why, Only: o.Only}
		if !slices.ContainsFunc(need, func(n state.Forward) bool { return n.In == f.In && n.Out == f.Out && n.Why == f.Why }) {
			need = append(need, f)
		}
	}
	return w.commands(need)
}

// fw4Commands returns the commands for all that a router needs, on a router whose devices are
// in the zones that OpenWrt ships.
func fw4Commands(want state.Router) []string {
	w := fw4{want: want, zones: map[string]string{}, made: map[string]bool{}}
	for _, l := range want.LANs {
		w.zones[l.Device] = strings.TrimPrefix(l.Device, "br-")
	}
	for _, u := range want.Uplinks {
		w.zones[u.Device] = "wan"
	}
	return w.commands(want.Forwards)
}

// fresh reports whether a device is a tunnel that is in no zone.
func (w *fw4) fresh(device string) bool { return w.tunnel(device) && w.zones[device] == "" }

// tunnel reports whether a device, or each of those that a name means, is one that we make.
func (w *fw4) tunnel(device string) bool {
	return strings.HasSuffix(device, "*") || slices.ContainsFunc(w.want.Interfaces, func(i state.Interface) bool { return i.Name == device })
}

func (w *fw4) zone(device string) string {
	if w.fresh(device) {
		return ourZone
	}
	return w.zones[device]
}

func (w *fw4) commands(need []state.Forward) []string {
	w.makeZone(need)
	for _, f := range need {
		in, out := w.zone(f.In), w.zone(f.Out)
		switch {
		case in == "":
			w.once("# %s is in no zone: put it into one, and ask again", f.In)
		case f.Out != "" && out == "":
			w.once("# %s is in no zone: put it into one, and ask again", f.Out)
		case len(f.Only) > 0:
			w.rules(in, out, f.Only)
		case f.Out == "":
			if !w.fresh(f.In) {
				w.policy(in, "input")
			}
		case in == out:
			if !w.fresh(f.In) {
				w.policy(in, "forward")
			}
		default:
			w.section("forwarding", "tombolo_"+in+"_"+out, "src", in, "dest", out)
		}
	}
	return append(w.lines, "uci commit firewall", "fw4 check && service firewall reload")
}

// makeZone makes the zone of the tunnels, if they are in none.
func (w *fw4) makeZone(need []state.Forward) {
	var devices []string
	input, forward := "REJECT", "REJECT"
	for _, f := range need {
		for _, d := range []string{f.In, f.Out} {
			if !w.fresh(d) {
				continue
			}
			if strings.HasPrefix(d, "wg-") {
				d = "wg-*" // and those that come later
			}
			if !slices.Contains(devices, plus(d)) {
				devices = append(devices, plus(d))
			}
		}
		switch {
		case f.Out == "" && w.fresh(f.In):
			input = "ACCEPT"
		case w.fresh(f.In) && w.fresh(f.Out):
			forward = "ACCEPT"
		}
	}
	if len(devices) == 0 {
		return
	}
	w.section("zone", ourZone, "name", ourZone, "input", input, "output", "ACCEPT", "forward", forward)
	for _, d := range devices {
		w.once("uci add_list firewall.%s.device='%s'", ourZone, d)
	}
}

// policy changes what a zone that is there does by default.
func (w *fw4) policy(zone, what string) {
	if zone == ourZone {
		w.once("uci set firewall.%s.%s='ACCEPT'", ourZone, what)
		return
	}
	w.once("# zone %s: option %s 'ACCEPT'", zone, what)
}

// rules let flows through, into the router or to another zone.
func (w *fw4) rules(in, out string, flows []state.Flow) {
	type group struct {
		protocol string
		to       netip.Addr
	}
	ports := map[group][]string{}
	var order []group
	for _, f := range flows {
		g := group{f.Protocol, f.To}
		if ports[g] == nil {
			order = append(order, g)
		}
		ports[g] = append(ports[g], portRange(f, "-"))
	}
	for _, g := range order {
		name := "tombolo_" + in + "_" + g.protocol
		options := []string{"name", "tombolo", "src", in}
		if out != "" {
			name = "tombolo_" + in + "_" + out + "_" + g.protocol
			options = append(options, "dest", out)
		}
		if g.to.IsValid() {
			name += "_" + g.to.String()
			options = append(options, "dest_ip", g.to.String())
		}
		w.section("rule", name, append(options, "proto", g.protocol, "dest_port", strings.Join(ports[g], " "), "target", "ACCEPT")...)
	}
}

// section makes a section anew.
func (w *fw4) section(kind, name string, options ...string) {
	name = sectionName(name)
	if w.made[name] {
		return
	}
	w.made[name] = true
	w.lines = append(w.lines, "uci -q delete firewall."+name, fmt.Sprintf("uci set firewall.%s='%s'", name, kind))
	for i := 0; i+1 < len(options); i += 2 {
		w.lines = append(w.lines, fmt.Sprintf("uci set firewall.%s.%s='%s'", name, options[i], options[i+1]))
	}
}

func (w *fw4) once(format string, args ...any) {
	if line := fmt.Sprintf(format, args...); !slices.Contains(w.lines, line) {
		w.lines = append(w.lines, line)
	}
}

// sectionName is a name as UCI takes one for a section: letters, digits and _.
func sectionName(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return '_'
	}, name)
}
