package enroll_test

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"

	"tombolo/internal/enroll"
	"tombolo/internal/key"
	"tombolo/internal/spec"
)

// Two public keys, of nobody.
const (
	oneKey   = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
	otherKey = "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0="
)

func public(t testing.TB, text string) key.Public {
	t.Helper()
	k, err := key.ParsePublic(text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

const head = "network: n\noverlay: 10.9.0.0/24\nsites: {a: a.example.net}\n"

// A case is the part of a file behind its head, before and after.
func TestSetChangesNothingElse(t *testing.T) {
	d := enroll.Device{Key: public(t, oneKey), Given: []string{"1a2b3c4d"}}
	for name, c := range map[string]struct{ before, after string }{
		"a null in a block": {
			"clients:\n  pool: 10.8.0.0/24\n  at: a\n  devices:\n    # of the house\n    phone:   # mine\n\n# end\n",
			"clients:\n  pool: 10.8.0.0/24\n  at: a\n  devices:\n    # of the house\n    phone: {key: ONE, given: 1a2b3c4d}   # mine\n\n# end\n",
		},
		"a null without a line's end": {
			"clients:\n  pool: 10.8.0.0/24\n  at: a\n  devices:\n    phone:",
			"clients:\n  pool: 10.8.0.0/24\n  at: a\n  devices:\n    phone: {key: ONE, given: 1a2b3c4d}",
		},
		"a null that is written": {
			"clients:\n  pool: 10.8.0.0/24\n  at: a\n  devices: {phone: ~, pi: null}\n",
			"clients:\n  pool: 10.8.0.0/24\n  at: a\n  devices: {phone: {key: ONE, given: 1a2b3c4d}, pi: null}\n",
		},
		"a null between brackets": {
			"clients: {pool: 10.8.0.0/24, at: a, devices: {pi: , phone: }}\n",
			"clients: {pool: 10.8.0.0/24, at: a, devices: {pi: , phone: {key: ONE, given: 1a2b3c4d} }}\n",
		},
		"a null without a colon": {
			"clients: {pool: 10.8.0.0/24, at: a, devices: {phone, pi}}\n",
			"clients: {pool: 10.8.0.0/24, at: a, devices: {phone: {key: ONE, given: 1a2b3c4d}, pi}}\n",
		},
		"a null among blocks": {
			"clients:\n   pool: 10.8.0.0/24\n   at: a\n   devices:\n      phone: # mine\n      pi:\n         full: true\n",
			"clients:\n   pool: 10.8.0.0/24\n   at: a\n   devices:\n      phone: # mine\n         key: ONE\n         given: 1a2b3c4d\n      pi:\n         full: true\n",
		},
		"fields in one line": {
			"clients:\n  pool: 10.8.0.0/24\n  at: a\n  devices:\n    phone: {address: 10.8.0.10}  # mine\n    pi: {address: 10.8.0.11}\n",
			"clients:\n  pool: 10.8.0.0/24\n  at: a\n  devices:\n    phone: {address: 10.8.0.10, key: ONE, given: 1a2b3c4d}  # mine\n    pi: {address: 10.8.0.11}\n",
		},
		"fields between padded brackets": {
			"clients: { pool: 10.8.0.0/24, at: a, devices: { phone: { address: 10.8.0.10 } } }\n",
			"clients: { pool: 10.8.0.0/24, at: a, devices: { phone: { address: 10.8.0.10, key: ONE, given: 1a2b3c4d } } }\n",
		},
		"fields in a block": {
			"clients:\n  pool: 10.8.0.0/24\n  devices:\n      phone:\n        # for life\n        address: 10.8.0.10   # ten\n\n      # and the\n      pi:\n  at: a\n",
			"clients:\n  pool: 10.8.0.0/24\n  devices:\n      phone:\n        # for life\n        address: 10.8.0.10   # ten\n        key: ONE\n        given: 1a2b3c4d\n\n      # and the\n      pi:\n  at: a\n",
		},
		"another key and other digests": {
			"clients:\n  pool: 10.8.0.0/24\n  at: a\n  devices:\n    phone:\n      key: 'OTHER'  # since May\n      given:   # two doors\n        - 00000000\n        - \"11111111\"\n      full: true\n",
			"clients:\n  pool: 10.8.0.0/24\n  at: a\n  devices:\n    phone:\n      key: ONE  # since May\n      given: 1a2b3c4d   # two doors\n      full: true\n",
		},
		"another key in several lines": {
			"clients: {pool: 10.8.0.0/24, at: a, devices: {phone: {given: [00000000,\n  11111111], key:\n  OTHER}}}\n",
			"clients: {pool: 10.8.0.0/24, at: a, devices: {phone: {given: 1a2b3c4d, key: ONE}}}\n",
		},
		"a folded key": {
			"clients:\n  pool: 10.8.0.0/24\n  at: a\n  devices:\n    phone:\n      key: >-\n        OTHER\n\n      full: true\n",
			"clients:\n  pool: 10.8.0.0/24\n  at: a\n  devices:\n    phone:\n      key: ONE\n\n      full: true\n      given: 1a2b3c4d\n",
		},
		"a new device in lines": {
			"clients:\n  pool: 10.8.0.0/24\n  at: a\n  devices:\n    pi: {address: 10.8.0.11} # on the roof\n    # more to come\n\nexits: []\n",
			"clients:\n  pool: 10.8.0.0/24\n  at: a\n  devices:\n    pi: {address: 10.8.0.11} # on the roof\n    phone: {key: ONE, given: 1a2b3c4d}\n    # more to come\n\nexits: []\n",
		},
		"a new device in blocks": {
			"clients:\n    pool: 10.8.0.0/24\n    at: a\n    devices:\n      pi:\n        address: 10.8.0.11 # on the roof\nexits: []\n",
			"clients:\n    pool: 10.8.0.0/24\n    at: a\n    devices:\n      pi:\n        address: 10.8.0.11 # on the roof\n      phone:\n        key: ONE\n        given: 1a2b3c4d\nexits: []\n",
		},
		"a new device between brackets": {
			"clients: {pool: 10.8.0.0/24, at: a, devices: {pi: {address: 10.8.0.11}}}\n",
			"clients: {pool: 10.8.0.0/24, at: a, devices: {pi: {address: 10.8.0.11}, phone: {key: ONE, given: 1a2b3c4d}}}\n",
		},
		"a new device on a line between brackets": {
			"clients:\n  pool: 10.8.0.0/24\n  at: a\n  devices: {\n    pi: {address: 10.8.0.11}   # on the roof\n  }\n",
			"clients:\n  pool: 10.8.0.0/24\n  at: a\n  devices: {\n    pi: {address: 10.8.0.11},   # on the roof\n    phone: {key: ONE, given: 1a2b3c4d}\n  }\n",
		},
		"a new device on the next line": {
			"clients:\n  pool: 10.8.0.0/24\n  at: a\n  devices: {\n    pi: {address: 10.8.0.11}\n  }\n",
			"clients:\n  pool: 10.8.0.0/24\n  at: a\n  devices: {\n    pi: {address: 10.8.0.11},\n    phone: {key: ONE, given: 1a2b3c4d}\n  }\n",
		},
		"a new device behind a last comma": {
			"clients:\n  pool: 10.8.0.0/24\n  at: a\n  devices: {\n    pi: {address: 10.8.0.11},   # on the roof\n}\n",
			"clients:\n  pool: 10.8.0.0/24\n  at: a\n  devices: {\n    pi: {address: 10.8.0.11},   # on the roof\n    phone: {key: ONE, given: 1a2b3c4d},\n}\n",
		},
		"a new device before brackets that close": {
			"clients: {pool: 10.8.0.0/24, at: a, devices: {\n  pi: {address: 10.8.0.11}}}\n",
			"clients: {pool: 10.8.0.0/24, at: a, devices: {\n  pi: {address: 10.8.0.11},\n  phone: {key: ONE, given: 1a2b3c4d}}}\n",
		},
		"the first device": {
			"clients:\n  pool: 10.8.0.0/24\n  at: a # the door\n\nexits: []\n",
			"clients:\n  pool: 10.8.0.0/24\n  at: a # the door\n  devices:\n    phone: {key: ONE, given: 1a2b3c4d}\n\nexits: []\n",
		},
		"the first device between brackets": {
			"clients: {pool: 10.8.0.0/24, at: [a]}\n",
			"clients: {pool: 10.8.0.0/24, at: [a], devices: {phone: {key: ONE, given: 1a2b3c4d}}}\n",
		},
		"the first device where there are none": {
			"clients:\n  pool: 10.8.0.0/24\n  at:\n  - a\n  devices: {}   # none yet\n",
			"clients:\n  pool: 10.8.0.0/24\n  at:\n  - a\n  devices: {phone: {key: ONE, given: 1a2b3c4d}}   # none yet\n",
		},
		"the first device at the end": {
			"clients:\n  pool: 10.8.0.0/24\n  at:\n  - a",
			"clients:\n  pool: 10.8.0.0/24\n  at:\n  - a\n  devices:\n    phone: {key: ONE, given: 1a2b3c4d}",
		},
		"lines that end in CR LF": {
			"clients:\r\n  pool: 10.8.0.0/24\r\n  at: a\r\n  devices:\r\n    pi:\r\n      address: 10.8.0.11 # ü\r\n\r\n",
			"clients:\r\n  pool: 10.8.0.0/24\r\n  at: a\r\n  devices:\r\n    pi:\r\n      address: 10.8.0.11 # ü\r\n    phone:\r\n      key: ONE\r\n      given: 1a2b3c4d\r\n\r\n",
		},
	} {
		fill := strings.NewReplacer("ONE", oneKey, "OTHER", otherKey)
		got, err := enroll.Set([]byte(head+fill.Replace(c.before)), "phone", d)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if want := head + fill.Replace(c.after); string(got) != want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, want)
		}
	}
}

func TestRemoveChangesNothingElse(t *testing.T) {
	for name, c := range map[string]struct{ before, after string }{
		"a line": {
			"clients:\n  pool: 10.8.0.0/24\n  at: a\n  devices:\n    # mine\n    phone: {full: true}  # gone\n\n    pi:\n",
			"clients:\n  pool: 10.8.0.0/24\n  at: a\n  devices:\n    # mine\n\n    pi:\n",
		},
		"a block": {
			"clients:\n  pool: 10.8.0.0/24\n  at: a\n  devices:\n    pi:\n    phone:\n      # yes\n      full: true\n    # end\nexits: []\n",
			"clients:\n  pool: 10.8.0.0/24\n  at: a\n  devices:\n    pi:\n    # end\nexits: []\n",
		},
		"the last of the file": {
			"clients:\n  pool: 10.8.0.0/24\n  at: a\n  devices:\n    pi:\n    phone:",
			"clients:\n  pool: 10.8.0.0/24\n  at: a\n  devices:\n    pi:\n",
		},
		"the only one": {
			"clients:\n  pool: 10.8.0.0/24\n  devices: # all\n    # mine\n    phone:\n      full: true\n  at: a\n",
			"clients:\n  pool: 10.8.0.0/24\n  devices: {} # all\n    # mine\n  at: a\n",
		},
		"the only one between brackets": {
			"clients: {pool: 10.8.0.0/24, at: a, devices: {phone: {full: true}}}\n",
			"clients: {pool: 10.8.0.0/24, at: a, devices: {}}\n",
		},
		"the first between brackets": {
			"clients: {pool: 10.8.0.0/24, at: a, devices: {phone: {full: true}, pi: }}\n",
			"clients: {pool: 10.8.0.0/24, at: a, devices: {pi: }}\n",
		},
		"the last between brackets": {
			"clients: {pool: 10.8.0.0/24, at: a, devices: {pi: {}, phone: {full: true} }}\n",
			"clients: {pool: 10.8.0.0/24, at: a, devices: {pi: {} }}\n",
		},
		"one without a colon": {
			"clients: {pool: 10.8.0.0/24, at: a, devices: {pi, phone, tv}}\n",
			"clients: {pool: 10.8.0.0/24, at: a, devices: {pi, tv}}\n",
		},
		"a line between brackets": {
			"clients: {pool: 10.8.0.0/24, at: a, devices: {\n  pi: {}, # on the roof\n  phone: {full: true} # mine\n}}\n",
			"clients: {pool: 10.8.0.0/24, at: a, devices: {\n  pi: {}, # on the roof\n}}\n",
		},
		"before brackets that close": {
			"clients: {pool: 10.8.0.0/24, at: a, devices: {\n  pi: {}, # on the roof\n  phone: {full: true}}}\n",
			"clients: {pool: 10.8.0.0/24, at: a, devices: {\n  pi: {}, # on the roof\n  }}\n",
		},
	} {
		got, err := enroll.Remove([]byte(head+c.before), "phone")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if want := head + c.after; string(got) != want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, want)
		}
	}
}

func TestSetKeyStandsBehindTheDoors(t *testing.T) {
	for _, c := range []struct{ before, after string }{
		{"clients: {pool: 10.8.0.0/24, at: [a], devices: {pi: }}\n", "clients: {pool: 10.8.0.0/24, at: [a], key: ONE, devices: {pi: }}\n"},
		{"clients:\n  pool: 10.8.0.0/24\n  at: [a]  # any\n\n  devices: {pi: }\n", "clients:\n  pool: 10.8.0.0/24\n  at: [a]  # any\n  key: ONE\n\n  devices: {pi: }\n"},
		{"clients:\n  at:\n    - a # one\n  pool: 10.8.0.0/24\n", "clients:\n  at:\n    - a # one\n  key: ONE\n  pool: 10.8.0.0/24\n"},
		{"clients:\n  key: " + otherKey + " # old\n  at: a\n  pool: 10.8.0.0/24\n", "clients:\n  key: ONE # old\n  at: a\n  pool: 10.8.0.0/24\n"},
	} {
		got, err := enroll.SetKey([]byte(head+c.before), public(t, oneKey))
		if err != nil {
			t.Fatal(err)
		}
		if want := head + strings.ReplaceAll(c.after, "ONE", oneKey); string(got) != want {
			t.Errorf("%s\nwant\n%s", got, want)
		}
	}
}

// What may not be read as it is meant stands in quotes.
func TestSetQuotesWhatYAMLWouldMisread(t *testing.T) {
	before := head + "clients: {pool: 10.8.0.0/24, at: a}\n"
	got, err := enroll.Set([]byte(before), "phone", enroll.Device{
		Full: true, Given: []string{"12345678", "1e234567", "abcdef01"},
		DNS: []netip.Addr{netip.MustParseAddr("fd00::"), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("::1")},
	})
	want := head + "clients: {pool: 10.8.0.0/24, at: a, devices: {phone: {full: true, dns: [\"fd00::\", 10.0.0.1, ::1], given: [\"12345678\", \"1e234567\", abcdef01]}}}\n"
	if err != nil || string(got) != want {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}
}

func TestTheExampleIsCompleted(t *testing.T) {
	before, err := os.ReadFile("../../examples/home.yaml")
	if err != nil {
		t.Fatal(err)
	}
	after, err := enroll.SetKey(before, public(t, otherKey))
	if err == nil {
		after, err = enroll.Set(after, "phone", enroll.Device{Key: public(t, oneKey)})
	}
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(string(before), "phone: {address: 10.0.31.10}", "phone: {address: 10.0.31.10, key: "+oneKey+"}", 1)
	want = strings.Replace(want, "any door\n", "any door\n  key: "+otherKey+"\n", 1)
	if string(after) != want {
		t.Errorf("%s\nwant\n%s", after, want)
	}
}

func TestErrorsSpoilNothing(t *testing.T) {
	const clients = "clients: {pool: 10.8.0.0/24, at: a, devices: {pi: {address: 10.8.0.11}}}\n"
	device := enroll.Device{Key: public(t, oneKey)}
	for name, c := range map[string]struct {
		text string
		do   func([]byte) ([]byte, error)
		want string
	}{
		"no clients":    {head, func(b []byte) ([]byte, error) { return enroll.Set(b, "phone", device) }, "the file has no `clients:`"},
		"a bad file":    {head + "clients: {at: a}\n", func(b []byte) ([]byte, error) { return enroll.Remove(b, "phone") }, "`pool:` is missing"},
		"a bad name":    {head + clients, func(b []byte) ([]byte, error) { return enroll.Set(b, "My Phone", device) }, `"My Phone" is no name of a device`},
		"a site's name": {head + clients, func(b []byte) ([]byte, error) { return enroll.Set(b, "a", device) }, `device "a" is called like the site in line 3`},
		"a taken address": {head + clients, func(b []byte) ([]byte, error) {
			return enroll.Set(b, "phone", enroll.Device{Address: netip.MustParseAddr("10.8.0.11")})
		}, `address 10.8.0.11 is already that of device "pi"`},
		"no such device":   {head + clients, func(b []byte) ([]byte, error) { return enroll.Remove(b, "phone") }, `the file has no device "phone"`},
		"a device in use":  {head + clients + "exits: [{for: pi, via: a}]\n", func(b []byte) ([]byte, error) { return enroll.Remove(b, "pi") }, `"pi" is no site, no client and no prefix`},
		"explicit keys":    {head + "clients:\n  pool: 10.8.0.0/24\n  at: a\n  devices:\n    ? pi\n    : full: true\n", func(b []byte) ([]byte, error) { return enroll.Remove(b, "pi") }, "laid out in a way that is not edited safely: line 8"},
		"no device at all": {head + "clients: {pool: 10.8.0.0/24, at: a}\n", func(b []byte) ([]byte, error) { return enroll.Remove(b, "pi") }, `the file has no device "pi"`},
	} {
		got, err := c.do([]byte(c.text))
		if got != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	_, err := enroll.Set([]byte(head+clients), "a", device)
	var ds spec.Diagnostics
	if !errors.As(err, &ds) {
		t.Errorf("a mistake is %T", err)
	}
}

func TestFreeAddressGivesWay(t *testing.T) {
	n, ds := spec.Parse("n.yaml", []byte(head+"clients: {pool: 10.8.0.0/30, at: a, devices: {phone: }}\n"))
	if n == nil {
		t.Fatal(ds)
	}
	is := n.Clients.Devices[0].Address
	for _, name := range []string{"pi", "tv", "laptop", "tablet"} {
		alone := spec.AddressAt(n.Clients.Pool, spec.HashedIndex(name, n.Clients.Pool, 0))
		got := enroll.FreeAddress(n, name)
		switch {
		case alone != is && got.IsValid():
			t.Errorf("%s gets %v, and the one that its name hashes to is free", name, got)
		case alone == is && (got == is || got != netip.MustParseAddr("10.8.0.1") && got != netip.MustParseAddr("10.8.0.2")):
			t.Errorf("%s gets %v", name, got)
		}
	}
}
