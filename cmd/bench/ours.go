package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// ours is tombolo's agent.
type ours struct{ o options }

// oursFile is the triangle with a LAN at op1 and at op3 on which another Babel router may
// announce hosts: what moves between them is announced by BIRD there, since what stands in
// the file stays where it is.
var oursFile = strings.NewReplacer(
	"lan: {br-lan: 192.168.35.0/24}", "lan: {br-lan: 192.168.35.0/24, br-move: 10.8.1.0/24}\n    babel: {br-move: {accept: [10.0.31.0/24]}}",
	"lan: {br-lan: 192.168.37.0/24}", "lan: {br-lan: 192.168.37.0/24, br-move: 10.8.3.0/24}\n    babel: {br-move: {accept: [10.0.31.0/24]}}",
).Replace(triangleFile)

// exists reports whether the binary that is measured has an agent.
func (u ours) exists(ctx context.Context) bool {
	return exec.CommandContext(ctx, u.o.tombolo, "agent", "--help").Run() == nil
}

func (ours) homes() [2]string { return [2]string{"op1.host-br-move", "op3.host-br-move"} }

func (ours) told() []place { return []place{{"op1", "br-move"}, {"op3", "br-move"}} }

// start starts the agents, which keep what the lab applied.
func (u ours) start(ctx context.Context, t *triangle) error {
	for i, home := range u.homes() {
		id := fmt.Sprintf("10.8.%d.10", 1+2*i)
		config := birdBase(id, `"lo"`) + birdBabel("  interface \"eth0\" { type wired; hello interval 1 s; };\n")
		if err := (bird{}).begin(ctx, t, home, config); err != nil {
			return err
		}
	}
	return onRouters(ctx, func(ctx context.Context, site string) error { return t.begin(ctx, site, t.o.tombolo, "agent") })
}

// stop ends the agents, which leave their routes as they are, and takes these away.
func (ours) stop(ctx context.Context, t *triangle) error { return rivalHomes{}.stop(ctx, t) }
