package cli

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"tombolo/internal/kernel"
)

// version is set by the linker (see the Makefile).
var version = "unknown"

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, and what this kernel lets tombolo use",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			features, err := kernel.Probe(c.Context())
			if err != nil {
				return err
			}
			wireguard := "embedded"
			if features.WireGuard {
				wireguard = "kernel"
			}
			if a.json {
				return a.writeJSON(map[string]string{
					"version": version, "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH, "wireguard": wireguard,
				})
			}
			_, err = fmt.Fprintf(a.out, "tombolo %s (%s %s/%s), WireGuard: %s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH, wireguard)
			return err
		},
	}
}
