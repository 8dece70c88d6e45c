package key

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"os/exec"
	"strings"
	"testing"
)

// mark is a secret that can be found again in any output.
var mark = [Size]byte([]byte("0123456789abcdefghijklmnopqrstuv"))

// traces are the forms in which the bytes of mark might come out.
func traces() []string {
	return []string{
		string(mark[:8]), base64.StdEncoding.EncodeToString(mark[:])[:8], base64.URLEncoding.EncodeToString(mark[:])[:8],
		hex.EncodeToString(mark[:4]), strings.ToUpper(hex.EncodeToString(mark[:4])), "48 49 50", "48,49,50", "0x30, 0x31",
	}
}

func TestSecretsArePrintedByNoVerb(t *testing.T) {
	private, preshared, mac := PrivateFrom(mark), PresharedFrom(mark), MACFrom(mark)
	holder := struct {
		Name string
		Key  Private
		PSK  *Preshared
	}{"x", private, &preshared}
	verbs := []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%c", "%b", "%o", "%O", "%U", "%t", "%e", "%g", "%T", "%p", "% x", "%#x", "%10s", "%w"}
	for _, verb := range verbs {
		for _, v := range []any{private, &private, preshared, &preshared, mac, &mac, holder, &holder, []Private{private}, map[string]any{"k": private}} {
			out := fmt.Sprintf(verb, v)
			for _, trace := range traces() {
				if strings.Contains(out, trace) {
					t.Errorf("%s of %T prints the key: %s", verb, v, out)
				}
			}
		}
	}
	if got := fmt.Sprintf("%v %s %x %#v", private, preshared, private, preshared); got != strings.TrimSpace(strings.Repeat("(secret) ", 4)) {
		t.Errorf("a key is printed as %s", got)
	}
}

func TestSecretsAreNotMarshalled(t *testing.T) {
	for _, v := range []any{PrivateFrom(mark), PresharedFrom(mark), MACFrom(mark), struct{ K Private }{PrivateFrom(mark)}, map[Private]int{PrivateFrom(mark): 1}} {
		// json does not wrap the error of a map's key.
		if b, err := json.Marshal(v); err == nil || !strings.Contains(err.Error(), ErrSecret.Error()) {
			t.Errorf("%T is marshalled: %s, %v", v, b, err)
		}
	}
	var b bytes.Buffer
	for _, h := range []slog.Handler{slog.NewJSONHandler(&b, nil), slog.NewTextHandler(&b, nil)} {
		slog.New(h).Info("key", "key", PrivateFrom(mark), "all", []any{PresharedFrom(mark)})
	}
	for _, trace := range traces() {
		if strings.Contains(b.String(), trace) {
			t.Errorf("a log has the key: %s", b.String())
		}
	}
}

// hidden has a key where fmt cannot call its methods.
type hidden struct{ private Private }

func TestSecretsInUnexportedFieldsAreNotPrinted(t *testing.T) {
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%c", "%q"} {
		for _, v := range []any{hidden{PrivateFrom(mark)}, &hidden{PrivateFrom(mark)}, []hidden{{PrivateFrom(mark)}}} {
			out := fmt.Sprintf(verb, v)
			for _, trace := range traces() {
				if strings.Contains(out, trace) {
					t.Errorf("%s of %T prints the key: %s", verb, v, out)
				}
			}
		}
	}
}

func TestSecretsCompareByTheirBytes(t *testing.T) {
	if one, other := PrivateFrom(mark), PrivateFrom(mark); one != other || PrivateFrom(mark) == PrivateFrom([Size]byte{1}) {
		t.Error("equal keys are not equal values")
	}
	if !(Private{}).IsZero() || !PrivateFrom([Size]byte{}).IsZero() || PrivateFrom([Size]byte{}) != (Private{}) || PrivateFrom(mark).IsZero() {
		t.Error("a key of zeros is not the zero key")
	}
	if (Private{}).Reveal() != [Size]byte{} || PresharedFrom(mark).Reveal() != mark {
		t.Error("Reveal returns other bytes")
	}
}

// The key pairs of RFC 7748 §6.1.
func TestPublicIsX25519(t *testing.T) {
	for private, public := range map[string]string{
		"77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a": "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
		"5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb": "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
	} {
		b, err := hex.DecodeString(private)
		if err != nil {
			t.Fatal(err)
		}
		p := PrivateFrom([Size]byte(b)).Public()
		if got := hex.EncodeToString(p[:]); got != public {
			t.Errorf("the public key is %s, want %s", got, public)
		}
	}
	if !(Private{}).Public().IsZero() {
		t.Error("no key has a public key")
	}
}

func TestPublicAgreesWithWg(t *testing.T) {
	p, err := NewPrivate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("wg", "pubkey")
	c.Stdin = strings.NewReader(p.RevealText() + "\n")
	out, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(string(out)); got != p.Public().String() {
		t.Errorf("wg says %s, want %s", got, p.Public())
	}
}

func TestNewPrivateIsClamped(t *testing.T) {
	p, err := NewPrivate(bytes.NewReader(bytes.Repeat([]byte{0xff}, Size)))
	if b := p.Reveal(); err != nil || b[0] != 0xf8 || b[31] != 0x7f {
		t.Errorf("%x, error %v: want the bits of RFC 7748 §5", b, err)
	}
	if _, err := NewPrivate(bytes.NewReader(nil)); err == nil || err.Error() != "make private key: EOF" {
		t.Errorf("error %v", err)
	}
}

func TestParseErrorsDoNotRepeatTheKey(t *testing.T) {
	text := base64.StdEncoding.EncodeToString(mark[:])
	for _, wrong := range []string{text[:40], text + "A", text[:43], strings.Replace(text, "=", "!", 1), " " + text, "", text[:42] + "9="} {
		_, err1 := ParsePrivate(wrong)
		_, err2 := ParsePublic(wrong)
		_, err3 := ParsePreshared(wrong)
		want := fmt.Sprintf("a WireGuard key is 44 characters of base64, ending in =; this has %d characters", len(wrong))
		for _, err := range []error{err1, err2, err3} {
			if err == nil || err.Error() != want {
				t.Errorf("error %v, want %s", err, want)
			}
		}
		if _, err := ParseMAC(wrong); err == nil || err.Error() != strings.Replace(want, "WireGuard", "MAC", 1) {
			t.Errorf("error %v of a MAC key", err)
		}
	}
}

func TestPublicHasATextForm(t *testing.T) {
	var p, q Public
	copy(p[:], mark[:])
	for _, k := range []Public{p, {}} {
		b, err := json.Marshal(k)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &q); err != nil || q != k {
			t.Errorf("%s came back as %s, error %v", k, q, err)
		}
	}
	q = p
	if err := json.Unmarshal([]byte(`"AAAA"`), &q); err == nil || q != p {
		t.Errorf("a bad key was taken: %s, error %v", q, err)
	}
}
