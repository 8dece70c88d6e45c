package sim

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"tombolo/internal/babel"
	"tombolo/internal/compile"
	"tombolo/internal/key"
	"tombolo/internal/spec"
	"tombolo/internal/state"
	"tombolo/internal/trace/learned"
)

// wanted is a network of a file, whose routers' speakers run, beside what package learned says
// that they hold at rest.
type wanted struct {
	*Net
	t      *testing.T
	r      *rand.Rand
	text   string
	world  learned.World
	nodes  map[string]*Node
	states map[string]state.Router
	wires  map[[2]string]*Wire // by sites in order
	dead   map[string]bool     // "site device"
	keys   []babel.Key
	doors  map[babel.Key]*Node // of devices' addresses
	ways   int                 // that were compared
}

// newWanted starts the speakers of a random file.
func newWanted(t *testing.T, seed uint64) *wanted {
	r := rand.New(rand.NewPCG(seed, 8))
	w := &wanted{
		Net: New(seed), t: t, r: r, nodes: map[string]*Node{}, states: map[string]state.Router{},
		wires: map[[2]string]*Wire{}, dead: map[string]bool{},
	}
	var n *spec.Network
	for n == nil { // an exit may be one to which no Babel routers lead
		w.text = randomFile(r)
		n, _ = spec.Parse("network.yaml", []byte(w.text))
	}
	keys := map[string]key.Public{spec.AccessKey: {1, 3}}
	for i, s := range n.Sites {
		keys[s.Name] = key.Public{byte(i + 1), 1}
	}
	for i, d := range n.Clients.Devices {
		keys[d.Name] = key.Public{byte(i + 1), 2}
	}
	w.world = learned.World{
		Routers: compile.All(n, compile.Options{Keys: keys}), Doors: map[string]string{},
		Down: func(a, b string) bool {
			x := w.wires[[2]string{min(a, b), max(a, b)}]
			return x != nil && x.Cut[0]
		},
		Dead: func(site, device string) bool { return w.dead[site+" "+device] },
		RTT: func(a, b string) time.Duration {
			x := w.wires[[2]string{min(a, b), max(a, b)}]
			return x.Delay[0] + x.Delay[1]
		},
	}
	w.OnDisplaced = func(n *Node, d babel.Displacement) {
		// The door asks a device that may still be here, and it answers.
		if door, is := w.doors[d.Key]; is && door == n {
			w.take(n, n.Speaker.Attach(w.Now, []babel.Key{d.Key}, "wg-clients"))
		}
	}
	if r.IntN(3) == 0 {
		w.distrust()
	}
	w.build()
	return w
}

// distrust has routers not take all that others announce.
func (w *wanted) distrust() {
	for _, r := range w.world.Routers {
		if r.Babel == nil {
			continue
		}
		r.Babel.Accept = slices.DeleteFunc(r.Babel.Accept, func(state.Accept) bool { return w.r.IntN(8) == 0 })
		for i, a := range r.Babel.Accept {
			r.Babel.Accept[i].Origins = slices.DeleteFunc(slices.Clone(a.Origins), func(uint32) bool { return w.r.IntN(8) == 0 })
		}
	}
}

// build makes the speakers and wires of the states.
func (w *wanted) build() {
	all := map[babel.Key]bool{}
	w.Several = map[babel.Key]bool{}
	for _, r := range w.world.Routers {
		w.states[r.Site] = r
		if r.Babel == nil {
			continue
		}
		node := w.Add(r.Site, babel.Timing{})
		node.index = int(r.Babel.Site) - 1
		node.config.Accept = babel.Policy{Exact: map[babel.Key][]uint32{}, Mobile: map[babel.Key]bool{}}
		for _, a := range r.Babel.Accept {
			k := babel.Key{Dst: a.Dst, Src: a.Src}
			node.config.Accept.Exact[k] = a.Origins
			if a.Mobile {
				node.config.Accept.Mobile[k] = true
			}
			all[k], w.Several[k] = true, len(a.Origins) > 1
		}
		w.nodes[r.Site] = node
	}
	w.keys = slices.SortedFunc(maps.Keys(all), func(a, b babel.Key) int {
		if c := state.ComparePrefixes(a.Dst, b.Dst); c != 0 {
			return c
		}
		return state.ComparePrefixes(a.Src, b.Src)
	})
	equal := w.r.IntN(2) == 0 // then there are many equal ways
	for _, r := range w.world.Routers {
		if r.Babel == nil {
			continue
		}
		for _, l := range r.Babel.Links {
			if l.Peer > r.Site {
				delay := 5 * time.Millisecond
				if !equal {
					delay = time.Duration(w.r.Int64N(int64(30 * time.Millisecond)))
				}
				w.wires[[2]string{r.Site, l.Peer}] = w.join(r, l, w.states[l.Peer], delay)
			}
		}
	}
	for _, n := range w.Nodes {
		n.Own = w.own(n.Name)
		w.Start(n)
	}
}

// join joins two speakers as their states say.
func (w *wanted) join(r state.Router, l state.BabelLink, peer state.Router, delay time.Duration) *Wire {
	i := slices.IndexFunc(peer.Babel.Links, func(x state.BabelLink) bool { return x.Peer == r.Site })
	x := w.Join(w.nodes[r.Site], w.nodes[peer.Site], delay)
	for side, l := range []state.BabelLink{l, peer.Babel.Links[i]} {
		n, end := []*Node{x.A, x.B}[side], x.ends[side]
		c := &n.config.Links[len(n.config.Links)-1]
		delete(n.ends, end.link)
		n.ends[l.Device], end.link = end, l.Device
		c.Name, c.Tunnel, c.Only, c.Cost = l.Device, l.Tunnel, l.Only, uint16(10*l.Cost)
	}
	return x
}

// own is what a router announces.
func (w *wanted) own(site string) []babel.Announcement {
	var out []babel.Announcement
	for _, a := range w.states[site].Babel.Announce {
		switch a.While {
		case state.Carrier:
			if w.dead[site+" "+a.Device] {
				continue
			}
		case state.Handshake:
			if w.dead[a.Peer+" "] {
				continue
			}
		case state.Works:
			works := slices.ContainsFunc(w.states[site].Uplinks, func(u state.Uplink) bool {
				return !w.dead[site+" "+u.Device] && (u.DHCP || a.Dst.Addr().Is4()) // all others are of IPv4 alone
			})
			if !works {
				continue
			}
		}
		out = append(out, babel.Announcement{Key: babel.Key{Dst: a.Dst, Src: a.Src}, Metric: a.Metric})
	}
	return out
}

// befall cuts links, kills routers, and lets uplinks, LANs and devices come and go.
func (w *wanted) befall() {
	for _, at := range slices.SortedFunc(maps.Keys(w.wires), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) }) {
		w.wires[at].CutBoth(w.r.IntN(3) == 0)
	}
	for _, n := range w.Nodes {
		w.dead[n.Name+" lan0"] = w.r.IntN(4) == 0
		w.dead[n.Name+" eth9"] = w.r.IntN(3) == 0
		if w.r.IntN(6) == 0 && !n.dead {
			w.dead[n.Name+" "] = true
			w.Kill(n)
		}
	}
	w.roam()
	for name, r := range w.states {
		if r.Babel == nil {
			w.dead[name+" "] = w.r.IntN(5) == 0
		}
	}
	for _, n := range w.Nodes {
		if !n.dead {
			w.Announce(n, w.own(n.Name))
		}
	}
}

// roam has devices leave their doors, and most of them enter others.
func (w *wanted) roam() {
	var doors []*Node
	devices := map[string][]babel.Key{}
	for _, n := range w.Nodes {
		c := w.states[n.Name].Clients
		if c == nil || n.dead {
			continue
		}
		doors = append(doors, n)
		for _, d := range c.Devices {
			devices[d.Name] = nil
			for _, a := range d.Addresses {
				devices[d.Name] = append(devices[d.Name], babel.Key{Dst: a})
			}
		}
	}
	w.world.Doors, w.doors = map[string]string{}, map[babel.Key]*Node{}
	for _, d := range slices.Sorted(maps.Keys(devices)) {
		for _, n := range doors {
			w.take(n, n.Speaker.Detach(w.Now, devices[d]))
		}
		if i := w.r.IntN(len(doors) + 1); i < len(doors) {
			w.world.Doors[d] = doors[i].Name
			for _, k := range devices[d] {
				w.doors[k] = doors[i]
			}
			w.take(doors[i], doors[i].Speaker.Attach(w.Now, devices[d], "wg-clients"))
		}
	}
}

// compare looks whether the speakers go the ways that are said, or others that are as good.
func (w *wanted) compare() {
	said := learned.Routes(w.world)
	for _, n := range w.Nodes {
		if n.dead {
			if _, is := said[n.Name]; is {
				w.t.Errorf("%s is dead", n.Name)
			}
			continue
		}
		for _, k := range w.keys {
			mine, its := w.said(said, n, k), n.FIB[k]
			if its.Unreachable {
				w.t.Errorf("%s has no way to %v yet", n.Name, k)
			}
			if mine != "" {
				w.ways++
			}
			if mine == its.Link {
				continue
			}
			chosen := func(n *Node) string { return n.FIB[k].Link }
			a, ok := w.length(n, k, func(n *Node) string { return w.said(said, n, k) })
			b, also := w.length(n, k, chosen)
			// Said is the shortest; and of what its neighbours have chosen, a router stays only with
			// what is not much worse: it then asks nobody for a sequence number with which the
			// better one would be feasible.
			other := func(x *Node) string {
				if x == n {
					return mine
				}
				return chosen(x)
			}
			c, offered := w.length(n, k, other)
			if !ok || !also || b < a || offered && b-c >= max(20, b/20) {
				w.t.Errorf("%v: %s to %v: said is %q (%d), chosen is %q (%d, by the other %d)", w.Now, n.Name, k, mine, a, its.Link, b, c)
			}
		}
	}
}

// said is the device of the route that is said to be there.
func (w *wanted) said(all map[string]learned.Held, n *Node, k babel.Key) string {
	b := w.states[n.Name].Babel
	table := b.Table
	for _, e := range b.Exits {
		if e.Src == k.Src && k.Dst.Bits() == 0 {
			table = e.Table
		}
	}
	for _, r := range all[n.Name].Routes {
		if r.Protocol == b.Protocol && r.Table == table && r.Dst == k.Dst {
			return r.Device
		}
	}
	return ""
}

// length is the metric of a way, from hop to hop.
func (w *wanted) length(n *Node, k babel.Key, hop func(*Node) string) (metric int, ok bool) {
	for range len(w.Nodes) + 1 {
		device := hop(n)
		e := n.ends[device]
		if e == nil {
			i := slices.IndexFunc(n.Own, func(a babel.Announcement) bool { return a.Key == k })
			if i >= 0 {
				metric += int(n.Own[i].Metric)
			}
			return metric, i >= 0 || device != ""
		}
		i := slices.IndexFunc(n.config.Links, func(l babel.Link) bool { return l.Name == device })
		metric += int(n.config.Links[i].Cost) + int((e.wire.Delay[0]+e.wire.Delay[1]+50*time.Microsecond)/(100*time.Microsecond))
		if n = e.wire.A; e.side == 0 {
			n = e.wire.B
		}
	}
	return metric, false
}

// rest is how long a network needs until every router knows its neighbours' metrics: small
// changes are not said before all is said again, which is so every five minutes.
const rest = 10 * time.Minute

// TestWhatIsWantedIsWhatSpeakersChoose runs the speakers of random files: at rest each goes the
// ways that package learned says, from the states alone.
func TestWhatIsWantedIsWhatSpeakersChoose(t *testing.T) {
	ways := 0
	for i := range *laws {
		s := *seed + uint64(i)
		t.Run(fmt.Sprint("seed=", s), func(t *testing.T) {
			w := newWanted(t, s)
			w.Run(rest)
			w.compare()
			for range 2 {
				w.befall()
				w.Run(w.Now + rest)
				w.compare()
			}
			if ways += w.ways; t.Failed() {
				t.Log(w.text)
			}
		})
	}
	t.Logf("%d ways", ways)
}
