package lab

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
)

// providers is what the providers at core's end of the uplinks do: drop what comes with a
// source that is not theirs (BCP 38), count what they are handed, and nothing at all where
// they are dead.
type providers struct {
	devices []string       // core's ends
	own4    []devicePrefix // the sources that each lets in
	own6    []devicePrefix
	mute    []deviceMAC // what comes from these vanishes
}

// deviceMAC is what comes in by a device of core from one MAC address.
type deviceMAC struct {
	device, mac string
}

// everySource4 and everySource6 are what each provider lets in: a host that has no address
// yet, and link-local addresses, which are not forwarded.
var (
	everySource4 = netip.MustParsePrefix("0.0.0.0/32")
	everySource6 = []netip.Prefix{netip.MustParsePrefix("::/128"), netip.MustParsePrefix("fe80::/10")}
)

// providers returns what holds now. Uplinks that share a wire may have each other's
// sources, as with a provider that knows the wire's prefix alone.
func (l *layout) providers(mute map[string]bool) providers {
	alone := l.alone()
	var p providers
	for _, s := range l.segments {
		p.devices = append(p.devices, s.device)
		p.own4 = append(p.own4, devicePrefix{s.device, everySource4})
		for _, six := range everySource6 {
			p.own6 = append(p.own6, devicePrefix{s.device, six})
		}
	}
	for _, r := range l.routers {
		for i := range r.uplinks {
			u := &r.uplinks[i]
			device := l.segments[u.segment].device
			for _, source := range u.sources(alone[u.segment]) {
				if source.Addr().Is4() {
					p.own4 = append(p.own4, devicePrefix{device, source})
				} else {
					p.own6 = append(p.own6, devicePrefix{device, source})
				}
			}
			if mute[u.place()] {
				p.mute = append(p.mute, deviceMAC{device, u.mac.String()})
			}
		}
	}
	p.devices = sorted(p.devices, strings.Compare)
	p.own4, p.own6 = disjoint(p.own4), disjoint(p.own6)
	return p
}

// sources returns what an uplink may send from: what lies at it, by its own addresses.
func (u *uplink) sources(alone bool) []netip.Prefix {
	own := *u
	own.alias = netip.Addr{}
	return own.prefixes(alone)
}

// maxFlows bounds the lines of a table of counters.
const maxFlows = 65535

// The counters: one line for each pair of addresses and protocol that an uplink has sent.
var counterSets = []string{"sent4", "sent6", "wrong4", "wrong6"}

// ruleset returns core's nftables table for it, for nft -f. It leaves alone what was
// counted. That comes before all others look at a packet, so sources are the uplinks' own.
func (p providers) ruleset() string {
	var s strings.Builder
	s.WriteString("table inet providers {\n")
	plain := []struct{ name, form string }{
		{"uplinks", "type iface_index"},
		{"own4", "type iface_index . ipv4_addr; flags interval"},
		{"own6", "type iface_index . ipv6_addr; flags interval"},
		{"mute", "type iface_index . ether_addr"},
	}
	for _, set := range plain {
		fmt.Fprintf(&s, "\tset %s { %s; }\n", set.name, set.form)
	}
	for _, name := range counterSets {
		address := "ipv4_addr"
		if strings.HasSuffix(name, "6") {
			address = "ipv6_addr"
		}
		fmt.Fprintf(&s, "\tset %s { type iface_index . ether_addr . %[2]s . %[2]s . inet_proto; size %[3]d; flags dynamic; }\n",
			name, address, maxFlows)
	}
	chains := []string{"right", "wrong", "enter"}
	s.WriteString("\tchain right { }\n\tchain wrong { }\n")
	s.WriteString("\tchain enter { type filter hook prerouting priority -310; policy accept; }\n}\n")
	for _, set := range plain {
		fmt.Fprintf(&s, "flush set inet providers %s\n", set.name)
	}
	for _, chain := range chains {
		fmt.Fprintf(&s, "flush chain inet providers %s\n", chain)
	}
	s.WriteString("table inet providers {\n")
	source := func(d devicePrefix) string { return quote(d.device) + " . " + d.prefix.String() }
	elements(&s, plain[0].name, plain[0].form, p.devices, quote)
	elements(&s, plain[1].name, plain[1].form, p.own4, source)
	elements(&s, plain[2].name, plain[2].form, p.own6, source)
	elements(&s, plain[3].name, plain[3].form, p.mute, func(m deviceMAC) string { return quote(m.device) + " . " + m.mac })
	count := func(set, family string) string {
		return fmt.Sprintf("update @%s { iif . ether saddr . %[2]s saddr . %[2]s daddr . meta l4proto counter }", set, family)
	}
	dead := "" // no rule costs no time
	if len(p.mute) > 0 {
		dead = "\t\tiif . ether saddr @mute drop\n"
	}
	fmt.Fprintf(&s, `	chain right {
		%s
		%s
%s	}
	chain wrong {
		%s
		%s
		drop
	}
	chain enter {
		iif != @uplinks return
		iif . ip saddr @own4 goto right
		iif . ip6 saddr @own6 goto right
		goto wrong
	}
}
`, count("sent4", "ip"), count("sent6", "ip6"), dead, count("wrong4", "ip"), count("wrong6", "ip6"))
	return s.String()
}

// elements adds elements to a set, if there are any.
func elements[T any](s *strings.Builder, name, form string, list []T, text func(T) string) {
	if len(list) == 0 {
		return
	}
	words := make([]string, len(list))
	for i, e := range list {
		words[i] = text(e)
	}
	fmt.Fprintf(s, "\tset %s { %s; elements = { %s }; }\n", name, form, strings.Join(words, ", "))
}

// filter tells the providers what holds now.
func (d *daemon) filter(ctx context.Context) error {
	ruleset := d.layout.providers(d.paths.muted()).ruleset()
	if ruleset == d.filtered {
		return nil
	}
	if err := d.nodes[d.layout.core].load(ctx, ruleset); err != nil {
		return err
	}
	d.filtered = ruleset
	return nil
}
