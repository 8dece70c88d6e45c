package tunnel

import (
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

// config is a device's configuration in the text form of the WireGuard cross-platform
// userspace API (https://www.wireguard.com/xplatform/), one key=value per line. It holds
// the private key and cannot be printed: every format verb shows a placeholder, and because
// fmt calls no methods on unexported fields of other values, the text is behind a pointer.
type config struct{ lines *string }

const configPlaceholder = "(configuration)"

func configOf(lines string) config { return config{&lines} }

// text returns the lines; none for the zero config.
func (c config) text() string {
	if c.lines == nil {
		return ""
	}
	return *c.lines
}

// Format implements fmt.Formatter, for all verbs alike.
func (config) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, configPlaceholder) }

// LogValue implements slog.LogValuer.
func (config) LogValue() slog.Value { return slog.StringValue(configPlaceholder) }

// snapshot reduces the answer to `get=1` to what is worth keeping: what can be set, and
// the time of the last handshake in seconds.
func snapshot(get string) config {
	return configOf(keepLines(get, func(key, value string) bool {
		switch key {
		case "tx_bytes", "rx_bytes", "last_handshake_time_nsec":
			return false
		}
		return known(key, value)
	}))
}

// known is false for the line of an endpoint that is not known yet (see remote): the
// protocol says so by leaving the line out.
func known(key, value string) bool { return key != "endpoint" || value != "" }

// settings returns the part of c that `set=1` takes.
func (c config) settings() string {
	return keepLines(c.text(), func(key, _ string) bool { return key != "last_handshake_time_sec" })
}

// listenPort returns the device's UDP port, 0 for none.
func (c config) listenPort() uint16 {
	for line := range strings.Lines(c.text()) {
		if v, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "listen_port="); ok {
			port, _ := strconv.ParseUint(v, 10, 16)
			return uint16(port)
		}
	}
	return 0
}

// peers returns the peers in the order of c.
func (c config) peers() []peer {
	var all []peer
	p := &peer{} // lines before the first peer are the device's
	for line := range strings.Lines(c.text()) {
		k, v, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		switch k {
		case "public_key":
			all = append(all, peer{})
			p = &all[len(all)-1]
			_, _ = hex.Decode(p.key[:], []byte(v[:min(len(v), 2*len(p.key))]))
		case "endpoint":
			p.located = true
		case "last_handshake_time_sec":
			sec, _ := strconv.ParseInt(v, 10, 64)
			p.met = time.Unix(sec, 0)
		}
	}
	return all
}

// peer is what we want to know of a peer.
type peer struct {
	key     [32]byte
	located bool      // its endpoint is known
	met     time.Time // last handshake, in whole seconds; zero or 1970 for never
}

// rejectAfterTime is how long a session may be used after its handshake (WireGuard
// whitepaper §6.1, Reject-After-Time).
const rejectAfterTime = 180 * time.Second

// mayBeInSession reports whether p could have a session at now. One that was located and
// has no handshake yet may be in the middle of it.
func (p peer) mayBeInSession(now time.Time) bool {
	return p.located && (p.met.Unix() <= 0 || now.Sub(p.met) < rejectAfterTime)
}

func keepLines(text string, keep func(key, value string) bool) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		key, value, ok := strings.Cut(line, "=")
		if ok && keep(key, value) {
			b.WriteString(line)
			b.WriteByte('\n')
		}
	}
	return b.String()
}
