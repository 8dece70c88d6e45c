package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Messages and attributes of ctnetlink (linux/netfilter/nfnetlink_conntrack.h).
const (
	conntrackGet    = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1 // IPCTNL_MSG_CT_GET
	conntrackDelete = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2 // IPCTNL_MSG_CT_DELETE

	ctTuple    = 1  // CTA_TUPLE_ORIG
	ctMark     = 8  // CTA_MARK
	ctID       = 12 // CTA_ID
	ctZone     = 18 // CTA_ZONE
	ctMarkMask = 21 // CTA_MARK_MASK

	ctTupleIP = 1 // CTA_TUPLE_IP
	ctIPv4Src = 1 // CTA_IP_V4_SRC
	ctIPv4Dst = 2 // CTA_IP_V4_DST
	ctIPv6Src = 3 // CTA_IP_V6_SRC
	ctIPv6Dst = 4 // CTA_IP_V6_DST

	ctTupleProto = 2 // CTA_TUPLE_PROTO
	ctProtoNum   = 1 // CTA_PROTO_NUM
	ctProtoSrc   = 2 // CTA_PROTO_SRC_PORT
	ctProtoDst   = 3 // CTA_PROTO_DST_PORT
)

// ForgetFlows deletes the conntrack entries of the calling thread's namespace, of both
// families, whose mark is mark within mask, and which were opened from one of the sources; none:
// from anywhere. What flows goes on as a new connection, by the routes of now.
//
// The kernel is asked for the entries, and each is deleted by its tuple and number: a kernel
// that does not know the filter of a deletion (before Linux 4.0) would delete every entry,
// the one of the administrator's own session too. A mask of 0 would mean that, and panics.
//
// It returns what it forgot, for ForgetAnswers. Where the kernel has no ctnetlink the error Is
// errors.ErrUnsupported.
func ForgetFlows(ctx context.Context, mark, mask uint32, sources ...netip.Prefix) ([]Tuple, error) {
	if mask == 0 || mark&^mask != 0 {
		panic(fmt.Sprintf("kernel: ForgetFlows with mark %#x and mask %#x", mark, mask))
	}
	var forgotten []Tuple
	err := forgetFlows(ctx, mark, mask, func(f flow) bool {
		t := f.decode()
		if len(sources) > 0 && !slices.ContainsFunc(sources, func(p netip.Prefix) bool { return p.Contains(t.Src.Addr()) }) {
			return false
		}
		forgotten = append(forgotten, t)
		return true
	})
	return forgotten, flowsError(fmt.Sprintf("forget flows with mark %#x/%#x", mark, mask), err)
}

// ForgetAnswers deletes the conntrack entries that answers to forgotten flows have made, which
// were on their way: with them the flow itself would count as an answer to its own answers, by
// whose way it goes and which has no translation.
func ForgetAnswers(ctx context.Context, to []Tuple) error {
	if len(to) == 0 {
		return nil
	}
	answers := make(map[Tuple]bool, len(to))
	for _, t := range to {
		answers[Tuple{Protocol: t.Protocol, Src: t.Dst, Dst: t.Src}] = true
	}
	return flowsError("forget answers", forgetFlows(ctx, 0, 0, func(f flow) bool { return answers[f.decode()] }))
}

// ForgetTowards deletes the conntrack entries that were opened towards some prefixes, but not
// those of TCP, of which it is known who opened them.
func ForgetTowards(ctx context.Context, prefixes ...netip.Prefix) error {
	return flowsError("forget flows by their destination", forgetFlows(ctx, 0, 0, func(f flow) bool {
		t := f.decode()
		return t.Protocol != unix.IPPROTO_TCP && slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(t.Dst.Addr()) })
	}))
}

// Tuple is what a flow is known by, in the direction in which it was opened. Ports are 0 where
// the protocol has none.
type Tuple struct {
	Protocol uint8 // IPPROTO_*
	Src, Dst netip.AddrPort
}

func flowsError(what string, err error) error {
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		// nfnetlink without the subsystem: net/netfilter/nfnetlink.c
		err = fmt.Errorf("the kernel has no nf_conntrack_netlink (OpenWrt: kmod-nf-conntrack-netlink): %w, %w", errors.ErrUnsupported, err)
	}
	return wrap(what, err)
}

// forgetFlows deletes the entries whose mark is mark within mask, and that are meant; a mask
// of 0 looks at all.
func forgetFlows(ctx context.Context, mark, mask uint32, meant func(flow) bool) error {
	s, err := openSocket(unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer s.close()
	flows, err := readFlows(s, mark, mask)
	if err != nil {
		return err
	}
	return deleteFlows(ctx, s, slices.DeleteFunc(flows, func(f flow) bool { return !meant(f) }))
}

func deleteFlows(ctx context.Context, s *socket, flows []flow) error {
	for len(flows) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		var w writer
		batch := flows[:min(len(flows), maxBatch)]
		for _, f := range batch {
			f.encodeDelete(&w)
		}
		outcomes, _, err := s.execute(&w)
		if err != nil {
			return err
		}
		for _, err := range outcomes {
			if err != nil && !errors.Is(err, unix.ENOENT) { // it ended by itself
				return err
			}
		}
		// One that is gone stops the sending: go on behind it.
		flows = flows[len(outcomes):]
	}
	return nil
}

// flow is a conntrack entry: what it takes to delete that one and no other. The attributes
// are the kernel's own bytes.
type flow struct {
	family          uint8
	tuple, zone, id []byte
	mark            uint32
}

// readFlows returns the entries whose mark is mark within mask. An old kernel does not
// filter, and so it is looked at again.
func readFlows(s *socket, mark, mask uint32) ([]flow, error) {
	var w writer
	w.begin(conntrackGet, 0, make([]byte, sizeofNfgenmsg)) // AF_UNSPEC: both families
	if mask != 0 {
		w.bytes(ctMark, binary.BigEndian.AppendUint32(nil, mark))
		w.bytes(ctMarkMask, binary.BigEndian.AppendUint32(nil, mask))
	}
	return dump(s, &w, func(b []byte) (flow, bool) {
		f, ok := decodeFlow(b)
		return f, ok && f.mark&mask == mark
	})
}

// decodeFlow reads an IPCTNL_MSG_CT_NEW message; false where it has not what it takes to
// delete the entry.
func decodeFlow(b []byte) (flow, bool) {
	if len(b) < sizeofNfgenmsg {
		return flow{}, false
	}
	f := flow{family: b[0]}
	attributes(b[sizeofNfgenmsg:], func(kind uint16, v []byte) {
		switch kind {
		case ctTuple:
			f.tuple = append([]byte{}, v...)
		case ctZone:
			f.zone = append([]byte{}, v...)
		case ctID:
			f.id = append([]byte{}, v...)
		case ctMark:
			if len(v) >= 4 {
				f.mark = binary.BigEndian.Uint32(v)
			}
		}
	})
	return f, len(f.tuple) > 0 && len(f.id) == 4
}

// decode reads the tuple.
func (f flow) decode() Tuple {
	var t Tuple
	var src, dst netip.Addr
	var sport, dport uint16
	attributes(f.tuple, func(kind uint16, v []byte) {
		switch kind {
		case ctTupleIP:
			attributes(v, func(kind uint16, v []byte) {
				switch kind {
				case ctIPv4Src, ctIPv6Src:
					src = addr(v)
				case ctIPv4Dst, ctIPv6Dst:
					dst = addr(v)
				}
			})
		case ctTupleProto:
			attributes(v, func(kind uint16, v []byte) {
				switch {
				case kind == ctProtoNum && len(v) > 0:
					t.Protocol = v[0]
				case kind == ctProtoSrc && len(v) > 1:
					sport = binary.BigEndian.Uint16(v)
				case kind == ctProtoDst && len(v) > 1:
					dport = binary.BigEndian.Uint16(v)
				}
			})
		}
	})
	t.Src, t.Dst = netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport)
	return t
}

// encodeDelete adds an IPCTNL_MSG_CT_DELETE message. Without a tuple it would be one to delete
// everything (net/netfilter/nf_conntrack_netlink.c, ctnetlink_del_conntrack).
func (f flow) encodeDelete(w *writer) {
	if len(f.tuple) == 0 {
		panic("kernel: deletion of a flow without a tuple")
	}
	h := make([]byte, sizeofNfgenmsg)
	h[0] = f.family
	w.begin(conntrackDelete, 0, h)
	w.bytes(unix.NLA_F_NESTED|ctTuple, f.tuple)
	if len(f.zone) > 0 {
		w.bytes(ctZone, f.zone)
	}
	w.bytes(ctID, f.id)
}
