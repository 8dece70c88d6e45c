package spec

import (
	"bytes"
	"encoding/json"
	"maps"

	yaml "go.yaml.in/yaml/v4"
)

// Schema returns the JSON Schema (draft 2020-12) of network files, for editors. It is made
// from the grammar; what only the whole file shows, such as overlapping LANs, is not in it.
func Schema() []byte {
	root := fileRecord.section().object()
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "tombolo network file"
	root["description"] = fileRecord.doc
	root["$defs"] = schema{
		"name": schema{
			"description": "A name of lower-case letters, digits and hyphens.",
			"type":        "string", "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", "maxLength": maxName,
		},
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(root); err != nil {
		panic("spec: the schema is not JSON: " + err.Error())
	}
	return b.Bytes()
}

// object returns the schema of a record's mappings.
func (s *section) object() schema {
	properties := schema{}
	var required []any
	for _, e := range s.entries {
		p := maps.Clone(e.schema)
		p["description"] = e.doc
		p["examples"] = []any{exampleValue(e.example)}
		properties[e.key] = p
		if e.required {
			required = append(required, e.key)
		}
	}
	out := schema{"type": "object", "additionalProperties": false, "properties": properties}
	if required != nil {
		out["required"] = required
	}
	return out
}

// exampleValue returns an example of the grammar as JSON has it.
func exampleValue(text string) any {
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		panic("spec: the example " + text + " is not YAML: " + err.Error())
	}
	return v
}
