package plantest

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"tombolo/internal/plan"
	"tombolo/internal/state"
)

func route(dst string) state.Route {
	return state.Route{Table: 110, Dst: netip.MustParsePrefix(dst), Type: state.Unicast, Device: "eth0", Protocol: 84}
}

func router(dsts ...string) state.Router {
	r := state.Router{Version: state.Version, Owner: state.DefaultOwner()}
	for _, d := range dsts {
		r.Routes = append(r.Routes, route(d))
	}
	return r
}

func TestApplyIsWrittenDownAsCommands(t *testing.T) {
	ctx := context.Background()
	k := New(router("10.1.0.0/16"))
	want := router("10.2.0.0/16")
	have, err := k.Read(ctx, want)
	if err != nil {
		t.Fatal(err)
	}
	changed := k.Changed()
	if err := k.Apply(ctx, plan.Diff(have, want).Ops); err != nil {
		t.Fatal(err)
	}
	<-changed
	got := strings.Join(k.Commands(), "\n")
	if got != "ip route add 10.2.0.0/16 dev eth0 table 110 proto 84\nip route del 10.1.0.0/16 dev eth0 table 110 proto 84" {
		t.Errorf("the commands are:\n%s", got)
	}
	if have, _ = k.Read(ctx, want); !slices.Equal(have.Routes, want.Routes) {
		t.Errorf("the kernel holds %v", have.Routes)
	}
}

func TestApplyUndoesWhatItDidWhenRefused(t *testing.T) {
	ctx := context.Background()
	k := New(router())
	refusal := errors.New("no")
	k.Refuse(func(op plan.Op) error {
		if op.Verb == plan.Add && strings.HasPrefix(op.Object.ID(), "10.3") {
			return refusal
		}
		return nil
	})
	want := router("10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16")
	if err := k.Apply(ctx, plan.Diff(router(), want).Ops); !errors.Is(err, refusal) {
		t.Errorf("the error is %v, want %v", err, refusal)
	}
	if have, _ := k.Read(ctx, want); len(have.Routes) != 0 {
		t.Errorf("the kernel holds %v, want nothing", have.Routes)
	}
	want4 := []string{"add 10.1", "add 10.2", "del 10.2", "del 10.1"}
	for i, c := range k.Commands() {
		if !strings.HasPrefix(c, "ip route "+want4[i]) {
			t.Errorf("command %d is %s, want %s", i, c, want4[i])
		}
	}
}

func TestApplyRefusesWhatDoesNotFit(t *testing.T) {
	k := New(router())
	want := router("10.1.0.0/16")
	p := plan.Diff(router(), want)
	k.Meddle(func(r *state.Router) { r.Routes = append(r.Routes, route("10.1.0.0/16")) })
	if err := k.Apply(context.Background(), p.Ops); !errors.Is(err, plan.ErrExists) {
		t.Errorf("the error is %v, want %v", err, plan.ErrExists)
	}
}
