package kernel

import (
	"context"
	"net/netip"
	"testing"

	"tombolo/internal/plan"
	"tombolo/internal/state"
)

// tenThousand is a router with 10,000 IPv4 routes over v0.
func tenThousand() state.Router {
	want := empty()
	for i := range 10_000 {
		a := netip.AddrFrom4([4]byte{10, byte(100 + i>>8), byte(i), 0})
		want.Routes = append(want.Routes, state.Route{
			Table: 110, Dst: netip.PrefixFrom(a, 24), Type: state.Unicast, Device: "v0",
			PrefSrc: addrOf("10.0.0.1"), Protocol: want.Owner.Protocol,
		})
	}
	want.Sort()
	return want
}

// BenchmarkApply10kRoutes adds them to an empty table; to empty it again does not count.
func BenchmarkApply10kRoutes(b *testing.B) {
	namespace(b)
	veth(b)
	k, want := open(b), tenThousand()
	ctx := context.Background()
	add := plan.Diff(read(b, k, want), want).Ops
	remove := plan.Undo(add)
	for b.Loop() {
		if err := k.Apply(ctx, add); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := k.Apply(ctx, remove); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkRead10kRoutes is what a second plan costs: read, and find nothing to do.
func BenchmarkRead10kRoutes(b *testing.B) {
	namespace(b)
	veth(b)
	k, want := open(b), tenThousand()
	apply(b, k, want)
	for b.Loop() {
		if p := plan.Diff(read(b, k, want), want); !p.Empty() {
			b.Fatal(planText(p))
		}
	}
}
