package ruleset_test

import (
	"math/rand/v2"
	"testing"

	"tombolo/internal/trace/ruleset"
)

// Whatever the text, Parse returns, and so does Run of what it took.
func FuzzParse(f *testing.F) {
	for _, text := range rulesets(f, access) {
		f.Add(text)
	}
	f.Add(randomTable(rand.New(rand.NewPCG(1, 1))))
	f.Add("table inet t {\n" + translations + "}\n")
	f.Add("table inet t {\n" + ways + "}\n")
	f.Add("table inet t {\n\tchain a {\n\t\ttype filter hook forward priority -5; policy drop;\n\t\tgoto a\n\t}\n}\n")
	f.Fuzz(func(t *testing.T, text string) {
		table, err := ruleset.Parse(text)
		if err != nil || len(text) > 4000 {
			return
		}
		for _, words := range []string{t4 + "syn iif=lan0 oif=eth0", u6, i6 + "related", u4 + "none"} {
			for h := ruleset.Prerouting; h <= ruleset.Postrouting; h++ {
				p, c := at(t, words)
				table.Run(h, &p, c, testEnv, true)
			}
		}
	})
}
