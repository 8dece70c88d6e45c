package trace

import (
	"tombolo/internal/state"
	"tombolo/internal/trace/ruleset"
)

// netdev is one of a router's devices.
type netdev struct {
	name    string
	inRules ruleset.Device   // as the ruleset has it
	made    *state.Interface // nil: it is there without us
	uplink  *uplink          // nil: it is none
	links   []link           // a tunnel's peers
	mtu     int              // 0: not known
	strict  bool             // rp_filter=1
	accepts bool             // accept_local=1
	dead    bool
	checked bool // an uplink of which it is not known that it has no carrier, if it is dead
}

// device returns one of a router's by its name. One that nothing else speaks of is there without us.
func (r *router) device(name string) *netdev {
	if d := r.devices[name]; d != nil {
		return d
	}
	return &netdev{name: name, inRules: ruleset.Device{Name: name}}
}

// has is device, and remembers it.
func (r *router) has(name string) *netdev {
	d := r.device(name)
	if r.table != nil {
		d.inRules = r.table.Device(name)
	}
	r.devices[name] = d
	return d
}

// gone reports whether the routes by a device are gone: it is down, or a tunnel that is said not to work.
// Those by one that has lost its carrier stay (fib_table_lookup in net/ipv4/fib_trie.c).
func (d *netdev) gone() bool { return d.made != nil && (d.made.Down || d.dead) }

// up reports whether a device can carry packets. What a check finds out about an uplink lies farther
// off: its wire works, with whoever else is on that.
func (d *netdev) up() bool { return !d.dead || d.checked }

// outward reports whether a device is there without us.
func (d *netdev) outward() bool { return d.links == nil }

// named is the name of a device that there may not be.
func (d *netdev) named() ruleset.Device {
	if d == nil {
		return ruleset.Device{}
	}
	return d.inRules
}
