package mac

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

var (
	addrOf = netip.MustParseAddr
	alice  = addrOf("fe80::a")
	bob    = addrOf("fe80::b")

	secret = []byte("sixteen letters!")
	sha    = Key{HMACSHA256, secret}
	blake  = Key{BLAKE2s, secret}
	other  = Key{HMACSHA256, []byte("another")}
)

// The RFCs have no vectors. These are of Python's hmac and hashlib, over fe80::1, 6696,
// ff02::1:6, 6696 and the packet.
func TestSumIsOverAddressesPortsAndPacket(t *testing.T) {
	packet, _ := hex.DecodeString("2a02000403020007")
	key := make([]byte, 16)
	for i := range key {
		key[i] = byte(i)
	}
	for algorithm, want := range map[Algorithm]string{
		HMACSHA256: "75d13f3a7efaa0676619bfeff67b36773b11c36f6b17bebcd9b632e62ceb5b19",
		BLAKE2s:    "8a6880631970578f5b66802a8517c180",
	} {
		h := Key{algorithm, key}.newHash()
		for range 2 { // a hash is used again and again
			got := sum(nil, h, packet, addrOf("fe80::1"), 6696, addrOf("ff02::1:6"))
			if hex.EncodeToString(got) != want {
				t.Errorf("%s: %x, not %s", algorithm, got, want)
			}
		}
		for name, got := range map[string][]byte{
			"source":      sum(nil, h, packet, addrOf("fe80::2"), 6696, addrOf("ff02::1:6")),
			"port":        sum(nil, h, packet, addrOf("fe80::1"), 6697, addrOf("ff02::1:6")),
			"destination": sum(nil, h, packet, addrOf("fe80::1"), 6696, addrOf("fe80::2")),
			"packet":      sum(nil, h, packet[:7], addrOf("fe80::1"), 6696, addrOf("ff02::1:6")),
		} {
			if hex.EncodeToString(got) == want {
				t.Errorf("%s: another %s makes no difference", algorithm, name)
			}
		}
	}
}

func TestKeyDoesNotPrintItsSecret(t *testing.T) {
	for _, v := range []any{sha, &sha, Keys{sha}, struct{ Keys Keys }{Keys{sha}}, map[string]Key{"a": sha}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			got := fmt.Sprintf(verb, v)
			for _, form := range []string{string(secret), hex.EncodeToString(secret), "73 69", "115 105", "0x73"} {
				if strings.Contains(got, form) {
					t.Errorf("%s of %T: %s", verb, v, got)
				}
			}
		}
		if b, err := json.Marshal(v); err == nil {
			t.Errorf("%T becomes %s", v, b)
		}
	}
	if sha.String() != "[secret]" {
		t.Error(sha.String())
	}
}

func TestKeyValidate(t *testing.T) {
	for _, tt := range []struct {
		key  Key
		want string
	}{
		{sha, ""},
		{blake, ""},
		{Key{HMACSHA256, make([]byte, 64)}, ""},
		{Key{BLAKE2s, make([]byte, 32)}, ""},
		{Key{HMACSHA256, make([]byte, 65)}, "key of Babel packets: 65 bytes, and hmac-sha256 wants 1 to 64"},
		{Key{BLAKE2s, make([]byte, 33)}, "key of Babel packets: 33 bytes, and blake2s128 wants 1 to 32"},
		{Key{HMACSHA256, nil}, "key of Babel packets: 0 bytes, and hmac-sha256 wants 1 to 64"},
		{Key{"md5", secret}, `key of Babel packets: algorithm "md5" is neither hmac-sha256 nor blake2s128`},
	} {
		got := ""
		if err := tt.key.Validate(); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}
