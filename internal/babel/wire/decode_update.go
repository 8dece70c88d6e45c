package wire

import "net/netip"

// update reads an update and takes what it changes in the parser's state. That is done
// also for a TLV that an unknown mandatory sub-TLV makes unknown (RFC 8966 §4.6.9), and for
// one that breaks a rule, as long as its prefix can be read.
func (d *decoder) update(v []byte) (TLV, error) {
	if len(v) < updateLen {
		d.forget(v)
		return nil, errMalformed
	}
	ae, flags, plen, omitted := v[0], v[1], v[2], v[3]
	u := Update{
		Interval: Interval(u16(v[4:])),
		Seqno:    u16(v[6:]),
		Metric:   u16(v[8:]),
	}
	n := 0
	if ae == aeWildcard {
		if plen != 0 || omitted != 0 || u.Metric != Infinity {
			return nil, errMalformed
		}
	} else {
		var err error
		if u.Prefix, n, err = d.prefix(ae, plen, omitted, v[updateLen:]); err != nil {
			d.forget(v)
			return nil, err
		}
		d.remember(ae, flags, u.Prefix)
		if u.Prefix.Addr().Is4In6() { // IPv4, but not for those who compare
			return nil, errMalformed
		}
	}
	s, err := subs(v[updateLen+n:], 0, ae)
	if err != nil {
		return nil, err
	}
	u.Source = s.source
	switch ae {
	case aeWildcard:
		return u, nil
	case aeIPv4:
		u.NextHop = d.nextHop4
	default:
		u.NextHop = d.nextHop6
	}
	u.RouterID = d.routerID
	if u.Metric == Infinity {
		u.Silent = s.silent
	} else if s.mobility != 0 {
		u.Mobility, u.Before = s.mobility, s.before
	}
	// A retraction is believed without these: to lose one is worse.
	if u.Metric != Infinity && (!u.RouterID.Valid() || !u.NextHop.IsValid() || u.Interval == 0) {
		return nil, errMalformed
	}
	return u, nil
}

// remember keeps what the flags say that later updates rely on.
func (d *decoder) remember(ae, flags byte, p netip.Prefix) {
	a16 := p.Addr().As16()
	if flags&flagPrefix != 0 {
		def := &d.prefixes[ae]
		def.set = true
		if p.Addr().Is4() {
			copy(def.octets[:], a16[12:])
		} else {
			def.octets = a16
		}
	}
	if flags&flagRouterID != 0 {
		if p.Addr().Is4() {
			d.routerID = RouterID{4: a16[12], 5: a16[13], 6: a16[14], 7: a16[15]}
		} else {
			d.routerID = RouterID(a16[8:])
		}
	}
}

// forget empties what an update that cannot be read would have changed.
func (d *decoder) forget(v []byte) {
	all := len(v) < 2
	if all || v[1]&flagRouterID != 0 {
		d.routerID = RouterID{}
	}
	if all || v[1]&flagPrefix != 0 {
		for ae := range d.prefixes {
			d.prefixes[ae].set = d.prefixes[ae].set && !all && byte(ae) != v[0]
		}
	}
}

// prefix reads a prefix whose first octets may be those of the default prefix of its
// encoding (RFC 8966 §4.5.2), and returns it and how many bytes it took.
func (d *decoder) prefix(ae, plen, omitted byte, b []byte) (netip.Prefix, int, error) {
	if ae > aeIPv4Via {
		return netip.Prefix{}, 0, errUnknown
	}
	if omitted == 0 {
		return plain(ae, plen, b)
	}
	def := &d.prefixes[ae]
	size := octets(int(plen))
	if !def.set || int(omitted) > size || size > len(def.octets) {
		return netip.Prefix{}, 0, errMalformed
	}
	var whole [16]byte
	copy(whole[:], def.octets[:omitted])
	n := size - int(omitted)
	if n > len(b) {
		return netip.Prefix{}, 0, errMalformed
	}
	copy(whole[omitted:], b[:n])
	p, _, err := plain(ae, plen, whole[:size])
	return p, n, err
}

// plain reads a prefix all of whose octets are there. Bits beyond its length are ignored
// (RFC 8966 §4.1.5).
func plain(ae, plen byte, b []byte) (netip.Prefix, int, error) {
	n := octets(int(plen))
	switch ae {
	case aeIPv4, aeIPv4Via:
		if plen > 32 || n > len(b) {
			return netip.Prefix{}, 0, errMalformed
		}
		var a [4]byte
		copy(a[:], b[:n])
		mask(a[:], int(plen))
		return netip.PrefixFrom(netip.AddrFrom4(a), int(plen)), n, nil
	case aeIPv6:
		if plen > 128 || n > len(b) {
			return netip.Prefix{}, 0, errMalformed
		}
		var a [16]byte
		copy(a[:], b[:n])
		mask(a[:], int(plen))
		return netip.PrefixFrom(netip.AddrFrom16(a), int(plen)), n, nil
	case aeWildcard, aeLinkLocal: // no link-local address is routed
		return netip.Prefix{}, 0, errMalformed
	}
	return netip.Prefix{}, 0, errUnknown
}

// address reads a neighbour's address and returns how many bytes it took.
func address(ae byte, b []byte) (netip.Addr, int, error) {
	var a netip.Addr
	var n int
	switch ae {
	case aeIPv4:
		if n = 4; len(b) >= n {
			a = netip.AddrFrom4([4]byte(b))
		}
	case aeIPv6:
		if n = 16; len(b) >= n {
			a = netip.AddrFrom16([16]byte(b))
		}
	case aeLinkLocal:
		if n = 8; len(b) >= n {
			whole := [16]byte{0xfe, 0x80}
			copy(whole[8:], b)
			a = netip.AddrFrom16(whole)
		}
	case aeWildcard, aeIPv4Via: // RFC 9229 §4.2: of prefixes alone
		return netip.Addr{}, 0, errMalformed
	default:
		return netip.Addr{}, 0, errUnknown
	}
	if !host(a) {
		return netip.Addr{}, 0, errMalformed
	}
	return a, n, nil
}

// subTLVs are those that this package knows.
type subTLVs struct {
	stamp  []byte       // a timestamp's value
	source netip.Prefix // not valid: none
	silent uint8

	mobility, before uint32
}

// noSubs goes through the sub-TLVs of a TLV that has none which are known.
func noSubs(b []byte) error {
	_, err := subs(b, 0, aeWildcard)
	return err
}

// subs reads what follows a TLV's own value. stamp is how long a timestamp must be there,
// 0 where there is none; ae is the encoding of a source prefix, and where that is no
// prefix's, a source prefix is malformed (RFC 9079 §5.1) like any mandatory sub-TLV that
// does not belong.
func subs(b []byte, stamp int, ae byte) (s subTLVs, err error) {
	for len(b) > 0 {
		kind := b[0]
		if kind == subPad1 {
			b = b[1:]
			continue
		}
		if len(b) < 2 || len(b) < 2+int(b[1]) {
			return s, errMalformed
		}
		v := b[2 : 2+int(b[1])]
		b = b[2+len(v):]
		switch {
		case kind == subTimestamp && stamp > 0:
			// A longer one is read, a shorter one ignored (RFC 9616 §3.1).
			if len(v) >= stamp && s.stamp == nil {
				s.stamp = v
			}
		case kind == subSource:
			if len(v) < 1 || v[0] == 0 || s.source.IsValid() {
				return s, errMalformed
			}
			if s.source, _, err = plain(ae, v[0], v[1:]); err != nil {
				return s, err
			}
			if s.source.Addr().Is4In6() {
				return s, errMalformed
			}
		case kind == subSilent && len(v) >= silentLen:
			s.silent = v[0]
		case kind == subMobility && len(v) >= mobilityLen:
			s.mobility, s.before = u32(v), u32(v[4:])
		case kind&subMandatory != 0:
			return s, errUnknown
		}
	}
	return s, nil
}
