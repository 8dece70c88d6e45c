package sim

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"tombolo/internal/babel"
)

var (
	roamers = flag.Int("clients", 60, "devices that TestRoaming lets roam")
	doors   = flag.Int("doors", 50, "routers that they roam between")
)

// roaming is a network whose routers are doors, and devices that roam between them as their
// WireGuard has it: a door has a session with a device, from a handshake on until it drops
// it; the device knows the door of its last handshake, and no other.
type roaming struct {
	*Net
	t       *testing.T
	r       *rand.Rand
	devices []*device
	by      map[babel.Key]*device
}

type device struct {
	key   babel.Key
	at    *Node          // its last handshake's; nil: it sleeps
	since babel.Time     // when that was
	doors map[*Node]bool // that have a session, as they think
	moves int
}

// newRoaming joins doors at random: a tree, and half as many wires more.
func newRoaming(t *testing.T, seed uint64, doors, devices int, loss float64) *roaming {
	w := &roaming{Net: New(seed), t: t, r: rand.New(rand.NewPCG(seed, 3)), by: map[babel.Key]*device{}}
	mobile := map[babel.Key]bool{}
	for i := range devices {
		d := &device{key: babel.Key{Dst: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 100, byte(i >> 8), byte(i)}), 32)}, doors: map[*Node]bool{}}
		w.devices = append(w.devices, d)
		w.by[d.key] = d
		mobile[d.key] = true
	}
	for i := range doors {
		n := w.Add(fmt.Sprintf("d%d", i), babel.Timing{}, prefixOf(i, 0))
		n.config.Accept.Mobile = mobile
		if i > 0 {
			w.join(n, w.Nodes[w.r.IntN(i)], loss)
		}
	}
	for range doors / 2 {
		if a, b := w.Nodes[w.r.IntN(doors)], w.Nodes[w.r.IntN(doors)]; a != b && a.ends["wg-"+b.Name] == nil {
			w.join(a, b, loss)
		}
	}
	w.OnDisplaced = w.displaced
	for _, n := range w.Nodes {
		w.Start(n)
	}
	w.Run(30 * time.Second)
	return w
}

func (w *roaming) join(a, b *Node, loss float64) {
	x := w.Join(a, b, time.Millisecond+time.Duration(w.r.Int64N(int64(40*time.Millisecond))))
	x.Jitter = [2]time.Duration{x.Delay[0] / 10, x.Delay[0] / 10}
	x.Loss = [2]float64{loss, loss}
}

// enter has a device complete a handshake with a door.
func (w *roaming) enter(d *device, door *Node) {
	if door.dead && !door.silent {
		return
	}
	d.at, d.since = door, w.Now
	d.doors[door] = true
	w.moved[d.key] = w.Now
	if door.silent {
		return // its kernel has a session, which its next agent finds
	}
	w.take(door, door.Speaker.Attach(w.Now, []babel.Key{d.key}, "wg-clients"))
}

// displaced is what a host does: it drops the session, and where another did not know of it,
// begins a handshake, which the device answers if this is the door that it knows.
func (w *roaming) displaced(n *Node, x babel.Displacement) {
	d := w.by[x.Key]
	delete(d.doors, n)
	d.moves++
	here := d.at == n
	if x.Contested && here {
		w.enter(d, n)
	}
}

// rekey is what WireGuard does by itself: every 120 s, and after 15 s without an answer. A
// door that keeps a session for 180 s without one then lets the device go.
func (w *roaming) rekey() {
	for _, d := range w.devices {
		if d.at != nil && !d.at.dead && (w.Now-d.since > 120*time.Second || !d.doors[d.at] && w.Now-d.since > 15*time.Second) {
			if d.since = w.Now; !d.doors[d.at] {
				w.enter(d, d.at)
			}
		}
		for _, n := range w.Nodes {
			if d.doors[n] && d.at != n && w.Now-d.since > 180*time.Second {
				delete(d.doors, n)
				w.take(n, n.Speaker.Detach(w.Now, []babel.Key{d.key}))
			}
		}
	}
}

// rest looks whether each device is at the one door that it knows, and reached from
// everywhere.
func (w *roaming) rest(awake bool) {
	for _, d := range w.devices {
		if awake && d.at == nil {
			continue
		}
		var doors []string
		for _, n := range w.Nodes {
			if d.doors[n] {
				doors = append(doors, n.Name)
			}
		}
		want := []string(nil)
		if d.at != nil {
			want = []string{d.at.Name}
		}
		if !slices.Equal(doors, want) {
			w.t.Errorf("%v: %s is at %v, and the doors %v have it", w.Now, d.key.Dst, want, doors)
			continue
		}
		for _, n := range w.Nodes {
			way, _ := w.Follow(n, d.key)
			last := way[len(way)-1]
			_, known := n.FIB[d.key]
			if d.at == nil && known || d.at != nil && (last != d.at || last.FIB[d.key].Link != "wg-clients") {
				w.t.Errorf("%v: from %s packets for %s end at %s, want %v", w.Now, n.Name, d.key.Dst, last.Name, want)
			}
		}
		if w.t.Failed() {
			return
		}
	}
}

// TestRoaming has devices hop at random, while links lose packets, the network falls apart
// and heals, and speakers begin anew. At rest exactly one door has each device: its own.
func TestRoaming(t *testing.T) {
	for _, c := range []struct {
		name   string
		loss   float64
		tear   bool
		silent bool
	}{{"hops", 0, false, false}, {"loss", 0.05, false, false}, {"partitions", 0.01, true, false}, {"restarts", 0.01, true, true}} {
		t.Run(c.name, func(t *testing.T) {
			w := newRoaming(t, *seed+7, *doors, *roamers, c.loss)
			for range 3 {
				for range 400 {
					d := w.devices[w.r.IntN(len(w.devices))]
					switch w.r.IntN(20) {
					case 0:
						if d.at != nil { // it sleeps
							d.at, d.since = nil, w.Now
						}
					case 1: // it hops faster than the news
						w.enter(d, w.Nodes[w.r.IntN(len(w.Nodes))])
						w.Run(w.Now + time.Duration(w.r.Int64N(int64(20*time.Millisecond))))
						w.enter(d, w.Nodes[w.r.IntN(len(w.Nodes))])
					case 2, 3:
						if c.tear {
							w.Wires[w.r.IntN(len(w.Wires))].CutBoth(w.r.IntN(2) == 0)
						}
					case 4:
						if n := w.Nodes[w.r.IntN(len(w.Nodes))]; c.silent {
							w.Silence(n)
							w.Run(w.Now + time.Duration(w.r.ExpFloat64()*float64(time.Second)))
							w.enter(d, n)
							w.restart(n)
						}
					default:
						w.enter(d, w.Nodes[w.r.IntN(len(w.Nodes))])
					}
					w.Run(w.Now + time.Duration(w.r.ExpFloat64()*float64(100*time.Millisecond)))
					w.rekey()
				}
				for _, x := range w.Wires {
					x.CutBoth(false)
				}
				// Those that are awake are found without a word of theirs, the others are let
				// go when their sessions end.
				w.Run(w.Now + 20*time.Second)
				w.rest(true)
				for range 250 {
					w.Run(w.Now + time.Second)
					w.rekey()
				}
				w.rest(false)
				if t.Failed() {
					return
				}
			}
			for _, f := range w.Faults {
				t.Error(f)
			}
			moves := 0
			for _, d := range w.devices {
				moves += d.moves
			}
			t.Logf("%d devices displaced %d times, %d brief loops", len(w.devices), moves, w.Brief)
		})
	}
}

// restart has a door's agent begin anew after a while: it finds the sessions that WireGuard has.
func (w *roaming) restart(n *Node) {
	w.Run(w.Now + time.Duration(w.r.ExpFloat64()*float64(time.Second)))
	w.Start(n)
	var here []babel.Key
	for _, d := range w.devices {
		if d.doors[n] {
			here = append(here, d.key)
			w.moved[d.key] = w.Now
		}
	}
	w.take(n, n.Speaker.Resume(w.Now, here, "wg-clients"))
}
