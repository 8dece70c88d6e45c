package lab

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"tombolo/internal/lab/internet"
	"tombolo/internal/state"
)

// office is a layout with a site that has two uplinks.
func officePaths(t *testing.T, f File) *paths {
	t.Helper()
	l, err := newLayout("x", examples["two-uplinks"], nil, f)
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPaths(l, f)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// delay is the delay from one place to another; -1 if it is cut.
func (p *paths) delay(from, to string) time.Duration {
	imp := p.impairment(pair{p.named[from][0], p.named[to][0]})
	if imp.Cut {
		return -1
	}
	return imp.Delay
}

func delayed(from, to string, d time.Duration, both bool) Path {
	return Path{From: from, To: to, Both: both, Impairment: internet.Impairment{Delay: d}}
}

func TestPathsOfUplinksAreStrongerThanThoseOfSites(t *testing.T) {
	p := officePaths(t, File{
		Default: Default{Impairment: internet.Impairment{Delay: 1}},
		Paths: []Path{
			delayed("office/eth1", "branch/eth0", 4, true),
			delayed("office/eth1", "branch", 3, true),
			delayed("office", "branch", 2, true),
			delayed("branch", "office/eth2", 5, false),
		},
	})
	for _, c := range []struct {
		from, to string
		want     time.Duration
	}{
		{"office/eth1", "branch", 4},
		{"branch", "office/eth1", 4},
		{"office/eth2", "branch", 2},
		{"branch", "office/eth2", 5},
		{"inet", "office/eth1", 1},
		{"office/eth1", "office/eth2", 1},
	} {
		if got := p.delay(c.from, c.to); got != c.want {
			t.Errorf("%s to %s: %d, want %d", c.from, c.to, got, c.want)
		}
	}
}

func TestCutAndHeal(t *testing.T) {
	p := officePaths(t, File{Paths: []Path{delayed("office", "branch", 7, true)}})
	do := func(from, to string, cut bool) {
		t.Helper()
		if err := p.cut(from, to, true, cut); err != nil {
			t.Fatal(err)
		}
	}
	state := func() string {
		return fmt.Sprint(p.delay("office/eth1", "branch"), p.delay("branch", "office/eth1"), p.delay("office/eth2", "branch"),
			p.delay("office/eth1", "inet"), p.delay("inet", "branch"))
	}
	for _, step := range []struct {
		from, to string
		cut      bool
		want     string
	}{
		{"office", "branch", true, "-1ns -1ns -1ns 0s 0s"},
		{"office/eth2", "branch", false, "-1ns -1ns 7ns 0s 0s"},
		{"office/eth1", "", true, "-1ns -1ns 7ns -1ns 0s"},
		{"inet", "branch", true, "-1ns -1ns 7ns -1ns -1ns"},
		{"branch", "", false, "7ns 7ns 7ns -1ns 0s"},
		{"office", "", false, "7ns 7ns 7ns 0s 0s"},
	} {
		do(step.from, step.to, step.cut)
		if got := state(); got != step.want {
			t.Errorf("after %+v: %s", step, got)
		}
	}
	for _, c := range []struct{ from, to, want string }{
		{"mars", "", `there is no site, device or Internet host "mars"; there are branch, inet, office`},
		{"branch", "mars", `there is no site, device or Internet host "mars"; there are branch, inet, office`},
		{"branch", "branch/eth0", "a path has two ends"},
	} {
		if err := p.cut(c.from, c.to, true, true); err == nil || err.Error() != c.want {
			t.Errorf("cut %s %s: %v, want %s", c.from, c.to, err, c.want)
		}
	}
}

func TestOneWireCannotBeCut(t *testing.T) {
	routers := []state.Router{
		{Site: "a", Uplinks: []state.Uplink{static("eth0", "192.0.2.2/24", "192.0.2.1")}},
		{Site: "b", Uplinks: []state.Uplink{static("eth0", "192.0.2.3/24", "192.0.2.1")}},
	}
	l, err := newLayout("x", routers, nil, File{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPaths(l, File{})
	if err != nil {
		t.Fatal(err)
	}
	want := "a and b are on one wire, which cannot be cut or changed"
	if err := p.cut("a", "b", true, true); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if err := p.cut("a", "", true, true); err != nil {
		t.Error(err)
	}
	if p.delay("a", "inet") != -1 || p.delay("a", "b") != 0 {
		t.Error("a is not cut from inet, or is from b")
	}
	want = "path from a to b: both are on one wire, where there is no path to change"
	if _, err := newPaths(l, File{Paths: []Path{delayed("a", "b", 1, true)}}); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestSiteReachesOnlyWhatItSays(t *testing.T) {
	f := exampleFile(t, "relay")
	l, err := newLayout("x", examples["relay"], nil, f)
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPaths(l, f)
	if err != nil {
		t.Fatal(err)
	}
	var reached []string
	for _, from := range []string{"lab-a", "relay-b", "exit-c", "inet"} {
		for _, to := range []string{"lab-a", "relay-b", "exit-c", "inet"} {
			if from != to && p.delay(from, to) >= 0 {
				reached = append(reached, from+">"+to)
			}
		}
	}
	want := []string{"lab-a>relay-b", "relay-b>lab-a", "relay-b>exit-c", "exit-c>relay-b", "exit-c>inet", "inet>exit-c"}
	if !slices.Equal(reached, want) {
		t.Errorf("got %v, want %v", reached, want)
	}
}

func TestEngineIsToldOnlyWhatChanged(t *testing.T) {
	p := officePaths(t, File{Paths: []Path{delayed("office/eth1", "branch", 7, false)}})
	e := internet.New(1)
	given, err := p.apply(e, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cut("branch", "inet", true, true); err != nil {
		t.Fatal(err)
	}
	if given, err = p.apply(e, given); err != nil {
		t.Fatal(err)
	}
	if !e.Path("branch/eth0", "inet").Cut || e.Path("office/eth1", "branch/eth0").Delay != 7 {
		t.Error("the engine does not have what was set")
	}
	if err := p.cut("branch", "", true, false); err != nil {
		t.Fatal(err)
	}
	if given, err = p.apply(e, given); err != nil {
		t.Fatal(err)
	}
	if e.Path("branch/eth0", "inet").Cut || len(given) != 1 {
		t.Errorf("the cut is still there: %v", given)
	}
}

func TestUnimpairedPathsAreNotDiverted(t *testing.T) {
	l, err := newLayout("x", mesh(3), nil, File{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPaths(l, File{})
	if err != nil {
		t.Fatal(err)
	}
	if d := p.divert(); len(d.from)+len(d.to4)+len(d.to6)+len(d.pairs4)+len(d.pairs6) != 0 {
		t.Errorf("diverted: %+v", d)
	}
	if p, err = newPaths(l, File{Default: Default{Impairment: internet.Impairment{Delay: 1}}}); err != nil {
		t.Fatal(err)
	}
	if got, want := p.divert().from, []string{"inet.eth0", "s0.eth0", "s1.eth0", "s2.eth0"}; !slices.Equal(got, want) {
		t.Errorf("with a default delay: %v, want %v", got, want)
	}
}

func TestOneWayCuts(t *testing.T) {
	p := officePaths(t, File{Paths: []Path{delayed("office", "branch", 7, true)}})
	for _, step := range []struct {
		from, to  string
		both, cut bool
		want      string // office to branch, and back
	}{
		{"office", "branch", false, true, "-1ns 7ns"},
		{"branch", "office", false, false, "-1ns 7ns"},
		{"office", "branch", false, false, "7ns 7ns"},
		{"branch", "", false, true, "7ns -1ns"},
		{"office", "branch", true, false, "7ns 7ns"},
		{"office", "branch", true, true, "-1ns -1ns"},
		{"office", "branch", false, false, "7ns -1ns"},
	} {
		if err := p.cut(step.from, step.to, step.both, step.cut); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(p.delay("office/eth1", "branch"), p.delay("branch", "office/eth1")); got != step.want {
			t.Errorf("after %+v: %s", step, got)
		}
	}
}

func TestPathsChangeByWords(t *testing.T) {
	p := officePaths(t, File{
		Default: Default{Impairment: internet.Impairment{Jitter: 1}},
		Paths:   []Path{delayed("office", "branch", 7, true)},
	})
	if err := p.cut("office", "branch", false, true); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		from, to string
		both     bool
		words    string
		want     string // office/eth1 to branch, and back
	}{
		{"office/eth1", "branch", true, "loss=1% rtt=60ms", "cut=true delay=30ms loss=1%, delay=30ms loss=1%"},
		{"branch", "office", false, "delay=5ms", "cut=true delay=30ms loss=1%, delay=5ms loss=1%"},
		{"branch", "office/eth1", false, "loss=0 rate=2mbit reorder=true", "cut=true delay=30ms loss=1%, delay=5ms reorder=true rate=2000000bit"},
		{"branch", "", true, "rtt=0s reorder=false loss=0%", "cut=true, rate=2000000bit"},
	} {
		if err := p.change(step.from, step.to, step.both, strings.Fields(step.words)); err != nil {
			t.Fatal(err)
		}
		there, err := p.list("office/eth1", "branch", true)
		if err != nil {
			t.Fatal(err)
		}
		if got := there[0].Words() + ", " + there[1].Words(); got != step.want {
			t.Errorf("after %+v: %s", step, got)
		}
	}
	if there, err := p.list("inet", "office/eth2", true); err != nil || there[0].Words() != "jitter=1ns" {
		t.Errorf("a path that nobody changed: %v, %v", there, err)
	}
	for _, c := range []struct {
		both        bool
		words, want string
	}{
		{true, "", "nothing is said of the path"},
		{true, "loss", `"loss" is not KEY=VALUE, as loss=1% is`},
		{true, "delay=5ms", `a path has no key "delay" both ways; it has jitter, loss, rate, reorder, rtt`},
		{false, "rtt=5ms", `a path has no key "rtt" one way; it has delay, jitter, loss, rate, reorder`},
		{true, "cut=true", `a path has no key "cut" both ways; it has jitter, loss, rate, reorder, rtt`},
		{true, "rtt=5ms loss=2 rate=x", "\"2\" is not a loss between 0% and 100%\n\"x\" is not a rate, as 100mbit, 64kbit or 1gbit are"},
		{true, "rtt=", "a word is wanted here\n\"\" is not a time between 0s and 1h, as 52ms is"},
	} {
		err := p.change("office", "branch", c.both, strings.Fields(c.words))
		if err == nil || err.Error() != c.want {
			t.Errorf("%q: %v, want %s", c.words, err, c.want)
		}
	}
	if got := p.delay("office/eth2", "branch"); got != -1 {
		t.Errorf("a refused change came through: %v", got)
	}
}
