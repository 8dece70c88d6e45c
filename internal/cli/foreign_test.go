package cli_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tombolo/internal/lab"
)

// foreignNetwork lets a Babel router that is no site in, on a's LAN. c is two hops away.
const foreignNetwork = `
network: n
overlay: 10.8.0.0/24
sites:
  a: {address: 10.8.0.1, endpoint: a.example.net, lan: {lan0: 10.1.0.0/24}, uplink: {eth0: dhcp}, babel: {lan0: {accept: 10.9.0.0/16, key: core}}}
  b: {address: 10.8.0.2, endpoint: b.example.net, lan: {lan0: 10.2.0.0/24}, uplink: {eth0: dhcp}}
  c: {address: 10.8.0.3, lan: {lan0: 10.3.0.0/24}, uplink: {eth0: dhcp}}
links: {chain: [a, b, c]}
`

// What the foreign router announces: what it may, and what it may not.
const foreignPrefix = "10.9.1.0/24"

var refusedPrefixes = []string{"0.0.0.0/0", "10.2.0.0/24", "10.8.0.3/32", "10.99.0.0/24", "10.0.0.0/8", "10.3.0.128/25"}

// stateFile is a file of the daemon's own. babeld removes the one that it has read.
const stateFile = "state"

// foreign is a routing daemon on the host in a's LAN.
type foreign struct {
	name, binary string
	config       func(l testLab, key string) string
	args         []string // file and pid file follow
	pid          string   // the option that names the pid file
}

var foreigners = []foreign{
	{"babeld", "babeld", func(l testLab, key string) string {
		for _, p := range append([]string{foreignPrefix}, refusedPrefixes...) {
			l.in("a.host", "ip", "route", "replace", p, "dev", "core0", "proto", "201", "metric", "5000")
		}
		return "key id core type hmac-sha256 value " + key + `
interface eth0 type wired hello-interval 0.5 update-interval 1 key core
redistribute local deny
redistribute proto 201 allow
redistribute deny
`
	}, []string{"-S", stateFile, "-c"}, "-I"},
	{"BIRD", "bird", func(_ testLab, key string) string {
		var routes strings.Builder
		for _, p := range append([]string{foreignPrefix}, refusedPrefixes...) {
			fmt.Fprintf(&routes, "route %s via \"core0\"; ", p)
		}
		return `log stderr all;
router id 10.9.1.1;
protocol device { scan time 1; }
protocol kernel { ipv4 { export where source = RTS_BABEL; }; }
protocol static { ipv4; ` + routes.String() + ` }
protocol babel {
  ipv4 { import all; export where source = RTS_STATIC || source = RTS_BABEL; };
  interface "eth0" { type wired; hello interval 500 ms; update interval 1 s; authentication mac; password ` + key + ` { algorithm hmac sha256; }; };
}
`
	}, []string{"-f", "-s", stateFile, "-c"}, "-P"},
}

// run starts the daemon, and returns what ends it.
func (f foreign) run(l testLab, key string) (end func()) {
	l.Helper()
	dir := l.TempDir()
	file, pid := filepath.Join(dir, "conf"), filepath.Join(dir, "pid")
	if err := os.WriteFile(file, []byte(f.config(l, key)), 0o600); err != nil {
		l.Fatal(err)
	}
	args := append([]string{f.binary}, f.args...)
	for i, a := range args {
		if a == stateFile {
			args[i] = filepath.Join(dir, a)
		}
	}
	args = append(args, file, f.pid, pid)
	if f.binary == "babeld" {
		args = append(args, "eth0")
	}
	c := l.start("a.host", args...)
	l.soon(func() string {
		if _, err := os.Stat(pid); err != nil {
			return "it does not run: " + c.Stdout.(*strings.Builder).String()
		}
		return ""
	})
	return func() {
		l.in("a.host", "sh", "-c", "p=$(cat "+pid+"); kill $p; while kill -0 $p 2>/dev/null; do sleep 0.05; done")
		_ = c.Wait()
	}
}

// A router that is no site, babeld or BIRD, takes part in the network: as far as the file
// lets it.
func TestForeignRouterOnALAN(t *testing.T) {
	t.Parallel() // it mostly waits
	l := up(t, "foreign", foreignNetwork, "")
	l.reached()
	open, err := lab.Open(l.name)
	if err != nil {
		t.Fatal(err)
	}
	// As docs/routing.md says: base64 -d core.mac | xxd -p -c 32.
	text, err := os.ReadFile(filepath.Join(open.Dir(), "keys", "core.mac"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	right, wrong := fmt.Sprintf("%x", raw), strings.Repeat("5a", 32)
	l.in("a.host", "sh", "-c", "ip link add core0 type bridge; ip addr add 10.9.1.1/24 dev core0; ip link set core0 up")
	for _, f := range foreigners {
		t.Run(f.name+" with a wrong key", func(t *testing.T) {
			l := testLab{t, l.name}
			unsigned := l.status("a").Unsigned
			defer f.run(l, wrong)()
			l.soon(func() string {
				if l.status("a").Unsigned < unsigned+10 {
					return "nothing is heard of it"
				}
				return ""
			})
			if e := l.routes("a", foreignPrefix); len(e.Ways) > 0 {
				t.Errorf("it is believed without the key: %+v", e)
			}
			if out := l.in("a.host", "ip", "route"); strings.Contains(out, "10.3.0.0/24") {
				t.Errorf("it learns without the key:\n%s", out)
			}
		})
		t.Run(f.name, func(t *testing.T) {
			l := testLab{t, l.name}
			before := l.status("a")
			end := f.run(l, right)
			l.goes("a", foreignPrefix, "lan0")
			l.goes("c", foreignPrefix, "wg-b")
			l.answers("c.host", "10.9.1.1")
			l.soon(func() string {
				if out := l.in("a.host", "ip", "route"); !strings.Contains(out, "10.3.0.0/24 via 10.1.0.1 dev eth0 proto "+map[string]string{"BIRD": "bird", "babeld": "babel"}[f.name]) {
					return "it does not learn the network's prefixes:\n" + out
				}
				return ""
			})
			l.in("a.host", "ping", "-c3", "-i0.2", "-W5", "-I", "10.9.1.1", "10.3.0.10")
			time.Sleep(5 * time.Second) // in which everything is announced again
			now := l.status("a")
			if now.Refused < before.Refused+uint64(2*len(refusedPrefixes)) {
				t.Errorf("%d announcements were refused, after %d: too few", now.Refused, before.Refused)
			}
			if now.Unsigned != before.Unsigned {
				t.Errorf("%d packets are said to be unsigned", now.Unsigned-before.Unsigned)
			}
			// Once in all: the other daemon was the same neighbour.
			said := l.in("a", "cat", "/run/tombolo/log")
			for _, p := range refusedPrefixes {
				for _, w := range l.routes("a", p).Ways {
					if w.Device == "lan0" {
						t.Errorf("%s was taken from it", p)
					}
				}
				if out := l.in("a", "ip", "route", "show", "table", "110"); p != "0.0.0.0/0" && strings.Contains(out, p+" via") || strings.Contains(out, "default") {
					t.Errorf("the kernel has %s:\n%s", p, out)
				}
				if n := linesWith(said, "refused", "route="+p+"\n"); n != 1 {
					t.Errorf("of %s the log tells %d times", p, n)
				}
			}
			if n := strings.Count(said, "refused"); n != len(refusedPrefixes) {
				t.Errorf("%d refusals are told of %d:\n%s", n, len(refusedPrefixes), said)
			}
			l.answers("a.host", "10.3.0.10") // beside which it announced a longer one
			l.answers("c.host", "10.2.0.10")
			end()
			l.goes("c", foreignPrefix, "")
			l.lost("c", "c.host", "10.9.1.1")
		})
	}
}

// linesWith counts the lines that have all of some words.
func linesWith(text string, words ...string) int {
	n := 0
next:
	for line := range strings.Lines(text) {
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue next
			}
		}
		n++
	}
	return n
}
