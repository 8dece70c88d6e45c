package compile

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tombolo/internal/spec"
	"tombolo/internal/state"
)

// everyTunnel stands for all interfaces of links and for the clients', where there are
// several: a list of each pair of them would be long.
const everyTunnel = "wg-*"

// babelPort is the UDP port of speakers (RFC 8966 §4).
const babelPort = 6696

// forwards says between which devices a site's router must let new connections pass. It is
// what the file asks for and no more: what is opened elsewhere by this list stays as narrow as
// the list is. A link without a tunnel by the device of an uplink is not in it, since by the same
// device the Internet comes in; who has one must tell its packets by their addresses.
func (c *compiler) forwards(i int, r *state.Router) []state.Forward {
	f := forwards{lans: lanDevices(r), direct: c.direct(i, r), tunnels: c.tunnels(i, r)}
	for _, u := range r.Uplinks {
		f.uplinks = append(f.uplinks, u.Device)
	}
	f.sites()
	f.exits(c, i, r)
	f.published(c, i)
	f.router(&c.n.Sites[i], r)
	return f.out
}

// forwards is what the list is made of.
type forwards struct {
	lans, uplinks []string
	direct        []string // of the LANs those by which other sites are reached without a tunnel
	tunnels       []tunnel
	out           []state.Forward
}

// tunnel is a device by which other sites or clients are reached, or all of them.
type tunnel struct {
	device string
	itself bool   // what comes in by it may leave by it
	whose  string // other sites, clients, or both
}

func (f *forwards) add(in, out, why string, only ...state.Flow) {
	f.out = append(f.out, state.Forward{In: in, Out: out, Why: why, Only: only})
}

// tunnels returns the devices by which traffic comes from elsewhere.
func (c *compiler) tunnels(i int, r *state.Router) []tunnel {
	var out []tunnel
	var whose []string
	each := 0
	for _, x := range carriers(r) {
		t := tunnel{x.Name, c.static[i] && len(x.WireGuard.Peers) > 1, "other sites"}
		if x.Name == spec.ClientsInterface {
			t.itself, t.whose = true, "clients"
		}
		if !slices.Contains(whose, t.whose) {
			whose = append(whose, t.whose)
		}
		if matches(everyTunnel, x.Name) {
			each++
		}
		out = append(out, t)
	}
	if each > 1 {
		out = slices.DeleteFunc(out, func(t tunnel) bool { return matches(everyTunnel, t.device) })
		slices.Sort(whose)
		slices.Reverse(whose)
		out = append(out, tunnel{everyTunnel, true, strings.Join(whose, " and ")})
	}
	return out
}

// carriers returns the interfaces that may carry something: that of the clients, and those with
// a peer that may send from any address. A link between regions that is no door has none.
func carriers(r *state.Router) []state.Interface {
	var out []state.Interface
	for _, x := range r.Interfaces {
		if x.Name == spec.ClientsInterface || slices.ContainsFunc(x.WireGuard.Peers, func(p state.Peer) bool { return len(p.AllowedIPs) > 0 }) {
			out = append(out, x)
		}
	}
	return out
}

// matches reports whether a device is meant by a name that may end in a *.
func matches(name, device string) bool {
	begin, all := strings.CutSuffix(name, "*")
	return name == device || all && strings.HasPrefix(device, begin)
}

func lanDevices(r *state.Router) []string {
	var out []string
	for _, l := range r.LANs {
		out = append(out, l.Device)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// direct returns the LANs by which other sites are reached without a tunnel.
func (c *compiler) direct(i int, r *state.Router) []string {
	var out []string
	for _, d := range lanDevices(r) {
		if c.joined(i, d) {
			out = append(out, d)
		}
	}
	return out
}

// sites are what goes between this site and others, and between others.
func (f *forwards) sites() {
	for _, l := range f.lans {
		for _, t := range f.tunnels {
			f.add(l, t.device, "from the LAN to "+t.whose)
			f.add(t.device, l, "from "+t.whose+" to the LAN")
		}
		for _, d := range f.direct {
			switch {
			case l == d:
			case slices.Contains(f.direct, l):
				f.add(l, d, "between other sites") // and the other way in its own turn
			default:
				f.add(l, d, "from the LAN to other sites")
				f.add(d, l, "from other sites to the LAN")
			}
		}
	}
	for _, t := range f.tunnels {
		for _, o := range f.tunnels {
			switch {
			case t != o:
				f.add(t.device, o.device, "from "+t.whose+" to "+o.whose)
			case t.itself:
				f.add(t.device, t.device, "between "+t.whose)
			}
		}
	}
}

// exits are what leaves by the uplinks: from the LANs, unless it may not, and from elsewhere
// if it is to leave here.
func (f *forwards) exits(c *compiler, i int, r *state.Router) {
	here := func(e exit) bool {
		return slices.Contains(e.via, i) && slices.ContainsFunc(e.homes, func(h int) bool { return h != i || c.fromClients(&e) })
	}
	exit, clients := slices.ContainsFunc(c.exits, here), r.Clients != nil && c.clientsLeave(i)
	ended := c.ended(i)
	for _, u := range f.uplinks {
		for _, l := range f.lans {
			if !slices.Contains(ended, l) {
				f.add(l, u, "from the LAN to the Internet")
			}
		}
		for _, t := range f.tunnels {
			switch {
			case exit:
				f.add(t.device, u, "from "+t.whose+" to the Internet")
			case clients && matches(t.device, spec.ClientsInterface):
				f.add(spec.ClientsInterface, u, "from clients to the Internet")
			}
		}
	}
}

// fromClients reports whether an exit's source is that of roaming devices.
func (c *compiler) fromClients(e *exit) bool {
	return slices.ContainsFunc(c.clients.pool, func(p netip.Prefix) bool { return p.Overlaps(e.src) })
}

// clientsLeave reports whether there are roaming devices whose Internet traffic leaves at the
// door that they are at: the file says so, or it is all theirs and nothing else is said of it.
func (c *compiler) clientsLeave(door int) bool {
	if slices.ContainsFunc(c.exits, func(e exit) bool { return c.fromClients(&e) && e.leavesAt(door) }) {
		return true
	}
	return slices.ContainsFunc(c.n.Clients.Devices, func(d spec.Device) bool {
		return d.Full && !slices.ContainsFunc(c.exits, func(e exit) bool { return e.src.Contains(d.Address) })
	})
}

// published are the ports that a site publishes, from its uplinks to where their hosts are, and
// from its own LANs when the host is in one of them: it may be asked by the uplink's address.
func (f *forwards) published(c *compiler, i int) {
	s := &c.n.Sites[i]
	type pair struct{ in, out string }
	only := map[pair][]state.Flow{}
	for _, p := range c.published(s) {
		to, port := target(s, p), p.To.Port()
		flow := state.Flow{Protocol: p.Protocol, First: port, Last: port + uint16(p.Port.Last-p.Port.First), To: to}
		add := func(in, out string) { only[pair{in, out}] = append(only[pair{in, out}], flow) }
		lan := slices.IndexFunc(s.LANs, func(l spec.LAN) bool {
			return slices.ContainsFunc(l.Prefixes, func(m spec.Mapped) bool { return m.Prefix.Contains(to) })
		})
		if lan >= 0 {
			for _, in := range slices.Concat(f.uplinks, f.lans) {
				add(in, s.LANs[lan].Device)
			}
			continue
		}
		for _, t := range f.tunnels {
			for _, u := range f.uplinks {
				add(u, t.device)
			}
			if !t.itself {
				add(t.device, t.device) // who asks from where the host is
			}
		}
		for _, d := range f.direct {
			for _, u := range f.uplinks {
				add(u, d)
			}
		}
	}
	for p, flows := range only {
		f.add(p.in, p.out, "published: "+flowsText(flows), flows...)
	}
}

// router is what comes in to the router itself: its tunnels' own packets, where others can
// dial it, and by tunnels all.
func (f *forwards) router(s *spec.Site, r *state.Router) {
	var flows []state.Flow
	for _, x := range carriers(r) {
		if port := x.WireGuard.ListenPort; s.Dialable(int(port)) {
			flows = append(flows, state.Flow{Protocol: "udp", First: port, Last: port})
		}
	}
	if flows = joined(flows); len(flows) > 0 {
		for _, u := range f.uplinks {
			f.add(u, "", "WireGuard: "+flowsText(flows), slices.Clone(flows)...)
		}
	}
	speaks := r.Babel != nil && len(r.Babel.Links) > 0
	for _, t := range f.tunnels {
		why := "ping"
		if speaks && t.device != spec.ClientsInterface {
			why = "Babel, ping"
		}
		f.add(t.device, "", why)
	}
	if r.Babel == nil {
		return
	}
	for _, l := range r.Babel.Links {
		if !l.Tunnel {
			flow := state.Flow{Protocol: "udp", First: babelPort, Last: babelPort}
			f.add(l.Device, "", "Babel: "+flowsText([]state.Flow{flow}), flow)
		}
	}
}

// joined puts ports that follow each other into one range.
func joined(flows []state.Flow) []state.Flow {
	slices.SortFunc(flows, func(a, b state.Flow) int { return cmp.Compare(a.First, b.First) })
	var out []state.Flow
	for _, x := range flows {
		if n := len(out); n > 0 && int(x.First) <= int(out[n-1].Last)+1 {
			out[n-1].Last = max(out[n-1].Last, x.Last)
			continue
		}
		out = append(out, x)
	}
	return out
}

// manyFlows is how many are named.
const manyFlows = 8

// flowsText names flows: udp 51820-51823, tcp 443 to 192.168.36.10.
func flowsText(flows []state.Flow) string {
	var words []string
	for k, x := range flows {
		if k == manyFlows {
			words = append(words, fmt.Sprintf("and %d more", len(flows)-k))
			break
		}
		w := fmt.Sprintf("%s %d", x.Protocol, x.First)
		if x.Last > x.First {
			w += fmt.Sprintf("-%d", x.Last)
		}
		if x.To.IsValid() {
			w += " to " + x.To.String()
		}
		words = append(words, w)
	}
	return strings.Join(words, ", ")
}
