package agent

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tombolo/internal/babel"
	"tombolo/internal/kernel"
	"tombolo/internal/state"
)

var ruleChange = kernel.Change{Rules: true}

// from gives a change a source.
func from(src string, c babel.RouteChange) babel.RouteChange {
	c.Src = prefix(src)
	return c
}

// ruled checks the learned rules: "519 10.1.0.0/24 130".
func (b *tableBench) ruled(want ...string) {
	b.Helper()
	rules, err := b.kernel.Rules(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	slices.SortFunc(rules, state.CompareRules)
	var got []string
	for _, r := range rules {
		got = append(got, fmt.Sprintf("%d %s %d", r.Priority, r.From, r.Table))
	}
	if !slices.Equal(got, want) {
		b.Errorf("it has the rules %q, want %q", got, want)
	}
}

// leads returns by which device the kernel that the bench has would send a packet; "" if it
// finds no route. It looks at the learned rules, and at that of the fabric.
func leads(routes []state.Route, rules []state.Rule, src, dst netip.Addr) string {
	rules = append(slices.Clone(rules), state.Rule{Priority: 520, IPv6: src.Is6(), Action: state.Lookup, Table: 110, Suppress: 1})
	slices.SortFunc(rules, state.CompareRules)
	for _, rule := range rules {
		if rule.IPv6 != src.Is6() || rule.From.IsValid() && !rule.From.Contains(src) {
			continue
		}
		var best *state.Route
		for _, r := range routes {
			if r.Table != rule.Table || !r.Dst.Contains(dst) || r.Src.IsValid() && !r.Src.Contains(src) {
				continue
			}
			if best == nil || r.Dst.Bits() > best.Dst.Bits() || r.Dst == best.Dst && r.Src.Bits() > best.Src.Bits() {
				best = &r
			}
		}
		switch { // fib4_rule_suppress in net/ipv4/fib_rules.c looks at no errors
		case best == nil || best.Type == state.Throw:
			continue
		case best.Type != state.Unicast:
			return string(best.Type)
		case best.Dst.Bits() < rule.Suppress:
			continue
		}
		return best.Device
	}
	return ""
}

func TestRoutesForSomeSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startTable(t)
		time.Sleep(settleTime + time.Second)
		b.change(by("10.2.0.0/16", "wg-b"), by("10.2.3.0/24", "wg-b"), from("10.1.0.0/24", by("10.2.0.0/20", "br-lan")))
		b.holds("10.2.0.0/16 wg-b", "10.2.0.0/20 br-lan", "10.2.3.0/24 throw", "10.2.3.0/24 wg-b")
		b.ruled("519 10.1.0.0/24 130")
		want := []string{
			"ip route add throw 10.2.3.0/24 ", "ip route add 10.2.0.0/16 ", "ip route add 10.2.3.0/24 ",
			"ip route add 10.2.0.0/20 ", "ip rule add pref 519 from 10.1.0.0/24 ",
		}
		for i, c := range b.kernel.Commands() {
			if i >= len(want) || !strings.HasPrefix(c, want[i]) {
				t.Errorf("command %d is %q, want %q", i, c, want)
			}
		}
		// A source around it comes behind it, and a default behind everything.
		b.change(from("10.1.0.0/16", dropped("10.2.8.0/24")), from("10.1.0.0/24", by("0.0.0.0/0", "wg-b")), from("fd01::/64", by("::/0", "wg-b")))
		b.ruled("518 10.1.0.0/24 130", "519 10.1.0.0/16 131", "558 10.1.0.0/24 130", "560 fd01::/64 110")
		b.holds("0.0.0.0/0 wg-b", "10.2.0.0/16 wg-b", "10.2.0.0/20 br-lan", "10.2.3.0/24 throw", "10.2.3.0/24 wg-b",
			"10.2.8.0/24 throw", "10.2.8.0/24 unreachable", "::/0 wg-b")
		if n, by := b.routes(); n != 5 || by["br-lan"] != 1 || by["wg-b"] != 4 {
			t.Errorf("it counts %d routes, %v", n, by)
		}
		// Another program takes a rule away.
		b.kernel.meddle(func(r *state.Router) { r.Rules = r.Rules[:1] }, ruleChange)
		synctest.Wait()
		b.ruled("518 10.1.0.0/24 130", "519 10.1.0.0/16 131", "558 10.1.0.0/24 130", "560 fd01::/64 110")
		// What goes takes its table and rules along.
		b.change(from("10.1.0.0/24", gone("10.2.0.0/20")), from("10.1.0.0/24", gone("0.0.0.0/0")), from("fd01::/64", gone("::/0")))
		b.holds("10.2.0.0/16 wg-b", "10.2.3.0/24 wg-b", "10.2.8.0/24 unreachable")
		b.ruled("519 10.1.0.0/16 131")
		b.change(from("10.9.0.0/16", by("10.2.0.0/16", "br-lan")))
		b.ruled("519 10.1.0.0/16 131", "519 10.9.0.0/16 130")
		if _, err := sweep(t.Context(), b.kernel, learned); err != nil {
			t.Error(err)
		}
		b.ruled()
		b.holds()
	})
}

// A successor finds the tables, changes nothing that is right, and keeps the rest for a while.
func TestSourcesOfAnEarlierAgentKeepTheirTables(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startTable(t)
		b.change(from("10.8.0.0/16", by("10.2.0.0/16", "wg-b")), from("10.1.0.0/16", by("10.2.0.0/16", "wg-b")), from("10.7.0.0/16", by("10.2.0.0/16", "wg-b")))
		rules := []string{"519 10.1.0.0/16 130", "519 10.7.0.0/16 131", "519 10.8.0.0/16 132"}
		b.ruled(rules...)
		r, _ := b.kernel.Kernel.Read(t.Context(), state.Router{})
		next := startTable(t, r.Routes...)
		next.kernel.meddle(func(x *state.Router) { x.Rules = r.Rules }, ruleChange)
		synctest.Wait()
		next.change(from("10.8.0.0/16", by("10.2.0.0/16", "wg-b")), from("10.7.0.0/16", by("10.2.0.0/16", "wg-b")), from("10.7.0.0/16", gone("10.2.0.0/16")))
		next.ruled(rules...)
		next.holds("10.2.0.0/16 wg-b", "10.2.0.0/16 wg-b")
		time.Sleep(settleTime + time.Second)
		next.ruled("519 10.8.0.0/16 132")
		next.holds("10.2.0.0/16 wg-b")
	})
}

// What an agent left that died before its rules were there goes when the next has settled,
// and a table whose rule still leads there is given to nobody else.
func TestTablesOfNobodyAreEmptied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left := old("10.2.0.0/16")
		left.Table = 131
		b := startTable(t, left)
		rule := state.Rule{Priority: 519, From: prefix("10.1.0.0/16"), Action: state.Lookup, Table: 130, Suppress: 1, Protocol: learned}
		b.kernel.meddle(func(r *state.Router) { r.Rules = []state.Rule{rule} }, ruleChange)
		synctest.Wait()
		b.change(from("10.1.0.0/16", by("10.3.0.0/16", "wg-b")))
		b.change(from("10.1.0.0/16", gone("10.3.0.0/16")), from("10.7.0.0/16", by("10.4.0.0/16", "wg-b")))
		b.ruled("519 10.1.0.0/16 130", "519 10.7.0.0/16 131")
		time.Sleep(settleTime + time.Second)
		b.ruled("519 10.7.0.0/16 131")
		b.holds("10.4.0.0/16 wg-b")
	})
}

// A compiled route that comes or goes is passed by, although nothing else is learned.
func TestCompiledRoutesArePassedBy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startTable(t)
		b.change(from("10.1.0.0/16", by("10.2.0.0/16", "wg-b")))
		b.beside([]state.Route{{Table: 110, Dst: prefix("10.2.5.0/24"), Type: state.Unicast, Device: "wg-s"}, {Table: 111, Dst: prefix("10.2.6.0/24"), Type: state.Unreachable}})
		synctest.Wait()
		b.holds("10.2.0.0/16 wg-b", "10.2.5.0/24 throw")
		b.beside(nil)
		synctest.Wait()
		b.holds("10.2.0.0/16 wg-b")
	})
}

// Too many sources are a problem, and the others have their places.
func TestThereIsAnEndOfTablesForSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startTable(t)
		time.Sleep(settleTime + time.Second)
		var all []babel.RouteChange
		for i := range sourceTables + 1 {
			all = append(all, from(fmt.Sprintf("10.%d.0.0/16", i), by("192.168.0.0/16", "wg-b")))
		}
		b.change(all...)
		time.Sleep(time.Minute)
		rules, _ := b.kernel.Rules(t.Context())
		if len(rules) != sourceTables {
			t.Errorf("there are %d rules", len(rules))
		}
		b.mu.Lock()
		last := b.said[len(b.said)-1]
		b.mu.Unlock()
		if last == nil || !strings.Contains(last.Error(), "routes from 10.32.0.0/16 have no place: there are 32 tables") {
			t.Errorf("the problem is: %v", last)
		}
		b.change(from("10.0.0.0/16", gone("192.168.0.0/16")), from("10.1.0.0/16", gone("192.168.0.0/16")))
		time.Sleep(time.Minute)
		rules, _ = b.kernel.Rules(t.Context())
		if len(rules) != sourceTables-1 {
			t.Errorf("after one is gone there are %d rules", len(rules))
		}
	})
}

// Whatever is learned and lost, a packet goes by the longest destination and then by the
// longest source (RFC 9079 §1.3).
func TestPacketsGoByTheMostSpecificPair(t *testing.T) {
	t.Run("no exits", func(t *testing.T) { mostSpecific(t, nil, nil) })
	// An exit's source around all others: its rule is compiled, and theirs come before it.
	all := prefix("10.0.0.0/13")
	t.Run("exits", func(t *testing.T) {
		mostSpecific(t, []state.ExitTable{{Src: all, Table: 2110}}, []state.Rule{{Priority: 560, From: all, Action: state.Lookup, Table: 2110}})
	})
}

func mostSpecific(t *testing.T, exits []state.ExitTable, lead []state.Rule) {
	synctest.Test(t, func(t *testing.T) {
		b := startTable(t)
		b.lead(exits)
		time.Sleep(settleTime + time.Second)
		r := rand.New(rand.NewPCG(1, 2))
		some := func(shortest int) netip.Prefix { // of few addresses, so that they lie in each other
			return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(r.IntN(2)), byte(r.IntN(4)) << 6, 0}), shortest+r.IntN(5)).Masked()
		}
		compiled := []state.Route{{Table: 110, Dst: prefix("10.1.64.0/19"), Type: state.Unicast, Device: "static", Protocol: owner().Protocol}}
		b.kernel.meddle(func(x *state.Router) { x.Routes = append(x.Routes, compiled...) }, ruleChange)
		b.beside(compiled)
		chosen := map[babel.Key]string{{Dst: compiled[0].Dst}: "static"}
		for range 400 {
			var changes []babel.RouteChange
			for range 1 + r.IntN(4) {
				k := babel.Key{Dst: some(14)}
				if r.IntN(2) == 0 {
					k.Src = some(13)
					if r.IntN(4) == 0 {
						k.Dst = prefix("0.0.0.0/0")
					}
				}
				c := babel.RouteChange{Key: k}
				delete(chosen, k)
				switch r.IntN(5) {
				case 0:
					c.Hop = &babel.Hop{Unreachable: true}
					if k.Dst.Bits() > 0 {
						chosen[k] = "unreachable"
					}
				case 1, 2:
					link := []string{"wg-b", "br-lan"}[r.IntN(2)]
					c.Hop = &babel.Hop{Link: link, NextHop: netip.MustParseAddr("fe80::2")}
					chosen[k] = link
				}
				if k.Dst == compiled[0].Dst && !k.Src.IsValid() {
					chosen[k] = "static"
					continue
				}
				changes = append(changes, c)
			}
			b.put(changes, &b.config)
			synctest.Wait()
			have, _ := b.kernel.Kernel.Read(t.Context(), state.Router{})
			for range 50 {
				any := func() netip.Addr {
					return netip.AddrFrom4([4]byte{10, byte(r.IntN(3)), byte(r.IntN(8)) << 5, 1})
				}
				src, dst := any(), any()
				want, best := "", babel.Key{}
				for k, how := range chosen {
					if !k.Dst.Contains(dst) || k.Src.IsValid() && !k.Src.Contains(src) {
						continue
					}
					if want == "" || k.Dst.Bits() > best.Dst.Bits() || k.Dst == best.Dst && k.Src.Bits() > best.Src.Bits() {
						want, best = how, k
					}
				}
				if got := leads(have.Routes, slices.Concat(lead, have.Rules), src, dst); got != want {
					t.Fatalf("%s to %s goes by %q, want %q for %v", src, dst, got, want, best)
				}
			}
		}
		for k := range chosen {
			b.put([]babel.RouteChange{{Key: k}}, &b.config)
		}
		synctest.Wait()
		b.ruled()
		b.holds()
	})
}

// A hop that changes is one replaced route, and no more is touched.
func TestAChangeForASourceTouchesNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startTable(t)
		time.Sleep(settleTime + time.Second)
		b.change(by("10.2.0.0/16", "wg-b"), by("10.2.3.0/24", "wg-b"), from("10.1.0.0/24", by("10.2.0.0/20", "br-lan")))
		before := len(b.kernel.Commands())
		b.change(from("10.1.0.0/24", by("10.2.0.0/20", "wg-b")))
		b.change(by("10.2.3.0/24", "br-lan"))
		if got := b.kernel.Commands()[before:]; len(got) != 2 || !strings.HasPrefix(got[0], "ip route replace 10.2.0.0/20 ") || !strings.HasPrefix(got[1], "ip route replace 10.2.3.0/24 ") {
			t.Errorf("it did %q", got)
		}
	})
}
