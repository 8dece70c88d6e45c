//go:build !router

package cli

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tombolo/examples"
	"tombolo/internal/lab"
	"tombolo/internal/spec"
)

func (a *app) demoCommand() *cobra.Command {
	var keep bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "Bring the home network up on this machine, and show who reaches whom",
		Long: `Bring the home network of the examples up on this machine: three routers and their LANs
in namespaces, over an emulated Internet with its real delays. Print who reaches whom and
how fast, and take it down again. The exit code is 1 if any pair is not reached.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := a.asRoot(c.Context()); err != nil {
				return err
			}
			return a.demo(c.Context(), keep)
		},
	}
	c.Flags().BoolVar(&keep, "keep", false, "leave it up")
	return c
}

// demoLab is the name of the demo's lab.
const demoLab = "demo"

func (a *app) demo(ctx context.Context, keep bool) (err error) {
	text, labText, err := examples.Read("home")
	if err != nil {
		return err
	}
	n := file{text: text}
	n.Network, n.diagnostics = spec.Parse("home.yaml", text)
	if n.Network == nil {
		return n.diagnostics.Err()
	}
	up, err := a.newLab(n, "home.lab.yaml", labText, demoLab)
	if err != nil {
		return err
	}
	a.say("the home network: %s, over an emulated Internet", count(len(n.Sites), "site"))
	start := time.Now()
	l, err := a.upLab(ctx, up)
	if err != nil {
		return err
	}
	if !keep {
		defer func() { err = errors.Join(err, lab.Down(context.WithoutCancel(ctx), l.Name())) }()
	}
	a.say("up after %.1f s; pinging every pair", time.Since(start).Seconds())
	if err := a.pingAll(ctx, l); err != nil {
		return err
	}
	if !a.json {
		a.whatNext(keep)
	}
	return nil
}

// whatNext says what to type, with the program's name as it was typed.
func (a *app) whatNext(keep bool) {
	text := `
Every pair is reached. What to type next:
  tombolo demo --keep                  leave it up and look around in it
  tombolo init > network.yaml          write your own
  tombolo check network.yaml
  tombolo lab up network.yaml          try it here
  tombolo apply network.yaml --site NAME --confirm 60s     and then on a router`
	if keep {
		text = `
It is still up. Look around:
  tombolo lab exec op1 -- wg show
  tombolo lab exec op2 -- ip route show table 110
  tombolo lab exec op2.host -- ping 192.168.37.10
  tombolo lab cut op1 op2
  tombolo lab ping op2.host op1.host
  tombolo lab heal op1 op2
  tombolo lab down`
	}
	if labs, err := lab.List(); err == nil && len(labs) > 1 {
		for _, c := range []string{"exec", "cut", "ping", "heal", "down"} {
			text = strings.ReplaceAll(text, "lab "+c, "lab "+c+" --name "+demoLab)
		}
	}
	a.say("%s", strings.ReplaceAll(text, "\n  tombolo ", "\n  "+os.Args[0]+" "))
}
