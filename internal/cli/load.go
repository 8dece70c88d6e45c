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

// knownKeys returns the public keys of those sites whose private key lies in the folder,
// as all do in a lab; none where we may not look. The same goes for roaming devices of
// whose key the file says nothing, and for the access key of the doors (accessKey). The
// error says that a site's key in the file is another one.
func knownKeys(n *spec.Network, store key.Store) (map[string]key.Public, error) {
	keys := map[string]key.Public{}
	for _, name := range clientKeys(n) {
		p, err := store.Private(name)
		if err != nil && !unknownKey(err) {
			return nil, err
		}
		if err == nil {
			keys[string(name)] = p.Public()
		}
	}
	for _, s := range n.Sites {
		p, err := store.Private(key.Ref(s.Name))
		if unknownKey(err) {
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

// unknownKey reports that a key is not in the folder, or that we may not look.
func unknownKey(err error) bool {
	return errors.Is(err, key.ErrMissing) || errors.Is(err, fs.ErrPermission)
}

// accessKey is the key that all doors share. No site and no device can have that name.
const accessKey key.Ref = "clients"

// clientKeys returns the keys with which devices enter, of which the file says nothing:
// the access key, then those of devices, which may lie in a folder where somebody keeps
// them, as a lab does.
func clientKeys(n *spec.Network) []key.Ref {
	if n.Clients == nil {
		return nil
	}
	out := []key.Ref{accessKey}
	for _, d := range n.Clients.Devices {
		if d.Key.IsZero() {
			out = append(out, key.Ref(d.Name))
		}
	}
	return out
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
