package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tombolo/internal/lab"
)

// The agents of all routers follow one file. A site goes and comes, a link becomes dearer,
// a file with mistakes changes nothing; what did not change loses no packet.
func TestAgentsFollowTheFile(t *testing.T) {
	t.Parallel()
	l := up(t, "follow", triangleNetwork, "")
	l.reached()
	open, err := lab.Open(l.name)
	if err != nil {
		t.Fatal(err)
	}
	file, keys := filepath.Join(open.Dir(), "network.yaml"), filepath.Join(open.Dir(), "keys")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	for _, site := range []string{"a", "b", "c"} { // in place of the agents that only keep
		l.in(site, "sh", "-c", "p=$(cat "+agentPID+"); kill $(ps -o ppid= -p $p); while kill -0 $p 2>/dev/null; do sleep 0.01; done; "+
			binary+" agent --site "+site+" --file "+file+" --keys "+keys+" --partial --lab >/run/tombolo/log 2>&1 </dev/null &")
	}
	for _, site := range []string{"a", "b", "c"} {
		l.soon(func() string {
			if out, err := l.try(site, binary, "status"); err != nil || !strings.Contains(out, "follows "+file) {
				return site + " does not follow the file: " + out
			}
			return ""
		})
	}
	l.goes("a", "10.2.0.0/24", "wg-b")
	l.goes("b", "10.1.0.0/24", "wg-a")
	l.answers("a.host", "10.2.0.10")
	s := l.stream("a.host", "10.2.0.10")

	dear := strings.Replace(triangleNetwork, "links: mesh", "links: [mesh, {between: [a, b], cost: 500}]", 1)
	write(dear)
	l.goes("a", "10.2.0.0/24", "wg-c")
	l.goes("b", "10.1.0.0/24", "wg-c")
	write(triangleNetwork)
	l.goes("a", "10.2.0.0/24", "wg-b")
	l.goes("b", "10.1.0.0/24", "wg-a")

	without := strings.Join(strings.SplitAfter(triangleNetwork, "\n")[:6], "") + "links: mesh\n"
	write(without)
	for _, site := range []string{"a", "b"} {
		l.soon(func() string {
			return l.in(site, "sh", "-c", "ip -br link show | grep wg-c; ip route show table all | grep -e 10.3.0.0 -e 10.8.0.3; true")
		})
	}
	l.soon(func() string { // c is in its own file no more
		if out, _ := l.try("c", binary, "status"); !strings.Contains(out, `"c"`) {
			return "c does not say that it is in the file no more:\n" + out
		}
		return ""
	})
	write(triangleNetwork)
	l.goes("a", "10.3.0.0/24", "wg-c")
	l.answers("c.host", "10.1.0.10")
	l.answers("b.host", "10.3.0.10")

	write(triangleNetwork + "nonsense: 1\n")
	for _, site := range []string{"a", "b", "c"} {
		l.soon(func() string {
			if p := l.status(site).Problems; len(p) != 1 || !strings.Contains(p[0], "nonsense") {
				return "the mistake is no problem of " + site + ": " + strings.Join(p, "; ")
			}
			return ""
		})
	}
	write(triangleNetwork)
	for _, site := range []string{"a", "b", "c"} {
		l.soon(func() string { return strings.Join(l.status(site).Problems, "; ") })
	}
	if lost, longest := s.end(); lost > 0 {
		t.Errorf("%d packets from a to b were lost, at most %s in a row", lost, longest)
	}
	l.reached()
}
