package plan

import (
	"cmp"
	"slices"
	"strings"

	"tombolo/internal/state"
)

// diffSysctls changes settings. One of an interface that the plan adds is set when the
// interface is there: nobody but the kernel's defaults can have set it.
func (d *differ) diffSysctls() {
	have := map[string]string{}
	for _, s := range d.have.Sysctls {
		have[s.Name] = s.Value
	}
	skip, fresh := map[string]bool{}, map[string]bool{}
	for _, l := range d.links {
		skip[l.name], fresh[l.name] = l.blocked, l.fresh()
	}
	want := slices.Clone(d.want.Sysctls)
	slices.SortStableFunc(want, compareSysctls)
	want = slices.CompactFunc(want, func(a, b state.Sysctl) bool { return a.Name == b.Name })
	for _, w := range want {
		of := sysctlInterface(w.Name)
		value, known := have[w.Name]
		switch {
		case skip[of]:
		case fresh[of]:
			d.change(newSysctlsPhase, Sysctl{state.Sysctl{Name: w.Name}}, Sysctl{w})
		case !known || value == w.Value || w.Only != "" && value != w.Only:
		case forwarding[w.Name] && w.Value == "1":
			d.change(forwardingPhase, Sysctl{state.Sysctl{Name: w.Name, Value: value}}, Sysctl{w})
		default:
			d.change(sysctlsPhase, Sysctl{state.Sysctl{Name: w.Name, Value: value}}, Sysctl{w})
		}
	}
}

// forwarding are the settings with which a machine becomes a router.
var forwarding = map[string]bool{"net/ipv4/ip_forward": true, "net/ipv6/conf/all/forwarding": true}

// compareSysctls puts accept_ra first: when forwarding is switched on the kernel drops the
// IPv6 default routes that it learned on devices where accept_ra is not 2
// (rt6_purge_dflt_routers in net/ipv6/route.c).
func compareSysctls(a, b state.Sysctl) int {
	ra := func(s state.Sysctl) bool { return !strings.HasSuffix(s.Name, "/accept_ra") }
	return cmp.Or(compareBools(ra(a), ra(b)), strings.Compare(a.Name, b.Name))
}

// sysctlInterface returns the interface that a setting is of, or nothing:
// net/ipv4/conf/wg-op1/rp_filter.
func sysctlInterface(name string) string {
	parts := strings.Split(name, "/")
	if len(parts) != 5 || parts[0] != "net" || parts[2] != "conf" && parts[2] != "neigh" {
		return ""
	}
	if parts[3] == "all" || parts[3] == "default" {
		return ""
	}
	return parts[3]
}
