package cli_test

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// What happens to networks, and back again. What a network has no part of happens to none.

// giveUp is how long a silent router is kept as the way where there is no other (internal/babel/kept.go). Before that a
// network looks as if nothing had happened, and a tracer that knows nothing of it would be right.
const giveUp = 26 * time.Second

// silent reports whether a site runs no speaker: its neighbours announce it as long as its last handshake is
// fresh, three minutes, which is longer than a test waits.
func (l *truthLab) silent(site string) bool {
	return slices.ContainsFunc(l.sites, func(s truthSite) bool { return (s.static || s.plain) && s.name == site })
}

// change is what happens to a network, in words, and what undoes it; nil: nothing happens.
type change func() (when string, undo func() error)

// happens has changes happen all at once, and back again.
func (l *truthLab) happens(flows int, changes ...change) {
	l.Helper()
	var all []string
	var back []func() error
	for _, c := range changes {
		if when, undo := c(); undo != nil {
			all, back = append(all, when), append(back, undo)
		}
	}
	if len(all) == 0 {
		return
	}
	time.Sleep(giveUp)
	l.compare("while "+strings.Join(all, ", and "), flows)
	for _, undo := range back {
		l.do(undo())
	}
	l.now.Down, l.now.Dead = nil, nil
}

// cut has a link carry nothing.
func (l *truthLab) cut() (when string, undo func() error) {
	l.Helper()
	links := slices.DeleteFunc(l.tunnels(), func(x [2]string) bool { return l.silent(x[0]) != l.silent(x[1]) })
	if len(links) == 0 {
		return "", nil
	}
	x := links[l.IntN(len(links))]
	l.do(l.lab.Cut(l.Context(), x[0], x[1]))
	l.now.Down = [][2]string{x}
	return fmt.Sprintf("%s and %s are cut from each other", x[0], x[1]), func() error { return l.lab.Heal(l.Context(), x[0], x[1]) }
}

// cutOneWay has a link carry nothing in one direction: no speaker takes it then. What is routed without one would
// go on, and not know.
func (l *truthLab) cutOneWay() (when string, undo func() error) {
	l.Helper()
	links := slices.DeleteFunc(l.tunnels(), func(x [2]string) bool { return l.silent(x[0]) || l.silent(x[1]) })
	if len(links) == 0 {
		return "", nil
	}
	x := links[l.IntN(len(links))]
	l.do(l.lab.CutOneWay(l.Context(), x[0], x[1]))
	l.now.Down = [][2]string{x}
	return fmt.Sprintf("nothing comes from %s to %s", x[0], x[1]), func() error { return l.lab.HealOneWay(l.Context(), x[0], x[1]) }
}

// moves takes the phone to another door.
func (l *truthLab) moves(flows int) {
	l.Helper()
	if at := l.now.Doors["phone"]; !l.phone || at != "" && (l.apart || len(l.doors) < 2) {
		return
	}
	i := slices.Index(l.doors, l.now.Doors["phone"])
	l.enters(l.doors[(i+1)%len(l.doors)])
	l.moved = true
	l.compare("after the phone has moved to "+l.now.Doors["phone"], flows)
}

// loses takes an uplink away, perhaps the only one. Who runs no speaker looks for another endpoint after three minutes, and is
// announced for as long.
func (l *truthLab) loses() (when string, undo func() error) {
	l.Helper()
	guests := slices.ContainsFunc(l.sites, func(s truthSite) bool { return s.guest })
	for range 20 {
		s := l.site()
		silent := func(x [2]string) bool { return slices.Contains(x[:], s.name) && (l.silent(x[0]) || l.silent(x[1])) }
		if l.silent(s.name) || slices.ContainsFunc(l.tunnels(), silent) || guests && s.name == l.doors[0] {
			continue
		}
		x := [2]string{s.name, s.uplinks[l.IntN(len(s.uplinks))]}
		l.now.Dead = [][2]string{x}
		if s.checked {
			l.do(l.lab.Cut(l.Context(), x[0]+"/"+x[1], ""))
			return fmt.Sprintf("the provider of %s on %s is dead", x[0], x[1]), func() error { return l.lab.Heal(l.Context(), x[0]+"/"+x[1], "") }
		}
		l.do(l.lab.Carrier(l.Context(), x[0], x[1], false))
		return fmt.Sprintf("%s has no carrier on %s", x[0], x[1]), func() error { return l.lab.Carrier(l.Context(), x[0], x[1], true) }
	}
	return "", nil
}

// dies takes a router away, for ever. One that is on a wire with another is left alone: whether that sends to it
// depends on what its ARP remembers.
func (l *truthLab) dies(flows int) {
	l.Helper()
	s := l.site()
	if l.silent(s.name) || l.wire && (s.name == l.sites[0].name || s.name == l.sites[1].name) {
		return
	}
	for _, d := range l.node(s.name).Devices {
		l.in(s.name, "ip", "link", "set", d.Name, "down")
	}
	l.now.Dead = [][2]string{{s.name, ""}}
	time.Sleep(giveUp)
	l.compare(fmt.Sprintf("while %s is dead", s.name), flows)
}
