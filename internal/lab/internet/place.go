package internet

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/gaissmai/bart"
)

// Place is a part of the Internet that has paths of its own to the others: a
// router's uplink, or a data centre with several hosts.
type Place struct {
	// Name is what SetPath calls it. Not empty, not "*", unique.
	Name string
	// Prefixes are the addresses found there, of both families; behind a NAT,
	// those on the inside. No two places may have the same prefix.
	Prefixes []netip.Prefix
	// NAT is the translator between the place and the rest. Places whose NATs
	// have the same Public address are behind one translator, and then must
	// describe it alike.
	NAT NAT
}

// NATKind names a NAT's mapping and filtering behaviour in the words that
// came before RFC 4787, because people still use them.
type NATKind uint8

const (
	// None translates and filters nothing.
	None NATKind = iota
	// FullCone is endpoint-independent mapping and filtering (RFC 4787 §4.1, §5).
	FullCone
	// AddressRestricted is endpoint-independent mapping, address-dependent
	// filtering.
	AddressRestricted
	// PortRestricted is endpoint-independent mapping, address-and-port-dependent
	// filtering.
	PortRestricted
	// Symmetric is address-and-port-dependent mapping and filtering.
	Symmetric
)

var natKindNames = [...]string{"none", "full-cone", "address-restricted", "port-restricted", "symmetric"}

// String gives the kind's name: none, full-cone, address-restricted,
// port-restricted or symmetric.
func (k NATKind) String() string {
	if int(k) < len(natKindNames) {
		return natKindNames[k]
	}
	return fmt.Sprintf("NATKind(%d)", uint8(k))
}

// MarshalText writes the name that String gives.
func (k NATKind) MarshalText() ([]byte, error) {
	if int(k) >= len(natKindNames) {
		return nil, fmt.Errorf("NAT kind %d has no name", uint8(k))
	}
	return []byte(natKindNames[k]), nil
}

// UnmarshalText reads the names that String gives.
func (k *NATKind) UnmarshalText(text []byte) error {
	for i, name := range natKindNames {
		if string(text) == name {
			*k = NATKind(i)
			return nil
		}
	}
	return fmt.Errorf("NAT kind %q is none of none, full-cone, address-restricted, port-restricted, symmetric", text)
}

// PortChoice says how a NAT picks the outside port (or ICMP identifier) of a
// new mapping (RFC 4787 §4.2.1).
type PortChoice uint8

const (
	// PortDefault is PortRandom for a Symmetric NAT, PortPreserve for the others.
	PortDefault PortChoice = iota
	// PortPreserve takes the inside port where it is in range and free, else a
	// random one.
	PortPreserve
	// PortRandom takes any free port in range.
	PortRandom
)

// NAT describes a translator. It translates UDP, TCP, ICMP echo and the ICMP
// errors about them, for IPv4; other IPv4 protocols do not pass. IPv6 is not
// translated but filtered: only answers to what went out come in, whatever
// the kind. The zero NAT does nothing.
type NAT struct {
	Kind NATKind
	// Public is the IPv4 address that the outside sees. Required unless Kind is
	// None.
	Public netip.Addr
	// PortMin and PortMax bound the outside ports, both inclusive; 1024 and
	// 65535 when zero. An inside port out of these bounds is never preserved.
	PortMin, PortMax uint16
	Ports            PortChoice

	// The timeouts run from the last packet that went out: inbound packets
	// refresh nothing, the strictest behaviour that RFC 4787 REQ-6 allows,
	// so that a missing keepalive shows. Zero stands for the default.
	UDPTimeout    time.Duration // 2 minutes (RFC 4787 REQ-5)
	TCPTimeout    time.Duration // 2 h 4 min, established (RFC 5382 REQ-5)
	TCPTransitory time.Duration // 4 minutes, opening or closed (RFC 5382 REQ-5)
	ICMPTimeout   time.Duration // 1 minute (RFC 5508 REQ-2)
}

// withDefaults fills what was left zero.
func (n NAT) withDefaults() NAT {
	if n.PortMin == 0 {
		n.PortMin = 1024
	}
	if n.PortMax == 0 {
		n.PortMax = 65535
	}
	if n.Ports == PortDefault {
		n.Ports = PortPreserve
		if n.Kind == Symmetric {
			n.Ports = PortRandom
		}
	}
	for _, d := range []struct {
		timeout *time.Duration
		value   time.Duration
	}{
		{&n.UDPTimeout, 2 * time.Minute},
		{&n.TCPTimeout, 2*time.Hour + 4*time.Minute},
		{&n.TCPTransitory, 4 * time.Minute},
		{&n.ICMPTimeout, time.Minute},
	} {
		if *d.timeout == 0 {
			*d.timeout = d.value
		}
	}
	return n
}

// check says what is wrong with a NAT that has its defaults.
func (n NAT) check() error {
	switch {
	case n.Kind > Symmetric:
		return fmt.Errorf("NAT kind %d is unknown", uint8(n.Kind))
	case !n.Public.Is4():
		return fmt.Errorf("a %s NAT needs a public IPv4 address, not %q", n.Kind, n.Public)
	case n.PortMin > n.PortMax:
		return fmt.Errorf("NAT ports %d-%d are no range", n.PortMin, n.PortMax)
	case n.Ports > PortRandom:
		return fmt.Errorf("NAT port choice %d is unknown", n.Ports)
	case n.UDPTimeout < 0, n.TCPTimeout < 0, n.TCPTransitory < 0, n.ICMPTimeout < 0:
		return errors.New("a NAT timeout is negative")
	}
	return nil
}

// place is a Place's identity inside the engine. It outlives SetPlaces, as
// the paths and counters that refer to it do.
type place struct{ name string }

// locus is where an address is.
type locus struct {
	place *place
	// box is the translator in front of the address, or, when public is set,
	// the translator whose outside address it is. Nil without a NAT.
	box    *box
	public bool
}

// inside says whether the address lies behind a NAT.
func (l locus) inside() bool { return l.box != nil && !l.public }

// SetPlaces replaces all places. Paths, counters and packets on their way
// stay. A NAT keeps its mappings when its description is unchanged, and
// forgets them when it is not, as a rebooted one does. On an error nothing
// changes; the error names every mistake.
func (e *Engine) SetPlaces(places []Place) error {
	table := new(bart.Table[locus])
	boxes := make(map[netip.Addr]*box)
	names := make(map[string]bool)
	var mistakes []error
	mistake := func(format string, args ...any) { mistakes = append(mistakes, fmt.Errorf(format, args...)) }
	insert := func(prefix netip.Prefix, l locus) {
		if other, taken := table.Get(prefix); taken {
			mistake("place %q: %s is also at place %q", l.place.name, prefix, other.place.name)
			return
		}
		table.Insert(prefix, l)
	}
	for _, p := range places {
		switch {
		case p.Name == "" || p.Name == "*":
			mistake("place %q: the name is reserved", p.Name)
			continue
		case names[p.Name]:
			mistake("place %q is named twice", p.Name)
			continue
		}
		names[p.Name] = true
		here := locus{place: e.place(p.Name)}
		if p.NAT.Kind != None {
			nat := p.NAT.withDefaults()
			if err := nat.check(); err != nil {
				mistake("place %q: %w", p.Name, err)
				continue
			}
			b, shared := boxes[nat.Public]
			switch {
			case shared && b.nat != nat:
				mistake("place %q: the NAT at %s is described differently elsewhere", p.Name, nat.Public)
				continue
			case !shared:
				b = e.boxes[nat.Public]
				if b == nil || b.nat != nat {
					b = newBox(nat, e.random("nat", nat.Public.String()))
				}
				boxes[nat.Public] = b
				insert(netip.PrefixFrom(nat.Public, 32), locus{place: here.place, box: b, public: true})
			}
			here.box = b
		}
		for _, prefix := range p.Prefixes {
			if !prefix.IsValid() {
				mistake("place %q: a prefix is invalid", p.Name)
				continue
			}
			insert(prefix.Masked(), here)
		}
	}
	if len(mistakes) > 0 {
		return errors.Join(mistakes...)
	}
	e.table, e.boxes = table, boxes
	return nil
}

// place finds or makes the identity of a name.
func (e *Engine) place(name string) *place {
	p := e.places[name]
	if p == nil {
		p = &place{name: name}
		e.places[name] = p
	}
	return p
}

// locate finds where an address is.
func (e *Engine) locate(addr netip.Addr) locus {
	if l, ok := e.table.Lookup(addr); ok {
		return l
	}
	return e.elsewhere
}
