package spec_test

import (
	"net/netip"
	"testing"

	"tombolo/internal/spec"
)

// A device has the same bits in both families, where no router's address can be.
func TestDevicesHaveIPv6AddressesOfTheirOwn(t *testing.T) {
	for _, c := range []struct{ pool, address, pool6, address6 string }{
		{"10.8.0.0/24", "10.8.0.7", "fd00:9:9:1::a08:0/120", "fd00:9:9:1::a08:7"},
		{"172.16.0.0/12", "172.31.0.7", "fd00:9:9:1::ac10:0/108", "fd00:9:9:1::ac1f:7"},
	} {
		n := parse(t, head+"overlay6: fd00:9:9::/48\nsites: {a: a.example.net}\nclients: {pool: "+c.pool+", at: a, devices: {phone: {address: "+c.address+"}}}\n")
		pool, phone := n.Clients.Pool6, n.Clients.Devices[0].Address6
		if pool.String() != c.pool6 || phone.String() != c.address6 || !pool.Contains(phone) || !n.Overlay6.Contains(phone) {
			t.Errorf("pool %s: %v has %v", c.pool, pool, phone)
		}
	}
	// The last router of the largest overlay.
	routers := netip.MustParsePrefix("fd00:9:9::/48")
	if last := spec.AddressAt(routers, 1<<24); last.As16()[7] != 0 {
		t.Errorf("a router could have %v", last)
	}
}

// Where the pool leads for those who hear nothing of where a device is.
func TestHomeOfThePool(t *testing.T) {
	for at, want := range map[string]int{"[s, t]": 0, "[t]": 1, "[s, b, c]": 2, "[c, b]": 3, "": -1} {
		text := head + "sites:\n  s: {routing: static, endpoint: s.example.net}\n  t: {routing: static}\n  b: {routing: babel, endpoint: b.example.net}\n  c: {routing: babel}\n"
		if at != "" {
			text += "clients: {pool: 10.8.0.0/24, at: " + at + "}\n"
		}
		if got := parse(t, text).Home(); got != want {
			t.Errorf("with doors %s it leads to site %d, not %d", at, got, want)
		}
	}
}
