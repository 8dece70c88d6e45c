package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"tombolo/internal/key"
	"tombolo/internal/spec"
)

// maxFile is the largest network file that is read, in bytes; spec refuses one that is
// much smaller, with a better message.
const maxFile = 32 << 20

// file is a network file that was read.
type file struct {
	*spec.Network                  // nil: it has a mistake
	diagnostics   spec.Diagnostics // of every severity
	text          []byte
}

// parse reads a network file ("-" is standard input) and shows what there is to say about
// it. Notes are shown only where the file is the subject. A file with a mistake is an
// error.
func (a *app) parse(path string, notes bool) (file, error) {
	f, err := a.read(path)
	if err != nil {
		return f, err
	}
	shown := f.diagnostics
	if !notes {
		shown = slices.DeleteFunc(slices.Clone(shown), func(d spec.Diagnostic) bool { return d.Severity == spec.Note })
	}
	if err := shown.Write(a.err); err != nil {
		return f, err
	}
	if f.Network == nil {
		return f, exitCode(exitError)
	}
	return f, nil
}

func (a *app) read(path string) (f file, err error) {
	if path == "-" {
		f.text, err = io.ReadAll(io.LimitReader(a.in, maxFile))
	} else {
		f.text, err = readFile(path)
	}
	if err != nil {
		return f, fmt.Errorf("read network file: %w", err)
	}
	f.Network, f.diagnostics = spec.Parse(path, f.text)
	return f, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// keyDir returns the folder of the key files: what was asked for, else keys/ beside the
// network file where it exists, else /etc/tombolo.
func keyDir(asked, file string) string {
	if asked != "" {
		return asked
	}
	beside := filepath.Join(filepath.Dir(file), "keys")
	if info, err := os.Stat(beside); err == nil && info.IsDir() {
		return beside
	}
	return "/etc/tombolo"
}

// knownKeys returns the public keys whose private halves lie in the folder: the sites', as
// all do in a lab; the doors', which each door has; and those of devices of which the file
// has none. There are none where we may not look. The error says that a key in the file is
// another one.
func knownKeys(n *spec.Network, store key.Store) (map[string]key.Public, error) {
	keys := map[string]key.Public{}
	know := func(name, who string, inFile key.Public) error {
		p, err := store.Private(key.Ref(name))
		if errors.Is(err, key.ErrMissing) || errors.Is(err, fs.ErrPermission) {
			return nil
		}
		if err != nil {
			return err
		}
		if !inFile.IsZero() && inFile != p.Public() {
			return hinted{
				fmt.Errorf("%s key %s in the file, and %s is the public half of %s", who, inFile, p.Public(), filepath.Join(store.Dir, name+".key")),
				"take the one of the key file into the network file, on every router; or put the right key file in place",
			}
		}
		keys[name] = p.Public()
		return nil
	}
	for _, s := range n.Sites {
		if err := know(s.Name, fmt.Sprintf("site %q has", s.Name), s.Key); err != nil {
			return nil, err
		}
	}
	if n.Clients == nil {
		return keys, nil
	}
	if err := know(spec.AccessKey, "`clients:` has", n.Clients.Key); err != nil {
		return nil, err
	}
	for _, d := range n.Clients.Devices {
		if !d.Key.IsZero() {
			continue // a key that was kept may be one that it had before
		}
		if err := know(d.Name, "", key.Public{}); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// completeSite completes the names of sites, where the file is the first argument.
func (a *app) completeSite(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	f, err := a.read(args[0])
	if err != nil || f.Network == nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, s := range f.Sites {
		names = append(names, s.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeFile completes network files, and nothing after the first argument.
func completeFile(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
}
