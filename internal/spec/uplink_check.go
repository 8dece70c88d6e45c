package spec

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// maxTargets bounds what is asked of an uplink in each round.
const maxTargets = 8

// checkTarget is the shape of who answers while an uplink works. Names are none: to look one
// up takes an uplink that works.
var checkTarget = scalar("an address, or address:port", schema{"type": "string", "pattern": `^([0-9.]+(:[0-9]+)?|[0-9a-fA-F:.]+|\[[0-9a-fA-F:.]+\]:[0-9]+)$`}, func(text string) (netip.AddrPort, *mistake) {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.AddrPortFrom(a, 0), anyFamily.mismatch(a, text, "address")
	}
	ap, err := netip.ParseAddrPort(text)
	switch {
	case err == nil && ap.Port() == 0:
		return ap, &mistake{code: codeRange, message: "a port goes from 1 to 65535; this is 0", hint: "without a port it is asked by ping"}
	case err == nil:
		return ap, anyFamily.mismatch(ap.Addr(), text, "address")
	}
	if inner, ok := strings.CutPrefix(text, "["); ok && strings.HasSuffix(inner, "]") {
		return netip.AddrPort{}, &mistake{message: fmt.Sprintf("%s has brackets and no port", clip(text)), hint: "write " + clip(strings.TrimSuffix(inner, "]"))}
	}
	if p, err := netip.ParsePrefix(text); err == nil {
		return netip.AddrPort{}, &mistake{hint: fmt.Sprintf("write %v", p.Addr()), message: fmt.Sprintf("an address here has no length: %v", p)}
	}
	host, _, _ := cutPort(text)
	if _, err := netip.ParseAddr(host); err != nil && badHost(host) == nil {
		return netip.AddrPort{}, &mistake{message: fmt.Sprintf("%q is a name, and to look it up takes an uplink that works", clip(host)), hint: "write its address"}
	}
	return netip.AddrPort{}, &mistake{}
})

// The least and the most time between two rounds.
const (
	leastInterval = 100 * time.Millisecond
	mostInterval  = 60 * time.Second
)

var checkInterval = scalar("a time such as 200ms or 5s", schema{"anyOf": []any{
	schema{"type": "integer", "minimum": 1, "maximum": int(mostInterval / time.Second)},
	schema{"type": "string", "pattern": "^[0-9]+(ms|s|m)$"},
}}, func(text string) (time.Duration, *mistake) {
	d, err := parseSeconds(text)
	switch {
	case err != nil || d%time.Millisecond != 0:
		return 0, &mistake{}
	case d < leastInterval || d > mostInterval:
		return 0, &mistake{code: codeRange, message: fmt.Sprintf("the time between two rounds goes from 100ms to 60s; this is %s", clip(text))}
	}
	return d, nil
})

// readCheck takes over how it is found out whether an uplink works.
func (b *builder) readCheck(u *Uplink, decl *uplinkDecl) {
	u.Check = Check{
		Interval: decl.checkInterval.or(600 * time.Millisecond),
		Down:     decl.checkDown.or(3),
		Up:       decl.checkUp.or(5),
	}
	for _, c := range []struct {
		key   string
		given bool
		Pos
	}{
		{"check-interval", decl.checkInterval.given, decl.checkInterval.Pos},
		{"check-down", decl.checkDown.given, decl.checkDown.Pos},
		{"check-up", decl.checkUp.given, decl.checkUp.Pos},
	} {
		if c.given && !decl.check.given {
			b.err(c.Pos, codeCheck, "add who answers while the uplink works, for example `check: 1.1.1.1`", "uplink %q has `%s:` and no `check:`", u.Device, c.key)
		}
	}
	if len(decl.check.v) > maxTargets {
		b.err(decl.check.Pos, codeTooMany, "two or three that do not fail together are enough", "uplink %q asks %d targets in each round; the most are %d", u.Device, len(decl.check.v), maxTargets)
		return
	}
	for _, t := range decl.check.v {
		switch use := specialUse(hostPrefix(t.v.Addr())); {
		case use != "":
			b.err(t.Pos, codeCheck, "take one that answers from the Internet, such as the provider's resolver", "%v is %s, and nobody's beyond the uplink", t.v.Addr(), use)
		case slices.Contains(u.Check.Targets, t.v):
			b.warn(t.Pos, codeTwice, "delete one of them", "%s stands twice in `check:` of uplink %q", targetText(t.v), u.Device)
		default:
			u.Check.Targets = append(u.Check.Targets, t.v)
		}
	}
}

func targetText(t netip.AddrPort) string {
	if t.Port() == 0 {
		return t.Addr().String()
	}
	return t.String()
}

// uncheckedUplinks warns of sites that would take an uplink for a working one although its
// provider is down.
func (b *builder) uncheckedUplinks() {
	for i := range b.n.Sites {
		s := &b.n.Sites[i]
		checked := slices.ContainsFunc(s.Uplinks, func(u Uplink) bool { return len(u.Check.Targets) > 0 })
		if len(s.Uplinks) > 1 && !checked && s.Kind != Plain {
			b.warn(b.f.sites.v[i].v.uplink.Pos, codeUnchecked, "add for example `check: [1.1.1.1, 9.9.9.9]` to each", "no uplink of site %q has a `check:`, so one is left only when its carrier, address or gateway is gone, and not when its provider fails", s.Name)
		}
	}
}

// checkTargets reports targets that lie within the network, given all prefixes of that: they
// answer, or not, whatever the uplink does.
func (b *builder) checkTargets(taken []block) {
	inside := newTable(taken)
	for i := range b.n.Sites {
		uplinks := b.f.sites.v[i].v.uplink.v
		for _, u := range uplinks[:min(len(uplinks), MaxUplinks)] {
			for _, t := range u.v.check.v[:min(len(u.v.check.v), maxTargets)] {
				b.checkInside(&b.n.Sites[i], u.name, t, inside)
			}
		}
	}
}

func (b *builder) checkInside(s *Site, device string, t at[netip.AddrPort], inside table) {
	const hint = "take one that answers from the Internet"
	a := t.v.Addr()
	for _, u := range s.Uplinks {
		for _, own := range u.Addresses {
			if own.Addr() == a {
				b.err(t.Pos, codeCheck, hint, "%v is the router's own address on uplink %q, and answers whether or not uplink %q works", a, u.Device, clip(device))
				return
			}
		}
	}
	for _, l := range s.LANs {
		for _, m := range l.Prefixes {
			if m.Prefix.Contains(a) {
				b.err(t.Pos, codeCheck, hint, "%v is in the LAN %v of site %q, which uplink %q does not lead to", a, m.Prefix, s.Name, clip(device))
				return
			}
		}
	}
	if x := inside.find(hostPrefix(a)); x != nil {
		what := "the " + x.what
		if x.site != fabric {
			what = fmt.Sprintf("the LAN of site %q,", b.n.Sites[x.site].Name)
		}
		b.err(t.Pos, codeCheck, hint, "%v is in %s %v%s, which is reached by the network and not by uplink %q", a, what, x.prefix, inLine(x.Pos), clip(device))
	}
}
