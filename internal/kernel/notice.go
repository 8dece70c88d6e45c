package kernel

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
)

// rtnetlink notes a notification of NETLINK_ROUTE, and reports whether it matters. The
// caller holds w.mu.
func (w *Watcher) rtnetlink(h header, data []byte) bool {
	switch h.kind {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		return w.noteLink(data, h.kind == unix.RTM_DELLINK)
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return !slices.Contains(w.ports, h.port) && w.noteAddress(data)
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		return !slices.Contains(w.ports, h.port) && w.noteRoute(data)
	case unix.RTM_NEWRULE, unix.RTM_DELRULE:
		r, ok := decodeRule(data)
		inRange := w.owner.RuleFirst <= r.Priority && r.Priority <= w.owner.RuleLast
		ours := ok && (inRange && r.Protocol != w.owner.Learned() || r.Protocol == w.owner.Protocol)
		if ours && !slices.Contains(w.ports, h.port) {
			w.rules = true
			return true
		}
	}
	return false
}

// noteLink also drops what a bridge says of its ports, which would look as if a port that
// leaves were gone, and what repeats itself, as wireless devices do.
func (w *Watcher) noteLink(data []byte, gone bool) bool {
	l, ok := decodeLink(data)
	if !ok || data[0] != unix.AF_UNSPEC {
		return false
	}
	if before, known := w.known[l.index]; known && !gone && before == l {
		return false
	}
	s := LinkState{Name: l.name, Index: l.index, Gone: gone}
	if gone {
		delete(w.known, l.index)
	} else {
		w.known[l.index] = l
		s.Up, s.Carrier = l.up, l.carrier
	}
	w.links[l.index] = s
	return true
}

func (w *Watcher) noteAddress(data []byte) bool {
	a, ok := decodeAddress(data)
	if !ok {
		return false
	}
	name := w.known[a.index].name
	if name == "" {
		// Of a device that went, or since notifications were lost.
		name = w.links[a.index].Name
	}
	if name == "" {
		w.all = true
		return true
	}
	w.addresses[name] = true
	return true
}

func (w *Watcher) noteRoute(data []byte) bool {
	if len(data) < unix.SizeofRtMsg || native.Uint32(data[8:])&unix.RTM_F_CLONED != 0 {
		return false
	}
	s := RouteSource{Table: uint32(data[4]), Protocol: data[5]}
	attributes(data[unix.SizeofRtMsg:], func(kind uint16, v []byte) {
		if kind == unix.RTA_TABLE {
			s.Table = number(v)
		}
	})
	ours := s.Protocol == w.owner.Protocol || s.Protocol == w.owner.Following()
	if !ours && !slices.Contains(w.tables, s.Table) && (s.Table != mainTable || data[1] != 0) {
		return false
	}
	w.routes[s] = true
	return true
}

// nftables notes a notification of nfnetlink. A transaction tells of all that it changes,
// and of itself last (net/netfilter/nf_tables_api.c, nf_tables_commit).
func (w *Watcher) nftables(h header, data []byte) bool {
	if h.kind>>8 != unix.NFNL_SUBSYS_NFTABLES || len(data) < sizeofNfgenmsg {
		return false
	}
	data = data[sizeofNfgenmsg:]
	if h.kind&0xff != unix.NFT_MSG_NEWGEN {
		w.touched = w.touched || nftTable(data) == w.owner.RulesetTable
		return false
	}
	if !w.touched {
		return false
	}
	w.touched = false
	if w.pids.has(nftProcess(data)) {
		return false
	}
	w.ruleset = true
	return true
}

// nftTable returns the table that a message is about: whatever is changed, its name is the
// first attribute (linux/netfilter/nf_tables.h: NFTA_TABLE_NAME, NFTA_CHAIN_TABLE,
// NFTA_RULE_TABLE, …).
func nftTable(data []byte) (name string) {
	attributes(data, func(kind uint16, v []byte) {
		if kind == unix.NFTA_TABLE_NAME {
			name = text(v)
		}
	})
	return name
}

// nftProcess returns the process that made a transaction, or 0.
func nftProcess(data []byte) (pid int) {
	attributes(data, func(kind uint16, v []byte) {
		if kind == unix.NFTA_GEN_PROC_PID && len(v) >= 4 {
			pid = int(binary.BigEndian.Uint32(v))
		}
	})
	return pid
}
