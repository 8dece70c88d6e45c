// Package key holds keys: WireGuard's public ones, which are plain values, and its private
// and preshared ones and Babel's MAC keys, which cannot be printed.
//
// A Private, a Preshared or a MAC shows itself as a placeholder under every format verb, refuses
// to be marshalled, and gives its bytes away only through Reveal, so that a search for
// "Reveal" finds every place where a secret leaves this package.
//
// Everything else in tombolo names a secret by a Ref: the name of a file in a Store.
package key

import (
	"crypto/ecdh"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"unique"
)

// Size is the length of every key in bytes (Curve25519 point, scalar or symmetric key
// alike).
const Size = 32

// Public is a Curve25519 public key. The zero value means that the key is not known.
type Public [Size]byte

// ParsePublic reads the base64 form that `wg pubkey` prints. The error does not repeat
// the text: a private key pasted in its place has the same form.
func ParsePublic(text string) (Public, error) {
	b, err := decode(text)
	return Public(b), err
}

// IsZero reports whether the key is not known.
func (p Public) IsZero() bool { return p == Public{} }

// String returns the base64 form, as `wg show` prints it; empty for the zero key.
func (p Public) String() string {
	if p.IsZero() {
		return ""
	}
	return base64.StdEncoding.EncodeToString(p[:])
}

// MarshalText returns the base64 form; empty for the zero key.
func (p Public) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads the base64 form; empty text is the zero key.
func (p *Public) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*p = Public{}
		return nil
	}
	q, err := ParsePublic(string(text))
	if err == nil {
		*p = q
	}
	return err
}

// Private is a Curve25519 private key. It cannot be printed.
type Private struct{ secret }

// Preshared is a symmetric key that two peers share. It cannot be printed.
type Preshared struct{ secret }

// MAC is a symmetric key with which the Babel routers on a segment sign their packets
// (RFC 8967). It cannot be printed.
type MAC struct{ secret }

// NewPrivate makes a private key from 32 bytes of random, clamped as Curve25519 asks
// (RFC 7748 §5). Pass crypto/rand.Reader.
func NewPrivate(random io.Reader) (Private, error) {
	var b [Size]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return Private{}, fmt.Errorf("make private key: %w", err)
	}
	b[0] &= 248
	b[31] = b[31]&127 | 64
	return PrivateFrom(b), nil
}

// NewPreshared makes a preshared key from 32 bytes of random.
func NewPreshared(random io.Reader) (Preshared, error) {
	var b [Size]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return Preshared{}, fmt.Errorf("make preshared key: %w", err)
	}
	return PresharedFrom(b), nil
}

// NewMAC makes a MAC key from 32 bytes of random.
func NewMAC(random io.Reader) (MAC, error) {
	var b [Size]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return MAC{}, fmt.Errorf("make MAC key: %w", err)
	}
	return MACFrom(b), nil
}

// ParsePrivate reads the base64 form that `wg genkey` prints.
func ParsePrivate(text string) (Private, error) {
	b, err := decode(text)
	return PrivateFrom(b), err
}

// ParsePreshared reads the base64 form that `wg genpsk` prints.
func ParsePreshared(text string) (Preshared, error) {
	b, err := decode(text)
	return PresharedFrom(b), err
}

// ParseMAC reads the base64 form of 32 bytes.
func ParseMAC(text string) (MAC, error) {
	b, err := decodeNamed("MAC key", text)
	return MACFrom(b), err
}

// PrivateFrom wraps the bytes of a key that a kernel or a device reported.
func PrivateFrom(b [Size]byte) Private { return Private{newSecret(b)} }

// PresharedFrom wraps the bytes of a key that a kernel or a device reported.
func PresharedFrom(b [Size]byte) Preshared { return Preshared{newSecret(b)} }

// MACFrom wraps the bytes of a MAC key.
func MACFrom(b [Size]byte) MAC { return MAC{newSecret(b)} }

// Public returns the public key that belongs to p; the zero key for a zero p.
func (p Private) Public() Public {
	if p.IsZero() {
		return Public{}
	}
	b := p.Reveal()
	k, err := ecdh.X25519().NewPrivateKey(b[:])
	if err != nil {
		panic("key: X25519 refused 32 bytes: " + err.Error())
	}
	return Public(k.PublicKey().Bytes())
}

// secret is what Private and Preshared have in common: bytes that do not come out by
// accident.
//
// They stand behind two pointers, since fmt does not call Format everywhere: not for a
// key in an unexported field of another type, nor for verbs that it finds wrong (%p, or
// %w outside Errorf). There it prints what it sees, and follows at most one pointer. The
// pointers are the same for the same bytes, so that equal keys are equal values. The zero
// key has none.
type secret struct {
	h unique.Handle[unique.Handle[[Size]byte]]
}

func newSecret(b [Size]byte) secret {
	if b == [Size]byte{} {
		return secret{}
	}
	return secret{unique.Make(unique.Make(b))}
}

// IsZero reports whether there is no key.
func (s secret) IsZero() bool { return s == secret{} }

// Reveal returns the bytes of the key, for a kernel, a device or a key file.
func (s secret) Reveal() [Size]byte {
	if s.IsZero() {
		return [Size]byte{}
	}
	return s.h.Value().Value()
}

// RevealText returns the base64 form, for a key file.
func (s secret) RevealText() string {
	b := s.Reveal()
	return base64.StdEncoding.EncodeToString(b[:])
}

// Format implements fmt.Formatter: every verb prints a placeholder.
func (secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, placeholder) }

// String implements fmt.Stringer for those who call it by hand.
func (secret) String() string { return placeholder }

// GoString implements fmt.GoStringer.
func (secret) GoString() string { return placeholder }

// MarshalText refuses, so that JSON, YAML and slog cannot carry a secret.
func (secret) MarshalText() ([]byte, error) { return nil, ErrSecret }

// ErrSecret is returned where a private or preshared key would be marshalled.
var ErrSecret = errors.New("a private key is not for marshalling")

const placeholder = "(secret)"

// decode reads a WireGuard key.
func decode(text string) ([Size]byte, error) { return decodeNamed("WireGuard key", text) }

// decodeNamed reads 32 bytes of strict base64. Its errors never hold the text.
func decodeNamed(what, text string) (b [Size]byte, err error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != Size {
		return b, fmt.Errorf("a %s is 44 characters of base64, ending in =; this has %d characters", what, len(text))
	}
	return [Size]byte(raw), nil
}
