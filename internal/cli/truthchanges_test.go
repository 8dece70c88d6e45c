package cli_test

import (
	"fmt"
	"slices"
)

// What happens to networks, and back again. What a network has no part of happens to none.

// silent reports whether a site runs no speaker: its neighbours announce it as long as its last handshake is
// fresh, three minutes, which is longer than a test waits.
func (l *truthLab) silent(site string) bool {
	return slices.ContainsFunc(l.sites, func(s truthSite) bool { return (s.static || s.plain) && s.name == site })
}

// cut has a link carry nothing.
func (l *truthLab) cut(flows int) {
	l.Helper()
	links := slices.DeleteFunc(l.tunnels(), func(x [2]string) bool { return l.silent(x[0]) != l.silent(x[1]) })
	if len(links) == 0 {
		return
	}
	cut := links[l.IntN(len(links))]
	l.do(l.lab.Cut(l.Context(), cut[0], cut[1]))
	l.now.Down = [][2]string{cut}
	l.compare(fmt.Sprintf("while %s and %s are cut from each other", cut[0], cut[1]), flows)
	l.do(l.lab.Heal(l.Context(), cut[0], cut[1]))
	l.now.Down = nil
}

// cutOneWay has a link carry nothing in one direction: no speaker takes it then. What is routed without one would
// go on, and not know.
func (l *truthLab) cutOneWay(flows int) {
	l.Helper()
	links := slices.DeleteFunc(l.tunnels(), func(x [2]string) bool { return l.silent(x[0]) || l.silent(x[1]) })
	if len(links) == 0 {
		return
	}
	cut := links[l.IntN(len(links))]
	l.do(l.lab.CutOneWay(l.Context(), cut[0], cut[1]))
	l.now.Down = [][2]string{cut}
	l.compare(fmt.Sprintf("while nothing comes from %s to %s", cut[0], cut[1]), flows)
	l.do(l.lab.HealOneWay(l.Context(), cut[0], cut[1]))
	l.now.Down = nil
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

// loses takes one of two uplinks away. Who runs no speaker looks for another endpoint after three minutes.
func (l *truthLab) loses(flows int) {
	l.Helper()
	for _, s := range l.sites {
		silent := func(x [2]string) bool { return slices.Contains(x[:], s.name) && (l.silent(x[0]) || l.silent(x[1])) }
		if len(s.uplinks) < 2 || slices.ContainsFunc(l.tunnels(), silent) {
			continue
		}
		dead := [2]string{s.name, s.uplinks[l.IntN(2)]}
		l.now.Dead = [][2]string{dead}
		if s.checked {
			l.do(l.lab.Cut(l.Context(), dead[0]+"/"+dead[1], ""))
			l.compare(fmt.Sprintf("while the provider of %s on %s is dead", dead[0], dead[1]), flows)
			l.do(l.lab.Heal(l.Context(), dead[0]+"/"+dead[1], ""))
		} else {
			l.do(l.lab.Carrier(l.Context(), dead[0], dead[1], false))
			l.compare(fmt.Sprintf("while %s has no carrier on %s", dead[0], dead[1]), flows)
			l.do(l.lab.Carrier(l.Context(), dead[0], dead[1], true))
		}
		l.now.Dead = nil
		return
	}
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
	l.compare(fmt.Sprintf("while %s is dead", s.name), flows)
}
