// Package mac authenticates Babel packets on one link: RFC 8967, with the relaxed packet
// counters of RFC 9467. Like the speaker that uses it, it does no I/O and has no clock.
//
// Each packet carries a counter that never repeats under the sender's index, and a MAC for
// each key over the packet and its addresses. A receiver that does not know the sender's
// index sends a challenge; only an answer to it is believed. So an attacker without a key
// can neither make a packet nor repeat one, after a restart of either side either. What such
// an attacker sends costs a receiver the computation of its MACs, and no memory.
package mac

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/netip"

	"golang.org/x/crypto/blake2s"

	"tombolo/internal/babel/wire"
)

// Algorithm is a MAC that keys are for (RFC 8967 §4.1).
type Algorithm string

// The algorithms.
const (
	HMACSHA256 Algorithm = "hmac-sha256"
	BLAKE2s    Algorithm = "blake2s128"
)

// Key is a secret that the routers on a link share. It prints itself as "[secret]".
type Key struct {
	Algorithm Algorithm
	Secret    []byte // 1 to 64 bytes, for BLAKE2s at most 32
}

const hidden = "[secret]"

// String returns "[secret]".
func (k Key) String() string { return hidden }

// GoString returns "[secret]".
func (k Key) GoString() string { return hidden }

// Format writes "[secret]" whatever the verb.
func (k Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// MarshalText refuses: a secret is not for a file, a log or a socket.
func (k Key) MarshalText() ([]byte, error) {
	return nil, errors.New("a key of Babel packets is not to be written down")
}

// Validate returns why the key cannot be used, without its secret; nil if it can.
func (k Key) Validate() error {
	longest := 64 // what HMAC uses as it is; longer ones the daemons differ about
	switch k.Algorithm {
	case HMACSHA256:
	case BLAKE2s:
		longest = blake2s.Size
	default:
		return fmt.Errorf("key of Babel packets: algorithm %q is neither %s nor %s", k.Algorithm, HMACSHA256, BLAKE2s)
	}
	if n := len(k.Secret); n < 1 || n > longest {
		return fmt.Errorf("key of Babel packets: %d bytes, and %s wants 1 to %d", n, k.Algorithm, longest)
	}
	return nil
}

// Keys are those of a link: every packet is signed with each of them, and one that matches
// is enough, so that keys can be changed one router at a time.
type Keys []Key

// newHash returns the MAC under a key. It panics for one that is not valid.
func (k Key) newHash() hash.Hash {
	if err := k.Validate(); err != nil {
		panic("mac: " + err.Error())
	}
	if k.Algorithm == HMACSHA256 {
		return hmac.New(sha256.New, k.Secret)
	}
	h, err := blake2s.New128(k.Secret)
	if err != nil {
		panic("mac: " + err.Error()) // only for a key of another length
	}
	return h
}

// sum appends the MAC of a packet without its trailer (RFC 8967 §4.1).
func sum(dst []byte, h hash.Hash, packet []byte, from netip.Addr, fromPort uint16, to netip.Addr) []byte {
	var pseudo [36]byte
	b := append(pseudo[:0], from.AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, fromPort)
	b = append(b, to.AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, wire.Port)
	h.Reset()
	h.Write(b)
	h.Write(packet)
	return h.Sum(dst)
}
