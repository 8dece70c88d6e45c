package plan

import (
	"encoding/json"

	"pgregory.net/rapid"

	"tombolo/internal/state"
)

func lawJSON(t *rapid.T, have, want state.Router) {
	p := Diff(have, want)
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var q Plan
	if err := json.Unmarshal(b, &q); err != nil {
		t.Fatal(err)
	}
	if d := difference(p, q); d != "" {
		t.Fatalf("it came back as another:\n%s", d)
	}
}
