package sim

import (
	"net/netip"
	"testing"
	"time"

	"tombolo/internal/babel"
)

// home is the triangle of the home network: op1–op2 20 ms, op1–op3 27 ms, op2–op3 52 ms of
// round trip, so that op2 and op3 are nearer by op1 than to each other.
type home struct {
	*Net
	op1, op2, op3    *Node
	w12, w13, w23    *Wire
	lan1, lan2, lan3 babel.Key
	t                *testing.T
}

func newHome(t *testing.T, seed uint64) *home {
	h := &home{Net: New(seed), t: t}
	h.build()
	h.OnEvent = func(n *Node, e babel.Event) {
		k := ""
		if e.Key != nil {
			k = e.Key.Dst.String()
		}
		t.Logf("%8.3f %s: %s %s %s: %s", h.Now.Seconds(), n.Name, e.Kind, e.Link, k, e.Reason)
	}
	for _, n := range h.Nodes {
		h.Start(n)
	}
	return h
}

// build makes routers and wires, and starts none.
func (h *home) build() {
	for i, n := range []**Node{&h.op1, &h.op2, &h.op3} {
		lan := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(35 + i), 0}), 24)
		*[]*babel.Key{&h.lan1, &h.lan2, &h.lan3}[i] = babel.Key{Dst: lan}
		*n = h.Add([]string{"op1", "op2", "op3"}[i], babel.Timing{}, lan)
	}
	h.w12 = h.Join(h.op1, h.op2, 10*time.Millisecond)
	h.w13 = h.Join(h.op1, h.op3, 13500*time.Microsecond)
	h.w23 = h.Join(h.op2, h.op3, 26*time.Millisecond)
}

// via reports by which link a router goes to a key.
func (h *home) via(n *Node, k babel.Key) string { return n.FIB[k].Link }

func TestNearerWayOverTwoHops(t *testing.T) {
	h := newHome(t, 1)
	h.Run(5 * time.Second)
	if v := h.via(h.op2, h.lan3); v != "wg-op1" {
		t.Errorf("op2 goes to op3's LAN by %s", v)
	}
	if v := h.via(h.op3, h.lan2); v != "wg-op1" {
		t.Errorf("op3 goes to op2's LAN by %s", v)
	}
	h.w12.Busy, h.w13.Busy = true, true
	h.Run(20 * time.Second)
	t.Log("--- longer")
	h.w13.Delay = [2]time.Duration{30 * time.Millisecond, 30 * time.Millisecond}
	h.Run(30 * time.Second)
	if v := h.via(h.op2, h.lan3); v != "wg-op3" {
		t.Errorf("op2 goes to op3's LAN by %s", v)
	}
	t.Log("--- shorter again")
	h.w13.Delay = [2]time.Duration{13500 * time.Microsecond, 13500 * time.Microsecond}
	h.Run(40 * time.Second)
	if v := h.via(h.op2, h.lan3); v != "wg-op1" {
		t.Errorf("op2 goes to op3's LAN by %s", v)
	}
	t.Log("--- cut")
	h.w13.Cut = [2]bool{true, true}
	h.Run(45 * time.Second)
	t.Log("--- heal")
	h.w13.Cut = [2]bool{}
	h.Run(60 * time.Second)
	t.Log("--- cut one way")
	h.w13.Cut = [2]bool{true, false}
	h.Run(65 * time.Second)
	for _, f := range h.Faults {
		t.Error(f)
	}
	for _, w := range h.Wires {
		t.Logf("%s-%s %d bytes", w.A.Name, w.B.Name, w.Bytes[0])
	}
}
