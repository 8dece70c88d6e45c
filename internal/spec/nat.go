package spec

import (
	"fmt"
	"net/netip"
)

// nat takes over whose sources are translated.
func (p *parties) nat() {
	ways := waysOut{parties: p}
	for _, d := range p.f.nat.v {
		x := NAT{Pos: d.Pos, At: d.v.at.v}
		site, known := p.siteOf(d.v.at)
		if known && p.n.Sites[site].Kind == Plain {
			p.err(d.v.at.Pos, codePlain, "translate at the next site that runs tombolo, or set it up on that router", "site %q is plain and runs nothing of ours, so it translates nothing", x.At)
		}
		if known || len(p.mapped) == 0 { // else the real prefix of a mapped LAN may be right
			x.Sources = p.sources(d.v.masquerade, site)
		}
		switch out, to := d.v.out, d.v.to; {
		case out.given && to.given:
			p.err(later(out.Pos, to.Pos), codeNAT, "`out:` is about a device, `to:` about sites, by whichever device: delete one of them", "this has both `out:` and `to:`")
		case out.ok:
			x.Out = out.v
			ways.check(out, site)
		case to.ok:
			x.To = p.towards(to.v, site)
		}
		p.n.NAT = append(p.n.NAT, x)
	}
}

// later returns the one of two places that comes later in the file.
func later(p, q Pos) Pos {
	if p.Line > q.Line || p.Line == q.Line && p.Column > q.Column {
		return p
	}
	return q
}

// sources returns whose packets are translated, as the router of a site sees them.
func (p *parties) sources(words at[[]at[string]], site int) []netip.Prefix {
	if !words.ok {
		return nil
	}
	who := p.group(words.v, site)
	if who == nil {
		return nil
	}
	if who.Internet {
		p.err(words.Pos, codeNAT, "name sites, LANs or devices, or `any` for all of the network", "`masquerade:` is about sources of this network, and the Internet's are not")
		return nil
	}
	if _, mapped := p.mapped[site]; !mapped {
		return who.Prefixes
	}
	if !p.room(words.Pos, len(who.Prefixes)) {
		return nil
	}
	out := make([]netip.Prefix, len(who.Prefixes))
	for i, q := range who.Prefixes {
		out[i] = p.inward(site, q)
	}
	return normalPrefixes(out)
}

// towards returns the names of the sites that `to:` names.
func (p *parties) towards(to []at[string], site int) []string {
	var out []string
	seen := make(map[int]bool, len(to))
	for _, name := range to {
		i, ok := p.site(name)
		switch {
		case !ok:
			continue
		case i == site:
			p.err(name.Pos, codeNAT, "name the sites that are to see its router's address, or leave `to:` out for all others", "site %q translates here what it sends to others, and this is itself", name.v)
			continue
		case seen[i]:
			p.err(name.Pos, codeNAT, "delete one of them", "site %q stands twice in `to:`", name.v)
			continue
		}
		seen[i] = true
		out = append(out, name.v)
	}
	return out
}

// waysOut knows the devices by which packets leave routers.
type waysOut struct {
	*parties

	tunnels map[string]int          // sites, by the interfaces of links to them
	own     map[int]map[string]bool // by site: devices that the file describes
}

// check reports a device that is none of a site's.
func (w *waysOut) check(out at[string], site int) {
	if !w.checkDevice(out.Pos, out.v) || site < 0 {
		return
	}
	s := &w.n.Sites[site]
	if s.Kind == Plain || w.doubt || w.f.sites.v[site].v.doubt || w.has(site, out.v) {
		return
	}
	w.err(out.Pos, codeNAT, w.hint(out.v, site), "device %q is no LAN, no uplink and no tunnel of site %q", out.v, s.Name)
}

// has reports whether a device is one of a site's: of those that the file describes, or one
// that tombolo makes there.
func (w *waysOut) has(site int, device string) bool {
	s := &w.n.Sites[site]
	switch device {
	case ClientsInterface:
		return w.isDoor(s.Name)
	case StaticInterface:
		return s.Routing == Static
	}
	if peer, is := w.peer(device); is && s.Routing == Babel && w.tunnel(site, peer) {
		return true
	}
	if w.own[site] == nil {
		w.describe(site)
	}
	return w.own[site][device]
}

func (w *waysOut) describe(site int) {
	if w.own == nil {
		w.own = map[int]map[string]bool{}
	}
	s, own := &w.n.Sites[site], map[string]bool{}
	for _, l := range s.LANs {
		own[l.Device] = true
	}
	for _, u := range s.Uplinks {
		own[u.Device] = true
	}
	for _, x := range s.Babel {
		own[x.Device] = true
	}
	w.own[site] = own
}

// peer returns the site to which an interface of this name leads.
func (w *waysOut) peer(device string) (int, bool) {
	if w.tunnels == nil {
		w.tunnels = make(map[string]int, len(w.n.Sites))
		for i := range w.n.Sites {
			w.tunnels[InterfaceName(w.n.Sites[i].Name)] = i
		}
	}
	i, is := w.tunnels[device]
	return i, is
}

// tunnel reports whether two sites have one between them.
func (w *waysOut) tunnel(x, y int) bool {
	return x != y && w.n.Links.Has(x, y) && !w.n.Links.Options(x, y).NoTunnel
}

// hint says what was probably meant by a device that a site does not have.
func (w *waysOut) hint(device string, site int) string {
	s := &w.n.Sites[site]
	other, is := w.index[device]
	if peer, tunnel := w.peer(device); tunnel {
		other, is = peer, true
	}
	switch {
	case is && other == site:
		return "its own tunnels are called after the sites at their other ends"
	case is:
		return fmt.Sprintf("towards that site, by whichever device, is `to: %s`", w.n.Sites[other].Name)
	case device == ClientsInterface:
		return "no clients enter there: the sites at which they do stand in `at:` of `clients:`"
	case w.full():
		return ""
	}
	var devices []string
	for _, l := range s.LANs {
		devices = append(devices, l.Device)
	}
	for _, u := range s.Uplinks {
		devices = append(devices, u.Device)
	}
	for _, j := range w.n.Links.Neighbours(site) {
		if s.Routing == Babel && w.tunnel(site, j) {
			devices = append(devices, InterfaceName(w.n.Sites[j].Name))
		}
	}
	if s.Routing == Static {
		devices = append(devices, StaticInterface)
	}
	if w.isDoor(s.Name) {
		devices = append(devices, ClientsInterface)
	}
	if near := nearest(device, devices); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	if len(devices) == 0 {
		return "describe one that another program made as a `lan:` or an `uplink:`"
	}
	return fmt.Sprintf("it has %s; describe one that another program made as a `lan:` or an `uplink:`", few(devices, 8))
}
