package key

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestMakeReturnsTheSameKeyTwice(t *testing.T) {
	s := Store{filepath.Join(t.TempDir(), "keys")}
	a, made, err := s.Make("op1", rand.Reader)
	if err != nil || !made {
		t.Fatalf("made %t, error %v", made, err)
	}
	b, made, err := s.Make("op1", rand.Reader)
	if err != nil || made || a != b {
		t.Errorf("the second time: made %t, the same %t, error %v", made, a == b, err)
	}
	p, made, err := s.MakePreshared(LinkRef("op2", "op1"), rand.Reader)
	if err != nil || !made {
		t.Fatalf("made %t, error %v", made, err)
	}
	if q, err := s.Preshared("op1+op2"); err != nil || p != q {
		t.Errorf("the preshared key is another: error %v", err)
	}
	m, made, err := s.MakeMAC("core", rand.Reader)
	if err != nil || !made {
		t.Fatalf("made %t, error %v", made, err)
	}
	if n, made, err := s.MakeMAC("core", rand.Reader); err != nil || made || m != n {
		t.Errorf("the MAC key is another: made %t, error %v", made, err)
	}
	if refs := s.PrivateRefs(); len(refs) != 1 || refs[a.Public()] != "op1" {
		t.Errorf("the private keys are %v", refs)
	}
	if refs := s.PresharedRefs(); len(refs) != 1 || refs[p] != "op1+op2" {
		t.Errorf("the preshared keys are %v", refs)
	}
	left, err := filepath.Glob(filepath.Join(s.Dir, ".key-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("temporary files are left: %v, %v", left, err)
	}
}

func TestKeyFilesAreClosedToOthers(t *testing.T) {
	s := Store{filepath.Join(t.TempDir(), "keys")}
	if _, _, err := s.Make("op1", rand.Reader); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{s.Dir: 0o700, s.path("op1.key"): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode().Perm(), want)
		}
	}
}

func TestOpenKeyFilesAreRefused(t *testing.T) {
	s := Store{t.TempDir()}
	if _, _, err := s.Make("op1", rand.Reader); err != nil {
		t.Fatal(err)
	}
	for mode, open := range map[os.FileMode]bool{
		0o600: false, 0o400: false, 0o640: true, 0o604: true, 0o620: true, 0o601: true, 0o777: true,
	} {
		if err := os.Chmod(s.path("op1.key"), mode); err != nil {
			t.Fatal(err)
		}
		_, err := s.Private("op1")
		if (err != nil) != open {
			t.Errorf("mode %v: error %v", mode, err)
		}
		if open && !strings.HasSuffix(err.Error(), "): chmod 600 "+s.path("op1.key")) {
			t.Errorf("mode %v: the error has no way out: %v", mode, err)
		}
		if open && len(s.PrivateRefs()) > 0 {
			t.Errorf("mode %v: the key has a name", mode)
		}
	}
}

func TestStoreErrors(t *testing.T) {
	s := Store{t.TempDir()}
	text := PrivateFrom(mark).RevealText()
	if err := os.WriteFile(s.path("bad.key"), []byte(text[1:]), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.path("bad.psk"), []byte(text+text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.path("bad.mac"), []byte("core"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, missingMAC := s.MAC("no")
	_, badMAC := s.MAC("bad")
	_, missing := s.Private("no")
	_, missingPSK := s.Preshared("no")
	_, bad := s.Private("bad")
	_, badPSK := s.Preshared("bad")
	_, _, badMake := s.Make("bad", rand.Reader)
	for _, c := range []struct {
		err  error
		want string
	}{
		{missing, "read key: stat " + s.path("no.key") + ": no such file or directory"},
		{missingPSK, "read key: stat " + s.path("no.psk") + ": no such file or directory"},
		{bad, "private key " + s.path("bad.key") + ": a WireGuard key is 44 characters of base64, ending in =; this has 43 characters"},
		{badPSK, "preshared key " + s.path("bad.psk") + ": a WireGuard key is 44 characters of base64, ending in =; this has 88 characters"},
		{missingMAC, "read key: stat " + s.path("no.mac") + ": no such file or directory"},
		{badMAC, "MAC key " + s.path("bad.mac") + ": a MAC key is 44 characters of base64, ending in =; this has 4 characters"},
		{badMake, bad.Error()},
	} {
		if c.err == nil || c.err.Error() != c.want {
			t.Errorf("error %v\nwant  %s", c.err, c.want)
		}
	}
	if !errors.Is(missing, ErrMissing) || errors.Is(bad, ErrMissing) {
		t.Error("ErrMissing is not what it says")
	}
}

// Two that make the same key at once must not each go on with one of their own: a router
// would use a key that is nowhere written down.
func TestMakeAtOnceGivesOneKey(t *testing.T) {
	s := Store{t.TempDir()}
	var wg sync.WaitGroup
	keys := make([]Private, 8)
	for i := range keys {
		wg.Go(func() {
			k, _, err := s.Make("op1", rand.Reader)
			if err != nil {
				t.Error(err)
			}
			keys[i] = k
		})
	}
	wg.Wait()
	for _, k := range keys {
		if k != keys[0] {
			t.Fatal("there are two keys")
		}
	}
}

func TestPutReplacesOnlyWhatItMay(t *testing.T) {
	s := Store{filepath.Join(t.TempDir(), "keys")}
	one, other := PrivateFrom(mark), PrivateFrom([Size]byte{8, 31: 64})
	for _, c := range []struct {
		k       Private
		replace bool
		wrote   bool
		err     error
		holds   Private
	}{
		{one, false, true, nil, one},
		{one, false, false, nil, one},
		{other, false, false, ErrDifferent, one},
		{one, true, false, nil, one},
		{other, true, true, nil, other},
	} {
		wrote, err := s.Put(AccessRef, c.k, c.replace)
		if got, readErr := s.Private(AccessRef); wrote != c.wrote || !errors.Is(err, c.err) || readErr != nil || got != c.holds {
			t.Errorf("%+v: wrote %t, error %v; the file has the right key: %t, %v", c, wrote, err, got == c.holds, readErr)
		}
	}
	if info, err := os.Stat(s.path("clients.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, error %v", info.Mode().Perm(), err)
	}
	if err := s.Remove(AccessRef); err != nil {
		t.Error(err)
	}
	if _, err := s.Private(AccessRef); !errors.Is(err, ErrMissing) {
		t.Errorf("the key is still there: %v", err)
	}
	if err := s.Remove(AccessRef); err != nil {
		t.Errorf("to remove none: %v", err)
	}
	// What cannot be read is replaced all the same, and by nothing else.
	if err := os.WriteFile(s.path("bad.key"), []byte("bad"), 0o600); err != nil {
		t.Fatal(err)
	}
	if wrote, err := s.Put("bad", one, false); wrote || err == nil {
		t.Errorf("a bad file is replaced: %t, %v", wrote, err)
	}
	if wrote, err := s.Put("bad", one, true); !wrote || err != nil {
		t.Errorf("a bad file stays: %t, %v", wrote, err)
	}
}

func TestLinkRefIsTheSameFromBothEnds(t *testing.T) {
	if LinkRef("op1", "op2") != "op1+op2" || LinkRef("op2", "op1") != "op1+op2" {
		t.Error(LinkRef("op2", "op1"))
	}
}
