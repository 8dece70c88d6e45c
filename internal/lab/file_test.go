package lab

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tombolo/internal/lab/internet"
)

func TestFileMayBeEmpty(t *testing.T) {
	for _, source := range []string{"", "\n", "# nothing\n", "{}\n", "sites: {op2: {}}\n", "internet:\n"} {
		if _, mistakes := ParseFile("x", []byte(source), examples["home"], nil); len(mistakes) > 0 {
			t.Errorf("%q: %v", source, mistakes)
		}
	}
}

func TestFileSpeaksOfRoamingDevices(t *testing.T) {
	source := `
devices:
  phone: {nat: symmetric, public: 192.0.2.7, reaches: [op1, phone2]}
  phone2: {copy: phone, address: 100.64.99.2/24}
  pi:
paths: [{between: [phone, op1], rtt: 40ms}, {from: phone2, to: pi, delay: 1ms}]
`
	got, mistakes := ParseFile("x", []byte(source), examples["home"], exampleClients["home"])
	if len(mistakes) > 0 {
		t.Fatal(mistakes)
	}
	symmetric := internet.Symmetric
	eth0 := func(u Uplink) map[string]Uplink { return map[string]Uplink{"eth0": u} }
	want := File{
		Sites: map[string]Site{
			"phone":  {Uplinks: eth0(Uplink{NAT: &symmetric, Public: addr("192.0.2.7")}), Reaches: []string{"op1", "phone2"}},
			"phone2": {Uplinks: eth0(Uplink{Addresses: prefixes("100.64.99.2/24")})},
			"pi":     {Uplinks: eth0(Uplink{})},
		},
		Copies: map[string]string{"phone2": "phone"},
		Paths: []Path{
			{From: "phone", To: "op1", Both: true, Impairment: internet.Impairment{Delay: 20 * time.Millisecond}},
			{From: "phone2", To: "pi", Impairment: internet.Impairment{Delay: time.Millisecond}},
		},
	}
	if d := cmp.Diff(jsonOf(t, want), jsonOf(t, got)); d != "" {
		t.Error(d)
	}
	l, err := newLayout("x", examples["home"], exampleClients["home"], got)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newPaths(l, got); err != nil {
		t.Error(err)
	}
	copied := l.routers[len(l.routers)-1]
	if copied.site != "phone2" || copied.roams.of != "phone" || !slices.Equal(copied.roams.addresses, exampleClients["home"][0].Addresses) ||
		copied.uplinks[0].address4 != prefix("100.64.99.2/24") {
		t.Errorf("the copy is %+v, %+v", copied, copied.roams)
	}
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestFileIsRead(t *testing.T) {
	source := `
internet:
  web: {address: 192.0.2.80}
  plain:
sites:
  op1:
    eth0: {address: [203.0.113.8/24, "2001:db8:5::8/64"], gateway: 203.0.113.254, segment: cable}
  op2:
    eth0: {nat: symmetric, public: 192.0.2.2}
    reaches: [op1, web]
paths:
  - &far {between: [op1, op2, web], rtt: 30ms, jitter: 3ms, loss: 1.5%, rate: 2.5mbit, reorder: true}
  - {from: op2/eth0, to: op1, delay: 1s, jitter: 1ms, loss: 0.25, cut: true}
defaults: {nat: full-cone, rtt: 10ms}
`
	got, mistakes := ParseFile("x", []byte(source), examples["home"], nil)
	if len(mistakes) > 0 {
		t.Fatal(mistakes)
	}
	symmetric, cone := internet.Symmetric, internet.FullCone
	far := internet.Impairment{Delay: 15 * time.Millisecond, Jitter: 1500 * time.Microsecond, Loss: 0.015, Rate: 2_500_000, Reorder: true}
	want := File{
		Internet: []InternetHost{{Name: "web", Addresses: addrs("192.0.2.80")}, {Name: "plain"}},
		Sites: map[string]Site{
			"op1": {Uplinks: map[string]Uplink{"eth0": {
				Addresses: prefixes("203.0.113.8/24", "2001:db8:5::8/64"), Gateway: addr("203.0.113.254"), Segment: "cable",
			}}},
			"op2": {Uplinks: map[string]Uplink{"eth0": {NAT: &symmetric, Public: addr("192.0.2.2")}}, Reaches: []string{"op1", "web"}},
		},
		Paths: []Path{
			{From: "op1", To: "op2", Both: true, Impairment: far},
			{From: "op1", To: "web", Both: true, Impairment: far},
			{From: "op2", To: "web", Both: true, Impairment: far},
			{From: "op2/eth0", To: "op1", Impairment: internet.Impairment{Delay: time.Second, Jitter: time.Millisecond, Loss: 0.25, Cut: true}},
		},
		Default: Default{NAT: &cone, Impairment: internet.Impairment{Delay: 5 * time.Millisecond}},
	}
	if d := cmp.Diff(jsonOf(t, want), jsonOf(t, got)); d != "" {
		t.Error(d)
	}
}

func TestMistakesAreToldWithTheirPlace(t *testing.T) {
	for _, c := range []struct{ source, want string }{
		{"[]", "x:1:1: a lab file is a mapping: name and value"},
		{"interweb: {}", "x:1:1: a lab file has no key \"interweb\""},
		{"internet: {}\ninternet: {}", "x:2:1: a lab file has \"internet\" twice (line 1)"},
		{"internet: {a b: {}}", "x:1:12: \"a b\" cannot be a host's name: letters, digits and dashes can"},
		{"internet: {op1: {}}", "x:1:12: \"op1\" is a site of the network, and so cannot be an Internet host too"},
		{"internet: {web: {street: 1.1.1.1}}", "x:1:18: an Internet host has no key \"street\""},
		{"internet: {web: {address: nowhere}}", "x:1:27: \"nowhere\" is not an address"},
		{"internet: {web: {address: [1.1.1.1, 2.2.2.2]}}", "x:1:27: give at most one IPv4 and one IPv6 address"},
		{"sites: {op9: {}}", "x:1:9: the network has no site \"op9\""},
		{"sites: {op1: {eth7: {}}}", "x:1:15: site op1 has no key \"eth7\""},
		{"sites: {op1: {eth0: {nat: hard}}}", "x:1:27: NAT kind \"hard\" is none of none, full-cone, address-restricted, port-restricted, symmetric"},
		{"sites: {op1: {eth0: {public: '::1'}}}", "x:1:30: \"::1\" is not an IPv4 address"},
		{"sites: {op1: {eth0: {address: 1.2.3.4}}}", "x:1:31: \"1.2.3.4\" is not an address with its length, as 198.51.100.7/24 is"},
		{"sites: {op3: {eth0: {address: 1.2.3.4/24}}}", "x:1:31: uplink eth0 is not dhcp: the network file says its address"},
		{"sites: {op3: {eth0: {gateway: 1.2.3.4}}}", "x:1:31: uplink eth0 is not dhcp: the network file says its address"},
		{"sites: {op1: {reaches: [op2, mars]}}", "x:1:30: \"mars\" is no site, device or Internet host"},
		{"internet: {pi: {}}", "x:1:12: \"pi\" is a device of the network, and so cannot be an Internet host too"},
		{"sites: {pi: {}}", "x:1:9: the network has no site \"pi\""},
		{"devices: {op1: {}}", "x:1:11: the network has no device \"op1\""},
		{"devices: {tablet: {}}", "x:1:11: the network has no device \"tablet\""},
		{"devices: {pi: {copy: phone}}", "x:1:16: device pi has no key \"copy\""},
		{"devices: {pi2: {copy: op1}}", "x:1:23: the network has no device \"op1\""},
		{"devices: {a b: {copy: pi}}", "x:1:11: \"a b\" cannot be a device's name: letters, digits and dashes can, where no host is called so"},
		{"internet: {web: {}}\ndevices: {web: {copy: pi}}", "x:2:11: \"web\" cannot be a device's name: letters, digits and dashes can, where no host is called so"},
		{"devices: {pi: {eth0: {nat: none}}}", "x:1:16: device pi has no key \"eth0\""},
		{"paths: {}", "x:1:8: paths is a list"},
		{"paths: [{between: [op1]}]", "x:1:19: a path is between two places or more"},
		{"paths: [{between: [op1, op1]}]", "x:1:25: a path has two ends, not \"op1\" twice"},
		{"paths: [{between: [op1, mars], rtt: 1ms}]", "x:1:25: \"mars\" is no site, device or Internet host"},
		{"paths: [{between: [op1, op2/wlan0]}]", "x:1:25: site \"op2\" has no uplink \"wlan0\""},
		{"paths: [{from: op1, rtt: 1ms}]", "x:1:21: a path has no key \"rtt\""},
		{"paths: [{from: op1}]", "x:1:9: a path is between: [a, b], or has from: and to:"},
		{"paths: [{from: op1, to: op1}]", "x:1:9: a path has two ends, not \"op1\" twice"},
		{"paths: [{between: [op1, op2], delay: 1ms}]", "x:1:31: a path has no key \"delay\""},
		{"paths: [{between: [op1, op2], rtt: fast}]", "x:1:36: \"fast\" is not a time between 0s and 1h, as 52ms is"},
		{"paths: [{between: [op1, op2], rtt: -1ms}]", "x:1:36: \"-1ms\" is not a time between 0s and 1h, as 52ms is"},
		{"paths: [{between: [op1, op2], loss: 101%}]", "x:1:37: \"101%\" is not a loss between 0% and 100%"},
		{"paths: [{between: [op1, op2], loss: NaN}]", "x:1:37: \"NaN\" is not a loss between 0% and 100%"},
		{"paths: [{between: [op1, op2], rate: 100}]", "x:1:37: \"100\" is not a rate, as 100mbit, 64kbit or 1gbit are"},
		{"paths: [{between: [op1, op2], rate: 0mbit}]", "x:1:37: \"0mbit\" is not a rate, as 100mbit, 64kbit or 1gbit are"},
		{"paths: [{between: [op1, op2], cut: maybe}]", "x:1:36: \"maybe\" is neither true nor false"},
		{"paths: [{between: [op1, {}]}]", "x:1:25: a word is wanted here"},
		{"defaults: {delay: 1ms}", "x:1:12: defaults has no key \"delay\""},
		{"sites: {? [a] : b}", "x:1:11: a key is a word"},
		{"a: [", "x:2:1: did not find expected node content"},
		{"nonsense: 1\npaths: [{between: [op1, mars]}]", "x:1:1: a lab file has no key \"nonsense\"\nx:2:25: \"mars\" is no site, device or Internet host"},
		{strings.Repeat("#", maxFile+1), "x: the file has 1048577 bytes; a lab file may have 1048576"},
	} {
		f, mistakes := ParseFile("x", []byte(c.source), examples["home"], exampleClients["home"])
		if got := mistakes.Error(); got != c.want {
			t.Errorf("%.60q:\ngot  %s\nwant %s", c.source, got, c.want)
		}
		if d := cmp.Diff(jsonOf(t, File{}), jsonOf(t, f)); d != "" {
			t.Errorf("%.60q: a file with a mistake means something: %s", c.source, d)
		}
	}
}

func TestMistakesShowTheirLineAndAWayOut(t *testing.T) {
	_, mistakes := ParseFile("x", []byte("defaults:\n  rt: 1ms # oops\n"), examples["home"], nil)
	want := Mistakes{{
		File: "x", Line: 2, Column: 3, Message: "defaults has no key \"rt\"",
		Hint: "it has cut, jitter, loss, nat, rate, reorder, rtt", Excerpt: "  rt: 1ms # oops",
	}}
	if d := cmp.Diff(want, mistakes); d != "" {
		t.Error(d)
	}
}

func FuzzParseFile(f *testing.F) {
	f.Add("paths: [{between: [op1, op2], rtt: 1ms}]")
	f.Add("a: &a [*a, *a]\nsites: *a")
	f.Add("sites: &s {op1: &o {eth0: {nat: none}}, op2: *o}\npaths: *s")
	f.Add("devices: {pi: {nat: none}, x: {copy: pi}, y: &y {copy: x, reaches: [x]}, x: *y}")
	f.Fuzz(func(t *testing.T, source string) {
		file, mistakes := ParseFile("x", []byte(source), examples["home"], exampleClients["home"])
		if len(mistakes) > 0 {
			return
		}
		l, err := newLayout("x", examples["home"], exampleClients["home"], file)
		if err != nil {
			return
		}
		if _, err := newPaths(l, file); err != nil {
			return
		}
	})
}
