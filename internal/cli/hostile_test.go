package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tombolo/internal/lab"
)

const triangleNetwork = `
network: n
overlay: 10.8.0.0/24
sites:
  a: {address: 10.8.0.1, endpoint: a.example.net, lan: {lan0: 10.1.0.0/24}, uplink: {eth0: dhcp}}
  b: {address: 10.8.0.2, endpoint: b.example.net, lan: {lan0: 10.2.0.0/24}, uplink: {eth0: dhcp}}
  c: {address: 10.8.0.3, endpoint: c.example.net, lan: {lan0: 10.3.0.0/24}, uplink: {eth0: dhcp}}
links: mesh
`

// evilNetwork is the same, as c would like it: with all of b's LAN, and the half of a's
// in which its host is.
var evilNetwork = strings.NewReplacer(
	"lan0: 10.1.0.0/24", "lan0: 10.71.0.0/24",
	"lan0: 10.2.0.0/24", "lan0: 10.72.0.0/24",
	"lan0: 10.3.0.0/24", "lan0: 10.3.0.0/24, evil0: [10.2.0.0/24, 10.1.0.0/25]",
).Replace(triangleNetwork)

// A site whose agent follows another file announces what is not its own: nobody believes
// it, all say so, and packets go where they went.
func TestASiteAnnouncesWhatIsNotItsOwn(t *testing.T) {
	t.Parallel()
	l := up(t, "hostile", triangleNetwork, "")
	l.reached()
	open, err := lab.Open(l.name)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "evil.yaml")
	if err := os.WriteFile(file, []byte(evilNetwork), 0o600); err != nil {
		t.Fatal(err)
	}
	// By way of c it would be lost: c believes that it is there already.
	l.soon(func() string {
		if got := l.device("a", "10.2.0.0/24"); got != "wg-b" {
			return "a goes to b's LAN by " + got
		}
		return ""
	})
	s := l.stream("a.host", "10.2.0.10")
	l.in("c", "sh", "-c", "ip link add evil0 type bridge; ip link add evil1 type veth peer evil2; ip link set evil1 master evil0; ip link set evil1 up; ip link set evil2 up; ip addr add 10.2.0.10/24 dev evil0; ip addr add 10.1.0.10/25 dev evil0; ip link set evil0 up")
	l.in("c", binary, "apply", file, "--site", "c", "--keys", filepath.Join(open.Dir(), "keys"), "--partial")
	l.announces("c", "10.2.0.0/24", true, "carrier")
	l.announces("c", "10.1.0.0/25", true, "carrier")
	for _, site := range []string{"a", "b"} {
		l.soon(func() string {
			log := l.in(site, "cat", "/run/tombolo/log")
			for _, p := range []string{"10.2.0.0/24", "10.1.0.0/25"} {
				own := site == "b" && p == "10.2.0.0/24"
				if n := linesWith(log, "refused", "route="+p, "peer=c"); n != 1 && !own {
					return site + " does not say once that it refuses " + p + ":\n" + log
				}
			}
			return ""
		})
		if n := l.status(site).Refused; n == 0 {
			t.Errorf("%s has counted no refusal", site)
		}
		if out := l.in(site, binary, "status"); !strings.Contains(out, "not believed") {
			t.Errorf("the status of %s does not say so:\n%s", site, out)
		}
	}
	time.Sleep(2 * time.Second)
	if got := l.device("a", "10.2.0.0/24"); got != "wg-b" {
		t.Errorf("a goes to b's LAN by %q", got)
	}
	if e := l.routes("a", "10.1.0.0/25"); len(e.Ways) > 0 {
		t.Errorf("a knows a way to half of its own LAN: %+v", e)
	}
	if e := l.routes("b", "10.1.0.0/25"); len(e.Ways) > 0 {
		t.Errorf("b knows a way to half of a's LAN: %+v", e)
	}
	if lost, _ := s.end(); lost > 0 {
		t.Errorf("%d packets from a to b were lost", lost)
	}
	// What is c's own, it still is. Its answers to a's host go to where it thinks that is.
	l.answers("a", "10.3.0.10")
}
