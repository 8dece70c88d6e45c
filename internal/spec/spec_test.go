package spec_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tombolo/internal/spec"
)

// head is what every small file begins with; it has no notes.
const head = "network: n\noverlay: 10.9.0.0/16\nrouting: static\n"

func parse(t testing.TB, text string) *spec.Network {
	t.Helper()
	n, ds := spec.Parse("n.yaml", []byte(text))
	if n == nil {
		t.Fatalf("%s\nin\n%s", ds, text)
	}
	return n
}

// large returns a full mesh of n sites with LANs, endpoints and keys.
func large(n int) []byte {
	var b strings.Builder
	b.WriteString("network: big\noverlay: 10.0.0.0/16\n\nsites:\n")
	for i := range n {
		var key [32]byte
		copy(key[:], fmt.Sprintf("the key of site number %d", i))
		fmt.Fprintf(&b, "  site%04d:\n    address: 10.0.%d.%d\n    endpoint: site%04d.example.net\n    key: %s\n    lan: {br-lan: 10.%d.%d.0/24}\n    uplink: {eth0: dhcp}\n",
			i, i/250, i%250+1, i, base64.StdEncoding.EncodeToString(key[:]), i/250+10, i%250)
	}
	b.WriteString("links: mesh\n")
	return []byte(b.String())
}

func BenchmarkParse1000(b *testing.B) {
	text := large(1000)
	b.ReportAllocs()
	for b.Loop() {
		if n, ds := spec.Parse("big.yaml", text); n == nil {
			b.Fatal(ds)
		}
	}
}

func TestExamplesParse(t *testing.T) {
	for name, text := range examples(t) {
		n, ds := spec.Parse(name, []byte(text))
		if n == nil {
			t.Fatal(ds)
		}
		for _, d := range ds {
			if d.Severity == spec.Warning && !d.Unbuilt && d.Code != "device-without-key" {
				t.Errorf("%s", d)
			}
		}
	}
}

// What a stranger's first file comes to: every default filled in.
func TestHomeIsWhatItSays(t *testing.T) {
	n := parse(t, examples(t)["home.yaml"])
	if n.Name != "home" || n.Overlay != netip.MustParsePrefix("10.0.32.0/24") || n.Routing != spec.Babel || n.Settings != spec.DefaultSettings() {
		t.Errorf("header: %+v", n)
	}
	if n.Overlay6.Bits() != 48 || n.Overlay6.Addr().As16()[0] != 0xfd {
		t.Errorf("overlay6 is %v", n.Overlay6)
	}
	op3 := n.Sites[2]
	want := spec.Site{
		Pos: spec.Pos{Line: 17, Column: 3}, Name: "op3", Kind: spec.Linux, Routing: spec.Babel,
		Address: netip.MustParseAddr("10.0.32.3"), Address6: op3.Address6, Index: 3,
		Endpoints: []spec.Endpoint{{Pos: spec.Pos{Line: 19, Column: 15}, Host: "203.0.113.3", Base: 51820}}, BasePort: 51820,
		LANs: []spec.LAN{{Pos: spec.Pos{Line: 20, Column: 11}, Device: "br-lan", Prefixes: []spec.Mapped{{Pos: spec.Pos{Line: 20, Column: 19}, Prefix: netip.MustParsePrefix("192.168.37.0/24")}}}},
		Uplinks: []spec.Uplink{{
			Pos: spec.Pos{Line: 21, Column: 14}, Device: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("203.0.113.3/24")},
			Gateways: []netip.Addr{netip.MustParseAddr("203.0.113.1")}, MTU: 1500, Weight: 1, Preference: 1, Masquerade: true,
			Check: spec.Check{Interval: 600 * time.Millisecond, Down: 3, Up: 5},
		}},
	}
	if d := cmp.Diff(want, op3, compareNet); d != "" {
		t.Errorf("op3 (-want +got):\n%s", d)
	}
	if op3.Address6 != spec.AddressAt(n.Overlay6, 3) {
		t.Errorf("op3 has %v", op3.Address6)
	}
	if n.Port(0, 2) != 51823 || !n.CanDial(1, 2) || n.CanDial(2, 1) || !n.CanLink(1, 2) {
		t.Error("ports and dialling of op3")
	}
	if c := n.Clients; c == nil || len(c.Devices) != 2 || c.Devices[1].Address != netip.MustParseAddr("10.0.31.11") || c.Hold != 180*time.Second || n.Home() != 0 {
		t.Errorf("clients: %+v", n.Clients)
	}
	if e := n.Exits; len(e) != 1 || e[0].For[0] != "op2" || e[0].Via[0] != "op1" || e[0].Otherwise != "local" {
		t.Errorf("exits: %+v", n.Exits)
	}
}

var compareNet = cmp.Options{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}

// Everything that a link can say arrives, at the end that it is for.
func TestLinkOptionsArrive(t *testing.T) {
	n := parse(t, `network: n
overlay: 10.9.0.0/24
sites:
  a: {address: 10.9.0.1, endpoint: a.example.net, uplink: {eth0: {address: 192.0.2.1/24, gateway: 192.0.2.254}}}
  b: {address: 10.9.0.2}
  c: {address: 10.9.0.3, uplink: {wan: {address: 192.0.2.3/24, gateway: 192.0.2.254}}}
  d: {address: 10.9.0.4}
links:
  - {between: [b, a], mtu: 1380, keepalive: 25s, psk: true, cost: 3, port: {a: 53000, b: 53001}}
  - {between: [c, a], transport: none, on: {a: eth0, c: wan}}
  - {between: [a, d], keepalive: off, port: 53002}
`)
	at := func(line int) spec.Pos { return spec.Pos{Line: line, Column: 5} }
	for _, c := range []struct {
		a, b int
		want spec.LinkOptions
	}{
		{0, 1, spec.LinkOptions{Pos: at(9), MTU: 1380, Keepalive: 25 * time.Second, Preshared: true, Cost: 3, Ports: [2]int{53000, 53001}}},
		{1, 0, spec.LinkOptions{Pos: at(9), MTU: 1380, Keepalive: 25 * time.Second, Preshared: true, Cost: 3, Ports: [2]int{53001, 53000}}},
		{0, 2, spec.LinkOptions{Pos: at(10), NoTunnel: true, On: [2]string{"eth0", "wan"}}},
		{3, 0, spec.LinkOptions{Pos: at(11), Keepalive: -1, Ports: [2]int{53002, 53002}}},
	} {
		if d := cmp.Diff(c.want, n.Links.Options(c.a, c.b)); d != "" {
			t.Errorf("%d to %d (-want +got):\n%s", c.a, c.b, d)
		}
	}
	if n.Links.Has(1, 2) || !n.Links.Has(0, 2) || !n.CanLink(0, 2) {
		t.Error("which are joined")
	}
}

// Every way to write links joins what it says.
func TestFormsOfLinks(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "ab ac ad bc bd cd",
		"links: mesh":                  "ab ac ad bc bd cd",
		"links: {star: b}":             "ab bc bd",
		"links: {chain: [d, a, c, b]}": "ac ad bc",
		"links: [[a, b], [b, c, d]]":   "ab bc bd cd",
		"links: [mesh]":                "ab ac ad bc bd cd",
		"links: [{star: a}, {chain: [c, d]}, {between: [b, c], cost: 2}]": "ab ac ad bc cd",
	} {
		n := parse(t, head+"sites: {a: a.example.net, b: b.example.net, c: c.example.net, d: d.example.net}\n"+text+"\n")
		var got []string
		for i := range n.Sites {
			for _, j := range n.Links.Neighbours(i) {
				if i < j {
					got = append(got, n.Sites[i].Name+n.Sites[j].Name)
				}
			}
		}
		if g := strings.Join(got, " "); g != want {
			t.Errorf("%q joins %s, not %s", text, g, want)
		}
	}
}

// Endpoints are read with and without a port, in both families.
func TestEndpoints(t *testing.T) {
	n := parse(t, head+`settings: {port: 40000}
sites:
  a: {address: 10.9.0.1, port: 50000, endpoint: [a.example.net, "b.example.net:4000", 192.0.2.1, "192.0.2.2:4001", "2001:db8::1", "[2001:db8::2]", "[2001:db8::3]:4002"]}
  b: b.example.org
`)
	var got []string
	for _, s := range n.Sites {
		for _, e := range s.Endpoints {
			got = append(got, fmt.Sprintf("%s %d", e.Host, e.Base))
		}
	}
	want := []string{"a.example.net 50000", "b.example.net 4000", "192.0.2.1 50000", "192.0.2.2 4001", "2001:db8::1 50000", "2001:db8::2 50000", "2001:db8::3 4002", "b.example.org 40000"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// The files that cannot stand in a text archive.
func TestTextThatIsNone(t *testing.T) {
	long := "# " + strings.Repeat("x", 4<<20) + "\n"
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "n.yaml: the file is empty\nhint: `tombolo init` writes a file to begin with\n"},
		{"large", long + head, "n.yaml: the file has 4.0 MB; a network file has at most 4\nhint: is this the right file?\n"},
		{"ten megabytes", strings.Repeat("sites:\n", 10<<20/7), "n.yaml: the file has 10.0 MB; a network file has at most 4\nhint: is this the right file?\n"},
		{"values", strings.Repeat("- a\n", 200_001), "n.yaml: the file has more than 400000 values\nhint: is this the right file?\n"},
		{"latin1", "network: n\nsites: {m\xfcnchen: }\n", "n.yaml:2:10: the byte 0xfc here is not UTF-8\n    2 | sites: {m\ufffdnchen: }\n      |          ^\nhint: save the file as UTF-8\n"},
		{"utf16", "\xff\xfen\x00e\x00", "n.yaml:1:1: the file is UTF-16\n    1 | \ufffd\ufffdn·e·\n      | ^\nhint: save it as UTF-8\n"},
		{"nul", "network: n\x00\n", "n.yaml:1:11: the control character U+0000 has no place in a text\n    1 | network: n·\n      |           ^\nhint: delete the character; an editor may hide it\n"},
		{"escape", "network: n # \x1b[2J\n", "n.yaml:1:14: the control character U+001B has no place in a text\n    1 | network: n # ·[2J\n      |              ^\nhint: delete the character; an editor may hide it\n"},
		{"crlf", "network: n\r\noverlay: 10.9.0.0\r\nrouting: static\r\nsites: {a: a.example.net}\r\n", "n.yaml:2:10: 10.9.0.0 has no length\n    2 | overlay: 10.9.0.0\n      |          ^\nhint: for example 10.9.0.0/24\n"},
		{"byte order mark", "\ufeffnetwork: N\noverlay: 10.9.0.0/24\nrouting: static\nsites: {a: a.example.net}\n", "n.yaml:1:10: network \"N\": a name has lower-case letters, digits and hyphens\n    1 | network: N\n      |          ^\nhint: for example `n`\n"},
		{"sites", head + "sites:\n" + many(4097), "n.yaml:4101:3: a network has at most 4096 sites, and this has 4097\n 4101 |   s4096:\n      |   ^\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, ds := spec.Parse("n.yaml", []byte(c.text))
			if d := cmp.Diff(c.want, ds.String()); d != "" || n != nil {
				t.Errorf("network %v (-want +got):\n%s", n, d)
			}
		})
	}
}

func many(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "  s%d:\n", i)
	}
	return b.String()
}

// A hostile file is refused, and what is said of it has an end. The limit on the time is
// far above what is needed.
func TestHostileFilesAreRefusedInTime(t *testing.T) {
	names := make([]string, 4000)
	for i := range names {
		names[i] = fmt.Sprintf("s%d", i)
	}
	group := "  - [" + strings.Join(names, ", ") + "]\n"
	lans := func(form string) string {
		var b strings.Builder
		for i := range 40_000 {
			fmt.Fprintf(&b, "      "+form+"\n", i)
		}
		return b.String()
	}
	for name, text := range map[string]string{
		"flow":      strings.Repeat("[", 1<<18),
		"maps":      strings.Repeat("{a: ", 1<<16),
		"block":     strings.Repeat("- ", 1<<16),
		"questions": strings.Repeat("? ", 1<<16),
		"quote":     "network: \"" + strings.Repeat("a\n", 100_000),
		"plain":     "network: " + strings.Repeat("a\n ", 100_000),
		"comments":  strings.Repeat("#\n", 199_000) + "network: n",
		"keys":      keysOf(90_000),
		"anchors":   "a: &a [x]\n" + strings.Repeat("- *a\n", 10),
		"bomb":      bomb(),
		"groups":    head + "sites:\n" + many(4000) + "links:\n" + strings.Repeat(group, 20),
		"stars":     head + "sites:\n" + many(4000) + "links:\n" + strings.Repeat("  - {star: s1}\n", 10_000),
		"unmade":    head + "sites:\n" + many(4096),
		"unknown":   head + "sites: {a: a.example.net}\nlinks:\n" + strings.Repeat("  - [a, b]\n", 50_000),
		"one line":  head + "sites: {" + strings.ReplaceAll(strings.Repeat("a: , ", 60_000), "a", "an-unusual-name-for-a-site") + "}\n",
		"lans":      head + "sites:\n  a:\n    lan:\n" + lans("br%d: 192.168.1.0/24"),
		"mapped":    head + "sites:\n  a:\n    lan:\n" + lans("br%d: {prefix: 192.168.1.0/24, as: 10.61.1.0/24}"),
		"targets":   head + "sites:\n  a:\n    uplink: {eth0: {dhcp: true, check: [" + strings.Repeat("1.1.1.1, ", 100_000) + "1.1.1.1]}}\n    lan:\n" + lans("br%d: 192.168.1.0/24"),
		"hosts":     head + "sites:\n" + endpoints(4000),
		"exits":     head + "sites: {a: a.example.net, b: }\nexits:\n" + strings.Repeat("  - {for: b, via: a}\n", 20_000),
		"publish":   head + "sites: {a: a.example.net}\npublish:\n" + strings.Repeat("  - {at: a, port: 80/tcp, to: 192.168.1.1:80}\n", 15_000),
		"rules":     head + "sites: {a: a.example.net, b: }\npolicy:\n  rules:\n" + strings.Repeat("    - {from: a, to: c, allow: all}\n", 25_000),
		"parties":   head + "sites:\n  a:\n    endpoint: a.example.net\n    lan: {br0: [" + thousands(40, "10.%d.%d.0/24, ") + "10.200.0.0/24]}\n  b:\npolicy:\n  rules:\n" + thousands(20, "    - {from: [a, 10.%d.%d.1], to: b, allow: all}\n"),
		"nat":       head + "sites: {a: a.example.net, b: }\nnat:\n" + strings.Repeat("  - {at: a, masquerade: c, out: wg-c}\n", 20_000),
		"devices":   head + "sites: {a: a.example.net}\nclients: {pool: 10.8.0.0/16, at: a, devices: {" + strings.ReplaceAll(keysOf(40_000), "\n", ", ") + "}}\n",
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			n, ds := spec.Parse("n.yaml", []byte(text))
			if n != nil || !ds.HasErrors() {
				t.Errorf("not refused: %.300s", ds)
			}
			if len(ds) > 250 || len(ds.String()) > 250_000 {
				t.Errorf("%d diagnostics of %d bytes", len(ds), len(ds.String()))
			}
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("took %v", took)
			}
			t.Logf("%v: %.120s", time.Since(start), ds.String())
		})
	}
}

// thousands returns n thousand lines, each with two numbers of its own.
func thousands(n int, format string) string {
	var b strings.Builder
	for i := range n * 1000 {
		fmt.Fprintf(&b, format, 20+i/250, i%250) // past the overlay of head
	}
	return b.String()
}

func keysOf(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "k%d: \n", i)
	}
	return b.String()
}

func bomb() string {
	var b strings.Builder
	b.WriteString("a0: &a0 x\n")
	for i := 1; i < 40; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
	}
	return b.String()
}

func endpoints(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "  s%d: \"192.0.2.1:%d\"\n", i, 1000+i)
	}
	return b.String()
}

// Every code that a diagnostic can have is in a golden file or in a table above; so
// somebody has read what it says.
func TestEveryCodeIsExplained(t *testing.T) {
	seen := map[string]bool{"more": true, "missing-public-key": true, "too-large": true, "not-utf8": true, "control-character": true}
	messages := map[string]bool{}
	golden(t, func(name, text string) string {
		_, ds := spec.Parse(name, []byte(text))
		for _, d := range ds {
			seen[d.Code] = true
			if d.Severity == spec.Error {
				messages[withoutValues(d.Message)] = true
			}
		}
		return ds.String()
	})
	for _, c := range codes(t) {
		if !seen[c] {
			t.Errorf("no test shows %q", c)
		}
	}
	if len(messages) < 60 {
		t.Errorf("only %d distinct mistakes", len(messages))
	}
	t.Logf("%d codes, %d distinct mistakes", len(seen), len(messages))
}

// withoutValues returns the words of a message, which tell mistakes apart.
func withoutValues(message string) string {
	var words []string
	for _, w := range strings.Fields(message) {
		if !strings.ContainsAny(w, "\"'`0123456789/:") {
			words = append(words, w)
		}
	}
	return strings.Join(words, " ")
}

// codes returns the values of the constants in codes.go.
func codes(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "codes.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	ast.Inspect(file, func(n ast.Node) bool {
		if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
			s, _ := strconv.Unquote(l.Value)
			out = append(out, s)
		}
		return true
	})
	return out
}

// A secret that stands where it must not is not repeated: in no form of a diagnostic.
func TestSecretsAreNotRepeated(t *testing.T) {
	const secret = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
	for _, text := range []string{
		head + "sites: {a: {private-key: " + secret + "}}",
		head + "sites: {a: {key: " + secret + "x}}",
		head + "sites: {a: {key: [" + secret + "]}}",
		head + "sites: {a: {endpoint: " + secret + "}}",
		head + "sites: {" + secret + ": }",
		head + "sites: {a: , b: }\nlinks: [{between: [a, b], psk: " + secret + "}]",
		head + "sites: {a: }\n" + secret + ": x",
		head + "links: " + secret,
		secret,
		"[Interface]\nPrivateKey = " + secret,
		"[Peer]\nPresharedKey = " + secret + "\n: [",
		head + "sites: {a: {kind: " + secret + "}}\nlinks: [[a, " + secret + "]]\nexits: [{for: " + secret + ", via: " + secret + "}]",
		"a: *" + secret,
	} {
		n, ds := spec.Parse("n.yaml", []byte(text))
		if n != nil {
			t.Errorf("not refused: %s", text)
		}
		j, err := json.Marshal(ds)
		if err != nil {
			t.Fatal(err)
		}
		for _, said := range []string{ds.String(), ds.Error(), fmt.Sprintf("%+v", ds), string(j)} {
			if strings.Contains(said, secret[:20]) {
				t.Errorf("%s\nin\n%s", said, text)
			}
		}
	}
}

func TestErrorTextHoldsErrorsOnly(t *testing.T) {
	_, ds := spec.Parse("n.yaml", []byte("network: n\noverlay: 11.9.0.0/24\nsites: {A: a.example.net}\n"))
	if ds.Err() == nil || strings.Contains(ds.Error(), "warning") || !strings.HasPrefix(ds.Error(), "n.yaml:3:9: site \"A\"") {
		t.Errorf("%v", ds.Err())
	}
	if _, ds := spec.Parse("n.yaml", []byte(head+"sites: {a: a.example.net}\n")); ds.Err() != nil {
		t.Error(ds.Err())
	}
}

func TestStarterIsRight(t *testing.T) {
	text := spec.Starter("home", netip.MustParsePrefix("fd5e:1f0c:8a34::/48"))
	n, ds := spec.Parse("home.yaml", []byte(text))
	if n == nil {
		t.Fatal(ds)
	}
	for _, d := range ds {
		if d.Severity != spec.Note {
			t.Error(d)
		}
	}
	if n.Name != "home" || n.Overlay6 != netip.MustParsePrefix("fd5e:1f0c:8a34::/48") || len(n.Sites) != 3 {
		t.Errorf("%+v", n)
	}
	if err := schema(t).Validate(asJSON(t, text)); err != nil {
		t.Error(err)
	}
}

func TestMissingKeysAreSaidToWhoNeedsThem(t *testing.T) {
	text := head + `sites:
  a: {endpoint: a.example.net, key: 0qPqCrnPwjkBzBJ0ELIUvHBC9uLGbxPBE3JzlwwRSl0=}
  b:
  c: {kind: plain}
links: {star: a}
`
	n := parse(t, text)
	want := `n.yaml:6:3: site "b" has no ` + "`key:`" + `, which "a" needs for the link between them
    6 |   b:
      |   ^
hint: type ` + "`tombolo key make b`" + ` on that router, and add the ` + "`key:`" + ` line that it prints to site "b"

n.yaml:7:3: site "c" has no ` + "`key:`" + `, which "a" needs for the link between them
    7 |   c: {kind: plain}
      |   ^
hint: add its WireGuard public key to site "c"; ` + "`wg show`" + ` on that router prints it
`
	if d := cmp.Diff(want, n.MissingKeys(0, []byte(text)).String()); d != "" {
		t.Errorf("for a (-want +got):\n%s", d)
	}
	if ds := n.MissingKeys(1, nil); len(ds) != 0 {
		t.Errorf("b needs only a's: %s", ds)
	}
	if ds := n.MissingKeys(-1, nil); len(ds) != 2 || ds[0].Line != 6 || ds[0].Excerpt != "" {
		t.Errorf("of all: %s", ds)
	}
}
