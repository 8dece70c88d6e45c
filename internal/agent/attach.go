package agent

import (
	"cmp"
	"slices"

	"tombolo/internal/babel"
	"tombolo/internal/babel/wire"
	"tombolo/internal/state"
)

// presence is that of a roaming device, from a handshake on which it came until it goes.
type presence struct {
	visit   uint64 // tells it from every other
	resumed bool   // it was here before the speaker was: nobody is displaced by that
}

// presences are those of all devices that are here, by the prefixes that they have.
type presences struct {
	device string // by which they are reached
	keys   map[babel.Key]presence
}

// attachment is what the speaker was told of a key.
type attachment struct {
	visit uint64
	lost  bool // to another door
}

// displacement says that another door took a device over.
type displacement struct {
	by        wire.RouterID
	contested bool // it may be here still
}

// attend has the speaker announce the devices that are here, and no others.
func (h *host) attend(p presences) {
	var gone, resumed, fresh []babel.Key
	for k, was := range h.attached {
		if _, here := p.keys[k]; here && p.device == h.entrance {
			continue
		}
		if !was.lost {
			gone = append(gone, k)
		}
		delete(h.attached, k)
	}
	h.entrance = p.device
	for k, now := range p.keys {
		if was, told := h.attached[k]; told && was.visit == now.visit {
			continue
		}
		h.attached[k] = attachment{visit: now.visit}
		if now.resumed {
			resumed = append(resumed, k)
		} else {
			fresh = append(fresh, k)
		}
	}
	for _, keys := range [][]babel.Key{gone, resumed, fresh} {
		slices.SortFunc(keys, compareBabelKeys)
	}
	if len(gone) > 0 {
		h.carry(h.speaker.Detach(h.now(), gone))
	}
	if len(resumed) > 0 {
		h.carry(h.speaker.Resume(h.now(), resumed, p.device))
	}
	if len(fresh) > 0 {
		h.carry(h.speaker.Attach(h.now(), fresh, p.device))
	}
}

// giveUp takes note of the devices that another door took over: with one of its prefixes a
// device is gone with all.
func (h *host) giveUp(ds []babel.Displacement) {
	lost := map[uint64]displacement{}
	for _, d := range ds {
		a, told := h.attached[d.Key]
		if !told || a.lost {
			continue
		}
		h.attached[d.Key] = attachment{a.visit, true}
		lost[a.visit] = displacement{d.By, d.Contested || lost[a.visit].contested}
	}
	var rest []babel.Key
	for k, a := range h.attached {
		if _, gone := lost[a.visit]; gone && !a.lost {
			h.attached[k] = attachment{a.visit, true}
			rest = append(rest, k)
		}
	}
	if len(rest) > 0 {
		slices.SortFunc(rest, compareBabelKeys)
		h.carry(h.speaker.Detach(h.now(), rest))
	}
	if len(lost) > 0 {
		h.displaced(lost)
	}
}

func compareBabelKeys(a, b babel.Key) int {
	return cmp.Or(state.ComparePrefixes(a.Dst, b.Dst), state.ComparePrefixes(a.Src, b.Src))
}
