package cli

import (
	"net/netip"
	"strings"

	"tombolo/internal/state"
)

// trouble is one page of docs/troubles: a network as it is made by hand, what becomes of a flow in
// it, and in what we make of the same file.
type trouble struct {
	page, title string
	file        string
	happens     string
	ill         func(map[string]*state.Router) // changes what byHand made
	look        string                         // the router whose tables are shown
	flow        []string
	size        [2]int                         // of packets, in the ill network and in the mended one
	mend        func(map[string]*state.Router) // as hand says; nil: it changes no route and no address
	hand, ours  string                         // what mends it: by hand, and in a network of ours
}

var troubles = []trouble{
	{
		page: "return-path", title: "The return path with a default route in the tunnel", file: "home.yaml", look: "op2",
		happens: `op2 browses through op1: its default route leads into the tunnel. From then on nobody outside reaches
op2 by its own public address, neither by ssh nor by ping. The question comes in by eth0, but Linux
looks up the way of an answer as that of any other packet, by its destination, and so the answer goes
into the tunnel. op1 sends it on with a source that is not its own, or translates it: either way who
asked does not know it.`,
		ill: func(r map[string]*state.Router) { everythingInto(r["op2"], "wg-op1", "192.0.2.2") }, flow: []string{"outside", "op2", "tcp/22"},
		mend: func(r map[string]*state.Router) { returnRule(r["op2"]) },
		hand: `A rule for what has the uplink's address as its source, before the one that finds the default route,
and a table of the uplink's own:

    ip route add default via 192.0.2.5 dev eth0 table 10
    ip rule add from 192.0.2.6 lookup 10 pref 3

By itself this makes [another trouble](own-wan.md). And it helps the router alone: what is forwarded to
a host in the LAN has that host's source when the way is looked up.`,
		ours: `Every uplink has a table. Answers leave by the uplink that the question came in by: the router's own by
a rule for each of its addresses (pref 542), those of others by a mark that conntrack keeps for them
(pref 501). It needs nothing in the file. See [uplinks.md](../uplinks.md).`,
	},
	{
		page: "own-wan", title: "A LAN host and its own router's WAN address", file: "home.yaml", look: "op2",
		happens: `The [return path](return-path.md) was mended with a rule for the uplink's address. Now a host of the LAN
calls its own router by the public address, as the name in the DNS says it, and the answer has the
uplink's address as its source, too: the rule sends it out by eth0, to the provider, who has no way to
a private address.`,
		ill: func(r map[string]*state.Router) { returnRule(r["op2"]) }, flow: []string{"op2:192.168.36.10", "192.0.2.6", "tcp/8000"},
		mend: func(r map[string]*state.Router) {
			lan := netip.MustParsePrefix("192.168.36.0/24")
			r["op2"].Rules = append(r["op2"].Rules, state.Rule{Priority: 2, To: lan, Action: state.Lookup, Table: mainTable, Suppress: 1})
		},
		hand: `A rule before it, by which destinations in the LAN are looked up in main, and not by its default route:

    ip rule add to 192.168.36.0/24 lookup main suppress_prefixlength 0 pref 2`,
		ours: `The rules at pref 510 are those: what is for a LAN of the router is for that LAN, whatever its source.`,
	},
	{
		page: "no-masquerade", title: "The other interface without masquerade", file: "home.yaml", look: "op2",
		happens: `Each tunnel's AllowedIPs are the other site's overlay address and LAN, as most instructions have it. From
LAN to LAN all is well. Then a phone enters at op1, by an interface with addresses of its own, and wants
to reach a host in op2's LAN. WireGuard's AllowedIPs are also a filter for what comes in: op2 takes no
packet with the phone's source out of that tunnel. Were it taken, op2 would have no way back either.`,
		ill: func(r map[string]*state.Router) { narrowPeers(r); withoutRoute(r["op2"], "10.0.31.0/24") }, flow: []string{"phone", "op2:192.168.36.10", "tcp/22"},
		mend: func(r map[string]*state.Router) { hides(r["op1"], "wg-op2", "10.0.31.0/24") },
		hand: `The phone's source behind the router's own, which op2 knows:

    iptables -t nat -A POSTROUTING -s 10.0.31.0/24 -o wg-op2 -j MASQUERADE

and then no host of op2 sees who it was. Or 10.0.31.0/24 in op2's AllowedIPs for op1, and a route to it:
until there is such an interface at op2 as well, which is [the next trouble](wrong-site.md).`,
		ours: `A tunnel takes all sources, and the ruleset of its router says which may come from where. The way to the
phone is announced by the site where it is, so that it is called by its own address from everywhere.`,
	},
	{
		page: "relay", title: "The relay without a way back", file: "../../examples/relay.yaml", look: "exit-c",
		happens: `lab-a browses through relay-b, and relay-b itself through exit-c. exit-c translates the source of what it
is given and sends it out; the answer comes back to it, and is translated back to lab-a's address. exit-c
knows relay-b, and has never heard of lab-a: the answer goes by the default route, out to the provider.`,
		ill: func(r map[string]*state.Router) {
			everythingInto(r["lab-a"], "wg-relay-b", "10.8.2.2")
			everythingInto(r["relay-b"], "wg-exit-c", "198.51.100.3", "10.8.1.2")
		}, flow: []string{"lab-a", "8.8.8.8", "icmp"},
		mend: func(r map[string]*state.Router) { hides(r["relay-b"], "wg-exit-c", "10.0.40.1") },
		hand: `On relay-b, so that exit-c sees a source that it knows; it is translated twice then:

    iptables -t nat -A POSTROUTING -s 10.0.40.1 -o wg-exit-c -j MASQUERADE

or on exit-c a route to lab-a: ` + "`ip route add 10.0.40.1 dev wg-relay-b`" + `.`,
		ours: `Each router announces itself and its LANs over all hops, and so every exit has a way back to all that it
serves. There is one translation, at the exit, and it sees true sources until there.`,
	},
	{
		page: "wrong-site", title: "The client seen from the wrong site", file: "home.yaml", look: "op2",
		happens: `So that one configuration serves at every door, the interface for the phone is the same at op1 and op2: the
same pool, the same peer. The phone has entered at op1 and calls a host in op2's LAN. The question arrives.
The answer does not: at op2, too, the phone's address is a route into its own interface, put there when the
peer was, whether or not the phone ever came.`,
		ill: func(map[string]*state.Router) {}, flow: []string{"phone", "op2:192.168.36.10", "tcp/22"},
		mend: func(r map[string]*state.Router) { hides(r["op1"], "wg-op2", "10.0.31.0/24") },
		hand: `A masquerade of the phone's pool on every tunnel, as for [the other interface](no-masquerade.md), which hides
who it was and lets nobody call the phone; or a pool for each site, and a configuration for each.`,
		ours: `A router has a route to a device only while the device is there: the agent sees its handshakes and
announces it, and the others learn where it is. See [clients.md](../clients.md).`,
	},
	{
		page: "mtu", title: "The MTU hole", file: "home.yaml", look: "op2",
		happens: `ping goes, ssh asks for the password, and then everything hangs: small packets pass, and large ones do not.
A tunnel's packets are larger than what is in them by 60 or 80 bytes, and so its MTU is smaller than that of the
LANs at both ends, whose hosts send packets of 1500 bytes. The router tells the sender (ICMP, fragmentation
needed); where a firewall drops that, or the host does not believe it, nobody sends less.`,
		ill: func(map[string]*state.Router) {}, flow: []string{"op2:192.168.36.10", "192.168.35.10", "tcp/443"}, size: [2]int{1500, 1440},
		hand: `Never to drop ICMP's fragmentation needed and packet too big, and for TCP, whose ends tell each other how
much they take, to have the router write less into that:

    iptables -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu`,
		ours: `The chain mss does that in both directions for all that goes through a tunnel, and each link has the MTU
that its own transport leaves it. Hosts then send what fits: the trace is of such a packet.`,
	},
}

// byHand makes of compiled routers what most instructions make: routes into the tunnels in main,
// a masquerade, and nothing else.
func byHand(routers []state.Router) map[string]*state.Router {
	out := map[string]*state.Router{}
	for i := range routers {
		out[routers[i].Site] = &routers[i]
	}
	for _, r := range out {
		r.Rules, r.Routes, r.Sysctls, r.Babel, r.Egress = nil, nil, nil, nil, nil
		r.Rulesets = []state.Ruleset{{Family: "inet", Table: "nat", Text: handNAT}}
		for k := range r.Interfaces {
			f := &r.Interfaces[k]
			if f.WireGuard == nil {
				continue
			}
			if r.Clients != nil && f.Name == r.Clients.Device {
				into(r, f.Name, "10.0.31.0/24")
				continue
			}
			for j := range f.WireGuard.Peers {
				f.WireGuard.FwMark = 0
				for _, p := range homes(out[f.WireGuard.Peers[j].Name]) {
					into(r, f.Name, p.String())
				}
			}
		}
	}
	return out
}

const handNAT = `table inet nat {
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		oifname "eth0" masquerade
	}
}
`

// homes are a router's overlay address and LANs, in IPv4.
func homes(r *state.Router) []netip.Prefix {
	var out []netip.Prefix
	for _, f := range r.Interfaces {
		for _, a := range f.Addresses {
			if f.WireGuard != nil && a.Addr().Is4() && len(out) == 0 {
				out = append(out, a.Masked())
			}
		}
	}
	for _, l := range r.LANs {
		for _, p := range l.Prefixes {
			if p.Addr().Is4() {
				out = append(out, p.Masked())
			}
		}
	}
	return out
}

// into adds a route into a device.
func into(r *state.Router, device, to string) {
	r.Routes = append(r.Routes, state.Route{Table: mainTable, Dst: netip.MustParsePrefix(to), Type: state.Unicast, Device: device})
}

// everythingInto is a default route into a tunnel, in two halves as many tools lay it, and beside
// it routes to the other ends of tunnels.
func everythingInto(r *state.Router, device string, endpoints ...string) {
	into(r, device, "0.0.0.0/1")
	into(r, device, "128.0.0.0/1")
	for _, a := range endpoints {
		r.Routes = append(r.Routes, state.Route{
			Table: mainTable, Dst: netip.MustParsePrefix(a + "/32"), Type: state.Unicast, Device: "eth0", Gateway: r.Uplinks[0].Gateways[0],
		})
	}
}

// returnRule is what mends the return path.
func returnRule(r *state.Router) {
	everythingInto(r, "wg-op1", "192.0.2.2")
	r.Routes = append(r.Routes, state.Route{Table: 10, Dst: netip.MustParsePrefix("0.0.0.0/0"), Type: state.Unicast, Device: "eth0", Gateway: r.Uplinks[0].Gateways[0]})
	own := r.Uplinks[0].Addresses[0].Addr()
	r.Rules = append(r.Rules, state.Rule{Priority: 3, From: netip.PrefixFrom(own, 32), Action: state.Lookup, Table: 10})
}

// hides masquerades a source on a tunnel.
func hides(r *state.Router, device, source string) {
	rule := "oifname \"" + device + "\" ip saddr " + source + " masquerade\n\t\t"
	r.Rulesets[0].Text = strings.Replace(handNAT, "oifname", rule+"oifname", 1)
}

// narrowPeers has each tunnel take what is at its other end, and nothing else.
func narrowPeers(routers map[string]*state.Router) {
	for _, r := range routers {
		for k := range r.Interfaces {
			f := &r.Interfaces[k]
			if f.WireGuard == nil || r.Clients != nil && f.Name == r.Clients.Device {
				continue
			}
			for j := range f.WireGuard.Peers {
				f.WireGuard.Peers[j].AllowedIPs = homes(routers[f.WireGuard.Peers[j].Name])
			}
		}
	}
}

// withoutRoute removes the routes to a prefix.
func withoutRoute(r *state.Router, prefix string) {
	kept := r.Routes[:0]
	for _, x := range r.Routes {
		if x.Dst.String() != prefix {
			kept = append(kept, x)
		}
	}
	r.Routes = kept
}
