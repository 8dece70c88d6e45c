//go:build vm

package vm

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// soakFile is a network in which every site can be dialled by its name and none has an
// address for ever.
const soakFile = `
sites:
  ska: {address: 10.9.0.1, LAN1, endpoint: ska.example.net, uplink: {eth0: dhcp}}
  skb: {address: 10.9.0.2, LAN2, endpoint: skb.example.net, uplink: {eth0: dhcp}}
  skc: {address: 10.9.0.3, LAN3, inbound: none, uplink: {eth0: dhcp}}
links: [{between: [ska, skb], psk: true}, [ska, skc], [skb, skc]]
`

// soak is a network of three sites of which skc only dials, in which things happen.
type soak struct {
	*network
	random *rand.Rand
	uplink [3]int // the last octet of each uplink's address
	lan    [3]int // the second octet of each LAN
	next   int    // an octet that no uplink had
}

// TestSoak lets hours of the guest's clock pass (TOMBOLO_VM_HOURS), which jumps where the
// guest sleeps: sessions are rekeyed and forgotten, uplinks and LANs get other addresses,
// processes die. After each of these every host must reach every other, and every router
// hold what the file says.
func TestSoak(t *testing.T) {
	hours, err := strconv.Atoi(os.Getenv("TOMBOLO_VM_HOURS"))
	if err != nil {
		t.Fatalf("TOMBOLO_VM_HOURS is no number of hours: %v", err)
	}
	s := newSoak(t)
	events := []struct {
		name string
		make func()
	}{
		{"traffic", s.traffic},
		{"idle", s.idle},
		{"roam", s.roam},
		{"renumber", s.renumber},
		{"both move", func() { s.renumber(); s.roam() }},
		{"another LAN", s.anotherLAN},
		{"processes die", s.processesDie},
	}
	start := time.Now()
	count := map[string]int{}
	for round := 1; time.Since(start) < time.Duration(hours)*time.Hour; round++ {
		// Each in turn at first, and then as it comes.
		e := events[(round-1)%len(events)]
		if round > len(events) {
			e = events[s.random.IntN(len(events))]
		}
		began := time.Now()
		e.make()
		took := time.Since(began)
		began = time.Now()
		s.reached()
		whole := time.Since(began)
		for _, site := range s.sites {
			s.holds(site)
		}
		if t.Failed() {
			t.Fatalf("round %d: after %s", round, e.name)
		}
		count[e.name]++
		s.say("round %d, %4.1f h: %-13s %6.0f s, all reached in %.1f s", round, time.Since(start).Hours(), e.name, took.Seconds(), whole.Seconds())
	}
	s.say("%.1f hours: %v", time.Since(start).Hours(), count)
}

func newSoak(t *testing.T) *soak {
	t.Helper()
	s := &soak{newNetwork(t, "ska", "skb", "skc"), rand.New(rand.NewPCG(1, 2)), [3]int{1, 2, 3}, [3]int{1, 2, 3}, 10}
	for _, site := range s.sites { // `ip netns exec` puts it in the place of /etc/hosts
		dir := filepath.Join("/etc/netns", site)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
	}
	s.names()
	s.tombolo("ska", "key", "psk", "ska", "skb")
	s.rewrite()
	s.applyAll()
	s.reached()
	return s
}

// names writes where the sites' names lead, for every site. The file stays the same one,
// which running processes have before them.
func (s *soak) names() {
	s.Helper()
	text := "127.0.0.1 localhost\n"
	for i, site := range s.sites {
		text += fmt.Sprintf("198.51.100.%d %s.example.net\n", s.uplink[i], site)
	}
	for _, site := range s.sites {
		if err := os.WriteFile(filepath.Join("/etc/netns", site, "hosts"), []byte(text), 0o644); err != nil {
			s.Fatal(err)
		}
	}
}

// rewrite writes the network file with the LANs of now.
func (s *soak) rewrite() {
	s.Helper()
	text := soakFile
	for i, octet := range s.lan {
		text = strings.ReplaceAll(text, "LAN"+strconv.Itoa(i+1), fmt.Sprintf("lan: {lan0: 10.%d.0.0/24}", octet))
	}
	s.write(text)
}

// traffic lets every host ping the next one each second for 20 minutes, ten lives of a
// session; none may be lost, and the keys must be young at the end.
func (s *soak) traffic() {
	s.Helper()
	var probes []*exec.Cmd
	for i, site := range s.sites {
		c := exec.Command("ip", "netns", "exec", site+".host", "ping", "-q", "-c1200", "-W5", s.host((i+1)%3))
		c.Stdout = new(strings.Builder)
		if err := c.Start(); err != nil {
			s.Fatal(err)
		}
		probes = append(probes, c)
	}
	for i, c := range probes {
		if err := c.Wait(); err != nil || !strings.Contains(fmt.Sprint(c.Stdout), " 0% packet loss") {
			s.Errorf("from %s: %v\n%s", s.sites[i], err, c.Stdout)
		}
	}
	for line := range strings.Lines(s.in("ska", "wg", "show", "all", "latest-handshakes")) {
		f := strings.Fields(line)
		at, err := strconv.ParseInt(f[2], 10, 64)
		if err != nil {
			s.Fatal(err)
		}
		// REKEY_AFTER_TIME is 120 s, and the next packet asks for the new key.
		if age := time.Since(time.Unix(at, 0)); age > 125*time.Second {
			s.Errorf("%s: the key is %s old although packets flow", f[0], age)
		}
	}
}

// idle lets up to three hours pass; no session outlives that.
func (s *soak) idle() {
	time.Sleep(time.Hour + time.Duration(s.random.IntN(7200))*time.Second)
}

// roam gives skc, whom nobody dials, another address. Nobody is told.
func (s *soak) roam() { s.move(2) }

// renumber gives a site that is dialled another address, and its name follows.
func (s *soak) renumber() {
	s.Helper()
	s.move(s.random.IntN(2))
	s.names()
}

func (s *soak) move(i int) {
	s.Helper()
	old := s.uplink[i]
	s.uplink[i] = s.next
	s.next = 10 + (s.next-9)%200
	// Without that setting the second address would go with the first.
	s.sh(s.sites[i], fmt.Sprintf("sysctl -qw net.ipv4.conf.eth0.promote_secondaries=1; ip address add 198.51.100.%d/24 dev eth0; ip address delete 198.51.100.%d/24 dev eth0", s.uplink[i], old))
}

// anotherLAN gives a LAN another prefix, and applies the changed file everywhere.
func (s *soak) anotherLAN() {
	s.Helper()
	i := s.random.IntN(3)
	for next := true; next || s.lan[i] == 0 || s.lan[i] == 9; next = false { // the overlay is 10.9.0.0/24
		s.lan[i] = (s.lan[i] + 3) % 201 // so that no two sites ever have the same
	}
	site, octet := s.sites[i], s.lan[i]
	s.sh(site, fmt.Sprintf("ip address flush dev lan0 scope global; ip address add 10.%d.0.1/24 dev lan0", octet))
	s.sh(site+".host", fmt.Sprintf("ip address flush dev eth0 scope global; ip address add 10.%d.0.10/24 dev eth0; ip route add default via 10.%[1]d.0.1", octet))
	s.rewrite()
	s.applyAll()
}

// processesDie kills all of ours. Everything goes on, and apply brings them back.
func (s *soak) processesDie() {
	s.Helper()
	s.killOurs()
	s.reached()
	s.applyAll()
}

// reached waits until every host reaches every other.
func (s *soak) reached() {
	s.Helper()
	for i, from := range s.sites {
		for j := range s.sites {
			if i != j {
				s.answers(from+".host", s.host(j))
			}
		}
	}
}

func (s *soak) host(i int) string { return fmt.Sprintf("10.%d.0.10", s.lan[i]) }
