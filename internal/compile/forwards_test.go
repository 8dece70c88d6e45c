package compile_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tombolo/internal/compile"
	"tombolo/internal/state"
)

// forwardsText is a line for each of a router's forwards.
func forwardsText(r state.Router) string {
	var b strings.Builder
	for _, f := range r.Forwards {
		fmt.Fprintf(&b, "%s → %s: %s\n", f.In, f.Out, f.Why)
	}
	return b.String()
}

var forwardCases = []struct{ name, file, site, want string }{
	{"one link", `
sites:
  a: {address: 10.9.0.1, endpoint: 192.0.2.1, lan: {lan0: 10.1.0.0/24}, uplink: {eth0: dhcp}}
  b: {address: 10.9.0.2, lan: {lan0: 10.2.0.0/24}, uplink: {eth0: dhcp}}
`, "a", `
eth0 → : WireGuard: udp 51822
lan0 → eth0: from the LAN to the Internet
lan0 → wg-b: from the LAN to other sites
wg-b → : Babel, ping
wg-b → lan0: from other sites to the LAN
`},
	{"who cannot be dialled opens no port", `
sites:
  a: {address: 10.9.0.1, endpoint: 192.0.2.1, lan: {lan0: 10.1.0.0/24}, uplink: {eth0: dhcp}}
  b: {address: 10.9.0.2, lan: {lan0: 10.2.0.0/24}, uplink: {eth0: dhcp}}
`, "b", `
lan0 → eth0: from the LAN to the Internet
lan0 → wg-a: from the LAN to other sites
wg-a → : Babel, ping
wg-a → lan0: from other sites to the LAN
`},
	{"several links have one name", `
sites:
  a: {address: 10.9.0.1, endpoint: 192.0.2.1, lan: {lan0: 10.1.0.0/24, lan1: 10.11.0.0/24}, uplink: {eth0: dhcp, eth1: dhcp}}
  b: {address: 10.9.0.2}
  c: {address: 10.9.0.4}
  d: {address: 10.9.0.3}
`, "a", `
eth0 → : WireGuard: udp 51822-51824
eth1 → : WireGuard: udp 51822-51824
lan0 → eth0: from the LAN to the Internet
lan0 → eth1: from the LAN to the Internet
lan0 → wg-*: from the LAN to other sites
lan1 → eth0: from the LAN to the Internet
lan1 → eth1: from the LAN to the Internet
lan1 → wg-*: from the LAN to other sites
wg-* → : Babel, ping
wg-* → lan0: from other sites to the LAN
wg-* → lan1: from other sites to the LAN
wg-* → wg-*: between other sites
`},
	{"an exit, and a site whose LAN may only leave there", `
sites:
  a: {address: 10.9.0.1, endpoint: 192.0.2.1, uplink: {eth0: dhcp}}
  b: {address: 10.9.0.2, lan: {lan0: 10.2.0.0/24, lan1: 10.3.0.0/24}, uplink: {eth0: dhcp}}
exits:
  - {for: 10.2.0.0/24, via: a, otherwise: block}
  - {for: b, via: a, otherwise: block}
`, "a", `
eth0 → : WireGuard: udp 51822
wg-b → : Babel, ping
wg-b → eth0: from other sites to the Internet
`},
	{"the other end of it", `
sites:
  a: {address: 10.9.0.1, endpoint: 192.0.2.1, uplink: {eth0: dhcp}}
  b: {address: 10.9.0.2, lan: {lan0: 10.2.0.0/24, lan1: 10.3.0.0/24}, uplink: {eth0: dhcp}}
exits:
  - {for: [b], via: a, otherwise: block}
`, "b", `
lan0 → wg-a: from the LAN to other sites
lan1 → wg-a: from the LAN to other sites
wg-a → : Babel, ping
wg-a → lan0: from other sites to the LAN
wg-a → lan1: from other sites to the LAN
`},
	{"published ports, here and elsewhere, and a mapped LAN", `
sites:
  a: {address: 10.9.0.1, endpoint: 192.0.2.1, lan: {lan0: {prefix: 192.168.1.0/24, as: 10.1.0.0/24}}, uplink: {eth0: dhcp}}
  b: {address: 10.9.0.2, lan: {lan0: 10.2.0.0/24}}
publish:
  - {at: a, port: 8443/tcp, to: 10.1.0.10:443}
  - {at: a, port: 5000-5009/udp, to: 10.2.0.10:6000}
`, "a", `
eth0 → : WireGuard: udp 51822
eth0 → lan0: published: tcp 443 to 192.168.1.10
eth0 → wg-b: published: udp 6000-6009 to 10.2.0.10
lan0 → eth0: from the LAN to the Internet
lan0 → lan0: published: tcp 443 to 192.168.1.10
lan0 → wg-b: from the LAN to other sites
wg-b → : Babel, ping
wg-b → lan0: from other sites to the LAN
wg-b → wg-b: published: udp 6000-6009 to 10.2.0.10
`},
	{"a static hub", `
routing: static
sites:
  a: {address: 10.9.0.1, endpoint: 192.0.2.1}
  b: {address: 10.9.0.2, lan: {lan0: 10.2.0.0/24}}
  c: {address: 10.9.0.3, lan: {lan0: 10.3.0.0/24}}
links: {star: a}
`, "a", `
wg_s2s → : ping
wg_s2s → wg_s2s: between other sites
`},
	{"a door, where a phone's traffic leaves", `
sites:
  a: {address: 10.9.0.1, endpoint: 192.0.2.1, lan: {lan0: 10.1.0.0/24}, uplink: {eth0: dhcp}}
clients:
  pool: 10.8.0.0/24
  at: [a]
  key: lrcFdvsehsYVDlwVzGVKykKyxLZfvzHuexeAoCzyrS8=
  devices:
    phone: {full: true}
`, "a", `
eth0 → : WireGuard: udp 51820
lan0 → eth0: from the LAN to the Internet
lan0 → wg-clients: from the LAN to clients
wg-clients → : ping
wg-clients → eth0: from clients to the Internet
wg-clients → lan0: from clients to the LAN
wg-clients → wg-clients: between clients
`},
	{"a LAN by which another site is reached without a tunnel, and routers of others", `
sites:
  a: {address: 10.9.0.1, endpoint: 192.0.2.1, lan: {lan0: 10.1.0.0/24, lan1: 10.11.0.0/24}, babel: {lan0: {accept: 10.77.0.0/16}}}
  b: {address: 10.9.0.2, lan: {lan0: 10.2.0.0/24}, uplink: {lan1: {address: 10.11.0.2/24, gateway: 10.11.0.1}}}
  c: {address: 10.9.0.3}
links:
  - {between: [a, b], transport: none, on: {a: lan1, b: lan1}}
  - [a, c]
`, "a", `
lan0 → : Babel: udp 6696
lan0 → lan1: from the LAN to other sites
lan0 → wg-c: from the LAN to other sites
lan1 → : Babel: udp 6696
lan1 → lan0: from other sites to the LAN
lan1 → wg-c: from the LAN to other sites
wg-c → : Babel, ping
wg-c → lan0: from other sites to the LAN
wg-c → lan1: from other sites to the LAN
`},
}

// The list says what the file asks for, and no more.
func TestForwards(t *testing.T) {
	for _, c := range forwardCases {
		t.Run(c.name, func(t *testing.T) {
			r, err := compile.Router(parse(t, "network: n\noverlay: 10.9.0.0/24\n"+c.file), c.site, compile.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(strings.Split(strings.TrimPrefix(c.want, "\n"), "\n"), strings.Split(forwardsText(r), "\n")); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}
