package cli

import (
	"log/slog"

	"github.com/spf13/cobra"

	"tombolo/internal/tunnel"
)

// tunnelCommand is the process that holds the embedded WireGuard interfaces. The tunnel
// client starts it; nobody types it.
func (a *app) tunnelCommand() *cobra.Command {
	var worker bool
	c := &cobra.Command{
		Use:    "tunnel",
		Short:  "Hold the embedded WireGuard interfaces of this router",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o := tunnel.Options{
				Dir:    a.runDir,
				Worker: []string{selfExe, "tunnel", "--worker", "--run-dir", a.runDir},
				Log:    slog.New(slog.NewTextHandler(a.err, nil)),
			}
			if worker {
				return tunnel.Work(c.Context(), o)
			}
			return tunnel.Supervise(c.Context(), o)
		},
	}
	c.Flags().BoolVar(&worker, "worker", false, "run the devices for the supervisor that started this")
	return c
}
