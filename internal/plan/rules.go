package plan

import (
	"slices"

	"tombolo/internal/state"
)

// diffRules adds rules by rising priority, and removes them by falling priority. Any
// difference makes another rule.
func (d *differ) diffRules() {
	have, want := d.sortedRules(d.have), d.sortedRules(d.want)
	want = slices.Compact(want)
	var gone []state.Rule
	for len(have) > 0 || len(want) > 0 {
		switch {
		case len(want) == 0 || len(have) > 0 && state.CompareRules(have[0], want[0]) < 0:
			gone, have = append(gone, have[0]), have[1:]
		case len(have) == 0 || have[0] != want[0]:
			d.add(rulesPhase, Rule{want[0]})
			want = want[1:]
		default:
			have, want = have[1:], want[1:]
		}
	}
	for _, r := range slices.Backward(gone) {
		d.remove(oldRulesPhase, Rule{r})
	}
}

func (d *differ) sortedRules(r state.Router) []state.Rule {
	out := ours(r.Rules, d.owner.OwnsRule)
	slices.SortFunc(out, state.CompareRules)
	return out
}

// diffRulesets compares tables by their digests.
func (d *differ) diffRulesets() {
	have, want := rulesetsByID(d, d.have), rulesetsByID(d, d.want)
	for _, id := range sortedKeys(want) {
		w := want[id]
		h, there := have[id]
		switch {
		case !there:
			d.add(rulesetsPhase, w)
		case h.Digest != w.Digest:
			d.change(rulesetsPhase, h, w)
		}
	}
	for _, id := range slices.Backward(sortedKeys(have)) {
		if _, wanted := want[id]; !wanted {
			d.remove(oldRulesetsPhase, have[id])
		}
	}
}

func rulesetsByID(d *differ, r state.Router) map[string]Ruleset {
	out := map[string]Ruleset{}
	for _, s := range ours(r.Rulesets, d.owner.OwnsRuleset) {
		out[Ruleset{s}.ID()] = Ruleset{s}
	}
	return out
}
