package interop

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"tombolo/internal/babel"
)

// The metrics that a daemon announces its own routes with.
const (
	near = 0
	far  = 400
)

// daemon is a router that runs somebody else's Babel.
type daemon struct {
	*node
	kind
	folder string
	child  *child // nil: it does not run
	lives  int
	sadr   bool // BIRD takes source-specific routes; then its kernel table is of these

	links map[string]*daemonLink
	own   map[babel.Key]int // metrics, near or far, of what it announces
}

// daemonLink is how a daemon speaks on a device.
type daemonLink struct {
	rxcost   int
	stamps   bool   // babeld's timestamps
	via6     bool   // IPv4 by IPv6 next hops
	tunnel   bool   // its split horizon, and hellos by unicast where it can
	keyed    string // an algorithm; "": none
	password string
}

// kind is what tells babeld and BIRD apart.
type kind interface {
	name() string

	// start writes the configuration and returns the command that runs in the foreground.
	start(d *daemon) (program string, args []string)

	// originate makes it announce own routes, in place of those that it announced before.
	originate(d *daemon, own map[babel.Key]int)

	// routes returns the metrics of the routes of others that it uses; 65535: unreachable.
	routes(d *daemon) map[babel.Key]int

	// neighbours returns the lines that say something of each.
	neighbours(d *daemon) []string

	// protocol is that of its routes in the kernel.
	protocol() string
}

func newDaemon(t *testing.T, k kind, number int) *daemon {
	t.Helper()
	return &daemon{node: newNode(t, number), kind: k, folder: t.TempDir(), links: map[string]*daemonLink{}, own: map[babel.Key]int{}}
}

// speak describes the link with a number. change, if not nil, has its way with it.
func (d *daemon) speak(link int, change func(*daemonLink)) {
	l := &daemonLink{rxcost: 96}
	if change != nil {
		change(l)
	}
	d.links[device(link)] = l
}

// live starts the daemon, with a router-id that it never had, and waits until it answers.
func (d *daemon) live() {
	d.T.Helper()
	d.lives++
	_ = os.Remove(d.path("socket"))
	program, args := d.start(d)
	d.child = d.spawn(program, args...)
	end := time.Now().Add(patience)
	for {
		c, err := net.Dial("unix", d.path("socket"))
		if err == nil {
			c.Close()
			break
		}
		select {
		case <-d.child.ended:
			d.T.Fatalf("%s ended at once\n%s", program, d.child.log)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(end) {
			d.T.Fatalf("%s: %v\n%s", program, err, d.child.log)
		}
	}
	running := d.child
	d.T.Cleanup(func() {
		if d.T.Failed() && d.child == running {
			d.tell()
		}
	})
}

// tell writes what the daemon knows into the test's log.
func (d *daemon) tell() {
	d.T.Logf("%s: neighbours %q\n%s", d.name(), d.neighbours(d), d.child.log)
	n := 0
	for k, metric := range d.routes(d) {
		if n++; n <= 10 {
			d.T.Logf("    %v: metric %d", k, metric)
		}
	}
	for k, hop := range d.kernelRoutes(d.protocol()) {
		if n++; n <= 20 {
			d.T.Logf("    %v by %s", k, hop)
		}
	}
}

// kill ends the daemon without a word. Its routes go too: what a daemon makes of those of
// an earlier life is its own affair.
func (d *daemon) kill() {
	d.T.Helper()
	d.child.end(syscall.SIGKILL)
	for _, family := range []string{"-4", "-6"} {
		d.Sh("ip " + family + " route flush proto " + d.protocol())
	}
	d.child = nil
}

// announce replaces what the daemon originates.
func (d *daemon) announce(metric int, keys ...babel.Key) {
	d.T.Helper()
	own := map[babel.Key]int{}
	for _, k := range keys {
		own[k] = metric
	}
	d.originate(d, own)
}

// uses finds what is wrong if the daemon, or its kernel, does not use a route by a next hop
// whose metric satisfies f.
func (d *daemon) uses(k babel.Key, next netip.Addr, f func(metric int) bool) string {
	d.T.Helper()
	metric, ok := d.routes(d)[k]
	if !ok || metric == 65535 || !f(metric) {
		return fmt.Sprintf("%s has for %v: %t, metric %d", d.name(), k, ok, metric)
	}
	if hop := d.kernelRoutes(d.protocol())[k]; hop != next {
		return fmt.Sprintf("the kernel of %s goes to %v by %s; want %s", d.name(), k, hop, next)
	}
	return ""
}

// lacks finds what is wrong if the daemon, or its kernel, has a route to a key.
func (d *daemon) lacks(k babel.Key) string {
	d.T.Helper()
	if metric, ok := d.routes(d)[k]; ok && metric < 65535 {
		return fmt.Sprintf("%s still has for %v: metric %d", d.name(), k, metric)
	}
	if hop, ok := d.kernelRoutes(d.protocol())[k]; ok && hop.IsValid() {
		return fmt.Sprintf("the kernel of %s still goes to %v by %s", d.name(), k, hop)
	}
	return ""
}

// usesAll finds what is wrong if the daemon and its kernel do not use routes to all keys.
func (d *daemon) usesAll(keys []babel.Key) string {
	d.T.Helper()
	if n := d.count(keys); n < len(keys) {
		return fmt.Sprintf("%s uses %d of %d routes", d.name(), n, len(keys))
	}
	return ""
}

// lacksAll finds what is wrong if the daemon or its kernel uses a route to any of the keys.
func (d *daemon) lacksAll(keys []babel.Key) string {
	d.T.Helper()
	if n := d.count(keys); n > 0 {
		return fmt.Sprintf("%s still uses %d of %d routes", d.name(), n, len(keys))
	}
	return ""
}

// count says how many of the keys the daemon has routes for, also in its kernel.
func (d *daemon) count(keys []babel.Key) int {
	d.T.Helper()
	n, routes, kernel := 0, d.routes(d), d.kernelRoutes(d.protocol())
	for _, k := range keys {
		if metric, ok := routes[k]; ok && metric < 65535 && kernel[k].IsValid() {
			n++
		}
	}
	return n
}

// ask sends a command to the daemon's socket, and returns the lines up to one that end says
// is the last. One that hangs up is asked again: babeld does when it has said much and we do
// not read as fast as it writes.
func (d *daemon) ask(command string, isEnd func(line string) bool) (lines []string) {
	d.T.Helper()
	eventually(d.T, "ask "+d.name(), func() string {
		var err error
		if lines, err = d.askOnce(command, isEnd); err != nil {
			return fmt.Sprintf("%s: %v\n%s", command, err, d.child.log)
		}
		return ""
	})
	return lines
}

func (d *daemon) askOnce(command string, isEnd func(line string) bool) (lines []string, err error) {
	c, err := net.Dial("unix", d.path("socket"))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	in := bufio.NewScanner(c)
	in.Buffer(nil, 1<<20)
	for in.Scan() && !isEnd(in.Text()) { // a greeting
	}
	if _, err := c.Write([]byte(command + "\n")); err != nil {
		return nil, err
	}
	for in.Scan() {
		if lines = append(lines, in.Text()); isEnd(in.Text()) {
			return lines, nil
		}
	}
	return nil, fmt.Errorf("it answered %d lines and hung up: %w", len(lines), cmp.Or(in.Err(), io.ErrUnexpectedEOF))
}

func (d *daemon) path(name string) string { return d.folder + "/" + name }

func (d *daemon) write(name string, lines ...string) string {
	d.T.Helper()
	if err := os.WriteFile(d.path(name), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		d.T.Fatal(err)
	}
	return d.path(name)
}
