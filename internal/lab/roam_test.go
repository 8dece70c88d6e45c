package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"tombolo/internal/tunnel"
)

// keys are the private keys that the tests' networks have, by name.
var keys = map[string]wgtypes.Key{}

func keyOf(t testing.TB, name string) wgtypes.Key {
	t.Helper()
	if k, ok := keys[name]; ok {
		return k
	}
	k, err := wgtypes.GeneratePrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	keys[name] = k
	return k
}

// configurationFor is what a device's app is given for a door.
func configurationFor(t testing.TB, c Client, endpoint, allowed string) string {
	t.Helper()
	return fmt.Sprintf(`[Interface]
PrivateKey = %s
Address = %s, %s
DNS = 192.168.35.1 # a lab's device asks its hosts file

[Peer]
PublicKey = %s
AllowedIPs = %s
Endpoint = %s
PersistentKeepalive = 25
`, keyOf(t, c.Name), c.Addresses[0], c.Addresses[1], keyOf(t, "clients").PublicKey(), allowed, endpoint)
}

const fabric = "10.0.32.0/24, fd00:32::/48, 10.0.31.0/24, 192.168.35.0/24"

// writeConfigurations writes those of the home network's devices.
func writeConfigurations(t testing.TB, l *Lab) {
	t.Helper()
	for _, c := range exampleClients["home"] {
		writeConfiguration(t, l, c.Name, "op1", configurationFor(t, c, "op1.example.net:51820", fabric))
		writeConfiguration(t, l, c.Name, "op3", configurationFor(t, c, "203.0.113.3:51820", fabric))
	}
}

func writeConfiguration(t testing.TB, l *Lab, device, door, text string) {
	t.Helper()
	path := l.Configuration(device, door)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// openDoor lets the devices enter at a router, which has an address for that.
func openDoor(t testing.TB, l *Lab, site, address string) {
	t.Helper()
	secret, port := keyOf(t, "clients"), 51820
	config := wgtypes.Config{PrivateKey: &secret, ListenPort: &port}
	for _, c := range exampleClients["home"] {
		config.Peers = append(config.Peers, wgtypes.PeerConfig{PublicKey: keyOf(t, c.Name).PublicKey(), AllowedIPs: []net.IPNet{*ipNet(c.Addresses[0]), *ipNet(c.Addresses[1])}})
	}
	err := l.Do(t.Context(), site, func() error {
		embedded := tunnel.New(tunnelDir, []string{"/proc/self/exe", "tunnel", tunnelDir})
		if err := embedded.Add(t.Context(), "wg-clients", 1420); err != nil {
			return err
		}
		c, err := wgctrl.New()
		if err != nil {
			return err
		}
		defer c.Close()
		return c.ConfigureDevice("wg-clients", config)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"ip address add " + address + " dev wg-clients", "ip link set wg-clients up", "ip route add 10.0.31.0/24 dev wg-clients"} {
		in(t, l, site, command)
	}
}

// reachedWithin waits until an address is reached, and returns how long that took.
func reachedWithin(t testing.TB, l *Lab, from string, to netip.Addr, limit time.Duration) time.Duration {
	t.Helper()
	start := time.Now()
	for time.Since(start) < limit {
		_, err := l.Ping(t.Context(), from, Echo{To: to, Timeout: 20 * time.Millisecond})
		if err == nil {
			return time.Since(start)
		}
	}
	t.Fatalf("%s does not reach %s within %v", from, to, limit)
	return 0
}

// wgPeer is what `wg show wg0 dump` says of a device: its port, and its only peer.
func wgPeer(t testing.TB, l *Lab, node string) (port string, peer []string) {
	t.Helper()
	lines := strings.Split(in(t, l, node, "wg show wg0 dump"), "\n")
	if len(lines) != 2 {
		t.Fatalf("%s has %d peers", node, len(lines)-1)
	}
	return strings.Fields(lines[0])[2], strings.Fields(lines[1])
}

func upHome(t *testing.T) *Lab {
	name := labName()
	thief := File{Copies: map[string]string{"thief": "phone"}}
	l, err := Up(t.Context(), Config{
		Name: name, Routers: examples["home"], Clients: exampleClients["home"], File: thief, Command: serveCommand,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// t.Context has ended.
		if err := Down(context.Background(), name); err != nil && !errors.Is(err, ErrNoLab) {
			t.Error(err)
		}
	})
	writeConfigurations(t, l)
	return l
}

func roam(t testing.TB, l *Lab, device, door string) {
	t.Helper()
	if err := l.Roam(t.Context(), device, door); err != nil {
		t.Fatal(err)
	}
}

// TestRoamingDevices looks at the devices of one lab from many sides.
func TestRoamingDevices(t *testing.T) {
	l := upHome(t)
	t.Run("IsANodeBehindANAT", func(t *testing.T) { deviceIsANodeBehindANAT(t, l) })
	t.Run("TunnelIsStockWireGuard", func(t *testing.T) { tunnelIsStockWireGuard(t, l) })
	t.Run("RoamMakesTheTunnelAnew", func(t *testing.T) { roamMakesTheTunnelAnew(t, l) })
	t.Run("RoamIsQuick", func(t *testing.T) { roamIsQuick(t, l) })
	t.Run("ConnectionsOutliveTheTunnel", func(t *testing.T) { connectionsOutliveTheTunnel(t, l) })
	t.Run("EverythingGoesThroughAFullTunnel", func(t *testing.T) { everythingGoesThroughAFullTunnel(t, l) })
	t.Run("CopyHasTheSameKey", func(t *testing.T) { copyHasTheSameKey(t, l) })
	t.Run("IsAPlaceOfPaths", func(t *testing.T) { deviceIsAPlaceOfPaths(t, l) })
	t.Run("ErrorsSayWhat", func(t *testing.T) { roamErrorsSayWhat(t, l) })
}

func deviceIsANodeBehindANAT(t *testing.T, l *Lab) {
	phone, inet := node(t, l, "phone"), node(t, l, "inet")
	if phone.Kind != DeviceNode || phone.Addr() != addr("10.0.31.10") || len(phone.Devices) != 2 {
		t.Fatalf("the phone is %+v", phone)
	}
	uplink := phone.Devices[1]
	if got := in(t, l, "phone", "hostname"); got != "phone" {
		t.Errorf("its hostname is %q", got)
	}
	if got := in(t, l, "phone", "ls /sys/class/net"); got != "eth0\nlo" {
		t.Errorf("before it enters, it has the devices %q", got)
	}
	if !answers(t, l, "phone", inet.Addr()) || !answers(t, l, "phone", inet.Addr6()) {
		t.Error("it does not reach the Internet")
	}
	if reaches(t, l, "inet", uplink.Addresses[0].Addr()) || reaches(t, l, "inet", uplink.Public) {
		t.Error("it is reached behind its NAT")
	}
}

func tunnelIsStockWireGuard(t *testing.T, l *Lab) {
	roam(t, l, "phone", "op1")
	for family, want := range map[string]string{"-4": "10.0.31.10/32", "-6": "fd00:32:0:ffff::a00:1f0a/128"} {
		if got := strings.Fields(in(t, l, "phone", "ip -br "+family+" address show wg0")); len(got) != 3 || got[2] != want {
			t.Errorf("wg0 has %q, want %s alone", got, want)
		}
	}
	if got := in(t, l, "phone", "wg show wg0 public-key"); got != keyOf(t, "phone").PublicKey().String() {
		t.Errorf("its key is %s", got)
	}
	_, peer := wgPeer(t, l, "phone")
	want := []string{
		keyOf(t, "clients").PublicKey().String(), "(none)", "198.18.1.2:51820",
		"10.0.32.0/24,fd00:32::/48,10.0.31.0/24,192.168.35.0/24",
	}
	if !slices.Equal(peer[:4], want) || peer[len(peer)-1] != "25" {
		t.Errorf("its peer is %v", peer)
	}
	if got := in(t, l, "phone", "ip route get 192.168.35.10"); !strings.Contains(got, " dev wg0 ") || !strings.Contains(got, " src 10.0.31.10 ") {
		t.Errorf("its way to op1's LAN: %s", got)
	}
	if got := in(t, l, "phone", "ip route get 198.18.0.10"); !strings.Contains(got, " dev eth0 ") {
		t.Errorf("its way to the Internet: %s", got)
	}
}

func roamMakesTheTunnelAnew(t *testing.T, l *Lab) {
	before, _ := wgPeer(t, l, "phone")
	for _, hop := range []struct{ door, endpoint string }{{"op3", "203.0.113.3:51820"}, {"op3", "203.0.113.3:51820"}, {"op1", "198.18.1.2:51820"}} {
		roam(t, l, "phone", hop.door)
		// An embedded one chooses its port when it has seen that its interface is up.
		port, peer := wgPeer(t, l, "phone")
		for range 100 {
			if port != "0" {
				break
			}
			time.Sleep(5 * time.Millisecond)
			port, peer = wgPeer(t, l, "phone")
		}
		if peer[2] != hop.endpoint {
			t.Errorf("at %s its endpoint is %s", hop.door, peer[2])
		}
		if port == before || port == "0" {
			t.Errorf("at %s its port is %s, after %s", hop.door, port, before)
		}
		before = port
	}
	roam(t, l, "phone", "")
	if got := in(t, l, "phone", "ls /sys/class/net"); got != "eth0\nlo" {
		t.Errorf("after it has left, it has the devices %q", got)
	}
	roam(t, l, "phone", "") // it has left already
}

// roamIsQuick enters at two doors in turn, and is reached soon: the first keepalive goes
// out by itself.
func roamIsQuick(t *testing.T, l *Lab) {
	openDoor(t, l, "op1", "10.0.32.1/32")
	openDoor(t, l, "op3", "10.0.32.3/32")
	phone := addr("10.0.31.10")
	for i, door := range []string{"op1", "op3", "op1", "op3", "op3"} {
		time.Sleep(50 * time.Millisecond) // a door drops what begins twice within 20 ms
		start := time.Now()
		roam(t, l, "phone", door)
		took := time.Since(start)
		reachedWithin(t, l, door, phone, 2*time.Second)
		reached := time.Since(start)
		t.Logf("hop to %s: %v, reached from there after %v", door, took.Round(100*time.Microsecond), reached.Round(100*time.Microsecond))
		if i > 0 && took > 500*time.Millisecond { // on a busy machine; else it is less than 50 ms
			t.Errorf("the hop to %s took %v", door, took)
		}
	}
	if !answers(t, l, "phone", addr("10.0.32.3")) {
		t.Error("the phone does not reach its door")
	}
}

// connectionsOutliveTheTunnel has a TCP connection between a door and a device that goes
// away and comes back there.
func connectionsOutliveTheTunnel(t *testing.T, l *Lab) {
	roam(t, l, "phone", "op1")
	var door net.Listener
	var conn net.Conn
	err := l.Do(t.Context(), "op1", func() (err error) {
		door, err = net.Listen("tcp", "10.0.32.1:7000")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer door.Close()
	go func() {
		if c, err := door.Accept(); err == nil {
			_, _ = io.Copy(c, c) // until the test's end
		}
	}()
	err = l.Do(t.Context(), "phone", func() (err error) {
		conn, err = net.DialTimeout("tcp", "10.0.32.1:7000", 5*time.Second)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for i, door := range []string{"op1", "op1", "", "op1"} {
		roam(t, l, "phone", door)
		word := []byte{byte(i)}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := conn.Write(word); err != nil {
			t.Fatalf("after hop %d: %v", i, err)
		}
		if door == "" {
			continue // the word arrives when the device is back
		}
		for got := []byte{255}; got[0] != word[0]; {
			if _, err := io.ReadFull(conn, got); err != nil {
				t.Fatalf("after hop %d: %v", i, err)
			}
		}
	}
}

func everythingGoesThroughAFullTunnel(t *testing.T, l *Lab) {
	pi := exampleClients["home"][1]
	writeConfiguration(t, l, "pi", "op1", configurationFor(t, pi, "op1.example.net:51820", "0.0.0.0/0, ::/0"))
	roam(t, l, "pi", "op1")
	for to, want := range map[string]string{
		"198.18.0.10":               "dev wg0",
		"2001:db8::10":              "dev wg0",
		"203.0.113.3 mark 51820":    "dev eth0",
		node(t, l, "pi").gateway(t): "dev eth0",
	} {
		if got := in(t, l, "pi", "ip route get "+to); !strings.Contains(got, want) {
			t.Errorf("its way to %s: %s, want %s", to, got, want)
		}
	}
	reachedWithin(t, l, "op1", addr("10.0.31.11"), 2*time.Second)
	roam(t, l, "pi", "op3")
	for _, family := range []string{"-4", "-6"} {
		if got := in(t, l, "pi", "ip "+family+" rule show"); strings.Contains(got, "51820") || strings.Contains(got, "suppress") {
			t.Errorf("the rules of the full tunnel are still there: %s", got)
		}
	}
	if !answers(t, l, "pi", addr("198.18.0.10")) {
		t.Error("it does not reach the Internet")
	}
}

// gateway is the first address of a device's uplink's subnet.
func (n Node) gateway(t *testing.T) string {
	t.Helper()
	return firstAddress(n.Devices[1].Addresses[0].Masked()).String()
}

func copyHasTheSameKey(t *testing.T, l *Lab) {
	if n := node(t, l, "thief"); n.Kind != DeviceNode || n.Addr() != addr("10.0.31.10") {
		t.Errorf("the thief is %+v", n)
	}
	roam(t, l, "phone", "op1")
	roam(t, l, "thief", "op3")
	if a, b := in(t, l, "phone", "wg show wg0 public-key"), in(t, l, "thief", "wg show wg0 public-key"); a != b {
		t.Errorf("the phone has the key %s, its copy %s", a, b)
	}
	reachedWithin(t, l, "op1", addr("10.0.31.10"), 2*time.Second)
	reachedWithin(t, l, "op3", addr("10.0.31.10"), 2*time.Second)
	roam(t, l, "thief", "")
}

func deviceIsAPlaceOfPaths(t *testing.T, l *Lab) {
	roam(t, l, "phone", "op1")
	reachedWithin(t, l, "op1", addr("10.0.31.10"), 2*time.Second)
	for _, step := range []struct {
		do   func(ctx context.Context, a, b string) error
		want bool
	}{{l.Cut, false}, {l.Heal, true}} {
		if err := step.do(t.Context(), "phone", "op1"); err != nil {
			t.Fatal(err)
		}
		reached := map[bool]func(testing.TB, *Lab, string, netip.Addr) bool{false: reaches, true: answers}[step.want]
		if got := reached(t, l, "op1", addr("10.0.31.10")); got != step.want {
			t.Errorf("the phone is reached: %v, want %v", got, step.want)
		}
	}
	if err := l.ChangePath(t.Context(), "phone", "op1", "rtt=40ms"); err != nil {
		t.Fatal(err)
	}
	if rtt := fastest(t, l, "phone", addr("10.0.32.1")); rtt < 40*time.Millisecond {
		t.Errorf("through the changed path: %v", rtt)
	}
}

func roamErrorsSayWhat(t *testing.T, l *Lab) {
	pi := exampleClients["home"][1]
	writeConfiguration(t, l, "pi", "nowhere", configurationFor(t, pi, "nowhere.example.net:1", fabric))
	writeConfiguration(t, l, "pi", "keyless", "[Interface]\nPrivateKey = secret\n")
	for _, c := range []struct{ device, door, want string }{
		{"op1", "op3", `lab "LAB": roam: there is no roaming device "op1"; there are phone, pi, thief`},
		{"phone", "op2", `lab "LAB": roam: device "phone" has no configuration for a door "op2"; there are op1, op3`},
		{"phone", "../pi/op1", `lab "LAB": roam: device "phone" has no configuration for a door "../pi/op1"; there are op1, op3`},
		{"pi", "nowhere", `lab "LAB": roam: read DIR/devices/pi/nowhere.conf: nobody knows the name "nowhere.example.net"`},
		{"pi", "keyless", `lab "LAB": roam: read DIR/devices/pi/keyless.conf: line 2: this is no WireGuard key`},
	} {
		err := l.Roam(t.Context(), c.device, c.door)
		want := strings.NewReplacer("LAB", l.Name(), "DIR", l.Dir()).Replace(c.want)
		if err == nil || err.Error() != want {
			t.Errorf("%s to %s: %v, want %s", c.device, c.door, err, want)
		}
	}
}

func TestStockConfigurationsAreRead(t *testing.T) {
	phone := exampleClients["home"][0]
	whole := configurationFor(t, phone, "[2001:db8::1]:51820", fabric)
	c, err := parseStock(whole)
	if err != nil || c.private != keyOf(t, "phone") || c.mtu != 1420 || c.full() || len(c.allowed) != 4 || c.keepalive != 25*time.Second {
		t.Errorf("%+v, %v", c, err)
	}
	replace := func(pattern, by string) string { return regexp.MustCompile(pattern).ReplaceAllString(whole, by) }
	for _, c := range []struct{ text, want string }{
		{"", "it has 0 peers, and a roaming device has one"},
		{whole + "[Peer]\n", "it has 2 peers, and a roaming device has one"},
		{replace("Endpoint.*", ""), "it lacks one of PrivateKey, Address, PublicKey and Endpoint"},
		{replace("PublicKey.*", "PublicKey = AAAA"), "line 7: this is no WireGuard key"},
		{replace("AllowedIPs.*", "AllowedIPs = 10.0.0.0/33"), `line 8: "10.0.0.0/33" is no prefix`},
		{replace("DNS.*", "Frobnicate = yes"), `line 4: a lab's device knows no "frobnicate" here`},
	} {
		if _, err := parseStock(c.text); err == nil || err.Error() != c.want {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}

// TestRoamingDevicesGoWithTheLab takes labs down in which devices have entered, the second
// one after its process was killed.
func TestRoamingDevicesGoWithTheLab(t *testing.T) {
	if !alone(t) {
		return
	}
	before := traces(t)
	clients := []Client{exampleClients["home"][0], exampleClients["home"][1]}
	clients[0].Door = "op3"
	for _, killed := range []bool{false, true} {
		l, err := Up(t.Context(), Config{
			Name: "roams", Routers: examples["home"], Clients: clients, Command: serveCommand,
			Start: func(_ context.Context, l *Lab, site string) error {
				if site == "op1" {
					writeConfigurations(t, l)
				}
				return nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, peer := wgPeer(t, l, "phone"); peer[2] != "203.0.113.3:51820" {
			t.Errorf("the phone entered at %s", peer[2])
		}
		if _, err := inErr(t, l, "pi", "ip link show wg0"); err == nil {
			t.Error("the pi entered, which has no first door")
		}
		if labs, err := List(); err != nil || len(labs) != 1 || labs[0].Sites != 3 {
			t.Errorf("the lab is listed as %+v, %v", labs, err)
		}
		if killed {
			kill(t, l, 9)
		}
		if err := Down(t.Context(), l.Name()); err != nil {
			t.Fatal(err)
		}
		nothingLeft(t, before)
	}
}
