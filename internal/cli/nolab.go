//go:build router

package cli

import "github.com/spf13/cobra"

// labCommands are left out of a router's build, which has to fit into its flash.
func (a *app) labCommands() []*cobra.Command { return nil }
