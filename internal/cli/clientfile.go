package cli

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"tombolo/internal/enroll"
	"tombolo/internal/key"
	"tombolo/internal/spec"
)

// roster is a network file whose devices are looked at or changed, and the keys beside it.
type roster struct {
	path string
	file
	store key.Store
}

// clientFile returns the network file of a command that may be told none.
func clientFile(args []string) string {
	if len(args) > 0 {
		return args[0]
	}
	const here = "network.yaml"
	if _, err := os.Stat(here); err != nil {
		if _, err := os.Stat(defaultFile); err == nil {
			return defaultFile
		}
	}
	return here
}

// openRoster reads the file that may follow the device's name. What is wrong with other
// parts of it than clients is for `tombolo check`; a mistake is an error all the same.
func (a *app) openRoster(args []string, keys string) (*roster, error) {
	path := clientFile(args[1:])
	if path == "-" {
		return nil, errors.New("standard input cannot be edited: name a file")
	}
	f, err := a.readClients(path)
	if err != nil {
		return nil, err
	}
	return &roster{path: path, file: f, store: key.Store{Dir: keyDir(keys, path)}}, nil
}

// readClients reads a network file that has clients.
func (a *app) readClients(path string) (file, error) {
	f, err := a.read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, hinted{err, "name the network file: tombolo client … FILE"}
	}
	if err != nil {
		return f, err
	}
	if f.Network == nil {
		return f, f.diagnostics.Err()
	}
	if f.Clients == nil {
		return f, explainEdit(enroll.ErrNoClients, path)
	}
	return f, nil
}

// device returns a device of the file, or nil.
func (r *roster) device(name string) *spec.Device {
	for i := range r.Clients.Devices {
		if r.Clients.Devices[i].Name == name {
			return &r.Clients.Devices[i]
		}
	}
	return nil
}

// named returns a device of the file, or says which there are.
func (r *roster) named(name string) (*spec.Device, error) {
	if d := r.device(name); d != nil {
		return d, nil
	}
	hint := "tombolo client add " + name
	if len(r.Clients.Devices) > 0 {
		hint = "the devices are"
		for i, d := range r.Clients.Devices {
			if i == 20 {
				hint += " …"
				break
			}
			hint += " " + d.Name
		}
	}
	return nil, hinted{fmt.Errorf("%s has no device %q", r.path, name), hint}
}

// edit changes the text, which stays where it is until replaceFile.
func (r *roster) edit(by func([]byte) ([]byte, error)) error {
	text, err := by(r.text)
	if err != nil {
		return explainEdit(err, r.path)
	}
	r.text = text
	r.Network, r.diagnostics = spec.Parse(r.path, text)
	return r.diagnostics.Err()
}

// change edits the file itself.
func (r *roster) change(by func([]byte) ([]byte, error)) error {
	old := r.text
	if err := r.edit(by); err != nil {
		return err
	}
	return replaceFile(r.path, old, r.text)
}

// explainEdit says a mistake of a text that is not in the file without its place.
func explainEdit(err error, path string) error {
	var ds spec.Diagnostics
	switch {
	case errors.As(err, &ds):
		var all []error
		for _, d := range ds {
			if d.Severity == spec.Error {
				all = append(all, hinted{errors.New(d.Message), d.Hint})
			}
		}
		return errors.Join(all...)
	case errors.Is(err, enroll.ErrNoClients):
		return hinted{fmt.Errorf("%s has no `clients:`", path), "say from which addresses and at which sites: `clients: {pool: 10.0.31.0/24, at: [op1, op2]}`"}
	case errors.Is(err, enroll.ErrLayout):
		return hinted{fmt.Errorf("%s: %w; nothing was changed", path, err), "lay `clients:` out with each key on a line of its own"}
	}
	return err
}

// privateFor returns the private key of a device that did not make its own, and sets the
// public half: one that lies here and stands in no file yet, else a new one.
func (r *roster) privateFor(name string, d *enroll.Device) (p key.Private, lies bool, err error) {
	if !d.Key.IsZero() {
		return p, false, nil
	}
	p, err = r.store.Private(key.Ref(name))
	is := r.device(name)
	if lies = err == nil && (is == nil || is.Key.IsZero()); !lies {
		p, err = key.NewPrivate(rand.Reader)
	}
	d.Key = p.Public()
	return p, lies, err
}

// shareAccess sees to it that the file has the public half of the access key.
func (a *app) shareAccess(r *roster) error {
	have, err := r.store.Private(key.AccessRef)
	is := r.Clients.Key
	switch {
	case err == nil && !is.IsZero() && is != have.Public():
		return hinted{
			fmt.Errorf("%s has access key %s, and %s is the public half of %s", r.path, is, have.Public(), r.keyFile(string(key.AccessRef))),
			"all doors share one key: put the right key file in place with tombolo key import clients, or the right `key:` into `clients:`",
		}
	case !is.IsZero() && (err == nil || errors.Is(err, key.ErrMissing) || errors.Is(err, fs.ErrPermission)):
		return nil
	}
	have, made, err := r.store.Make(key.AccessRef, rand.Reader)
	if errors.Is(err, fs.ErrPermission) {
		return hinted{err, "as root; or make a folder for the keys beside the file: mkdir " + filepath.Join(filepath.Dir(r.path), "keys")}
	}
	if err != nil {
		return err
	}
	if made {
		a.say("made %s, the access key, which the doors share (%s); for each of them that has it not:", r.keyFile(string(key.AccessRef)), strings.Join(r.Clients.At, ", "))
		a.say("  tombolo key export clients | ssh %s tombolo key import clients", r.Clients.At[len(r.Clients.At)-1])
	}
	return r.edit(func(text []byte) ([]byte, error) { return enroll.SetKey(text, have.Public()) })
}

// kept reports whether a device's private key lies here.
func (r *roster) kept(d *spec.Device) bool {
	p, err := r.store.Private(key.Ref(d.Name))
	return err == nil && p.Public() == d.Key
}

func (r *roster) keyFile(name string) string { return filepath.Join(r.store.Dir, name+".key") }

// configs returns a device's configurations for some doors; where none are named, those that
// it was given already, else the one for the first door.
func (r *roster) configs(d *spec.Device, doors []string) ([]enroll.Config, error) {
	all := enroll.Configs(r.Network, d)
	var out []enroll.Config
	if len(doors) == 0 {
		for _, c := range all {
			if slices.Contains(d.Given, c.Digest()) {
				out = append(out, c)
			}
		}
		if len(all) == 0 {
			return nil, hinted{fmt.Errorf("no device can enter from outside: no site in `at:` of %s can be dialled on its base port", r.path), "a door has an `endpoint:`, and its `inbound:` lets the base port in"}
		}
		if len(out) == 0 {
			out = all[:1]
		}
		return out, nil
	}
	for _, door := range doors {
		i := slices.IndexFunc(all, func(c enroll.Config) bool { return c.Door == door })
		switch {
		case !slices.Contains(r.Clients.At, door):
			return nil, hinted{fmt.Errorf("%q is no door of %s", door, r.path), "the doors are " + strings.Join(r.Clients.At, ", ")}
		case i < 0:
			return nil, hinted{fmt.Errorf("door %q cannot be dialled from outside", door), "a door has an `endpoint:`, and its `inbound:` lets the base port in"}
		case !slices.ContainsFunc(out, func(c enroll.Config) bool { return c.Door == door }):
			out = append(out, all[i])
		}
	}
	return out, nil
}

func digests(configs []enroll.Config) []string {
	var out []string
	for _, c := range configs {
		out = append(out, c.Digest())
	}
	return out
}

func doorNames(configs []enroll.Config) []string {
	var out []string
	for _, c := range configs {
		out = append(out, c.Door)
	}
	return slices.Compact(out)
}

// replaceFile puts a text in a file's place at once, with the old one's mode and owner. A
// file that somebody else changed meanwhile stays as it is.
func replaceFile(path string, was, text []byte) error {
	path, err := filepath.EvalSymlinks(path) // a link stays one
	if err != nil {
		return fmt.Errorf("write network file: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("write network file: %w", err)
	}
	s, err := stageFile(path, text, info.Mode().Perm())
	if err != nil {
		return err
	}
	defer s.drop()
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		_ = os.Chown(s.temporary, int(st.Uid), int(st.Gid)) // only root may, and only for root it matters
	}
	if now, err := readFile(path); err != nil || !bytes.Equal(now, was) {
		return hinted{fmt.Errorf("%s was changed by somebody else meanwhile", path), "nothing was written; try again"}
	}
	return s.commit()
}

// staged is a file that is written and not in its place yet.
type staged struct{ path, temporary string }

func stageFile(path string, content []byte, mode fs.FileMode) (s staged, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".tombolo-*")
	if err != nil {
		return s, fmt.Errorf("write %s: %w", path, err)
	}
	s = staged{path, f.Name()}
	if _, err = f.Write(content); err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		s.drop()
		return s, fmt.Errorf("write %s: %w", path, err)
	}
	return s, nil
}

func (s staged) commit() error {
	if err := os.Rename(s.temporary, s.path); err != nil {
		return fmt.Errorf("write %s: %w", s.path, err)
	}
	return nil
}

// drop removes what was not committed.
func (s staged) drop() { _ = os.Remove(s.temporary) }

// completeDevice completes the names of devices, then the network file.
func (a *app) completeDevice(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return completeFile(c, args[1:], "")
	}
	f, err := a.readClients(clientFile(nil))
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, d := range f.Clients.Devices {
		names = append(names, d.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) completeDoor(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	f, err := a.readClients(clientFile(args[min(1, len(args)):]))
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return f.Clients.At, cobra.ShellCompDirectiveNoFileComp
}
