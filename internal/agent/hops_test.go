package agent

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tombolo/internal/babel"
)

// speakers stand for those of several doors: who attaches a device last has it, which the
// others hear a little later.
type speakers struct {
	mu    sync.Mutex
	doors []*entry
	order int
	has   []map[babel.Key]attached // by door
}

type attached struct {
	visit uint64
	order int
}

// serve takes what a door says until ctx ends.
func (s *speakers) serve(ctx context.Context, door int, delay func() time.Duration) {
	for {
		var p presences
		select {
		case p = <-s.doors[door].host.guests:
		case <-ctx.Done():
			return
		}
		s.mu.Lock()
		for k, was := range s.has[door] {
			if p.keys[k].visit != was.visit {
				delete(s.has[door], k)
			}
		}
		for k, now := range p.keys {
			if s.has[door][k].visit == now.visit {
				continue
			}
			s.order++
			order := s.order
			s.has[door][k] = attached{now.visit, order}
			for other := range s.doors {
				if other != door {
					time.AfterFunc(delay(), func() { s.hear(other, k, order) })
				}
			}
		}
		s.mu.Unlock()
	}
}

// hear tells a door that a device was attached elsewhere.
func (s *speakers) hear(door int, k babel.Key, order int) {
	s.mu.Lock()
	has, is := s.has[door][k]
	s.mu.Unlock()
	if is && has.order < order {
		s.doors[door].displaced(map[uint64]displacement{has.visit: {}})
	}
}

// Two hundred devices at three doors, of which twenty move each second: at rest each is where
// it had its last handshake, and nowhere else.
func TestAtRestEveryDeviceIsWhereItWentLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, doors = 200, 3
		random := rand.New(rand.NewPCG(1, 2))
		s := &speakers{}
		ctx, cancel := context.WithCancel(t.Context())
		var serving sync.WaitGroup
		defer serving.Wait()
		defer cancel()
		for d := range doors {
			e := newEntry(t, n)
			defer e.end()
			s.doors, s.has = append(s.doors, e), append(s.has, map[babel.Key]attached{})
			of := rand.New(rand.NewPCG(uint64(d), 3))
			serving.Go(func() {
				s.serve(ctx, d, func() time.Duration { return time.Duration(of.IntN(100)) * time.Millisecond })
			})
		}
		last := map[int]int{}
		began := time.Now()
		for range 60 * 20 {
			i, to := random.IntN(n), random.IntN(doors)
			s.doors[to].begins.come(1)
			time.Sleep(time.Duration(random.IntN(60)) * time.Millisecond)
			s.doors[to].shake(i, at1)
			last[i] = to
			time.Sleep(time.Duration(random.IntN(40)) * time.Millisecond)
		}
		took := time.Since(began)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		for d, door := range s.doors {
			for i := range n {
				_, here := s.has[d][babel.Key{Dst: addressesOf(i)[0]}]
				if at, ever := last[i]; here != (ever && at == d) || here != (door.guests[publicOf(i)].visit != 0) {
					t.Errorf("device%d was last at door %d, and is at door %d: %v", i, at, d, here)
				}
			}
			did := door.door.done()
			t.Logf("door %d: %d looks in %s, %d drops, %d asked", d, door.door.looks(), took, strings.Count(did, "drop"), strings.Count(did, "rouse"))
		}
	})
}
