// Command docs writes what is made from the code: man pages and shell completions for
// packages, into the folder that is its argument.
//
//	go run ./cmd/docs build
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"tombolo/internal/cli"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: docs FOLDER")
		os.Exit(1)
	}
	if err := write(cli.Command(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func write(root *cobra.Command, dir string) error {
	man := filepath.Join(dir, "man")
	completions := filepath.Join(dir, "completions")
	for _, d := range []string{man, completions} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	root.DisableAutoGenTag = true
	// The date is today's, or SOURCE_DATE_EPOCH's.
	header := &doc.GenManHeader{Title: "TOMBOLO", Section: "8", Source: "tombolo", Manual: "tombolo"}
	if err := doc.GenManTree(root, header, man); err != nil {
		return fmt.Errorf("write man pages: %w", err)
	}
	for name, generate := range map[string]func(string) error{
		"tombolo.bash": func(f string) error { return root.GenBashCompletionFileV2(f, true) },
		"_tombolo":     root.GenZshCompletionFile,
		"tombolo.fish": func(f string) error { return root.GenFishCompletionFile(f, true) },
	} {
		if err := generate(filepath.Join(completions, name)); err != nil {
			return fmt.Errorf("write completion %s: %w", name, err)
		}
	}
	return nil
}
