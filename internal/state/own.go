package state

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
)

// OwnsInterface reports whether the interface is ours: its alias is Owner.Alias, or that
// and more words.
func (o Owner) OwnsInterface(i Interface) bool {
	return o.Alias != "" && (i.Alias == o.Alias || strings.HasPrefix(i.Alias, o.Alias+" "))
}

// OwnsRoute reports whether the route is ours.
func (o Owner) OwnsRoute(r Route) bool { return o.Protocol != 0 && r.Protocol == o.Protocol }

// OwnsRule reports whether the rule is ours: in our range, and with our protocol.
func (o Owner) OwnsRule(r Rule) bool {
	return o.Protocol != 0 && r.Protocol == o.Protocol && o.RuleFirst <= r.Priority && r.Priority <= o.RuleLast
}

// OwnsRuleset reports whether the nftables table is ours.
func (o Owner) OwnsRuleset(r Ruleset) bool { return o.RulesetTable != "" && r.Table == o.RulesetTable }

// RulesetDigest returns the digest of a ruleset's text: 32 hexadecimal digits of SHA-256.
func RulesetDigest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:16])
}

// Sort puts every list in its canonical order: interfaces, devices and forwards by name, peers by
// key and name, prefixes by address and length, routes by table, destination, source and
// metric, rules by priority and then by every other field, Babel's links by device, the rest of it by prefix,
// clients by name.
func (r *Router) Sort() {
	slices.SortFunc(r.LANs, func(a, b LAN) int { return cmp.Compare(a.Device, b.Device) })
	sortForwards(r.Forwards)
	slices.SortFunc(r.Interfaces, func(a, b Interface) int { return cmp.Compare(a.Name, b.Name) })
	for i := range r.Interfaces {
		r.Interfaces[i].sort()
	}
	slices.SortFunc(r.Routes, CompareRoutes)
	slices.SortFunc(r.Rules, CompareRules)
	slices.SortFunc(r.Rulesets, func(a, b Ruleset) int {
		return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(a.Table, b.Table))
	})
	slices.SortFunc(r.Sysctls, func(a, b Sysctl) int { return cmp.Compare(a.Name, b.Name) })
	if r.Babel != nil {
		r.Babel.sort()
	}
	if r.Clients != nil {
		r.Clients.sort()
	}
}

func (c *Clients) sort() {
	slices.SortFunc(c.Devices, func(a, b Client) int { return cmp.Compare(a.Name, b.Name) })
	for i := range c.Devices {
		slices.SortFunc(c.Devices[i].Addresses, ComparePrefixes)
	}
}

func (b *Babel) sort() {
	slices.SortFunc(b.Links, func(x, y BabelLink) int { return cmp.Compare(x.Device, y.Device) })
	for i := range b.Links {
		slices.SortFunc(b.Links[i].Foreign, ComparePrefixes)
		slices.Sort(b.Links[i].Only)
	}
	slices.SortFunc(b.Announce, func(x, y Announcement) int {
		return cmp.Or(ComparePrefixes(x.Dst, y.Dst), ComparePrefixes(x.Src, y.Src), cmp.Compare(x.Device, y.Device), cmp.Compare(x.Peer, y.Peer))
	})
	slices.SortFunc(b.Accept, func(x, y Accept) int {
		return cmp.Or(ComparePrefixes(x.Dst, y.Dst), ComparePrefixes(x.Src, y.Src))
	})
	for i := range b.Accept {
		slices.Sort(b.Accept[i].Origins)
	}
	slices.SortFunc(b.Exits, func(x, y ExitTable) int { return ComparePrefixes(x.Src, y.Src) })
}

func (i *Interface) sort() {
	slices.SortFunc(i.Addresses, ComparePrefixes)
	if i.WireGuard == nil {
		return
	}
	peers := i.WireGuard.Peers
	slices.SortFunc(peers, func(a, b Peer) int {
		return cmp.Or(slices.Compare(a.PublicKey[:], b.PublicKey[:]), cmp.Compare(a.Name, b.Name))
	})
	for j := range peers {
		slices.SortFunc(peers[j].AllowedIPs, ComparePrefixes)
	}
}

// ComparePrefixes orders prefixes by address (IPv4 first), then by length.
func ComparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// CompareRoutes orders routes by table, destination, source and metric, then by the rest.
func CompareRoutes(a, b Route) int {
	return cmp.Or(
		cmp.Compare(a.Table, b.Table),
		ComparePrefixes(a.Dst, b.Dst),
		ComparePrefixes(a.Src, b.Src),
		cmp.Compare(a.Metric, b.Metric),
		cmp.Compare(a.Protocol, b.Protocol),
		cmp.Compare(a.Type, b.Type),
		cmp.Compare(a.Device, b.Device),
		a.Gateway.Compare(b.Gateway),
		a.PrefSrc.Compare(b.PrefSrc),
		compareBools(a.OnLink, b.OnLink),
	)
}

// CompareRules orders rules by priority, family (IPv4 first), then by the rest.
func CompareRules(a, b Rule) int {
	return cmp.Or(
		cmp.Compare(a.Priority, b.Priority),
		compareBools(a.IPv6, b.IPv6),
		ComparePrefixes(a.From, b.From),
		ComparePrefixes(a.To, b.To),
		cmp.Compare(a.IIF, b.IIF),
		cmp.Compare(a.OIF, b.OIF),
		cmp.Compare(a.Mark, b.Mark),
		cmp.Compare(a.Mask, b.Mask),
		cmp.Compare(a.Action, b.Action),
		cmp.Compare(a.Table, b.Table),
		cmp.Compare(a.Suppress, b.Suppress),
		cmp.Compare(a.IPProto, b.IPProto),
		cmp.Compare(a.DPort, b.DPort),
		cmp.Compare(a.Protocol, b.Protocol),
	)
}

func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

// Learned returns the protocol number of the routes that a speaker learns, and of the rules
// that lead to them. It is not ours in the sense of OwnsRoute: no plan touches those.
func (o Owner) Learned() uint8 { return o.Protocol + 1 }

// Following is the protocol number of the routes and rules that follow the uplinks. They are
// not ours in the sense of OwnsRoute either.
func (o Owner) Following() uint8 { return o.Protocol + 2 }
