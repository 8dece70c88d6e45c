// Package examples holds the example networks, each with a lab file.
package examples

import (
	"embed"
	"fmt"
)

//go:embed *.yaml
var files embed.FS

// Read returns an example's network file and its lab file.
func Read(name string) (network, lab []byte, err error) {
	if network, err = files.ReadFile(name + ".yaml"); err == nil {
		lab, err = files.ReadFile(name + ".lab.yaml")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read example: %w", err)
	}
	return network, lab, nil
}
