package spec_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	yaml "go.yaml.in/yaml/v4"

	"tombolo/internal/spec"
)

var update = flag.Bool("update", false, "write the golden and the generated files anew")

func TestGeneratedFilesAreUpToDate(t *testing.T) {
	for path, want := range map[string]string{
		"../../docs/network.schema.json": string(spec.Schema()),
		"../../docs/language.md":         spec.Reference(),
	} {
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("%s is not what the grammar says: run go test ./internal/spec -run Generated -update", path)
		}
	}
}

func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(spec.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("network.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("network.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// asJSON reads YAML the way an editor's language server does.
func asJSON(t *testing.T, text string) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	v, err = jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// examples returns the network files of examples/, by name.
func examples(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../../examples/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, path := range files {
		if strings.HasSuffix(path, ".lab.yaml") {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(path)] = string(text)
	}
	if len(out) < 5 {
		t.Fatalf("only %d examples", len(out))
	}
	return out
}

func TestExamplesFitTheSchema(t *testing.T) {
	s := schema(t)
	for name, text := range examples(t) {
		if err := s.Validate(asJSON(t, text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.Validate(asJSON(t, "network: n\noverlay: 10.0.0.0/24\nsites: {a: {colour: blue}}\n")); err == nil {
		t.Error("the schema takes an unknown key")
	}
}

var (
	blockOfYAML = regexp.MustCompile("(?s)```yaml\n(.*?)```")
	inlineYAML  = regexp.MustCompile("\\| .*`([a-z]+: .*)` \\|\n")
)

// Whatever the documentation shows parses, and fits the schema, with the rest of the file
// that it begins with around it.
func TestExamplesOfTheReferenceParse(t *testing.T) {
	page := spec.Reference()
	blocks := blockOfYAML.FindAllStringSubmatch(page, -1)
	if len(blocks) < 50 {
		t.Fatalf("only %d examples in the reference", len(blocks))
	}
	var texts []string
	for _, b := range blocks[1:] {
		texts = append(texts, b[1])
	}
	for _, m := range inlineYAML.FindAllStringSubmatch(page, -1) {
		text := strings.ReplaceAll(m[1], "\\|", "|")
		if strings.HasPrefix(text, "lan:") || strings.HasPrefix(text, "uplink:") || strings.HasPrefix(text, "inbound:") {
			text = "sites: {op1: {endpoint: op1.example.net, " + text + "}}"
		}
		if strings.HasPrefix(text, "port:") {
			text = "links: [mesh, {between: [op1, op2], " + text + "}]"
		}
		texts = append(texts, text+"\n")
	}
	s := schema(t)
	base := asJSON(t, blocks[0][1]).(map[string]any)
	for _, text := range texts {
		file := withRest(t, base, text)
		if n, ds := spec.Parse("example.yaml", []byte(file)); n == nil {
			t.Errorf("%s\nin\n%s", ds, file)
		}
		if err := s.Validate(asJSON(t, file)); err != nil {
			t.Errorf("%v in\n%s", err, file)
		}
	}
}

// withRest adds to a part of a file the top-level keys that it lacks.
func withRest(t *testing.T, base map[string]any, text string) string {
	have := asJSON(t, text).(map[string]any)
	for _, k := range []string{"network", "overlay", "sites"} {
		if _, ok := have[k]; ok {
			continue
		}
		line, err := yaml.Marshal(map[string]any{k: base[k]})
		if err != nil {
			t.Fatal(err)
		}
		text += string(line)
	}
	return text
}
