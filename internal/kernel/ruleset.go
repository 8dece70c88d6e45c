package kernel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"tombolo/internal/plan"
	"tombolo/internal/state"
)

// A table says by itself whether it still is what we loaded: it holds a chain that no
// packet ever comes to, whose one rule has a comment of two digests. The first is that of
// the text we were given, the second that of nft's own listing of the table, right after
// it was loaded. While a new listing has the second, the table holds the first.
//
// A comment of the table itself would need nftables 1.0 and Linux 5.10.
const sealChain = "seal"

var errNotOurTable = errors.New("the table is not ours")

// load puts r in the place of the table of that name, in one transaction, and seals it.
// changed reports whether the table is another now, also with an error.
func (a *application) load(ctx context.Context, r state.Ruleset) (changed bool, err error) {
	if !a.options.Owner.OwnsRuleset(r) {
		return false, errNotOurTable
	}
	if _, found := findSeal(r.Text); found {
		return false, fmt.Errorf("a chain may not be called %q", sealChain)
	}
	if strings.ContainsAny(r.Digest, "\" \n") || r.Digest == "" {
		return false, fmt.Errorf("%q is no digest", r.Digest)
	}
	t := table{r.Family, r.Table}
	// Declared, it can be deleted, whether it was there or not. All that stands on the
	// text's first line, so that the lines of which nft complains are the text's.
	input := fmt.Sprintf("table %s; delete table %s; %s\n", t, t, r.Text)
	if _, err := a.nft.run(ctx, input, "-f", "-"); err != nil {
		return false, err
	}
	listing, err := a.list(ctx, t)
	if err != nil {
		return true, err
	}
	seal := fmt.Sprintf("add chain %s %s\nadd rule %s %s return comment \"%s %s\"\n",
		t, sealChain, t, sealChain, r.Digest, state.RulesetDigest(canonical(listing)))
	_, err = a.nft.run(ctx, seal, "-f", "-")
	return true, wrap("seal the table", err)
}

// removeRuleset deletes a table of ours.
func (a *application) removeRuleset(ctx context.Context, r plan.Ruleset) error {
	if !a.options.Owner.OwnsRuleset(r.Ruleset) {
		return errNotOurTable
	}
	found, err := tables(r.Table)
	if err != nil {
		return err
	}
	for _, t := range found {
		if t == (table{r.Family, r.Table}) {
			_, err := a.nft.run(ctx, fmt.Sprintf("delete table %s\n", t), "-f", "-")
			return err
		}
	}
	return errGone
}

// list returns a table as nft prints it, without the values of counters and the like.
func (k *Kernel) list(ctx context.Context, t table) (string, error) {
	return k.nft.run(ctx, "", "-s", "list", "table", t.family, t.name)
}

// readRulesets returns the tables of our name.
func (k *Kernel) readRulesets(ctx context.Context) ([]state.Ruleset, error) {
	found, err := tables(k.options.Owner.RulesetTable)
	if err != nil {
		return nil, err
	}
	var out []state.Ruleset
	for _, t := range found {
		listing, err := k.list(ctx, t)
		if err != nil {
			if left, e := tables(k.options.Owner.RulesetTable); e == nil && !slices.Contains(left, t) {
				continue // it was removed just now
			}
			return nil, fmt.Errorf("read table %s: %w", t, err)
		}
		rest, digest := unseal(listing)
		out = append(out, state.Ruleset{Family: t.family, Table: t.name, Text: rest, Digest: digest})
	}
	return out, nil
}

// unseal returns a listing without the seal, and the digest of the text that the table was
// made from, state.DriftedDigest where the seal is broken or was never put on.
func unseal(listing string) (rest, digest string) {
	seal, _ := findSeal(listing)
	rest = strings.Replace(listing, seal, "", 1)
	if seal == "" {
		return listing, state.DriftedDigest
	}
	_, comment, _ := strings.Cut(seal, "comment \"")
	comment, _, _ = strings.Cut(comment, "\"")
	text, sealed, _ := strings.Cut(comment, " ")
	if text == "" || sealed != state.RulesetDigest(canonical(rest)) {
		return rest, state.DriftedDigest
	}
	return rest, text
}

// findSeal returns the chain that is the seal in a table's text: from the empty line
// before it, if there is one, to the end of its last line.
func findSeal(listing string) (block string, found bool) {
	lines := strings.SplitAfter(listing, "\n")
	for i, line := range lines {
		if words := strings.Fields(line); len(words) < 2 || words[0] != "chain" || strings.TrimSuffix(words[1], "{") != sealChain {
			continue
		}
		first, last := i, i
		for last+1 < len(lines) && !strings.HasSuffix(strings.TrimSpace(lines[last]), "}") {
			last++
		}
		if first > 0 && strings.TrimSpace(lines[first-1]) == "" {
			first--
		}
		return strings.Join(lines[first:last+1], ""), true
	}
	return "", false
}

// canonical returns what of a listing is rules: without empty lines, and without the
// elements of sets that packets fill.
func canonical(listing string) string {
	var b strings.Builder
	learns, inElements := false, false
	for line := range strings.Lines(listing) {
		words := strings.TrimSpace(line)
		switch {
		case words == "":
			continue
		case strings.HasPrefix(words, "set ") || strings.HasPrefix(words, "map "):
			learns = false
		case strings.HasPrefix(words, "flags ") && (strings.Contains(words, "dynamic") || strings.Contains(words, "timeout")):
			learns = true
		case strings.HasPrefix(words, "elements = {") && learns:
			inElements = true
		}
		if inElements {
			inElements = !strings.HasSuffix(words, "}")
			continue
		}
		b.WriteString(line)
	}
	return b.String()
}
