package plan

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// opJSON is the JSON form of an operation.
type opJSON struct {
	Verb   Verb            `json:"verb"`
	Kind   string          `json:"kind"`
	ID     string          `json:"id"`
	Object json.RawMessage `json:"object,omitempty"`
	Before json.RawMessage `json:"before,omitempty"`
}

// MarshalJSON returns {"verb", "kind", "id", "object", "before"}: object is what is to be,
// before what was.
func (o Op) MarshalJSON() ([]byte, error) {
	j := opJSON{Verb: o.Verb, Kind: o.subject().Kind(), ID: o.subject().ID()}
	var err error
	if o.Object != nil {
		if j.Object, err = json.Marshal(o.Object); err != nil {
			return nil, err
		}
	}
	if o.Before != nil {
		if j.Before, err = json.Marshal(o.Before); err != nil {
			return nil, err
		}
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads what MarshalJSON returns.
func (o *Op) UnmarshalJSON(b []byte) error {
	var j opJSON
	if err := strict(b, &j); err != nil {
		return fmt.Errorf("read operation: %w", err)
	}
	needs := map[Verb]string{
		Add: "an object and no before", Change: "an object and a before", Remove: "a before and no object",
	}[j.Verb]
	wantObject, wantBefore := j.Verb != Remove, j.Verb != Add
	switch {
	case needs == "":
		return fmt.Errorf("read operation: there is no verb %q", j.Verb)
	case wantObject != (j.Object != nil) || wantBefore != (j.Before != nil):
		return fmt.Errorf("read operation: %s wants %s", j.Verb, needs)
	}
	*o = Op{Verb: j.Verb}
	var err error
	if wantObject {
		if o.Object, err = decodeObject(j.Kind, j.Object); err != nil {
			return err
		}
	}
	if wantBefore {
		o.Before, err = decodeObject(j.Kind, j.Before)
	}
	return err
}

// conflictJSON is the JSON form of a conflict.
type conflictJSON struct {
	Kind   string          `json:"kind"`
	ID     string          `json:"id"`
	Object json.RawMessage `json:"object"`
	Reason string          `json:"reason"`
}

// MarshalJSON returns {"kind", "id", "object", "reason"}.
func (c Conflict) MarshalJSON() ([]byte, error) {
	object, err := json.Marshal(c.Object)
	if err != nil {
		return nil, err
	}
	return json.Marshal(conflictJSON{c.Object.Kind(), c.Object.ID(), object, c.Reason})
}

// UnmarshalJSON reads what MarshalJSON returns.
func (c *Conflict) UnmarshalJSON(b []byte) error {
	var j conflictJSON
	if err := strict(b, &j); err != nil {
		return fmt.Errorf("read conflict: %w", err)
	}
	o, err := decodeObject(j.Kind, j.Object)
	*c = Conflict{o, j.Reason}
	return err
}

func decodeObject(kind string, b []byte) (Object, error) {
	switch kind {
	case KindInterface:
		return decodeAs[Interface](b)
	case KindAddress:
		return decodeAs[Address](b)
	case KindPeer:
		return decodeAs[Peer](b)
	case KindRoute:
		return decodeAs[Route](b)
	case KindRule:
		return decodeAs[Rule](b)
	case KindRuleset:
		return decodeAs[Ruleset](b)
	case KindSysctl:
		return decodeAs[Sysctl](b)
	}
	return nil, fmt.Errorf("read operation: there is no kind of object %q", kind)
}

func decodeAs[T Object](b []byte) (Object, error) {
	var o T
	if err := strict(b, &o); err != nil {
		return nil, fmt.Errorf("read %s: %w", o.Kind(), err)
	}
	return o, nil
}

// strict refuses fields that it does not know: half an operation would be another one.
func strict(b []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(to)
}
