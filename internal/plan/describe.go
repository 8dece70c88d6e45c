package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tombolo/internal/state"
)

// field is one thing that can be said of an object. List, if set, is the value as parts
// that come and go by themselves.
type field struct {
	name, value string
	list        []netip.Prefix
}

// describe returns what an object is called below its heading, and its fields.
func describe(o Object) (label string, fields []field) {
	switch o := o.(type) {
	case Interface:
		return "interface", interfaceFields(o)
	case Address:
		return "address " + o.Prefix.String(), nil
	case Peer:
		label = "peer " + o.PublicKey.String()
		if o.Name != "" {
			label = strings.TrimSuffix("peer "+o.Name+" "+o.PublicKey.String(), " ")
		}
		return label, peerFields(o)
	case Route:
		label = routeDestination(o.Dst)
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
		return sysctlName(o.Name), []field{{"", o.Value, nil}}
	}
	panic(fmt.Sprintf("plan: there is no object %T", o))
}

func interfaceFields(i Interface) []field {
	out := []field{{"mtu", fmt.Sprint(i.MTU), nil}}
	if w := i.WireGuard; w != nil {
		public := w.PublicKey.String()
		if public == "" {
			public = "not known"
		}
		out = append(out,
			field{"listen port", unless(w.ListenPort == 0, fmt.Sprint(w.ListenPort), "any"), nil},
			field{"fwmark", unless(w.FwMark == 0, fwMark(w.FwMark), ""), nil},
			field{"public key", public, nil})
	}
	// The alias may be somebody else's text.
	out = append(out, field{"alias", unless(i.Alias == "", fmt.Sprintf("%q", i.Alias), ""), nil})
	return append(out, field{"state", unless(i.Down, "", "down"), nil})
}

func peerFields(p Peer) []field {
	return []field{
		{"endpoint", endpoint(p), nil},
		{"allowed IPs", joinPrefixes(p.AllowedIPs), p.AllowedIPs},
		{"preshared key", unless(p.Preshared == state.UnknownKey, string(p.Preshared), "not ours"), nil},
		{"keepalive", unless(p.Keepalive == 0, fmt.Sprintf("%d s", p.Keepalive), ""), nil},
	}
}

func routeFields(r state.Route) []field {
	var gateway, source string
	if r.Gateway.IsValid() {
		gateway = r.Gateway.String()
	}
	if r.PrefSrc.IsValid() {
		source = r.PrefSrc.String()
	}
	return []field{
		{"type", unless(r.Type == state.Unicast, string(r.Type), ""), nil},
		{"via", gateway, nil},
		{"dev", r.Device, nil},
		{"onlink", unless(!r.OnLink, "yes", ""), nil},
		{"src", source, nil},
	}
}

// unless returns value, or other where the condition holds.
func unless(condition bool, value, other string) string {
	if condition {
		return other
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
			change := unless(b.value == "", b.value, "none") + " → " + unless(f.value == "", f.value, "none")
			words = append(words, strings.TrimSpace(f.name+" "+change))
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
