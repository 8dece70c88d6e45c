package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"tombolo/internal/compile"
	"tombolo/internal/key"
	"tombolo/internal/spec"
)

// maxFile is the largest network file that is read, in bytes; spec refuses one that is
// much smaller, with a better message.
const maxFile = 32 << 20

// parse reads a network file ("-" is standard input) and shows what there is to say about
// it. Notes are shown only where the file is the subject.
func (a *app) parse(path string, notes bool) (*spec.Network, spec.Diagnostics, error) {
	n, ds, err := a.read(path)
	if err != nil {
		return nil, nil, err
	}
	shown := ds
	if !notes {
		shown = slices.DeleteFunc(slices.Clone(ds), func(d spec.Diagnostic) bool { return d.Severity == spec.Note })
	}
	if err := shown.Write(a.err); err != nil {
		return nil, nil, err
	}
	if n == nil {
		return nil, ds, exitCode(exitError)
	}
	return n, ds, nil
}

func (a *app) read(path string) (*spec.Network, spec.Diagnostics, error) {
	var source []byte
	var err error
	if path == "-" {
		source, err = io.ReadAll(io.LimitReader(a.in, maxFile))
	} else {
		source, err = readFile(path)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read network file: %w", err)
	}
	n, ds := spec.Parse(path, source)
	return n, ds, nil
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

// knownKeys returns the public keys of those sites whose private key lies in the folder,
// as all do in a lab. The error says that a site's key in the file is another one.
func knownKeys(n *spec.Network, store key.Store) (map[string]key.Public, error) {
	keys := map[string]key.Public{}
	for _, s := range n.Sites {
		p, err := store.Private(key.Ref(s.Name))
		if errors.Is(err, key.ErrMissing) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !s.Key.IsZero() && s.Key != p.Public() {
			return nil, hinted{
				fmt.Errorf("site %q has key %s in the file, and %s is the public half of %s", s.Name, s.Key, p.Public(), filepath.Join(store.Dir, s.Name+".key")),
				"take the one of the key file into the network file, on every router; or put the right key file in place",
			}
		}
		keys[s.Name] = p.Public()
	}
	return keys, nil
}

// completeSite completes the names of sites, where the file is the first argument.
func (a *app) completeSite(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	n, _, err := a.read(args[0])
	if err != nil || n == nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, s := range n.Sites {
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

// options are the compile options for a file, with what its key folder knows.
func (a *app) options(n *spec.Network, keys string, file string) (compile.Options, key.Store, error) {
	store := key.Store{Dir: keyDir(keys, file)}
	known, err := knownKeys(n, store)
	return compile.Options{Keys: known}, store, err
}
