package enroll_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"tombolo/internal/enroll"
	"tombolo/internal/key"
	"tombolo/internal/spec"
)

// sheet draws a network file in one of the many ways that a person may lay it out.
type sheet struct {
	t        *rapid.T
	b        strings.Builder
	eol      string
	step     int
	comments map[string]string // the device in whose entry each stands, or nothing
	names    []string
}

func (s *sheet) bool(what string) bool { return rapid.Bool().Draw(s.t, what) }

func (s *sheet) indent(depth int) string { return strings.Repeat(" ", s.step*depth) }

// comment returns a comment that stands nowhere else, or nothing.
func (s *sheet) comment(owner string) string {
	if rapid.IntRange(0, 2).Draw(s.t, "comment") > 0 {
		return ""
	}
	c := fmt.Sprintf("#%d %s", len(s.comments), rapid.SampledFrom([]string{"", "it's {one", "é: \"", "] }, #", "devices: {}"}).Draw(s.t, "words"))
	s.comments[c] = owner
	return " " + c
}

// line writes a line and what may follow it.
func (s *sheet) line(depth int, text, owner string) {
	s.b.WriteString(s.indent(depth) + text + s.comment(owner) + s.eol)
	if s.bool("blank") {
		s.b.WriteString(s.eol)
	}
	if c := s.comment(owner); c != "" {
		s.b.WriteString(s.indent(rapid.IntRange(0, 3).Draw(s.t, "depth")) + c[1:] + s.eol)
	}
}

func (s *sheet) quote(text string) string {
	return rapid.SampledFrom([]string{text, text, "'" + text + "'", `"` + text + `"`}).Draw(s.t, "quotes")
}

// device returns the fields of a device.
func (s *sheet) device(i int) []string {
	var out []string
	if s.bool("address") {
		out = append(out, "address: "+s.quote(fmt.Sprintf("10.8.0.%d", 10+i)))
	}
	if s.bool("full") {
		out = append(out, "full: true")
	}
	if s.bool("dns") {
		out = append(out, "dns: "+rapid.SampledFrom([]string{"10.0.0.1", "[10.0.0.1, 10.0.0.2]", "[ 'fd00::1', ]"}).Draw(s.t, "resolvers"))
	}
	if s.bool("given") {
		out = append(out, "given: "+rapid.SampledFrom([]string{"abcdef00", "[abcdef00, '00000000']"}).Draw(s.t, "digests"))
	}
	return out
}

// inLine writes a device in one line.
func (s *sheet) inLine(name string, fields []string) string {
	if len(fields) == 0 {
		return name + ": " + rapid.SampledFrom([]string{"", "{}", "~"}).Draw(s.t, "nothing")
	}
	pad := rapid.SampledFrom([]string{"", " "}).Draw(s.t, "pad")
	last := rapid.SampledFrom([]string{"", ","}).Draw(s.t, "comma")
	return s.quote(name) + ": {" + pad + strings.Join(fields, ", ") + last + pad + "}"
}

func (s *sheet) devices() {
	for i := range rapid.IntRange(0, 3).Draw(s.t, "devices") {
		s.names = append(s.names, fmt.Sprintf("d%d", i))
	}
	form := rapid.SampledFrom([]string{"one line", "brackets", "block"}).Draw(s.t, "form")
	switch {
	case len(s.names) == 0 && s.bool("none"):
	case len(s.names) == 0 || form == "one line":
		var all []string
		for i, name := range s.names {
			all = append(all, s.inLine(name, s.device(i)))
		}
		s.line(1, "devices: {"+strings.Join(all, ", ")+"}", "")
	case form == "brackets":
		s.b.WriteString(s.indent(1) + "devices: {" + s.comment("") + s.eol)
		for i, name := range s.names {
			comma := ","
			if i == len(s.names)-1 && s.bool("no last comma") {
				comma = ""
			}
			s.b.WriteString(s.indent(2) + s.inLine(name, s.device(i)) + comma + s.comment(name) + s.eol)
		}
		s.line(rapid.IntRange(0, 2).Draw(s.t, "close"), "}", "")
	default:
		s.line(1, "devices:", "")
		for i, name := range s.names {
			fields := s.device(i)
			if len(fields) == 0 || s.bool("in line") {
				s.b.WriteString(s.indent(2) + s.inLine(name, fields) + s.comment(name) + s.eol)
				continue
			}
			s.b.WriteString(s.indent(2) + name + ":" + s.comment(name) + s.eol)
			for j, f := range fields {
				if j == len(fields)-1 { // what follows the last is nobody's
					s.b.WriteString(s.indent(3) + f + s.comment(name) + s.eol)
				} else {
					s.line(3, f, name)
				}
			}
		}
	}
}

func draw(t *rapid.T) *sheet {
	s := &sheet{t: t, comments: map[string]string{}}
	s.eol = rapid.SampledFrom([]string{"\n", "\r\n"}).Draw(t, "eol")
	s.step = rapid.IntRange(1, 4).Draw(t, "step")
	if s.bool("mark") {
		s.b.WriteString("\ufeff")
	}
	parts := []func(){
		func() { s.line(0, "network: n", "") },
		func() { s.line(0, "overlay: 10.9.0.0/24", "") },
		func() { s.line(0, "sites: {a: a.example.net}", "") },
		func() {
			if s.bool("brackets") {
				s.names = []string{"d0", "d1"}
				s.line(0, "clients: {pool: 10.8.0.0/24, devices: {"+s.inLine("d0", s.device(0))+", "+s.inLine("d1", s.device(1))+" }, at: a}", "")
				return
			}
			s.line(0, "clients:", "")
			clients := []func(){
				func() { s.line(1, "pool: 10.8.0.0/24", "") },
				func() { s.line(1, "at: [ a ]", "") },
				s.devices,
			}
			for _, f := range rapid.Permutation(clients).Draw(t, "clients") {
				f()
			}
		},
	}
	for _, f := range rapid.Permutation(parts).Draw(t, "parts") {
		f()
	}
	return s
}

func (s *sheet) text() string {
	text := s.b.String()
	if s.bool("no end") {
		text = strings.TrimRight(text, s.eol)
	}
	return text
}

// subsequence reports whether a is b with something taken out.
func subsequence(a, b string) bool {
	for i := 0; i < len(b) && a != ""; i++ {
		if a[0] == b[i] {
			a = a[1:]
		}
	}
	return a == ""
}

var ignorePlaces = []cmp.Option{
	cmpopts.IgnoreTypes(spec.Pos{}), cmpopts.IgnoreUnexported(spec.Links{}), cmpopts.EquateEmpty(),
	cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}, key.Public{}),
}

func network(t *rapid.T, text string) *spec.Network {
	n, ds := spec.Parse("n.yaml", []byte(text))
	if n == nil {
		t.Fatalf("%s\nin\n%s", ds, text)
	}
	return n
}

// However a file is laid out, a change of a device is that change, and takes nothing away.
func TestSetIsTheOnlyChange(t *testing.T) {
	k := public(t, oneKey)
	rapid.Check(t, func(t *rapid.T) {
		s := draw(t)
		text := s.text()
		name := rapid.SampledFrom(append([]string{"new"}, s.names...)).Draw(t, "name")
		d := enroll.Device{Key: k, Full: s.bool("set full")}
		if s.bool("set given") {
			d.Given = []string{"1a2b3c4d", "12345678"}
		}
		got, err := enroll.Set([]byte(text), name, d)
		if err != nil {
			t.Fatalf("%s: %v in\n%s", name, err, text)
		}
		want := network(t, text)
		i := slices.IndexFunc(want.Clients.Devices, func(d spec.Device) bool { return d.Name == name })
		after := network(t, string(got))
		if i < 0 {
			i = len(want.Clients.Devices)
			added := after.Clients.Devices[len(after.Clients.Devices)-1]
			want.Clients.Devices = append(want.Clients.Devices, spec.Device{Name: name, Address: added.Address, Address6: added.Address6})
		}
		had := &want.Clients.Devices[i]
		replaced := len(had.Given) > 0 && d.Given != nil
		had.Key = k
		had.Full = had.Full || d.Full
		if d.Given != nil {
			had.Given = d.Given
		}
		if diff := cmp.Diff(want, after, ignorePlaces...); diff != "" {
			t.Fatalf("%s\nfrom\n%s\nto\n%s", diff, text, got)
		}
		if !replaced && !strings.Contains(text, "~") && !subsequence(text, string(got)) {
			t.Fatalf("something is gone from\n%s\nin\n%s", text, got)
		}
		for c := range s.comments {
			if strings.Count(string(got), c+s.eol)+strings.Count(string(got)+s.eol, c+s.eol) < 1 {
				t.Fatalf("comment %q is gone from\n%s\nin\n%s", c, text, got)
			}
		}
		if strings.Count(string(got), "\n") != strings.Count(string(got), s.eol) {
			t.Fatalf("lines end in two ways in\n%q", got)
		}
	})
}

// And a removed device takes nothing with it but the comments of its own lines.
func TestRemoveIsTheOnlyChange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := draw(t)
		if len(s.names) == 0 {
			return
		}
		text := s.text()
		name := rapid.SampledFrom(s.names).Draw(t, "name")
		got, err := enroll.Remove([]byte(text), name)
		if err != nil {
			t.Fatalf("%s: %v in\n%s", name, err, text)
		}
		want := network(t, text)
		want.Clients.Devices = slices.DeleteFunc(want.Clients.Devices, func(d spec.Device) bool { return d.Name == name })
		if diff := cmp.Diff(want, network(t, string(got)), ignorePlaces...); diff != "" {
			t.Fatalf("%s\nfrom\n%s\nto\n%s", diff, text, got)
		}
		if !subsequence(strings.ReplaceAll(string(got), " {}", ""), text) {
			t.Fatalf("something new is in\n%s\nfrom\n%s", got, text)
		}
		for c, owner := range s.comments {
			if owner != name && !strings.Contains(string(got)+s.eol, c+s.eol) {
				t.Fatalf("comment %q is gone from\n%s\nin\n%s", c, text, got)
			}
		}
	})
}

// What was added is taken away without a trace.
func TestRemoveUndoesSet(t *testing.T) {
	k := public(t, oneKey)
	rapid.Check(t, func(t *rapid.T) {
		s := draw(t)
		text := s.text()
		with, err := enroll.Set([]byte(text), "new", enroll.Device{Key: k})
		if err != nil {
			t.Fatal(err)
		}
		got, err := enroll.Remove(with, "new")
		if err != nil {
			t.Fatalf("%v in\n%s", err, with)
		}
		if len(s.names) == 0 { // `devices: {}` stays
			return
		}
		// So do a comma behind what is no longer last, and a line's end.
		bare := func(text string) string { return strings.TrimRight(strings.ReplaceAll(text, ",", ""), "\r\n") }
		if bare(string(got)) != bare(text) {
			t.Fatalf("%q\nbecame\n%q\nand\n%q", text, with, got)
		}
	})
}

// No bytes are changed into something that is no network file, and none make it fail.
func FuzzSet(f *testing.F) {
	f.Add(head+"clients: {pool: 10.8.0.0/24, at: a, devices: {phone, pi: {full: true}}}\n", "phone")
	f.Add(head+"clients:\n  pool: 10.8.0.0/24\n  at: a\n  devices:\n    ? phone\n    : full: true\n", "pi")
	f.Add(head+"clients:\n  pool: >-\n   10.8.0.0/24\n  at:\n  - 'a'\n", "phone")
	k := public(f, oneKey)
	f.Fuzz(func(t *testing.T, text, name string) {
		for _, do := range []func() ([]byte, error){
			func() ([]byte, error) {
				return enroll.Set([]byte(text), name, enroll.Device{Key: k, Full: true, Given: []string{"1a2b3c4d"}})
			},
			func() ([]byte, error) { return enroll.SetKey([]byte(text), k) },
			func() ([]byte, error) { return enroll.Remove([]byte(text), name) },
		} {
			got, err := do()
			if (got == nil) != (err != nil) {
				t.Fatalf("%q, error %v", got, err)
			}
			if err == nil {
				if n, ds := spec.Parse("n.yaml", got); n == nil {
					t.Fatalf("%s", ds)
				}
			}
			if errors.Is(err, enroll.ErrLayout) {
				t.Log(err)
			}
		}
	})
}
