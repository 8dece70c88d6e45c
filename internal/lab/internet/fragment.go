package internet

import (
	"net/netip"
	"time"
)

// Only the first fragment of a packet has ports. What a NAT decided for it
// holds for the others; those that come before it are held until it does, as
// RFC 4787 REQ-14 wants ("Received Fragment Out of Order").

// fragmentTimeout is how long fragments wait for their first one, and how
// long the decision on it is remembered: as Linux reassembles
// (net.ipv4.ipfrag_time).
const fragmentTimeout = 30 * time.Second

// Bounds against floods of fragments.
const (
	maxFragmentRecords = 4096
	maxHeldPerPacket   = 64
	maxHeld            = 4096
)

type fragments struct {
	records map[fragmentKey]*fragmentRecord
	held    int
}

// fragmentKey identifies a packet in pieces (RFC 791 §3.2, RFC 8200 §4.5).
type fragmentKey struct {
	src, dst netip.Addr
	proto    uint8
	id       uint32
}

type fragmentRecord struct {
	expires instant
	pipe    *pipe // where dropped fragments are counted, and passed ones go
	decided bool
	passed  bool
	// src and dst are the addresses that the first fragment left with.
	src, dst netip.Addr
	held     [][]byte
}

// handleFragment is Handle for a fragment that meets a NAT.
func (e *Engine) handleFragment(t instant, packet []byte, seg *segment, from, to locus) bool {
	key := fragmentKey{src: seg.src, dst: seg.dst, id: seg.fragmentID}
	if !seg.v6 {
		key.proto = seg.proto // part of the identity in IPv4 only
	}
	r := e.fragments.records[key]
	if r == nil || r.expires <= t {
		if r != nil {
			e.forgetFragments(key, r)
		}
		if len(e.fragments.records) >= maxFragmentRecords {
			e.pipe(from.place, to.place).filter(seg.length)
			return false
		}
		r = &fragmentRecord{pipe: e.pipe(from.place, to.place)}
		e.fragments.records[key] = r
	}
	r.expires = t + instant(fragmentTimeout)
	if seg.first {
		return e.decideFragments(t, packet, seg, from, to, r)
	}
	if r.decided {
		return e.carryFragment(t, packet, r)
	}
	if len(r.held) >= maxHeldPerPacket || e.fragments.held >= maxHeld {
		r.pipe.filter(seg.length)
		return false
	}
	r.held = append(r.held, packet)
	e.fragments.held++
	return true
}

// decideFragments takes the first fragment through the NATs, and the held
// ones after it.
func (e *Engine) decideFragments(t instant, packet []byte, seg *segment, from, to locus, r *fragmentRecord) bool {
	to, r.passed = e.traverse(t, packet, seg, from, to)
	r.decided, r.src, r.dst = true, seg.src, seg.dst
	r.pipe = e.pipe(from.place, to.place)
	kept := false
	if r.passed {
		kept = e.carry(t, r.pipe, packet)
	} else {
		r.pipe.filter(seg.length)
	}
	held := r.held
	r.held = nil
	e.fragments.held -= len(held)
	for _, f := range held {
		e.carryFragment(t, f, r)
	}
	return kept
}

// carryFragment does with a later fragment what was done with the first.
func (e *Engine) carryFragment(t instant, packet []byte, r *fragmentRecord) bool {
	if !r.passed {
		r.pipe.filter(len(packet))
		return false
	}
	if r.src.Is4() {
		rewriteAddr(packet, srcAddrAt, r.src)
		rewriteAddr(packet, dstAddrAt, r.dst)
	}
	return e.carry(t, r.pipe, packet)
}

// forgetFragments drops a record and what it holds.
func (e *Engine) forgetFragments(key fragmentKey, r *fragmentRecord) {
	for _, f := range r.held {
		r.pipe.filter(len(f))
	}
	e.fragments.held -= len(r.held)
	delete(e.fragments.records, key)
}

func (e *Engine) sweepFragments() {
	for key, r := range e.fragments.records {
		if r.expires <= e.now {
			e.forgetFragments(key, r)
		}
	}
}
