package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Encode returns the JSON form, indented, with a newline at its end. Key files do not
// stand in it, only their names.
func (r Router) Encode() []byte {
	r.Version = Version
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		panic("state: a router always has a JSON form: " + err.Error())
	}
	return append(b, '\n')
}

// Decode reads the JSON form. A field that it does not know, and another version, are
// errors: half a router would be taken for a whole one.
func Decode(b []byte) (Router, error) {
	var r Router
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return Router{}, fmt.Errorf("read router state: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Router{}, errors.New("read router state: there is more after its end")
	}
	if r.Version != Version {
		return Router{}, fmt.Errorf("read router state: it is version %d and this program knows version %d", r.Version, Version)
	}
	return r, nil
}
