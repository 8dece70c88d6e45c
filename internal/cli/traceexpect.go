package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"go.yaml.in/yaml/v4"

	"tombolo/internal/trace"
)

// everyone stands for all names in a file of expectations.
const everyone = "*"

// expects holds a file of who is to reach whom against a matrix.
func (a *app) expects(path string, p probe, m *trace.Matrix, routers bool, notes []string) error {
	text, err := readFile(path)
	if err != nil {
		return fmt.Errorf("read what is expected: %w", err)
	}
	want, err := parseExpected(text, m)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	type difference struct {
		Want string `json:"want"`
		pair
		is string
	}
	held, differ := 0, []difference{}
	each(m, func(from, to int) {
		x, y := m.Groups[from].Name, m.Groups[to].Name
		word := expected(want, x, y, !routers && (m.Groups[from].Place.Kind == trace.Router || m.Groups[to].Place.Kind == trace.Router))
		if word == "" {
			return
		}
		held++
		if is := wordOf(m, from, to); word != is {
			differ = append(differ, difference{word, pair{x, y, m.Verdicts[from][to], m.Ways[from][to]}, is})
		}
	})
	if a.json {
		err = a.writeJSON(struct {
			Differences []difference `json:"differences"`
			Flow        string       `json:"flow"`
			Held        int          `json:"held"`
			Notes       []string     `json:"notes,omitempty"`
		}{differ, p.String(), held, notes})
	} else {
		fmt.Fprintf(a.out, "%s: %d of %d pairs as expected\n", p, held-len(differ), held)
		for _, d := range differ {
			if d.Delivered {
				fmt.Fprintf(a.out, "%s → %s: want %s, it is yes, by %s\n", d.From, d.To, d.Want, d.Way)
			} else {
				fmt.Fprintf(a.out, "%s → %s: want %s, it is %s: %s: %s\n", d.From, d.To, d.Want, d.is, lostAt(d.Verdict), d.Reason)
			}
		}
		a.printNotes(notes)
	}
	if err == nil && len(differ) > 0 {
		err = exitCode(exitError)
	}
	return err
}

// parseExpected reads from → to → yes, no or some.
func parseExpected(text []byte, m *trace.Matrix) (map[string]map[string]string, error) {
	var out map[string]map[string]string
	if err := yaml.NewDecoder(bytes.NewReader(text)).Decode(&out); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	known := func(name string) error {
		if name == everyone || slices.ContainsFunc(m.Groups, func(g trace.Group) bool { return g.Name == name }) {
			return nil
		}
		return hinted{fmt.Errorf("nobody knows %q", name), "SITE:DEVICE is a LAN, SITE a router; devices by name; outside; \"*\" for all"}
	}
	for _, from := range slices.Sorted(maps.Keys(out)) {
		if err := known(from); err != nil {
			return nil, err
		}
		for _, to := range slices.Sorted(maps.Keys(out[from])) {
			if err := known(to); err != nil {
				return nil, err
			}
			if word := out[from][to]; word != "yes" && word != "no" && word != "some" {
				return nil, fmt.Errorf("%s → %s is %q: yes, no or some", from, to, word)
			}
		}
	}
	return out, nil
}

// expected is what is said of a pair: the names themselves go before those of all, who are no routers.
func expected(want map[string]map[string]string, from, to string, isRouter bool) string {
	for _, x := range []string{from, everyone} {
		for _, y := range []string{to, everyone} {
			if isRouter && (x == everyone || y == everyone) {
				continue
			}
			if word := want[x][y]; word != "" {
				return word
			}
		}
	}
	return ""
}
