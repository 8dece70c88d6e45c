package interop

import (
	"fmt"
	"strconv"
	"strings"

	"tombolo/internal/babel"
)

// bird has its own routes in its configuration, which it is told to read again.
type bird struct{}

func (bird) name() string     { return "BIRD" }
func (bird) protocol() string { return "bird" }

func (b bird) start(d *daemon) (string, []string) {
	return "bird", []string{"-f", "-c", b.configuration(d), "-s", d.path("socket"), "-P", d.path("pid")}
}

func (bird) configuration(d *daemon) string {
	d.T.Helper()
	own := map[string][]string{} // by protocol
	for k, metric := range d.own {
		name := "near"
		if metric == far {
			name = "far"
		}
		line := fmt.Sprintf("route %s blackhole;", k.Dst)
		switch {
		case k.Dst.Addr().Is4():
			name += "4"
		case d.sadr:
			name += "s"
			from := "::/0"
			if k.Src.IsValid() {
				from = k.Src.String()
			}
			line = fmt.Sprintf("route %s from %s blackhole;", k.Dst, from)
		default:
			name += "6"
		}
		own[name] = append(own[name], line)
	}
	lines := []string{
		"log stderr all;",
		fmt.Sprintf("router id 10.0.%d.%d;", d.number, d.lives),
		"protocol device { scan time 1; }",
		"filter ours { if source = RTS_BABEL then accept; if proto ~ \"near*\" then accept;",
		fmt.Sprintf("if proto ~ \"far*\" then { babel_metric = %d; accept; } reject; }", far),
	}
	channels := map[string]string{"4": "ipv4", "6": "ipv6"}
	if d.sadr {
		channels = map[string]string{"4": "ipv4", "s": "ipv6 sadr"}
		lines = append(lines, "ipv6 sadr table sadr6;")
	}
	spoken := ""
	for suffix, channel := range channels {
		lines = append(lines, fmt.Sprintf("protocol kernel k%s { %s { export where source = RTS_BABEL; }; }", suffix, channel))
		spoken += channel + " { import all; export filter ours; }; "
		for _, name := range []string{"near", "far"} {
			lines = append(lines, fmt.Sprintf("protocol static %s%s { %s; %s }", name, suffix, channel, strings.Join(own[name+suffix], " ")))
		}
	}
	lines = append(lines, "protocol babel b {", spoken)
	for name, l := range d.links {
		kind := "wired"
		if l.tunnel {
			kind = "tunnel"
		}
		line := fmt.Sprintf("interface %q { type %s; rxcost %d; limit 2; hello interval 200 ms; update interval 4 s; ", name, kind, l.rxcost)
		if l.keyed != "" {
			line += fmt.Sprintf("authentication mac; password %q { algorithm %s; }; ", l.password, strings.ReplaceAll(l.keyed, "-", " "))
		}
		lines = append(lines, line+"};")
	}
	return d.write("bird.conf", append(lines, "}")...)
}

func (b bird) originate(d *daemon, own map[babel.Key]int) {
	d.T.Helper()
	d.own = own
	if d.child == nil {
		return // it will read it when it starts
	}
	b.configuration(d)
	answer := b.ask(d, "configure")
	if l := answer[len(answer)-1]; !strings.HasPrefix(l, "0003") && !strings.HasPrefix(l, "0004") {
		d.T.Fatalf("BIRD: %v", answer)
	}
}

// ask: a line that begins with four digits and a space is the last (BIRD's doc/reply_codes).
func (bird) ask(d *daemon, command string) []string {
	d.T.Helper()
	isEnd := func(line string) bool {
		_, err := strconv.Atoi(line[:min(4, len(line))])
		return err == nil && len(line) > 4 && line[4] == ' '
	}
	return d.ask(command, isEnd)
}

// routes reads "10.1.1.0/24 192.0.2.1 v0 96 * 7 68.5": prefix, next hop, device, metric,
// what it is (* for the one that is used), seqno, expiry.
func (b bird) routes(d *daemon) map[babel.Key]int {
	d.T.Helper()
	routes := map[babel.Key]int{}
	for _, line := range b.ask(d, "show babel routes") {
		k, rest, ok := entry(line)
		if !ok || len(rest) < 4 || rest[3] != "*" {
			continue
		}
		metric, err := strconv.Atoi(rest[2])
		if err != nil {
			d.T.Fatalf("%q: %v", line, err)
		}
		routes[k] = metric
	}
	return routes
}

// entry reads a line that begins with a destination.
func entry(line string) (k babel.Key, rest []string, ok bool) {
	words := strings.Fields(line)
	if len(words) > 0 && len(words[0]) > 5 && words[0][4] == '-' {
		words[0] = words[0][5:] // a reply code
	}
	switch {
	case len(words) == 0 || !strings.Contains(words[0], "/"):
		return k, nil, false
	case len(words) > 3 && words[1] == "from":
		return key(words[0] + " from " + words[2]), words[3:], true
	}
	return key(words[0]), words[1:], true
}

func (b bird) neighbours(d *daemon) []string {
	d.T.Helper()
	var lines []string
	for _, line := range b.ask(d, "show babel neighbors") {
		if strings.Contains(line, "fe80::") {
			lines = append(lines, line)
		}
	}
	return lines
}
