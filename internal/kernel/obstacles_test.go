package kernel

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"tombolo/internal/state"
)

// needs is a router with a LAN, an uplink, a port that is published, and links.
func needs(links ...string) state.Router {
	r := state.Router{
		LANs:    []state.LAN{{Device: "br-lan", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")}}},
		Uplinks: []state.Uplink{{Device: "eth0"}},
		Owner:   state.DefaultOwner(),
	}
	for _, l := range links {
		r.Interfaces = append(r.Interfaces, state.Interface{Name: l})
	}
	all := links[0]
	if len(links) > 1 {
		all = "wg-*"
		r.Forwards = append(r.Forwards, state.Forward{In: all, Out: all})
	}
	published := state.Flow{Protocol: "tcp", First: 443, Last: 443, To: netip.MustParseAddr("10.1.0.10")}
	r.Forwards = append(r.Forwards,
		state.Forward{In: "br-lan", Out: all}, state.Forward{In: all, Out: "br-lan"}, state.Forward{In: "br-lan", Out: "eth0"},
		state.Forward{In: all, Out: "eth0"}, state.Forward{In: "eth0", Out: "br-lan", Only: []state.Flow{published}},
		state.Forward{In: "eth0", Only: []state.Flow{{Protocol: "udp", First: 51820, Last: 51822}}}, state.Forward{In: all},
	)
	r.Sort()
	return r
}

// said is what is found, a line for each.
func said(found Obstacles) string {
	var b strings.Builder
	for _, o := range found.Found {
		fmt.Fprintf(&b, "%s: %s → %s", o.Firewall, o.In, o.Out)
		if o.Answers {
			b.WriteString(" (answers)")
		}
		for _, f := range o.Only {
			fmt.Fprintf(&b, " %s %d-%d", f.Protocol, f.First, f.Last)
		}
		if len(o.What) > 0 {
			fmt.Fprintf(&b, " %s", strings.Join(o.What, ", "))
		}
		fmt.Fprintf(&b, ": %s %s %s", o.Family, o.Table, o.Chain)
		if o.Within != "" {
			fmt.Fprintf(&b, ", in %s", o.Within)
		}
		if o.Rule != "" {
			fmt.Fprintf(&b, ": %s", o.Rule)
		}
		if o.Perhaps {
			fmt.Fprintf(&b, ", unless %s", o.Unless)
		}
		b.WriteByte('\n')
	}
	for _, d := range slices.Sorted(maps.Keys(found.Zones)) {
		fmt.Fprintf(&b, "%s is in zone %s\n", d, found.Zones[d])
	}
	return b.String()
}

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares what was found with a part of a golden file.
func golden(t *testing.T, path string, got map[string]string) {
	t.Helper()
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range archive.Files {
		f := &archive.Files[i]
		text, ok := got[f.Name]
		if !ok {
			continue
		}
		if d := cmp.Diff(strings.Split(string(f.Data), "\n"), strings.Split(text, "\n")); d != "" && !*update {
			t.Errorf("%s (-golden +got):\n%s", f.Name, d)
		}
		f.Data = []byte(text)
	}
	if *update {
		if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// part returns a file of a golden file.
func part(t *testing.T, path, name string) string {
	t.Helper()
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range archive.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	t.Fatalf("%s has no %s", path, name)
	return ""
}

// many are three hundred links.
func many() (out []string) {
	for i := range 300 {
		out = append(out, fmt.Sprintf("wg-s%03d", i))
	}
	return out
}

// The rules of other firewalls, in the form in which these write them, are read from the kernel.
func TestObstacles(t *testing.T) {
	for name, want := range map[string]state.Router{
		"fw4": needs("wg-a"), "fw4-zone": needs("wg-a", "wg-b", "wg-clients"), "docker": needs("wg-a"), "docker29": needs("wg-a"),
		"ufw": needs("wg-a"), "firewalld": needs("wg-a"), "own": needs(many()...),
	} {
		t.Run(name, func(t *testing.T) {
			namespace(t)
			path := filepath.Join("testdata/obstacles", name+".txtar")
			nftLoad(t, part(t, path, "rules"))
			nftLoad(t, "table inet tombolo { chain forward { type filter hook forward priority 0; policy drop; }; }") // ours is no obstacle
			found, err := open(t).Obstacles(context.Background(), want)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, path, map[string]string{"said": said(found)})
		})
	}
}

// A LAN that is mapped is reached by translated packets, which a firewall may let pass as such.
func TestObstaclesOfWhatIsTranslated(t *testing.T) {
	namespace(t)
	nftLoad(t, "table inet x { chain forward { type filter hook forward priority 0; policy drop; ct status dnat accept; }; }")
	want := needs("wg-a")
	want.Forwards = []state.Forward{{In: "wg-a", Out: "br-lan"}, {In: "br-lan", Out: "wg-a"}}
	k := open(t)
	for text, said1 := range map[string]string{
		"":     "nft: wg-a → br-lan: inet x forward\nnft: br-lan → wg-a: inet x forward\n",
		"dnat": "nft: wg-a → br-lan: inet x forward, unless ct status dnat accept\nnft: br-lan → wg-a: inet x forward, unless ct status dnat accept\n",
	} {
		want.Rulesets = []state.Ruleset{{Text: text}}
		found, err := k.Obstacles(context.Background(), want)
		if got := said(found); err != nil || got != said1 {
			t.Errorf("with %q of ours: %v, %s", text, err, got)
		}
	}
}

// What iptables-nft makes has matches of which nft's JSON has only the names, and its text the
// words where libxtables is there.
func TestObstaclesOfIPTables(t *testing.T) {
	for _, name := range []string{"ufw-iptables", "docker-iptables"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("testdata/obstacles", name+".txtar")
			got := map[string]string{}
			for what, text := range map[string]string{"said": part(t, path, "texts"), "speechless": ""} {
				f, err := readFilter([]byte(part(t, path, "json")), text, "tombolo")
				if err != nil {
					t.Fatal(err)
				}
				got[what] = said(f.obstacles(needs("wg-a")))
			}
			golden(t, path, got)
		})
	}
}

// What is no listing is an error, and one of another version no reason to end.
func TestObstaclesOfNoListing(t *testing.T) {
	for text, want := range map[string]string{
		"":   "read what nft lists: unexpected end of JSON input",
		"{}": "",
		`{"nftables": [{"table": 1}, {"rule": {"family": "ip", "table": "gone"}}, {"table": {"family": "ip", "name": "x"}},
			{"chain": {"family": "ip", "table": "x", "name": "c", "type": "filter", "hook": "forward", "policy": "drop"}},
			{"rule": {"family": "ip", "table": "x", "chain": "none"}},
			{"rule": {"family": "ip", "table": "x", "chain": "c", "expr": [1, {"match": 1}, {"vmap": {"key": 1, "data": "@none"}}]}},
			{"rule": {"family": "ip", "table": "x", "chain": "c", "expr": [{"vmap": {"data": {"set": [1, [2], [3, 4]]}}}, {"jump": {"target": "none"}}]}}]}`: "",
	} {
		f, err := readFilter([]byte(text), "", "tombolo")
		if got := fmt.Sprint(err); got != want && (err != nil || want != "") {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
		if err == nil {
			f.obstacles(needs("wg-a", "wg-b"))
		}
	}
}
