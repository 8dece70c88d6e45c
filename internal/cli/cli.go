// Package cli holds tombolo's commands. It is the only package that prints, and the only
// one that knows all the others.
//
// Every command writes its result to standard output, and everything else (progress,
// diagnostics, notes) to standard error. A user's mistake is shown with its place in the
// network file; what the world refused, as one line that names the object.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"tombolo/internal/spec"
)

// Exit codes.
const (
	exitOK      = 0
	exitError   = 1
	exitChanges = 2 // plan: there is something to do
)

// exitCode is an error that only sets the exit code: everything has been said.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// hinted is an error with a way out, which is printed on a line of its own.
type hinted struct {
	err  error
	hint string
}

func (h hinted) Error() string { return h.err.Error() }
func (h hinted) Unwrap() error { return h.err }

// app is what the commands share: where they write, and how.
type app struct {
	out, err io.Writer
	in       io.Reader
	json     bool
	colour   bool
	runDir   string
}

// Main runs the command line args (without the program's name) and returns the exit code.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	// On Debian nft and ip lie where a user's PATH does not lead.
	_ = os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{in: stdin, out: stdout, err: stderr, colour: isTerminal(stdout) && os.Getenv("NO_COLOR") == ""}
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var code exitCode
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &code):
		return int(code)
	}
	printError(stderr, err)
	return exitError
}

// printError prints an error, each of several on its own, with the way out where it has one.
func printError(w io.Writer, err error) {
	switch e := err.(type) { //nolint:errorlint // what is wrapped was given its words by the wrapper
	case interface{ Unwrap() []error }:
		for _, part := range e.Unwrap() {
			printError(w, part)
		}
	case spec.Diagnostics:
		fmt.Fprint(w, e.String())
	default:
		fmt.Fprintf(w, "error: %v\n", err)
		var h hinted
		if errors.As(err, &h) {
			fmt.Fprintf(w, "hint: %s\n", h.hint)
		}
	}
}

// Command returns the whole tree of commands, for man pages and completions.
func Command() *cobra.Command {
	return (&app{in: os.Stdin, out: os.Stdout, err: os.Stderr}).root()
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "tombolo",
		Short: "Join networks that are apart, from one file",
		Long: `tombolo joins networks that are apart. One file says which sites there are and what
should reach what; every router gets the WireGuard tunnels, routes, rules and firewall
that make it so.`,
		Example:       "  tombolo demo\n  tombolo init > network.yaml\n  tombolo check network.yaml\n  tombolo apply network.yaml --site op1",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print the result as JSON")
	root.PersistentFlags().StringVar(&a.runDir, "run-dir", "/run/tombolo", "folder for what ends with this boot")
	_ = root.PersistentFlags().MarkHidden("run-dir")
	root.AddGroup(
		&cobra.Group{ID: "file", Title: "The network file:"},
		&cobra.Group{ID: "router", Title: "On a router:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("file", a.initCommand(), a.checkCommand(), a.showCommand(), a.drawCommand(), a.traceCommand(), a.reachCommand(), a.diffCommand(), a.clientCommand(), a.keyCommand())
	add("router", a.planCommand(), a.applyCommand(), a.confirmCommand(), a.downCommand(), a.agentCommand(),
		a.statusCommand(), a.routesCommand(), a.watchCommand(), a.pingCommand(), a.stateCommand())
	if lab := a.labCommands(); len(lab) > 0 {
		root.AddGroup(&cobra.Group{ID: "lab", Title: "On one machine, without routers:"})
		add("lab", lab...)
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return hinted{err, c.CommandPath() + " --help"} })
	root.AddCommand(a.versionCommand(), a.tunnelCommand(), a.keeperCommand(), a.revertCommand())
	withUsage(root)
	return root
}

// withUsage has every command say how it is called, where it was called otherwise.
func withUsage(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return hinted{err, c.UseLine()}
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		withUsage(sub)
	}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// say prints a line of progress or explanation.
func (a *app) say(format string, args ...any) { fmt.Fprintf(a.err, format+"\n", args...) }
