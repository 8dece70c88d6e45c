package ruleset_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"tombolo/internal/babel/space"
)

// watcher hears from the kernel which rules a packet matches (nft monitor trace), and has a table
// of its own that asks for that, and that shows at the end of a packet's way what became of it.
type watcher struct {
	*space.Space
	conn  *netlink.Conn
	rules map[uint64]string // "chain:line" by handle
}

// fate is what the kernel says of a packet.
type fate struct {
	steps  []string // "chain:line", or "chain policy"
	end    string   // drop, in, out, or "" where nothing more was heard
	packet []byte   // its header at the end
	port   uint16   // of the destination
	mark   uint32
	ctMark uint32
}

const nfDrop, nfAccept = 0, 1 // linux/netfilter.h

const watchTable = `table inet watch {
	chain begin {
		type filter hook prerouting priority -400; policy accept;
		iifname != "lo" meta nftrace set 1
	}
	chain begin-out {
		type filter hook output priority -400; policy accept;
		udp sport 10000-59999 meta nftrace set 1
	}
	chain end-in {
		type filter hook input priority 400; policy accept;
		counter
		meta mark set ct mark
		accept
	}
	chain end-out {
		type filter hook postrouting priority 400; policy accept;
		counter
		meta mark set ct mark
		accept
	}
}
`

// load loads a table and the watcher's.
func (w *watcher) load(t testing.TB, text string) {
	t.Helper()
	w.Sh("nft -f - <<'EOF'\nflush ruleset\n" + text + watchTable + "EOF\n")
	var listing struct {
		Nftables []struct {
			Rule *struct {
				Table, Chain string
				Handle       uint64
			}
		}
	}
	if err := json.Unmarshal([]byte(w.Sh("nft -a -j list ruleset")), &listing); err != nil {
		t.Fatal(err)
	}
	lines := linesOfRules(text)
	w.rules = map[uint64]string{}
	for _, x := range listing.Nftables {
		if r := x.Rule; r != nil && r.Table != "watch" {
			w.rules[r.Handle] = fmt.Sprintf("%s:%d", r.Chain, lines[r.Chain][0])
			lines[r.Chain] = lines[r.Chain][1:]
		}
	}
}

// listen begins to listen.
func (w *watcher) listen(t testing.TB) {
	t.Helper()
	w.In(func() {
		var err error
		if w.conn, err = netlink.Dial(unix.NETLINK_NETFILTER, nil); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { w.conn.Close() })
	if err := w.conn.SetReadBuffer(1 << 22); err != nil {
		t.Fatal(err)
	}
	if err := w.conn.JoinGroup(unix.NFNLGRP_NFTRACE); err != nil {
		t.Fatal(err)
	}
}

// linesOfRules returns the lines of each chain's rules.
func linesOfRules(text string) map[string][]int {
	out := map[string][]int{}
	chain := ""
	for i, line := range strings.Split(text, "\n") {
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case words[0] == "chain":
			chain = words[1]
		case words[0] == "set", words[0] == "}":
			chain = ""
		case chain != "" && words[0] != "type":
			out[chain] = append(out[chain], i+1)
		}
	}
	return out
}

// follow returns what is heard of one packet.
func (w *watcher) follow(t testing.TB) fate {
	t.Helper()
	var f fate
	for f.end == "" {
		if err := w.conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
			t.Fatal(err)
		}
		messages, err := w.conn.Receive()
		if err != nil {
			return f
		}
		for _, m := range messages {
			if m.Header.Type == unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_TRACE {
				f.note(w, readEvent(t, m.Data[4:]))
			}
		}
	}
	return f
}

// event is one thing that the kernel says of a packet: it matched a rule, or met a policy.
type event struct {
	table, chain       string
	handle             uint64
	kind, mark         uint32
	verdict            int32
	network, transport []byte
}

func readEvent(t testing.TB, data []byte) event {
	t.Helper()
	a, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		t.Fatal(err)
	}
	a.ByteOrder = binary.BigEndian
	e := event{verdict: -100}
	for a.Next() {
		switch a.Type() {
		case unix.NFTA_TRACE_TABLE:
			e.table = a.String()
		case unix.NFTA_TRACE_CHAIN:
			e.chain = a.String()
		case unix.NFTA_TRACE_RULE_HANDLE:
			e.handle = a.Uint64()
		case unix.NFTA_TRACE_TYPE:
			e.kind = a.Uint32()
		case unix.NFTA_TRACE_MARK:
			e.mark = a.Uint32()
		case unix.NFTA_TRACE_POLICY:
			e.verdict = int32(a.Uint32())
		case unix.NFTA_TRACE_NETWORK_HEADER:
			e.network = a.Bytes()
		case unix.NFTA_TRACE_TRANSPORT_HEADER:
			e.transport = a.Bytes()
		case unix.NFTA_TRACE_VERDICT:
			a.Nested(func(n *netlink.AttributeDecoder) error {
				for n.Next() {
					if n.Type() == unix.NFTA_VERDICT_CODE {
						e.verdict = int32(n.Uint32())
					}
				}
				return nil
			})
		}
	}
	if err := a.Err(); err != nil {
		t.Fatal(err)
	}
	return e
}

// note takes up one event.
func (f *fate) note(w *watcher, e event) {
	if e.table == "watch" {
		if end, found := strings.CutPrefix(e.chain, "end-"); found {
			f.noteEnd(end, e)
		}
		return
	}
	switch {
	case e.kind == unix.NFT_TRACETYPE_POLICY:
		f.steps = append(f.steps, e.chain+" policy")
	case e.handle != 0:
		f.steps = append(f.steps, w.rules[e.handle])
	default: // the end of a chain
		return
	}
	if e.verdict == nfDrop {
		f.end = "drop"
	}
}

// noteEnd takes up what the watcher's own rules at the end match: the first shows the packet and
// its mark, the second the connection's, and the third is the last.
func (f *fate) noteEnd(end string, e event) {
	switch {
	case e.verdict == nfAccept:
		f.end = end
	case f.packet != nil:
		f.ctMark = e.mark
	default:
		f.mark, f.packet = e.mark, e.network
		if len(e.transport) >= 4 {
			f.port = binary.BigEndian.Uint16(e.transport[2:])
		}
	}
}

// addresses returns those of the header at the end.
func (f *fate) addresses() (src, dst netip.Addr) {
	b := f.packet
	if len(b) >= 40 && b[0]>>4 == 6 {
		src, _ = netip.AddrFromSlice(b[8:24])
		dst, _ = netip.AddrFromSlice(b[24:40])
	} else if len(b) >= 20 {
		src, _ = netip.AddrFromSlice(b[12:16])
		dst, _ = netip.AddrFromSlice(b[16:20])
	}
	return src, dst
}
