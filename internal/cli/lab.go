//go:build !router

package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"tombolo/internal/lab"
)

func (a *app) labCommands() []*cobra.Command {
	return []*cobra.Command{a.demoCommand(), a.labCommand()}
}

func (a *app) labCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "lab",
		Short: "A network in namespaces on this machine",
		Long: `A network in namespaces on this machine: a router for each site, a host in each LAN, the
roaming devices, and an emulated Internet between them, with its delays, losses, cuts and
NATs. The routers run what they would run anywhere. Several labs can be up; --name says
which one is meant.

A host in a LAN is called SITE.host; "tombolo lab list" shows all names.`,
	}
	var name string
	c.PersistentFlags().StringVar(&name, "name", "", "which lab (default: the network's name for up, else the only lab)")
	c.AddCommand(a.labUpCommand(&name), a.labDownCommand(&name), a.labListCommand(&name), a.labExecCommand(&name),
		a.labPingCommand(&name),
		a.labCutCommand(&name, "cut", "Cut the paths between two places, or all of one, silently", (*lab.Lab).Cut, (*lab.Lab).CutOneWay),
		a.labCutCommand(&name, "heal", "Take back what cut did", (*lab.Lab).Heal, (*lab.Lab).HealOneWay),
		a.labPathCommand(&name), a.labCarrierCommand(&name), a.labLeaseCommand(&name), a.labCountersCommand(&name),
		a.labRoamCommand(&name), a.labServeCommand())
	return c
}

func (a *app) labUpCommand(name *string) *cobra.Command {
	var labFile, devices string
	c := &cobra.Command{
		Use:   "up FILE",
		Short: "Bring a lab up",
		Long: `Bring a lab up from a network file, and a lab file that says what the Internet is like
between the sites (default: FILE with .lab before its ending, where there is one).`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeFile,
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.asRoot(c.Context()); err != nil {
				return err
			}
			up, err := a.loadLab(args[0], labFile, *name)
			if err != nil {
				return err
			}
			if err := up.enter(devices); err != nil {
				return err
			}
			start := time.Now()
			l, err := a.upLab(c.Context(), up)
			if err != nil {
				return err
			}
			nodes, err := l.Nodes()
			if err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(map[string]any{"name": l.Name(), "nodes": nodes})
			}
			_, err = fmt.Fprintf(a.out, "lab %s is up: %s in %.1f s\n", l.Name(), count(len(nodes), "node"), time.Since(start).Seconds())
			return err
		},
	}
	c.Flags().StringVar(&labFile, "lab", "", "the lab file")
	c.Flags().StringVar(&devices, "devices", "on", "on: roaming devices enter at the first door that can be dialled; off: nowhere")
	return c
}

func (a *app) labDownCommand(name *string) *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:               "down [NAME]",
		Short:             "Take a lab down, also one whose process died",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeLab,
		RunE: func(c *cobra.Command, args []string) error {
			if all {
				return a.downAll(c.Context())
			}
			if len(args) > 0 {
				*name = args[0]
			}
			which, err := chooseLab(*name)
			if err != nil {
				return err
			}
			if err := lab.Down(c.Context(), which); err != nil {
				return err
			}
			return a.done(map[string]any{"down": []string{which}})
		},
	}
	c.Flags().BoolVar(&all, "all", false, "every lab")
	return c
}

func (a *app) downAll(ctx context.Context) error {
	labs, err := lab.List()
	errs, gone := []error{err}, []string{}
	for _, l := range labs {
		if err := lab.Down(ctx, l.Name); err != nil {
			errs = append(errs, err)
			continue
		}
		gone = append(gone, l.Name)
	}
	return errors.Join(append(errs, a.done(map[string]any{"down": gone}))...)
}

func (a *app) labListCommand(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the labs, or with --name the nodes of one",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if *name != "" {
				return a.listNodes(*name)
			}
			labs, err := lab.List()
			if err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(append([]lab.Info{}, labs...)) // [], not null
			}
			w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "LAB\tNETWORK\tSITES\tNODES\tUP SINCE\tPROCESS")
			for _, l := range labs {
				process := fmt.Sprint(l.PID)
				if !l.Alive {
					process = "died: lab down " + l.Name
				}
				fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%s\n", l.Name, l.Network, l.Sites, l.Nodes, l.Started.Format(time.DateTime), process)
			}
			return w.Flush()
		},
	}
}

func (a *app) listNodes(name string) error {
	l, err := lab.Open(name)
	if err != nil {
		return err
	}
	nodes, err := l.Nodes()
	if err != nil {
		return err
	}
	if a.json {
		return a.writeJSON(nodes)
	}
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tKIND\tNAMESPACE\tDEVICES")
	for _, n := range nodes {
		var devices []string
		for _, d := range n.Devices {
			text := d.Name
			for _, p := range d.Addresses {
				text += " " + p.String()
			}
			if d.Public.IsValid() {
				text += " (outside " + d.Public.String() + ")"
			}
			devices = append(devices, text)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", n.Name, n.Kind, n.Namespace, strings.Join(devices, ", "))
	}
	return w.Flush()
}

func (a *app) labExecCommand(name *string) *cobra.Command {
	c := &cobra.Command{
		Use:     "exec NODE [-- COMMAND [ARG …]]",
		Short:   "Run a command on a node, or a shell",
		Example: "  tombolo lab exec op1 -- wg show\n  tombolo lab exec op2.host -- ping 192.168.37.10",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			l, err := openLab(*name)
			if err != nil {
				return err
			}
			argv := args[1:]
			if len(argv) > 0 && argv[0] == "--" {
				argv = argv[1:]
			}
			if len(argv) == 0 {
				argv = []string{shell()}
			}
			cmd := exec.CommandContext(c.Context(), argv[0], argv[1:]...)
			cmd.Stdin, cmd.Stdout, cmd.Stderr = a.in, a.out, a.err
			err = l.Run(c.Context(), args[0], cmd)
			var exit *exec.ExitError
			if errors.As(err, &exit) && exit.ExitCode() > 0 {
				return exitCode(exit.ExitCode())
			}
			return err
		},
		ValidArgsFunction: completeNode(name, 1),
	}
	c.Flags().SetInterspersed(false)
	return c
}

func shell() string {
	if s := os.Getenv("SHELL"); s != "" {
		return s
	}
	return "/bin/sh"
}

func (a *app) labPingCommand(name *string) *cobra.Command {
	var times int
	c := &cobra.Command{
		Use:   "ping [FROM TO]",
		Short: "Ping from one node to another, or to an address; or every pair",
		Long: `Ping from one node to another, or to an address. Without arguments, from every router and
LAN host to every other, as a table; the exit code is 1 if any is not reached.`,
		Args: cobra.MatchAll(cobra.MaximumNArgs(2), func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				return errors.New("ping takes two nodes, or none for every pair")
			}
			return nil
		}),
		RunE: func(c *cobra.Command, args []string) error {
			l, err := openLab(*name)
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return a.pingAll(c.Context(), l)
			}
			to, err := netip.ParseAddr(args[1])
			if err != nil {
				n, err := l.Node(args[1])
				if err != nil {
					return err
				}
				if to, err = overlayOrAddr(l, n); err != nil {
					return err
				}
			}
			return a.pingTimes(c.Context(), l, args[0], to, times)
		},
		ValidArgsFunction: completeNode(name, 2),
	}
	c.Flags().IntVarP(&times, "count", "c", 3, "how many times")
	return c
}

func (a *app) pingTimes(ctx context.Context, l *lab.Lab, from string, to netip.Addr, times int) error {
	lost, all := 0, []float64{}
	for i := range times {
		rtt, err := l.Ping(ctx, from, lab.Echo{To: to, Timeout: 2 * time.Second})
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, lab.ErrNoReply):
			lost++
			if !a.json {
				fmt.Fprintf(a.out, "%s to %s: no answer within 2 s\n", from, to)
			}
		case err != nil:
			return err
		default:
			all = append(all, milliseconds(rtt))
			if !a.json {
				fmt.Fprintf(a.out, "%s to %s: %.2f ms\n", from, to, milliseconds(rtt))
			}
		}
		if i+1 < times {
			time.Sleep(200 * time.Millisecond)
		}
	}
	if a.json {
		if err := a.writeJSON(map[string]any{"from": from, "to": to, "milliseconds": all, "lost": lost}); err != nil {
			return err
		}
	}
	if lost == times {
		return exitCode(exitError)
	}
	return nil
}

// labServeCommand is the lab's own process, which lab.Up starts; nobody types it.
func (a *app) labServeCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "serve DIR",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return lab.Serve(c.Context(), args[0], lab.WireGuard{Embedded: a.tunnels(), Force: forceEmbedded()})
		},
	}
}

// asRoot runs the command line again in a user namespace of its own where we are not
// root; it returns nil where we are.
func (a *app) asRoot(ctx context.Context) error {
	if lab.Privileged() {
		return nil
	}
	code, err := lab.Enter(ctx, os.Args)
	if err != nil {
		return err
	}
	return exitCode(code)
}

// chooseLab returns the lab that is meant: the one of that name, else the only one.
func chooseLab(name string) (string, error) {
	if name != "" {
		return name, nil
	}
	labs, err := lab.List()
	if err != nil {
		return "", err
	}
	switch len(labs) {
	case 0:
		return "", hinted{errors.New("no lab is up"), "tombolo lab up FILE"}
	case 1:
		return labs[0].Name, nil
	}
	var names []string
	for _, l := range labs {
		names = append(names, l.Name)
	}
	return "", hinted{errors.New("which lab?"), "say --name, one of " + strings.Join(names, ", ")}
}

func openLab(name string) (*lab.Lab, error) {
	name, err := chooseLab(name)
	if err != nil {
		return nil, err
	}
	if !lab.Privileged() {
		return nil, lab.EnterLab(name, os.Args) // which returns only where it cannot
	}
	return lab.Open(name)
}

func completeLab(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	labs, _ := lab.List()
	var names []string
	for _, l := range labs {
		names = append(names, l.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeNode completes the names of nodes for the first few arguments.
func completeNode(name *string, arguments int) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		which, err := chooseLab(*name)
		if err != nil || len(args) >= arguments {
			return nil, cobra.ShellCompDirectiveDefault
		}
		l, err := lab.Open(which)
		if err != nil {
			return nil, cobra.ShellCompDirectiveDefault
		}
		nodes, _ := l.Nodes()
		var names []string
		for _, n := range nodes {
			names = append(names, n.Name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
