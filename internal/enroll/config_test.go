package enroll_test

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tombolo/internal/enroll"
	"tombolo/internal/key"
	"tombolo/internal/spec"
)

// roads is a file with every sort of door and prefix.
const roads = `
network: roads
overlay: 10.0.32.0/24
overlay6: fd5e:1f0c:8a34::/48
sites:
  inner: {lan: {br-lan: {prefix: 192.168.1.0/24, as: 192.168.34.0/24}}}
  closed: {endpoint: closed.example.net, inbound: 51830-51900}
  op1:
    address: 10.0.32.1
    endpoint: [op1.example.net, "203.0.113.3:41820"]
    port: 51000
    lan: {br-lan: [192.168.35.0/24, "2001:db8:35::/64"]}
    uplink: {ppp0: {address: 203.0.113.3/24, gateway: 203.0.113.1, mtu: 1492}}
    babel: {eth9: {accept: 172.16.0.0/16}}
  op2:
    endpoint: "2001:db8::2"
    lan: {br-lan: {prefix: 192.168.1.0/24, as: 10.61.34.0/24}}
    uplink: {eth0: dhcp}
  op4:
    endpoint: 198.51.100.4
    lan: {br-lan: 192.168.32.0/23}
    uplink: {eth0: {address: 198.51.100.4/24, gateway: 198.51.100.1, mtu: 1300}}
clients:
  pool: 10.0.33.0/24
  at: [inner, closed, op1, op2, op4]
  key: ` + otherKey + `
  devices:
    phone: {address: 10.0.33.10, dns: [192.168.35.1, "2001:db8:35::1"]}
    laptop: {full: true}
`

func parsed(t testing.TB, text string) *spec.Network {
	t.Helper()
	n, ds := spec.Parse("n.yaml", []byte(text))
	if n == nil {
		t.Fatal(ds)
	}
	return n
}

func TestConfigsAreOneForEachEndpointThatCanBeDialled(t *testing.T) {
	n := parsed(t, roads)
	var got []string
	for _, c := range enroll.Configs(n, &n.Clients.Devices[0]) {
		got = append(got, fmt.Sprint(c.Door, " ", c.Endpoint, " ", c.MTU))
	}
	// 1492 less 80 where the endpoint may be an IPv6 address; 1300 less 60 is below what IPv6 needs.
	want := []string{"op1 op1.example.net:51000 1412", "op1 203.0.113.3:41820 0", "op2 [2001:db8::2]:51820 0", "op4 198.51.100.4:51820 1280"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestConfigIsThatOfStockWireGuard(t *testing.T) {
	n := parsed(t, roads)
	phone, laptop := &n.Clients.Devices[0], &n.Clients.Devices[1]
	want := `[Interface]
PrivateKey = SECRET
Address = 10.0.33.10/32, ` + phone.Address6.String() + `/128
DNS = 192.168.35.1, 2001:db8:35::1
MTU = 1412

[Peer]
PublicKey = ` + otherKey + `
Endpoint = op1.example.net:51000
AllowedIPs = 10.0.32.0/23, 10.61.34.0/24, 172.16.0.0/16, 192.168.32.0/22, 2001:db8:35::/64, fd5e:1f0c:8a34::/48
PersistentKeepalive = 25
`
	c := enroll.Configs(n, phone)[0]
	if got := c.Text("SECRET"); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	sum := sha256.Sum256([]byte(strings.Replace(want, "PrivateKey = SECRET\n", "", 1)))
	if got := c.Digest(); got != fmt.Sprintf("%x", sum)[:8] {
		t.Errorf("its digest is %s", got)
	}
	full := enroll.Configs(n, laptop)[0].Text("SECRET")
	if !strings.Contains(full, "\nAllowedIPs = 0.0.0.0/0, ::/0\n") || strings.Contains(full, "DNS") {
		t.Errorf("of a device with `full:`\n%s", full)
	}
}

// Else the tunnel's own packets would go into the tunnel.
func TestAllowedIPsLeaveTheEndpointOut(t *testing.T) {
	n := parsed(t, `
network: n
overlay: 10.0.32.0/24
sites: {a: {endpoint: 192.0.2.1, lan: {br-lan: 192.0.2.0/24}}}
clients: {pool: 10.0.31.0/24, at: a, devices: {phone: }}
`)
	for _, p := range enroll.Configs(n, &n.Clients.Devices[0])[0].AllowedIPs {
		if p.Contains(netip.MustParseAddr("192.0.2.1")) {
			t.Errorf("%v holds the endpoint", p)
		}
	}
}

func TestOutdatedIsWhatWouldBeGivenNoMore(t *testing.T) {
	n := parsed(t, roads)
	var all []string
	for _, c := range enroll.Configs(n, &n.Clients.Devices[0]) {
		all = append(all, c.Digest())
	}
	given := func(text string, digests ...string) bool {
		n := parsed(t, text)
		d := &n.Clients.Devices[0]
		d.Given = digests
		return enroll.Outdated(n, d)
	}
	more := strings.Replace(roads, "inner: {", "inner: {endpoint: x.example.net, ", 1)
	lan := strings.Replace(roads, "192.168.32.0/23", "192.168.30.0/23", 1)
	key := strings.Replace(roads, otherKey, oneKey, 1)
	moved := strings.Replace(roads, "op1.example.net", "new.example.net", 1)
	for _, c := range []struct {
		name     string
		outdated bool
	}{
		{"any door", given(roads, all...) || given(roads, all[2])},
		{"not said", given(roads)},
		{"another door", given(more, all...)},
	} {
		if c.outdated {
			t.Errorf("%s makes it outdated", c.name)
		}
	}
	if !given(lan, all[2]) || !given(key, all[2]) || !given(moved, all[0]) || !given(roads, all[1], "00000000") || given(moved, all[1]) {
		t.Error("a LAN, a key or the door's own endpoint does not make it outdated, or another's does")
	}
}

func TestWgQuickTakesTheConfiguration(t *testing.T) {
	private, err := key.NewPrivate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	n := parsed(t, roads)
	c := enroll.Configs(n, &n.Clients.Devices[0])[0]
	file := filepath.Join(t.TempDir(), "phone.conf")
	if err := os.WriteFile(file, []byte(c.Text(private.RevealText())), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("wg-quick", "strip", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	// What is left is for wg; the rest wg-quick took for itself.
	want := "[Interface]\nPrivateKey = " + private.RevealText() + "\n\n" + c.Text("")[strings.Index(c.Text(""), "[Peer]"):]
	if strings.TrimSpace(string(out)) != strings.TrimSpace(want) {
		t.Errorf("wg-quick strip leaves\n%s\nwant\n%s", out, want)
	}
}
