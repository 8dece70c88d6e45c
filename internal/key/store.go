package key

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Ref names a secret in a Store: a site's private key ("op1"), that of the doors by which
// roaming devices enter (AccessRef), a device's that was kept ("phone"), a link's preshared key
// ("op1+op2", the names in alphabetical order), or a MAC key by the name that the network
// file gives it. The zero Ref is no key.
type Ref string

// AccessRef names the access key, which all doors of a network share: no site and no device
// may be called so.
const AccessRef Ref = "clients"

// LinkRef returns the Ref of the preshared key of the link between a and b.
func LinkRef(a, b string) Ref {
	if b < a {
		a, b = b, a
	}
	return Ref(a + "+" + b)
}

// Store is a folder of key files, each one line of base64 as wg writes them:
// NAME.key holds a private key, NAME.psk a preshared one, NAME.mac a MAC key. Every file must be mode 0600
// or tighter; one that others may read is refused.
type Store struct{ Dir string }

// ErrMissing is what errors.Is finds when a key file does not exist.
var ErrMissing = fs.ErrNotExist

// Private reads the private key ref. The error Is ErrMissing where there is no file.
func (s Store) Private(ref Ref) (Private, error) {
	text, err := s.read(string(ref) + ".key")
	if err != nil {
		return Private{}, err
	}
	p, err := ParsePrivate(text)
	if err != nil {
		return Private{}, fmt.Errorf("private key %s: %w", s.path(string(ref)+".key"), err)
	}
	return p, nil
}

// Preshared reads the preshared key ref. The error Is ErrMissing where there is no file.
func (s Store) Preshared(ref Ref) (Preshared, error) {
	text, err := s.read(string(ref) + ".psk")
	if err != nil {
		return Preshared{}, err
	}
	p, err := ParsePreshared(text)
	if err != nil {
		return Preshared{}, fmt.Errorf("preshared key %s: %w", s.path(string(ref)+".psk"), err)
	}
	return p, nil
}

// MAC reads the MAC key ref. The error Is ErrMissing where there is no file.
func (s Store) MAC(ref Ref) (MAC, error) {
	text, err := s.read(string(ref) + ".mac")
	if err != nil {
		return MAC{}, err
	}
	m, err := ParseMAC(text)
	if err != nil {
		return MAC{}, fmt.Errorf("MAC key %s: %w", s.path(string(ref)+".mac"), err)
	}
	return m, nil
}

// Make returns the private key ref, making it first where there is none.
func (s Store) Make(ref Ref, random io.Reader) (p Private, made bool, err error) {
	p, err = s.Private(ref)
	if !errors.Is(err, ErrMissing) {
		return p, false, err
	}
	if p, err = NewPrivate(random); err != nil {
		return Private{}, false, err
	}
	err = s.write(string(ref)+".key", p.RevealText())
	if errors.Is(err, fs.ErrExist) {
		p, err = s.Private(ref) // somebody else was quicker
		return p, false, err
	}
	if err != nil {
		return Private{}, false, err
	}
	return p, true, nil
}

// ErrDifferent is what errors.Is finds when another key is there already.
var ErrDifferent = errors.New("another key is there already")

// Put writes the private key ref, and reports false where it was there. Another one in its
// place is ErrDifferent, unless it may be replaced.
func (s Store) Put(ref Ref, p Private, replace bool) (wrote bool, err error) {
	name, put := string(ref)+".key", os.Link
	if replace {
		put = os.Rename
	}
	old, err := s.Private(ref)
	switch {
	case err == nil && old.Public() == p.Public():
		return false, nil
	case err == nil && !replace:
		return false, fmt.Errorf("%s: %w", s.path(name), ErrDifferent)
	case err != nil && !replace && !errors.Is(err, ErrMissing):
		return false, err
	}
	err = s.place(name, p.RevealText(), put)
	if errors.Is(err, fs.ErrExist) {
		return s.Put(ref, p, replace) // somebody else was quicker
	}
	return err == nil, err
}

// Remove removes the file of the private key ref, if there is one.
func (s Store) Remove(ref Ref) error {
	if err := os.Remove(s.path(string(ref) + ".key")); err != nil && !errors.Is(err, ErrMissing) {
		return fmt.Errorf("remove key: %w", err)
	}
	return nil
}

// MakePreshared returns the preshared key ref, making it first where there is none.
func (s Store) MakePreshared(ref Ref, random io.Reader) (p Preshared, made bool, err error) {
	p, err = s.Preshared(ref)
	if !errors.Is(err, ErrMissing) {
		return p, false, err
	}
	if p, err = NewPreshared(random); err != nil {
		return Preshared{}, false, err
	}
	err = s.write(string(ref)+".psk", p.RevealText())
	if errors.Is(err, fs.ErrExist) {
		p, err = s.Preshared(ref)
		return p, false, err
	}
	if err != nil {
		return Preshared{}, false, err
	}
	return p, true, nil
}

// MakeMAC returns the MAC key ref, making it first where there is none.
func (s Store) MakeMAC(ref Ref, random io.Reader) (m MAC, made bool, err error) {
	m, err = s.MAC(ref)
	if !errors.Is(err, ErrMissing) {
		return m, false, err
	}
	if m, err = NewMAC(random); err != nil {
		return MAC{}, false, err
	}
	err = s.write(string(ref)+".mac", m.RevealText())
	if errors.Is(err, fs.ErrExist) {
		m, err = s.MAC(ref)
		return m, false, err
	}
	if err != nil {
		return MAC{}, false, err
	}
	return m, true, nil
}

// PrivateRefs maps the public half of every private key in the store to its Ref, and
// PresharedRefs every preshared key: so that a key that a kernel reports can be named.
// Files that cannot be read are left out: they name nothing.
func (s Store) PrivateRefs() map[Public]Ref {
	refs := map[Public]Ref{}
	for _, ref := range s.list(".key") {
		if p, err := s.Private(ref); err == nil {
			refs[p.Public()] = ref
		}
	}
	return refs
}

// PresharedRefs maps every preshared key of the store to its Ref.
func (s Store) PresharedRefs() map[Preshared]Ref {
	refs := map[Preshared]Ref{}
	for _, ref := range s.list(".psk") {
		if p, err := s.Preshared(ref); err == nil {
			refs[p] = ref
		}
	}
	return refs
}

func (s Store) path(name string) string { return filepath.Join(s.Dir, name) }

// list returns the refs of the files that end in suffix, sorted.
func (s Store) list(suffix string) (refs []Ref) {
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), suffix); ok {
			refs = append(refs, Ref(name))
		}
	}
	return refs
}

func (s Store) read(name string) (string, error) {
	path := s.path(name)
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("read key: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return "", fmt.Errorf("key %s is open to others (mode %04o): chmod 600 %s", path, mode, path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read key: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// write makes a file that is not there. Link, not Rename: a key that somebody else wrote
// meanwhile must not be lost.
func (s Store) write(name, text string) error { return s.place(name, text, os.Link) }

// place makes the folder (0700) and puts the whole file in its place at once, so that a
// reader never sees half a key.
func (s Store) place(name, text string, put func(from, to string) error) error {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return fmt.Errorf("make key folder: %w", err)
	}
	f, err := os.CreateTemp(s.Dir, ".key-*") // CreateTemp opens with mode 0600
	if err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }()
	if _, err = f.WriteString(text + "\n"); err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = put(f.Name(), s.path(name))
	}
	if err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	return nil
}
