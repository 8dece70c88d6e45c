// Command replay holds the tracer against what real packets did: the situations that the truth test
// (TestTraceIsTrue in package cli) kept in the folder TOMBOLO_TRUTH_DIR. It prints the first difference
// and exits with 1 if there is one. Neither a lab nor root is needed.
//
//	go run ./internal/trace/truth/replay FOLDER
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"tombolo/internal/trace/truth"
)

func main() {
	flows, difference, err := replay(os.Args[len(os.Args)-1])
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(2)
	case difference != "":
		fmt.Fprintln(os.Stdout, difference)
		os.Exit(1)
	}
	fmt.Fprintf(os.Stdout, "%d flows, no difference\n", flows)
}

func replay(folder string) (flows int, difference string, err error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err == nil && len(files) == 0 {
		err = errors.New("no situations in " + folder)
	}
	if err != nil {
		return 0, "", err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return 0, "", err
		}
		var all []truth.Situation
		if err := json.Unmarshal(text, &all); err != nil {
			return 0, "", fmt.Errorf("read %s: %w", file, err)
		}
		for i := range all {
			flows += len(all[i].Flows)
			if difference, err = all[i].Difference(); err != nil || difference != "" {
				return flows, difference, err
			}
		}
	}
	return flows, "", nil
}
