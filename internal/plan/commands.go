package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tombolo/internal/key"
	"tombolo/internal/state"
)

// Commands returns what the operation is in the words of ip, wg, nft and sysctl, one
// element for each command; a command may have several lines. Everything in them is quoted
// for a POSIX shell. Keys stand there as the files that hold them, below keys/, and what
// is not known as a placeholder in <angle brackets>.
func (o Op) Commands() []string {
	switch s := o.subject().(type) {
	case Interface:
		return interfaceCommands(o, s)
	case Address:
		c := fmt.Sprintf("ip address %s %s dev %s", shortVerb(o.Verb), s.Prefix, quote(s.Interface))
		if o.Verb == Add && s.Prefix.Addr().Is6() {
			c += " nodad" // a tentative address is no route's preferred source
			if s.Prefix.IsSingleIP() {
				c += " noprefixroute" // as IPv4 has none for a /32
			}
		}
		return []string{c}
	case Peer:
		return peerCommands(o, s)
	case Route:
		return []string{routeCommand(routeVerb(o.Verb), s.Route)}
	case Rule:
		return []string{ruleCommand(o.Verb, s.Rule)}
	case Ruleset:
		return []string{rulesetCommand(o.Verb, s.Ruleset)}
	case Sysctl:
		return sysctlCommands(o, s)
	}
	return nil
}

func shortVerb(v Verb) string {
	if v == Remove {
		return "del"
	}
	return "add"
}

func routeVerb(v Verb) string {
	if v == Change {
		return "replace"
	}
	return shortVerb(v)
}

// interfaceCommands sets WireGuard's port before the interface comes up, since it takes
// any free one otherwise.
func interfaceCommands(o Op, i Interface) []string {
	name := quote(i.Name)
	if o.Verb == Remove {
		return []string{"ip link del " + name}
	}
	var before state.Interface
	var out, set []string
	if o.Verb == Add {
		out = append(out, fmt.Sprintf("ip link add %s type %s", name, quote(string(i.Interface.Kind))))
		before.Down = true
	} else {
		before = o.Before.(Interface).Interface
	}
	if w := wireGuardWords(before, i.Interface); len(w) > 0 {
		out = append(out, "wg set "+name+" "+strings.Join(w, " "))
	}
	if i.MTU != before.MTU {
		set = append(set, "mtu", fmt.Sprint(i.MTU))
	}
	if i.Alias != before.Alias {
		set = append(set, "alias", quote(i.Alias))
	}
	if i.Down != before.Down {
		set = append(set, map[bool]string{false: "up", true: "down"}[i.Down])
	}
	if len(set) > 0 {
		out = append(out, "ip link set "+name+" "+strings.Join(set, " "))
	}
	for _, op := range expand(i.Interface)[1:] {
		out = append(out, op.Commands()...)
	}
	return out
}

// wireGuardWords returns the arguments of wg set that make one device another.
func wireGuardWords(before, after state.Interface) []string {
	if after.WireGuard == nil {
		return nil
	}
	b, w := wireGuard(&before), after.WireGuard
	var out []string
	if w.ListenPort != b.ListenPort {
		out = append(out, "listen-port", fmt.Sprint(w.ListenPort))
	}
	if w.FwMark != b.FwMark {
		out = append(out, "fwmark", fwMark(w.FwMark))
	}
	if w.PublicKey != b.PublicKey || w.PublicKey.IsZero() {
		out = append(out, "private-key", privateFile(*w))
	}
	return out
}

func fwMark(mark uint32) string {
	if mark == 0 {
		return "off"
	}
	return fmt.Sprintf("0x%08x", mark)
}

// privateFile returns the word by which a shell gives a private key to wg.
func privateFile(w state.WireGuard) string {
	if w.PrivateKey == "" {
		return quote(fmt.Sprintf("<private key of %s>", w.PublicKey))
	}
	return quote(fmt.Sprintf("keys/%s.key", w.PrivateKey))
}

func presharedFile(ref key.Ref, p Peer) string {
	switch ref {
	case "":
		return "/dev/null" // how wg is told that there is none
	case state.UnknownKey:
		return quote(fmt.Sprintf("<preshared key of %s>", peerName(p)))
	}
	return quote(fmt.Sprintf("keys/%s.psk", ref))
}

// peerName returns the name of a peer, or its key where it has none.
func peerName(p Peer) string {
	if p.Name == "" {
		return p.PublicKey.String()
	}
	return p.Name
}

func peerCommands(o Op, p Peer) []string {
	words := []string{"wg set", quote(p.Interface), "peer", publicKey(p)}
	if o.Verb == Remove {
		return []string{strings.Join(append(words, "remove"), " ")}
	}
	var before state.Peer
	if o.Verb == Change {
		before = o.Before.(Peer).Peer
	}
	if p.Preshared != before.Preshared {
		words = append(words, "preshared-key", presharedFile(p.Preshared, p))
	}
	if e := endpoint(p); e != "" && (o.Verb == Add || !slices.Equal(p.Addresses, before.Addresses)) {
		words = append(words, "endpoint", quote(e))
	}
	if !slices.Equal(p.AllowedIPs, before.AllowedIPs) {
		words = append(words, "allowed-ips", quote(joinPrefixes(p.AllowedIPs)))
	}
	if p.Keepalive != before.Keepalive {
		words = append(words, "persistent-keepalive", fmt.Sprint(p.Keepalive))
	}
	return []string{strings.Join(words, " ")}
}

func publicKey(p Peer) string {
	if p.PublicKey.IsZero() {
		return quote(fmt.Sprintf("<public key of %s>", p.Name))
	}
	return p.PublicKey.String()
}

// endpoint returns where the peer is reached: the address, or the first name where none is
// resolved, or nothing.
func endpoint(p Peer) string {
	switch {
	case len(p.Addresses) > 0:
		return p.Addresses[0].String()
	case len(p.Endpoints) > 0:
		return p.Endpoints[0]
	}
	return ""
}

func joinPrefixes(list []netip.Prefix) string {
	words := make([]string, len(list))
	for i, p := range list {
		words[i] = p.String()
	}
	return strings.Join(words, ",")
}

func routeCommand(verb string, r state.Route) string {
	ip := "ip route"
	if r.Dst.Addr().Is6() {
		ip = "ip -6 route"
	}
	dst := r.Dst.String()
	if r.Dst.Bits() == 0 {
		dst = "default"
	}
	return fmt.Sprintf("%s %s %s table %s proto %d%s", ip, verb, routeWay(r, dst), tableName(r.Table), r.Protocol, routeRest(r))
}

// routeWay returns a route's type, destination and way. With the family of the command
// the destination may be called default.
func routeWay(r state.Route, dst string) string {
	var words []string
	if r.Type != state.Unicast && r.Type != "" {
		words = append(words, string(r.Type))
	}
	words = append(words, dst)
	if r.Src.IsValid() {
		words = append(words, "from", r.Src.String())
	}
	if r.Gateway.IsValid() {
		words = append(words, "via")
		if r.Gateway.Is6() && r.Dst.Addr().Is4() {
			words = append(words, "inet6")
		}
		words = append(words, r.Gateway.String())
	}
	if r.Device != "" {
		words = append(words, "dev", quote(r.Device))
	}
	if r.OnLink {
		words = append(words, "onlink")
	}
	return strings.Join(words, " ")
}

// routeRest returns a route's metric and source, each with a space before it.
func routeRest(r state.Route) string {
	var s string
	if r.Metric != 0 {
		s += fmt.Sprintf(" metric %d", r.Metric)
	}
	if r.PrefSrc.IsValid() {
		s += " src " + r.PrefSrc.String()
	}
	return s
}

func ruleCommand(v Verb, r state.Rule) string {
	ip := "ip rule"
	if r.IPv6 {
		ip = "ip -6 rule"
	}
	return fmt.Sprintf("%s %s %s protocol %d", ip, shortVerb(v), ruleText(r), r.Protocol)
}

// rulesetCommand puts a table in the place of the old one in one transaction.
func rulesetCommand(v Verb, r state.Ruleset) string {
	table := quote(r.Family) + " " + quote(r.Table)
	if v == Remove {
		return "nft delete table " + table
	}
	var old string
	if v == Change {
		old = fmt.Sprintf("delete table %s %s\n", r.Family, r.Table)
	}
	return "nft -f - <<'EOF'\n" + old + strings.TrimSuffix(r.Text, "\n") + "\nEOF"
}

// sysctlCommands asks first where only one value is to be changed and the plan does not
// know the value.
func sysctlCommands(o Op, s Sysctl) []string {
	if s.Value == "" {
		return nil // gone with its interface
	}
	name := sysctlName(s.Name)
	set := "sysctl -w " + quote(name+"="+s.Value)
	if s.Only != "" && o.Before.(Sysctl).Value == "" {
		set = fmt.Sprintf("if [ \"$(sysctl -n %s)\" = %s ]; then %s; fi", quote(name), quote(s.Only), set)
	}
	return []string{set}
}

// sysctlName returns a setting's name with dots, as people know it. One of an interface
// that has a dot in its own name keeps the slashes; sysctl takes both.
func sysctlName(name string) string {
	if strings.Contains(name, ".") {
		return name
	}
	return strings.ReplaceAll(name, "/", ".")
}
