package lab

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"tombolo/internal/lab/internet"
)

// change changes what words say of the paths from one name to another, and back if both
// is set. What they do not name stays as it was said; so does what Cut cut.
func (p *paths) change(from, to string, both bool, words []string) error {
	pairs, err := p.between(from, to, both)
	if err != nil {
		return err
	}
	said := map[pair]internet.Impairment{}
	for _, at := range pairs {
		imp, ok := p.said[at]
		if !ok {
			imp = p.normal
		}
		if err := changeImpairment(&imp, both, words); err != nil {
			return err
		}
		said[at] = imp
	}
	maps.Copy(p.said, said)
	return nil
}

// changeImpairment changes what words name, each as in a lab file: rtt=60ms, loss=1%.
// With roundTrip, times are of a round trip, half of it each way. What a lab file calls
// cut is the matter of Cut and Heal.
func changeImpairment(imp *internet.Impairment, roundTrip bool, words []string) error {
	if len(words) == 0 {
		return errors.New("nothing is said of the path")
	}
	p := &parser{}
	keys := p.impairment(imp, roundTrip)
	delete(keys, "cut")
	for _, word := range words {
		key, value, ok := strings.Cut(word, "=")
		read, known := keys[key]
		switch {
		case !ok:
			p.wrong(nil, "", "%q is not KEY=VALUE, as loss=1%% is", word)
		case !known:
			p.wrong(nil, "", "a path has no key %q%s; it has %s", key, ways(roundTrip), strings.Join(slices.Sorted(maps.Keys(keys)), ", "))
		default:
			read(&yaml.Node{Kind: yaml.ScalarNode, Value: value})
		}
	}
	var mistakes []error
	for _, m := range p.mistakes {
		mistakes = append(mistakes, errors.New(m.Message))
	}
	return errors.Join(mistakes...)
}

func ways(roundTrip bool) string {
	if roundTrip {
		return " both ways"
	}
	return " one way"
}

// list returns what holds now from one name to another, and back if both is set, by
// places.
func (p *paths) list(from, to string, both bool) ([]Path, error) {
	pairs, err := p.between(from, to, both)
	if err != nil {
		return nil, err
	}
	var out []Path
	for _, at := range pairs {
		out = append(out, Path{From: p.places[at.from].name, To: p.places[at.to].name, Impairment: p.impairment(at)})
	}
	return out, nil
}

// Words says what a path does in the words of a lab file, of one way: "delay=10ms
// loss=1%"; "plain" is a path that does nothing to packets.
func (p Path) Words() string {
	imp := p.Impairment
	var words []string
	add := func(holds bool, format string, args ...any) {
		if holds {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	add(imp.Cut, "cut=true")
	add(imp.Delay > 0, "delay=%s", imp.Delay)
	add(imp.Jitter > 0, "jitter=%s", imp.Jitter)
	add(imp.Reorder, "reorder=true")
	add(imp.Loss > 0, "loss=%g%%", 100*imp.Loss)
	add(imp.Rate > 0, "rate=%dbit", imp.Rate)
	if len(words) == 0 {
		return "plain"
	}
	return strings.Join(words, " ")
}
