//go:build vm

package vm

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tombolo/internal/state"
)

const pair = `
sites:
  SITE1: {address: 10.9.0.1, SITE1.lan, SITE1.uplink}
  SITE2: {address: 10.9.0.2, SITE2.lan, SITE2.uplink}
`

const three = pair + `  SITE3: {address: 10.9.0.3, SITE3.lan, SITE3.uplink}
`

// named puts the names of sites into a network file.
func named(text string, sites ...string) string {
	for i, s := range sites {
		text = strings.ReplaceAll(text, "SITE"+strconv.Itoa(i+1), s)
	}
	return text
}

// ours returns the running processes of tombolo, by their program.
func ours(t *testing.T) (pids []int) {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if exe, err := os.Readlink(l); err == nil && strings.HasPrefix(exe, binary) {
			pid, _ := strconv.Atoi(strings.Split(l, "/")[2])
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestKernelWireGuardIsChosenByItself(t *testing.T) {
	n := newNetwork(t, "cha", "chb")
	if out := n.tombolo("cha", "version"); !strings.Contains(out, "WireGuard: kernel") {
		t.Errorf("version says %s", out)
	}
	n.write(named(pair, n.sites...))
	n.applyAll()
	n.reached()
	if out := n.in("cha", "ip", "-d", "link", "show", "wg-chb"); !strings.Contains(out, "wireguard") {
		t.Errorf("the interface is not the kernel's WireGuard: %s", out)
	}
	if out, err := exec.Command("pgrep", "-fa", "tombolo tunnel|exe tunnel").Output(); err == nil {
		t.Errorf("a process carries embedded tunnels: %s", out)
	}
}

// The commands that `tombolo show` prints, typed into an empty router, make what apply made.
func TestShowIsWhatApplyMakes(t *testing.T) {
	for _, kind := range []struct{ name, text, device string }{
		{"a tunnel for each link", "links:\n  - {between: [SITE1, SITE2], psk: true, keepalive: 10}\n  - [SITE1, SITE3]\n", "wg-SITE2 wg-SITE3"},
		{"one tunnel for all", "routing: static\n", "wg_s2s"},
	} {
		t.Run(kind.name, func(t *testing.T) {
			id := map[bool]string{true: "o", false: "e"}[kind.device == "wg_s2s"]
			n := newNetwork(t, "s"+id+"a", "s"+id+"b", "s"+id+"c")
			n.write(named(three+kind.text, n.sites...))
			if strings.Contains(kind.text, "psk") {
				n.tombolo(n.sites[0], "key", "psk", n.sites[0], n.sites[1])
			}
			site := n.sites[0]
			look := func() string {
				out := ""
				for device := range strings.FieldsSeq(named(kind.device, n.sites...)) {
					conf := strings.Split(n.in(site, "wg", "showconf", device), "\n\n")
					slices.Sort(conf)
					dump := strings.Split(strings.TrimSpace(n.in(site, "wg", "show", device, "dump")), "\n")
					for i, line := range dump[1:] { // without handshake and counters
						f := strings.Fields(line)
						dump[i+1] = strings.Join(append(f[:4], f[7]), " ")
					}
					slices.Sort(dump)
					out += device + "\n" + strings.Join(conf, "\n") + strings.Join(dump, "\n") + "\n"
					out += n.sh(site, "ip -d link show "+device+" | sed 's/^[0-9]*: //'; ip address show "+device+" | grep inet")
				}
				return out + n.sh(site, "(ip rule; ip -6 rule; for t in main 110; do ip route show table $t; ip -6 route show table $t; done) | grep -v -e 'proto 85' -e 'proto 86'; nft -s list ruleset | sed '/chain seal/,/}/d; /^$/d'; sysctl -a -r 'forward|rp_filter|accept_ra$' 2>/dev/null | grep -v -e mc_forw")
			}
			n.tombolo(site, "apply", file)
			applied := look()
			n.tombolo(site, "down")
			script := n.tombolo(site, "show", file, site)
			n.sh(site, "set -u\n"+script)
			if typed := look(); typed != applied {
				t.Errorf("applied, typed:\n%s", cmp.Diff(strings.Split(applied, "\n"), strings.Split(typed, "\n")))
			}
			if !strings.Contains(applied, "PrivateKey") || !strings.Contains(applied, "AllowedIPs") {
				t.Errorf("wg showed nothing:\n%s", applied)
			}
		})
	}
}

// What wg prints of an interface is what was wanted, and what `wg showconf` prints is the
// whole of it: loaded again, it leaves nothing to do.
func TestWgAgreesWithUs(t *testing.T) {
	n := newNetwork(t, "wga", "wgb", "wgc")
	n.write(named(three+"links:\n  - {between: [SITE1, SITE2], psk: true, keepalive: 10}\n  - [SITE1, SITE3]\n", n.sites...))
	n.tombolo("wga", "key", "psk", "wga", "wgb")
	n.applyAll()
	n.reached()
	var want state.Router
	if err := json.Unmarshal([]byte(n.tombolo("wga", "show", file, "wga", "--json")), &want); err != nil {
		t.Fatal(err)
	}
	if len(want.Interfaces) != 2 {
		t.Fatalf("%d interfaces, want 2", len(want.Interfaces))
	}
	for _, i := range want.Interfaces {
		w, p := i.WireGuard, i.WireGuard.Peers[0]
		keepalive, preshared := "off", "(none)"
		if p.Keepalive != 0 {
			keepalive = strconv.Itoa(p.Keepalive)
		}
		if p.Preshared != "" {
			preshared = strings.TrimSpace(n.in("wga", "cat", "keys/"+string(p.Preshared)+".psk"))
		}
		lines := strings.Split(strings.TrimSpace(n.in("wga", "wg", "show", i.Name, "dump")), "\n")
		private := strings.TrimSpace(n.in("wga", "cat", "keys/wga.key"))
		if got, wanted := strings.Fields(lines[0]), []string{private, w.PublicKey.String(), strconv.Itoa(int(w.ListenPort)), fmt.Sprintf("%#x", w.FwMark)}; !slices.Equal(got, wanted) {
			t.Errorf("wg says of %s %v, want %v", i.Name, got, wanted)
		}
		got := strings.Fields(lines[1])
		if handshake := got[4]; handshake == "0" {
			t.Errorf("%s has had no handshake", i.Name)
		}
		if wanted := []string{p.PublicKey.String(), preshared, p.Endpoints[0], "0.0.0.0/0,::/0", keepalive}; !slices.Equal(append(got[:4:4], got[7]), wanted) || len(lines) != 2 {
			t.Errorf("wg says of %s's peers %v, want %v", i.Name, lines[1:], wanted)
		}
		n.sh("wga", "wg showconf "+i.Name+" >conf; grep -q PrivateKey conf; wg setconf "+i.Name+" conf")
	}
	n.holds("wga")
	n.reached()
}

func TestKernelAndEmbeddedWireGuardInOneNetwork(t *testing.T) {
	n := newNetwork(t, "kea", "keb", "kec")
	n.write(named(three, n.sites...))
	n.tombolo("kea", "apply", file)
	n.tombolo("kec", "apply", file)
	t.Setenv("TOMBOLO_WIREGUARD", "embedded")
	n.tombolo("keb", "apply", file)
	for _, s := range []struct{ site, device, kind string }{{"kea", "wg-keb", "wireguard"}, {"keb", "wg-kea", "tun"}, {"kec", "wg-keb", "wireguard"}} {
		if out := n.in(s.site, "ip", "-d", "link", "show", s.device); !strings.Contains(out, s.kind) {
			t.Errorf("%s on %s is no %s: %s", s.device, s.site, s.kind, out)
		}
	}
	n.reached()
	n.in("keb.host", "ping", "-q", "-c200", "-i0.01", "-s1300", n.host(0))
	for _, s := range n.sites {
		n.holds(s)
	}
	if out := n.in("keb", "wg", "show", "wg-kea", "latest-handshakes"); strings.HasSuffix(strings.TrimSpace(out), "\t0") {
		t.Errorf("no handshake: %s", out)
	}
	n.tombolo("keb", "down")
}

// killOurs ends all processes of tombolo, of which there must be some.
func (n *network) killOurs() {
	n.Helper()
	pids := ours(n.T)
	if len(pids) == 0 {
		n.Error("there is no process of tombolo to kill")
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			n.Error(err)
		}
	}
	_ = exec.Command("sleep", "1").Run()
	if left := ours(n.T); len(left) > 0 {
		n.Errorf("still running: %v", left)
	}
}

func TestDeathOfEveryProcessStopsNoPacket(t *testing.T) {
	n := newNetwork(t, "dea", "deb")
	n.write(named(pair, n.sites...))
	n.applyAll()
	p := n.probe("dea.host", n.host(1))
	// One router's first, whose neighbour hears nobody any more, and then somebody else.
	n.sh("net", "sleep 2; kill -9 $(ip netns pids dea | xargs -I{} sh -c '[ \"$(readlink /proc/{}/exe)\" = "+binary+" ] && echo {}')")
	n.untilRoutes("deb", "nobody is heard")
	n.tombolo("dea", "apply", file)
	n.untilRoutes("deb", "the only way")
	n.sh("net", "sleep 1")
	n.killOurs()
	p.lostNothing()
	n.holds("dea")
}

// untilRoutes waits until tombolo routes says something of the first site's LAN.
func (n *network) untilRoutes(site, what string) {
	n.Helper()
	argv := strings.Join(n.command(site, "routes", "10.1.0.0/24"), " ")
	n.sh(site, fmt.Sprintf("end=$((SECONDS + %d)); until %s | grep -q '%s'; do [ $SECONDS -lt $end ] || { %[2]s; exit 1; }; sleep 0.2; done", patience, argv, what))
}

// A tunnel that somebody made by hand beside ours keeps everything it has, and every packet.
func TestInterfaceMadeByHandIsLeftAlone(t *testing.T) {
	n := newNetwork(t, "haa", "hab")
	for i, s := range []string{"haa", "hab"} {
		n.sh(s, "ip link add wg0 type wireguard; wg genkey >"+s+".hand; wg set wg0 listen-port 5555 private-key "+s+".hand; ip address add 172.30.0."+strconv.Itoa(i+1)+"/24 dev wg0; ip link set wg0 up; ip route add 172.31.0.0/16 dev wg0")
	}
	for i, s := range []string{"haa", "hab"} {
		other := n.in([]string{"hab", "haa"}[i], "wg", "show", "wg0", "public-key")
		n.sh(s, "wg set wg0 peer "+strings.TrimSpace(other)+" allowed-ips 172.30.0.0/16 endpoint 198.51.100."+strconv.Itoa(2-i)+":5555")
	}
	look := func() string {
		return n.sh("haa", "wg showconf wg0; ip -d link show wg0; ip address show wg0; ip route show dev wg0; ip -6 route show dev wg0; sysctl net.ipv4.conf.wg0.rp_filter net.ipv4.conf.wg0.src_valid_mark")
	}
	before := look()
	p := n.probe("haa", "172.30.0.2")
	text := named(pair, n.sites...)
	n.write(text)
	n.applyAll()
	n.reached()
	n.write(text + "links: [{between: [haa, hab], mtu: 1300, keepalive: 5}]\n")
	n.applyAll()
	n.reached()
	n.downAll()
	p.lostNothing()
	if after := look(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}
