package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"tombolo/internal/key"
)

func (a *app) keyExportCommand(store func() key.Store) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "export NAME",
		Short: "Write a private key to standard output, for key import on another router",
		Long: `Write a private key to standard output, for "tombolo key import" on another router. The
access key is copied so, which all doors for roaming devices share: its name is clients.
What is a terminal is refused, where a private key would stay to be read, unless --force.`,
		Example: "  tombolo key export clients | ssh op2 tombolo key import clients",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := fileName(args[0]); err != nil {
				return err
			}
			if isTerminal(a.out) && !force {
				return hinted{
					errors.New("standard output is a terminal, where a private key would stay to be read"),
					fmt.Sprintf("tombolo key export %s | ssh ROUTER tombolo key import %s; or --force", args[0], args[0]),
				}
			}
			p, err := store().Private(key.Ref(args[0]))
			if errors.Is(err, key.ErrMissing) {
				return hinted{fmt.Errorf("%s has no private key of %q", store().Dir, args[0]), missingKeyHint(args[0])}
			}
			if err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(map[string]string{"name": args[0], "privateKey": p.RevealText(), "key": p.Public().String()})
			}
			_, err = fmt.Fprintln(a.out, p.RevealText())
			return err
		},
	}
	c.Flags().BoolVar(&force, "force", false, "write it to a terminal too")
	return c
}

func missingKeyHint(name string) string {
	if name == string(key.AccessRef) {
		return "tombolo client add makes it, where the first device is added"
	}
	return "tombolo key make " + name
}

func (a *app) keyImportCommand(store func() key.Store) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "import NAME",
		Short: "Read a private key from standard input into the key folder",
		Long: `Read a private key from standard input, one line as "tombolo key export" and wg genkey
write it, into NAME.key in the key folder, mode 0600, and print its key: line. A different
key that is there already stays, unless --force.`,
		Example: "  tombolo key export clients | ssh op2 tombolo key import clients",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			name := args[0]
			if err := fileName(name); err != nil {
				return err
			}
			text, err := a.readSecret(name)
			if err != nil {
				return err
			}
			p, err := key.ParsePrivate(text)
			switch {
			case err != nil:
				return hinted{fmt.Errorf("standard input: %w", err), fmt.Sprintf("tombolo key export %s writes it", name)}
			case p.IsZero():
				return errors.New("standard input: a key of zeros is nobody's")
			}
			s := store()
			path := filepath.Join(s.Dir, name+".key")
			wrote, err := s.Put(key.Ref(name), p, force)
			if errors.Is(err, key.ErrDifferent) {
				return hinted{
					fmt.Errorf("%s holds another key already, and the one of standard input has the public half %s", path, p.Public()),
					fmt.Sprintf("tombolo key show %s prints the other one's; --force replaces it", name),
				}
			}
			if err != nil {
				return err
			}
			if wrote {
				a.say("wrote %s", path)
			} else {
				a.say("%s holds this key already", path)
			}
			return a.printKey(name, p.Public())
		},
	}
	c.Flags().BoolVar(&force, "force", false, "replace a different key")
	return c
}

// readSecret reads a line that is not to be seen.
func (a *app) readSecret(name string) (string, error) {
	if f, ok := a.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		a.say("paste what `tombolo key export %s` writes with --force; it is not shown:", name)
		b, err := term.ReadPassword(int(f.Fd()))
		if err != nil {
			return "", fmt.Errorf("read key: %w", err)
		}
		return strings.TrimSpace(string(b)), nil
	}
	b, err := io.ReadAll(io.LimitReader(a.in, 1024))
	if err != nil {
		return "", fmt.Errorf("read key: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
