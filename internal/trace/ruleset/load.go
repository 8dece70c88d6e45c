package ruleset

import (
	"net/netip"
)

// load returns the value of a field, and whether the packet has one.
func (x *run) load(f field) (uint32, bool) {
	p := x.p
	switch f {
	case saddr4:
		return x.src4, !x.ip6
	case daddr4:
		return x.dst4, !x.ip6
	case iifname:
		return x.in(), true
	case oifname:
		return x.out(), true
	case mark:
		return p.Mark, true
	case nfproto:
		if x.ip6 {
			return ipv6, true
		}
		return ipv4, true
	case l4proto:
		return uint32(p.Protocol), true
	case protocol4:
		return uint32(p.Protocol), !x.ip6
	case twoNames:
		return x.in()<<16 | x.out(), true
	case protoPort:
		return x.protoPort(), true
	case fibSaddrLocal:
		return x.local(x.src), true
	case fibDaddrLocal:
		return x.local(x.dst), true
	case fibDaddrMany:
		return one(x.dst.IsMulticast() || x.dst == broadcast), true
	case fibMissing:
		return one(x.e.RouteBack != nil && !x.e.RouteBack(*p)), true
	case ctMark, ctState, ctDirection, ctStatus, originalSaddr4, originalDaddr4:
		return x.loadConn(f)
	}
	return x.loadTransport(f)
}

// protoPort is protocol and port. What lies there in other protocols is compared, too, but no set
// has those.
func (x *run) protoPort() uint32 { return uint32(x.p.Protocol)<<16 | uint32(x.port) }

// in returns the number of the device that the packet came in by; 0 for one that is not named.
func (x *run) in() uint32 {
	if x.iif == unknown {
		x.iif = 0
		if x.hook != Output {
			x.iif = x.t.number(x.p.IIF)
		}
	}
	return x.iif
}

// out is in for the device that it leaves by.
func (x *run) out() uint32 {
	if x.oif == unknown {
		x.oif = 0
		if x.hook != Prerouting && x.hook != Input {
			x.oif = x.t.number(x.p.OIF)
		}
	}
	return x.oif
}

func (t *Table) number(d Device) uint32 {
	if d.number == 0 {
		return t.devices[d.Name]
	}
	return d.number - 1
}

// broadcast is everybody's; that of a subnet is not known here.
var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// loadConn is load for what connections have.
func (x *run) loadConn(f field) (uint32, bool) {
	if f == ctState { // what has no connection has a state, too
		return x.state, true
	}
	if x.c == nil {
		return 0, false
	}
	switch f {
	case ctMark:
		return x.c.Mark, true
	case ctDirection:
		return one(x.c.Reply), true
	case ctStatus:
		return one(x.c.DNAT || x.dnat)*statusDNAT | one(x.c.SNAT)*statusSNAT, true
	case originalSaddr4:
		return number4(x.c.OrigSrc), x.c.OrigSrc.Is4()
	case originalDaddr4:
		return number4(x.c.OrigDst), x.c.OrigDst.Is4()
	}
	panic("ruleset: a field that no connection has")
}

// loadTransport is load for what is in the headers of the protocols.
func (x *run) loadTransport(f field) (uint32, bool) {
	p := x.p
	switch f {
	case tcpFlags:
		return one(p.SYN)*flagSYN | one(p.ACK)*flagACK, p.Protocol == tcp
	case tcpSport:
		return uint32(p.SPort), p.Protocol == tcp
	case tcpDport:
		return uint32(x.port), p.Protocol == tcp
	case udpSport:
		return uint32(p.SPort), p.Protocol == udp
	case udpDport:
		return uint32(x.port), p.Protocol == udp
	case icmpType:
		return uint32(p.ICMPType), p.Protocol == icmp4 && !x.ip6
	case icmp6Type:
		return uint32(p.ICMPType), p.Protocol == icmp6 && x.ip6
	}
	panic("ruleset: a field that is not loaded")
}

// load6 is load for addresses of IPv6.
func (x *run) load6(f field) (wide, bool) {
	switch f {
	case saddr6:
		return number6(x.src), x.ip6
	case daddr6:
		return number6(x.dst), x.ip6
	}
	if x.c == nil {
		return wide{}, false
	}
	a := x.c.OrigSrc
	if f == originalDaddr6 {
		a = x.c.OrigDst
	}
	return number6(a), a.Is6()
}

func (x *run) local(a netip.Addr) uint32 { return one(x.e.Local != nil && x.e.Local(a)) }

func one(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}
