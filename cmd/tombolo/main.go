// Command tombolo joins networks that are apart, from one file.
package main

import (
	"os"

	"tombolo/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
