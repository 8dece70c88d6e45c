package main

import (
	"strings"
	"testing"

	"tombolo/internal/compile"
	"tombolo/internal/spec"
)

// What is measured is what the table says: so many rules, all about one router, and a flow that
// the last one allows.
func TestAccessFileHasItsRulesAboutOneRouter(t *testing.T) {
	for _, port := range []int{0, 1000} {
		for site, name := range accessRouters[:2] {
			text := accessFile(accessSites, accessRules(site, accessMany-1, port)+measuredRule(site))
			n, problems := spec.Parse("access.yaml", []byte(text))
			if n == nil {
				t.Fatal(problems.Err())
			}
			if len(n.Sites) != accessSites || len(n.Policy.Rules) != accessMany || !n.Policy.Deny {
				t.Errorf("%d sites, %d rules, default deny: %v", len(n.Sites), len(n.Policy.Rules), n.Policy.Deny)
			}
			lan := n.Sites[site].LANs[0].Prefixes[0].Prefix
			for _, r := range n.Policy.Rules {
				if len(r.To.Prefixes) != 1 || !lan.Overlaps(r.To.Prefixes[0]) {
					t.Fatalf("rule %+v is not about %s", r, lan)
				}
			}
			r, err := compile.Router(n, name, compile.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(r.Rulesets[0].Text, "10 . udp . 9 : accept") {
				t.Errorf("%s: the flow that is measured is not among what is let through", name)
			}
		}
	}
}
