//go:build vm

package vm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

var binary = os.Getenv("TOMBOLO_BINARY")

// network is sites 1 to n: site i is a router at 198.51.100.i with a host 10.i.0.10 in its
// LAN 10.i.0.0/24, joined by a bridge. Nothing of it is a process of ours.
type network struct {
	*testing.T
	dir   string // the network file, the keys, a run folder for each site
	sites []string
}

// newNetwork makes the namespaces and the keys of sites, whose names must be those of no
// other test, and captures what their routers send and receive.
func newNetwork(t *testing.T, sites ...string) *network {
	t.Helper()
	n := newQuietNetwork(t, sites...)
	for _, s := range sites {
		n.capture(s)
	}
	return n
}

// newQuietNetwork is one without captures.
func newQuietNetwork(t *testing.T, sites ...string) *network {
	t.Helper()
	n := &network{t, t.TempDir(), sites}
	for _, ns := range append([]string{"net"}, sites...) {
		n.namespace(ns)
	}
	n.in("net", "ip", "link", "add", "br0", "up", "type", "bridge")
	for i, s := range sites {
		n.namespace(s + ".host")
		n.sh("net", fmt.Sprintf("ip link add p%d up type veth peer eth0 netns %s; ip link set p%d master br0", i, s, i))
		n.sh(s, fmt.Sprintf("ip address add 198.51.100.%d/24 dev eth0; ip link set eth0 up; ip link add lan0 type veth peer eth0 netns %s.host", i+1, s))
		n.sh(s, fmt.Sprintf("ip address add 10.%d.0.1/24 dev lan0; ip link set lan0 up", i+1))
		n.sh(s+".host", fmt.Sprintf("ip address add 10.%d.0.10/24 dev eth0; ip link set eth0 up; ip route add default via 10.%d.0.1", i+1, i+1))
		n.tombolo(s, "key", "make", s)
	}
	return n
}

func (n *network) namespace(ns string) {
	n.Helper()
	n.must("ip", "netns", "add", ns)
	n.Cleanup(func() {
		pids, _ := exec.Command("ip", "netns", "pids", ns).Output()
		for pid := range strings.FieldsSeq(string(pids)) {
			_ = exec.Command("kill", "-9", pid).Run()
		}
		n.must("ip", "netns", "delete", ns)
	})
	n.sh(ns, "sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0; ip link set lo up")
}

// capture keeps the last that a router sent and received, where the test fails.
func (n *network) capture(site string) {
	n.Helper()
	out := os.Getenv("TOMBOLO_VM_OUT")
	if out == "" {
		n.Fatal("TOMBOLO_VM_OUT names no folder: this test runs by `make vm`")
	}
	file := filepath.Join(out, strings.ReplaceAll(n.Name(), "/", "-")+"-"+site+".pcap") // and its number, 0 or 1
	c := exec.Command("ip", "netns", "exec", site, "tcpdump", "-Z", "root", "-U", "-ni", "any", "-s", "128", "-C", "20", "-W", "2", "-w", file)
	if err := c.Start(); err != nil {
		n.Fatal(err)
	}
	n.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		_ = c.Wait()
		if !n.Failed() {
			_ = os.Remove(file + "0")
			_ = os.Remove(file + "1")
		}
	})
}

// must runs a command, and returns what it wrote to its standard output.
func (n *network) must(argv ...string) string {
	n.Helper()
	c := exec.Command(argv[0], argv[1:]...)
	c.Dir = n.dir
	var diagnostics strings.Builder
	c.Stderr = &diagnostics
	out, err := c.Output()
	if err != nil {
		n.Fatalf("%s: %v\n%s%s", strings.Join(argv, " "), err, out, diagnostics.String())
	}
	return string(out)
}

// in runs a command in a namespace; sh, a line of shell.
func (n *network) in(ns string, argv ...string) string {
	n.Helper()
	return n.must(append([]string{"ip", "netns", "exec", ns}, argv...)...)
}

func (n *network) sh(ns, line string) string {
	n.Helper()
	return n.in(ns, "bash", "-ec", line)
}

// tombolo runs it on a site's router.
func (n *network) tombolo(site string, args ...string) string {
	n.Helper()
	return n.in(site, n.command(site, args...)...)
}

// fails runs it where it must fail, and returns all that it wrote.
func (n *network) fails(site string, args ...string) string {
	n.Helper()
	c := exec.Command("ip", append([]string{"netns", "exec", site}, n.command(site, args...)...)...)
	c.Dir = n.dir
	out, err := c.CombinedOutput()
	if err == nil {
		n.Fatalf("%s did not fail:\n%s", strings.Join(args, " "), out)
	}
	return string(out)
}

// holds fails unless a router holds all that the network file says.
func (n *network) holds(site string) {
	n.Helper()
	if out := n.tombolo(site, "plan", file); strings.TrimSpace(out) != "nothing to do" {
		n.Errorf("%s: %s", site, out)
	}
}

// command is the command line of tombolo with the site's folders.
func (n *network) command(site string, args ...string) []string {
	argv := append([]string{binary}, args...)
	switch args[0] {
	case "key", "show":
		argv = append(argv, "--keys", "keys")
	case "apply", "plan":
		argv = append(argv, "--keys", "keys", "--site", site, "--run-dir", filepath.Join(n.dir, site))
	case "down":
		argv = append(argv, "--keys", "keys", "--run-dir", filepath.Join(n.dir, site))
	case "confirm", "routes":
		argv = append(argv, "--run-dir", filepath.Join(n.dir, site))
	}
	return argv
}

// received is how many bytes an interface of a site has received from another site's key.
// It begins anew where the peer is made anew.
func (n *network) received(site, device, other string) int {
	n.Helper()
	public := strings.TrimSpace(n.sh(site, "wg pubkey <keys/"+other+".key"))
	for line := range strings.Lines(n.in(site, "wg", "show", device, "transfer")) {
		if f := strings.Fields(line); f[0] == public {
			bytes, err := strconv.Atoi(f[1])
			if err != nil {
				n.Fatal(err)
			}
			return bytes
		}
	}
	n.Fatalf("%s has no peer %s on %s", site, other, device)
	return 0
}

const file = "network.yaml"

// write writes the network file, in which SITE.lan and SITE.uplink stand for what
// newNetwork made.
func (n *network) write(text string) {
	n.Helper()
	text = "network: n\noverlay: 10.9.0.0/24\n" + n.expand(text)
	if err := os.WriteFile(filepath.Join(n.dir, file), []byte(text), 0o600); err != nil {
		n.Fatal(err)
	}
}

func (n *network) expand(text string) string {
	for i, s := range n.sites {
		text = strings.ReplaceAll(text, s+".lan", fmt.Sprintf("lan: {lan0: 10.%d.0.0/24}", i+1))
		text = strings.ReplaceAll(text, s+".uplink", fmt.Sprintf("endpoint: 198.51.100.%d, uplink: {eth0: {address: 198.51.100.%d/24, gateway: 198.51.100.254}}", i+1, i+1))
	}
	return text
}

func (n *network) applyAll() {
	n.Helper()
	for _, s := range n.sites {
		n.tombolo(s, "apply", file)
	}
}

func (n *network) downAll() {
	n.Helper()
	for _, s := range n.sites {
		n.tombolo(s, "down")
	}
}

// patience is what routes may take to be there, in seconds of the guest's clock.
const patience = 120

// answers waits until an address answers a namespace's pings.
func (n *network) answers(ns, to string) {
	n.Helper()
	n.sh(ns, fmt.Sprintf("end=$((SECONDS + %d)); until ping -q -c1 -W1 %s >/dev/null 2>&1; do [ $SECONDS -lt $end ] || { echo %[2]s does not answer within %[1]d s; ip route get %[2]s; exit 1; }; sleep 0.1; done", patience, to))
}

// say writes a line to the machine's console, where a long test shows how far it is.
func (n *network) say(format string, args ...any) {
	n.Helper()
	line := fmt.Sprintf(format, args...)
	n.Log(line)
	if err := os.WriteFile("/dev/console", []byte(line+"\n"), 0); err != nil {
		n.Fatal(err)
	}
}

// reached fails unless every host reaches every other, with packets of more than one size.
func (n *network) reached() {
	n.Helper()
	for i, from := range n.sites {
		for j := range n.sites {
			if i != j {
				n.answers(from+".host", n.host(j))
				n.in(from+".host", "ping", "-q", "-c3", "-i0.2", "-W5", "-s", strconv.Itoa(56+400*j), n.host(j))
			}
		}
	}
}

func (n *network) host(i int) string { return fmt.Sprintf("10.%d.0.10", i+1) }

// probe is a ping that runs while something is done that may lose no packet.
type probe struct {
	n    *network
	what string
	c    *exec.Cmd
	out  strings.Builder
}

// probe sends a packet every 5 ms from a namespace to an address, and begins when the
// first was answered.
func (n *network) probe(ns, to string) *probe {
	n.Helper()
	n.answers(ns, to)
	p := &probe{n: n, what: ns + " → " + to}
	p.c = exec.Command("ip", "netns", "exec", ns, "ping", "-n", "-i0.005", to)
	p.c.Stdout = &p.out
	if err := p.c.Start(); err != nil {
		n.Fatal(err)
	}
	return p
}

var sequence = regexp.MustCompile(`icmp_seq=(\d+) ttl`)

// lostNothing ends the ping. Every packet before the last one answered must have been
// answered; what was under way at the end does not count.
func (p *probe) lostNothing() {
	p.n.Helper()
	_ = exec.Command("sleep", "0.5").Run()
	_ = p.c.Process.Signal(syscall.SIGINT)
	_ = p.c.Wait()
	var seen []int
	for _, m := range sequence.FindAllStringSubmatch(p.out.String(), -1) {
		i, _ := strconv.Atoi(m[1])
		seen = append(seen, i)
	}
	slices.Sort(seen)
	seen = slices.Compact(seen)
	m := regexp.MustCompile(`(\d+) packets transmitted`).FindStringSubmatch(p.out.String())
	if m == nil || len(seen) < 20 {
		p.n.Fatalf("%s: only %d answers:\n%s", p.what, len(seen), p.out.String())
	}
	sent, _ := strconv.Atoi(m[1])
	last := seen[len(seen)-1]
	if lost := last - len(seen); lost > 0 {
		p.n.Errorf("%s: %d of %d packets were lost", p.what, lost, last)
	}
	if sent-last > 5 {
		p.n.Errorf("%s: the last %d of %d packets were lost", p.what, sent-last, sent)
	}
	p.n.Logf("%s: %d of %d", p.what, len(seen), sent)
}
