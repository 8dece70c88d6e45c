package interop

import (
	"fmt"
	"strconv"
	"strings"

	"tombolo/internal/babel"
)

// babeld redistributes routes of its kernel: of protocol 201 as near, of 202 as far.
type babeld struct{}

func (babeld) name() string     { return "babeld" }
func (babeld) protocol() string { return "babel" }

func (b babeld) start(d *daemon) (string, []string) {
	lines := []string{
		"local-path-readwrite " + d.path("socket"),
		fmt.Sprintf("router-id 02:00:00:00:00:00:%02x:%02x", d.number, d.lives),
		"redistribute local deny",
		"redistribute proto 201 allow",
		fmt.Sprintf("redistribute proto 202 metric %d", far),
		"redistribute deny",
	}
	for name, l := range d.links {
		if l.keyed != "" {
			lines = append(lines, fmt.Sprintf("key id key-%s type %s value %x", name, l.keyed, l.password))
		}
		lines = append(lines, b.link(name, l))
	}
	return "babeld", []string{"-S", d.path("state"), "-I", "", "-c", d.write("babeld.conf", lines...)}
}

func (babeld) link(name string, l *daemonLink) string {
	kind := "wired"
	if l.tunnel {
		kind = "tunnel"
	}
	line := fmt.Sprintf("interface %s type %s hello-interval 0.2 update-interval 4 rxcost %d enable-timestamps %t v4-via-v6 %t split-horizon %t",
		name, kind, l.rxcost, l.stamps, l.via6, l.tunnel)
	if l.keyed != "" {
		line += " key key-" + name
	}
	return line
}

func (babeld) ask(d *daemon, command string) []string {
	d.T.Helper()
	isEnd := func(line string) bool {
		return line == "ok" || line == "bad" || line == "no" || strings.HasPrefix(line, "no ")
	}
	return d.ask(command, isEnd)
}

func (babeld) originate(d *daemon, own map[babel.Key]int) {
	d.T.Helper()
	var batch strings.Builder
	for k, metric := range d.own {
		if now, ok := own[k]; !ok || now != metric {
			fmt.Fprintf(&batch, "route del %s\n", kernelRoute(k, metric))
		}
	}
	for k, metric := range own {
		if was, ok := d.own[k]; !ok || was != metric {
			fmt.Fprintf(&batch, "route add %s\n", kernelRoute(k, metric))
		}
	}
	d.own = own
	d.Sh("ip -batch " + d.write("routes", batch.String()))
}

func kernelRoute(k babel.Key, metric int) string {
	from := ""
	if k.Src.IsValid() {
		from = " from " + k.Src.String()
	}
	return fmt.Sprintf("%s%s dev lan proto %d", k.Dst, from, protocolOf(metric))
}

func protocolOf(metric int) int {
	if metric == far {
		return 202
	}
	return 201
}

// fields reads "add route 1f prefix 10.0.0.0/8 from 0.0.0.0/0 installed yes …": words in
// pairs, after the first three.
func fields(line, of string) map[string]string {
	words := strings.Fields(line)
	if len(words) < 3 || words[0] != "add" || words[1] != of {
		return nil
	}
	m := map[string]string{}
	for i := 3; i+1 < len(words); i += 2 {
		m[words[i]] = words[i+1]
	}
	return m
}

func (b babeld) routes(d *daemon) map[babel.Key]int {
	d.T.Helper()
	routes := map[babel.Key]int{}
	for _, line := range b.ask(d, "dump") {
		f := fields(line, "route")
		if f["installed"] != "yes" {
			continue
		}
		metric, err := strconv.Atoi(f["metric"])
		if err != nil {
			d.T.Fatalf("%q: %v", line, err)
		}
		routes[key(f["prefix"]+" from "+f["from"])] = metric
	}
	return routes
}

func (b babeld) neighbours(d *daemon) []string {
	d.T.Helper()
	var lines []string
	for _, line := range b.ask(d, "dump") {
		if fields(line, "neighbour") != nil {
			lines = append(lines, line)
		}
	}
	return lines
}
