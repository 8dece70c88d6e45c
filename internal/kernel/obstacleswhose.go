package kernel

import "slices"

// Firewall is whose a table is, as far as it says in which words it is changed.
type Firewall string

// The firewalls that are known.
const (
	FirewallFW4      Firewall = "fw4" // OpenWrt's
	FirewallUFW      Firewall = "ufw"
	FirewallDocker   Firewall = "docker"   // its rules in iptables
	FirewallIPTables Firewall = "iptables" // other rules of iptables-nft
	FirewallNFT      Firewall = "nft"
)

// firewall returns whose a base chain is.
func (t *filterTable) firewall(c *filterChain) Firewall {
	xtables := t.family != "inet" && t.name == "filter" && (c.name == "FORWARD" || c.name == "INPUT")
	switch {
	case t.table == table{"inet", "fw4"}:
		return FirewallFW4
	case xtables && (t.chains["ufw-user-forward"] != nil || t.chains["ufw6-user-forward"] != nil):
		return FirewallUFW
	case xtables && t.chains["DOCKER-USER"] != nil && c.hook == "forward":
		return FirewallDocker
	case xtables:
		return FirewallIPTables
	}
	return FirewallNFT
}

// zone returns the zone that OpenWrt's firewall has for devices: it writes `iifname "br-lan" jump
// forward_lan`. Empty where there is none for all of them.
func (f *filter) zone(devices []string) string {
	zone := ""
	for k, d := range devices {
		z := ""
		for _, t := range f.tables {
			if (t.table == table{"inet", "fw4"}) {
				z = t.zone(d)
			}
		}
		if z == "" || k > 0 && z != zone {
			return ""
		}
		zone = z
	}
	return zone
}

func (t *filterTable) zone(device string) string {
	const begin = "forward_"
	c := t.chains["forward"]
	if c == nil {
		return ""
	}
	w := walk{sample: sample{in: device, protocol: "tcp"}, table: t}
	for _, r := range c.rules {
		k := slices.IndexFunc(r.statements, func(s object) bool { v, ok := verdictOf(s); return ok && v.verb == "jump" })
		if k < 0 {
			continue
		}
		v, _ := verdictOf(r.statements[k])
		if len(v.target) <= len(begin) || v.target[:len(begin)] != begin {
			continue
		}
		held := always
		for _, s := range r.statements[:k] {
			if s["match"] != nil {
				held = min(held, w.holds(&r, s))
			}
		}
		if held != never {
			return v.target[len(begin):]
		}
	}
	return ""
}
