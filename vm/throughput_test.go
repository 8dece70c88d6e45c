//go:build vm

package vm

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	rounds = 7
	amount = "16M" // of each measurement
)

// TestThroughput measures TCP between two LAN hosts in bits/s: through what tombolo applies
// to their two routers, and through the same interfaces set up by hand; and both once more
// where the routers also masquerade their LANs towards the Internet, which has all packets
// tracked. They take turns, and it is all one boot. What is measured by hand twice says how
// much is noise. The rates go into rates.json, by way, in the order of the rounds; cmd/bench
// reads them (`make bench`).
func TestThroughput(t *testing.T) {
	n := newQuietNetwork(t, "tha", "thb")
	text := map[string]string{}
	for _, routing := range []string{"static", "babel"} {
		file := n.expand(named("routing: "+routing+"\n"+pair, n.sites...))
		text[routing+", masquerading"] = file
		text[routing] = strings.ReplaceAll(file, "gateway: 198.51.100.254", "gateway: 198.51.100.254, masquerade: false")
	}
	n.write(text["static"])
	n.applyAll()
	mtu := strings.TrimSpace(n.in("tha", "cat", "/sys/class/net/wg_s2s/mtu"))
	n.downAll()
	type way struct {
		name     string
		up, down func()
	}
	applied := func(name string) way {
		return way{name, func() {
			n.write(text[name])
			n.applyAll()
		}, n.downAll}
	}
	byHand := func(name string, masquerade bool) way {
		return way{name, func() { n.byHand(mtu, masquerade) }, n.undoByHand}
	}
	ways := []way{
		byHand("by hand", false),
		byHand("by hand again", false),
		applied("static"),
		applied("babel"),
		byHand("by hand, masquerading", true),
		applied("static, masquerading"),
		applied("babel, masquerading"),
	}
	rates := map[string][]float64{}
	for round := range rounds + 1 {
		for i := range ways {
			w := ways[(round+i)%len(ways)] // so that none is always first
			w.up()
			rate := n.rate("tha.host", "thb.host", n.host(1))
			w.down()
			n.say("round %d of %d: %-21s %.1f Mbit/s", round, rounds, w.name, rate/1e6)
			if round > 0 { // the first fills caches
				rates[w.name] = append(rates[w.name], rate)
			}
		}
	}
	out, err := json.Marshal(rates)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(os.Getenv("TOMBOLO_VM_OUT"), "rates.json"), out, 0o644); err != nil {
		t.Fatal(err)
	}
}

// byHand joins two sites as an engineer does who has wg and ip: an interface, a peer, a
// route to the other LAN, forwarding on. No rules, and no nftables unless it masquerades.
func (n *network) byHand(mtu string, masquerade bool) {
	n.Helper()
	for i, s := range n.sites {
		n.sh(s, fmt.Sprintf("ip link add wg0 type wireguard; ip link set wg0 mtu %s; wg set wg0 listen-port 51820 private-key keys/%s.key; ip address add 10.9.0.%d/32 dev wg0", mtu, s, i+1))
		if masquerade {
			n.sh(s, "nft 'table ip hand { chain postrouting { type nat hook postrouting priority srcnat; oifname eth0 masquerade; }; }'")
		}
	}
	for i, s := range n.sites {
		other := 2 - i
		public := strings.TrimSpace(n.in(n.sites[other-1], "wg", "show", "wg0", "public-key"))
		n.sh(s, fmt.Sprintf("wg set wg0 peer %s endpoint 198.51.100.%d:51820 allowed-ips 10.%d.0.0/24; ip link set wg0 up", public, other, other))
		n.sh(s, fmt.Sprintf("ip route add 10.%d.0.0/24 dev wg0; sysctl -qw net.ipv4.ip_forward=1", other))
	}
}

func (n *network) undoByHand() {
	n.Helper()
	for _, s := range n.sites {
		n.sh(s, "ip link delete wg0; nft 'table ip hand; delete table ip hand'; sysctl -qw net.ipv4.ip_forward=0")
	}
}

// rate measures one TCP stream from a host to another, in bits/s.
func (n *network) rate(from, to, address string) float64 {
	n.Helper()
	n.answers(from, address)
	n.sh(to, "iperf3 --server --one-off --daemon >/dev/null; for i in {1..50}; do ss -Htln sport = 5201 | grep -q . && exit; sleep 0.1; done; exit 1")
	text := n.in(from, "iperf3", "--client", address, "--bytes", amount, "--window", "200K", "--json")
	var report struct {
		End struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal([]byte(text), &report); err != nil {
		n.Fatal(err)
	}
	if report.End.Received.Rate == 0 {
		n.Fatalf("iperf3 carried nothing:\n%s", text)
	}
	return report.End.Received.Rate
}
