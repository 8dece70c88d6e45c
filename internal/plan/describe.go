package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tombolo/internal/state"
)

// field is one thing that can be said of an object. An empty value goes without saying;
// where it changes, it is called usual. List, if set, is the value as parts that come and
// go by themselves.
type field struct {
	name, value, usual string
	list               []netip.Prefix
}

func (f field) said() string {
	if f.value == "" {
		return f.usual
	}
	return f.value
}

// describe returns what an object is called below its heading, and its fields.
func describe(o Object) (label string, fields []field) {
	switch o := o.(type) {
	case Interface:
		return "interface", interfaceFields(o)
	case Address:
		return "address " + o.Prefix.String(), nil
	case Peer:
		words := []string{"peer", o.Name, o.PublicKey.String()}
		return strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), " "), peerFields(o)
	case Route:
		label = o.Dst.String()
		if o.Src.IsValid() {
			label += " from " + o.Src.String()
		}
		if o.Metric != 0 {
			label += fmt.Sprintf(" metric %d", o.Metric)
		}
		return label, routeFields(o.Route)
	case Rule:
		return o.ID(), nil
	case Sysctl:
		return sysctlName(o.Name), []field{{value: o.Value, usual: "the default"}}
	}
	panic(fmt.Sprintf("plan: there is no object %T", o))
}

func interfaceFields(i Interface) []field {
	out := []field{{name: "mtu", value: fmt.Sprint(i.MTU)}}
	if w := i.WireGuard; w != nil {
		out = append(out,
			field{name: "listen port", value: unless(w.ListenPort == 0, fmt.Sprint(w.ListenPort)), usual: "any"},
			field{name: "fwmark", value: unless(w.FwMark == 0, fwMark(w.FwMark)), usual: "off"},
			field{name: "public key", value: w.PublicKey.String(), usual: "one that is not known"})
	}
	return append(out,
		// The alias may be somebody else's text.
		field{name: "alias", value: unless(i.Alias == "", fmt.Sprintf("%q", i.Alias)), usual: "none"},
		field{name: "state", value: unless(!i.Down, "down"), usual: "up"})
}

func peerFields(p Peer) []field {
	preshared := string(p.Preshared)
	if p.Preshared == state.UnknownKey {
		preshared = "one that is not ours"
	}
	return []field{
		{name: "endpoint", value: endpoint(p), usual: "none"},
		{name: "allowed IPs", value: strings.ReplaceAll(joinPrefixes(p.AllowedIPs), ",", " "), list: p.AllowedIPs},
		{name: "preshared key", value: preshared, usual: "none"},
		{name: "keepalive", value: unless(p.Keepalive == 0, fmt.Sprintf("%d s", p.Keepalive)), usual: "off"},
	}
}

func routeFields(r state.Route) []field {
	return []field{
		{name: "type", value: unless(r.Type == state.Unicast, string(r.Type)), usual: string(state.Unicast)},
		{name: "via", value: unless(!r.Gateway.IsValid(), r.Gateway.String()), usual: "none"},
		{name: "dev", value: r.Device, usual: "none"},
		{name: "onlink", value: unless(!r.OnLink, "on"), usual: "off"},
		{name: "src", value: unless(!r.PrefSrc.IsValid(), r.PrefSrc.String()), usual: "none"},
	}
}

// unless returns value, or nothing where the condition holds.
func unless(condition bool, value string) string {
	if condition {
		return ""
	}
	return value
}

// say returns the fields that have a value: ": mtu 1420, listen port 51821".
func say(fields []field) string {
	var words []string
	for _, f := range fields {
		if f.value != "" {
			words = append(words, strings.TrimSpace(f.name+" "+f.value))
		}
	}
	if len(words) == 0 {
		return ""
	}
	return ": " + strings.Join(words, ", ")
}

// sayChange returns the fields that differ: ": mtu 1420 → 1380, allowed IPs +10.0.0.0/8".
func sayChange(before, after []field) string {
	was := map[string]field{}
	for _, f := range before {
		was[f.name] = f
	}
	var words []string
	for _, f := range after {
		b := was[f.name]
		switch {
		case b.value == f.value:
		case len(b.list)+len(f.list) > 0:
			words = append(words, f.name+sayMoves(b.list, f.list))
		default:
			words = append(words, strings.TrimSpace(f.name+" "+b.said()+" → "+f.said()))
		}
	}
	if len(words) == 0 {
		return ": set again"
	}
	return ": " + strings.Join(words, ", ")
}

func sayMoves(before, after []netip.Prefix) string {
	var s string
	for _, p := range after {
		if !slices.Contains(before, p) {
			s += " +" + p.String()
		}
	}
	for _, p := range before {
		if !slices.Contains(after, p) {
			s += " -" + p.String()
		}
	}
	return s
}
