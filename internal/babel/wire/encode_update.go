package wire

import "net/netip"

// update writes an update and what goes before it. It returns false if the packet cannot
// hold it, whatever its size.
func (e *Encoder) update(u Update, t TLV) bool {
	retraction := u.Metric == Infinity
	must(retraction || u.Prefix.IsValid() && u.RouterID.Valid() && u.Interval != 0, t)
	must(u.Mobility == 0 || !retraction, t)
	must(u.Silent == 0 || retraction && u.Prefix.IsValid(), t)
	ae, n := prefixEncoding(u.Prefix, u.Source, t)
	nextHop := u.NextHop.WithZone("")
	must(!nextHop.IsValid() || host(nextHop), t)
	must(ae != aeIPv6 || !nextHop.Is4(), t)
	if ae == aeIPv4 && !nextHop.Is4() {
		ae = aeIPv4Via
	}
	if !retraction {
		e.routerID(u.RouterID)
	}
	needed := ae != aeWildcard && (nextHop.IsValid() || !retraction)
	if needed && !e.nextHop(nextHop) {
		return false
	}
	omitted, flags := 0, byte(0)
	if ae != aeWildcard {
		omitted, flags = e.compress(ae, u.Prefix), flagPrefix
	}
	e.head(typeUpdate, updateLen+n-omitted+sourceLen(u.Source)+ourLen(u))
	e.buf = append(e.buf, ae, flags, byte(max(u.Prefix.Bits(), 0)), byte(omitted))
	e.put16(uint16(u.Interval), u.Seqno, u.Metric)
	e.prefix(u.Prefix, omitted)
	e.source(u.Source)
	if u.Silent != 0 {
		e.head(subSilent, silentLen)
		e.buf = append(e.buf, u.Silent)
	}
	if u.Mobility != 0 {
		e.head(subMobility, mobilityLen)
		e.put32(u.Mobility)
		e.put32(u.Before)
	}
	return true
}

// ourLen returns how many bytes our own sub-TLVs need.
func ourLen(u Update) (n int) {
	if u.Silent != 0 {
		n += 2 + silentLen
	}
	if u.Mobility != 0 {
		n += 2 + mobilityLen
	}
	return n
}

func (e *Encoder) routerID(id RouterID) {
	if e.state.routerID == id {
		return
	}
	e.head(typeRouterID, routerIDLen)
	e.put16(0)
	e.buf = append(e.buf, id[:]...)
	e.state.routerID = id
}

// nextHop returns false where the packet's source is meant and can no longer be said.
func (e *Encoder) nextHop(a netip.Addr) bool {
	now := &e.state.nextHop6
	if a.Is4() {
		now = &e.state.nextHop4
	}
	if *now == a {
		return true
	}
	if !a.IsValid() {
		return false
	}
	ae, n := addressEncoding(a)
	e.head(typeNextHop, nextHopLen+n)
	e.buf = append(e.buf, ae, 0)
	e.address(ae, a)
	*now = a
	return true
}

// compress returns how many octets of a prefix can be left out, and makes it the default
// for the next one. Encodings 1 and 4 do not rely on each other's, so that a receiver may
// keep one default for both or two.
func (e *Encoder) compress(ae byte, p netip.Prefix) int {
	def := &e.state.prefix6
	if ae != aeIPv6 {
		def = &e.state.prefix4
	}
	a, n := prefixOctets(p)
	omitted := 0
	if def.ae == ae {
		for omitted < min(n, int(def.n)) && a[omitted] == def.octets[omitted] {
			omitted++
		}
	}
	*def = defaultPrefix{ae: ae, n: byte(n), octets: a}
	return omitted
}
