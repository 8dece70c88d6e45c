package cli

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/spf13/cobra"

	"tombolo/internal/compile"
	"tombolo/internal/draw"
	"tombolo/internal/key"
	"tombolo/internal/plan"
	"tombolo/internal/spec"
)

func (a *app) initCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "init [NAME]",
		Short: "Print a commented network file to start from",
		Long: `Print a commented network file to start from, with a random IPv6 overlay of its own
(RFC 4193): tombolo init home > home.yaml`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			name := "home"
			if len(args) > 0 {
				name = args[0]
			}
			if clean := spec.CleanName(name); clean != name {
				return hinted{fmt.Errorf("%q is no name of a network: it has lower-case letters, digits and hyphens", name), "tombolo init " + clean}
			}
			overlay6, err := randomULA()
			if err != nil {
				return err
			}
			text := spec.Starter(name, overlay6)
			if a.json {
				return a.writeJSON(map[string]string{"network": name, "file": text})
			}
			_, err = fmt.Fprint(a.out, text)
			return err
		},
	}
}

// randomULA returns an IPv6 prefix of 48 bits with a random global ID (RFC 4193 §3.2).
func randomULA() (netip.Prefix, error) {
	b := [16]byte{0xfd}
	if _, err := rand.Read(b[1:6]); err != nil {
		return netip.Prefix{}, fmt.Errorf("choose an IPv6 overlay: %w", err)
	}
	return netip.PrefixFrom(netip.AddrFrom16(b), 48), nil
}

func (a *app) checkCommand() *cobra.Command {
	var site string
	c := &cobra.Command{
		Use:   "check FILE",
		Short: "Say what is wrong with a network file, all at once",
		Long: `Say what is wrong with a network file: every mistake at once, each with its line, its
column and a way out. The exit code is 1 if there is a mistake; warnings alone leave it 0.

On a router of the network (the host is called like a site, or --site says which it is),
root is also told which rules, routes and marks of other programs there are in the way of
tombolo's.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeFile,
		RunE: func(_ *cobra.Command, args []string) error {
			if a.json {
				return a.checkJSON(args[0], site)
			}
			f, err := a.parse(args[0], true)
			if err != nil {
				return err
			}
			found, err := a.neighbours(f, args[0], site)
			if err != nil {
				return err
			}
			if err := found.Write(a.err); err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.out, "%s: network %s, %s, %s: no mistakes\n", args[0], f.Name,
				count(len(f.Sites), "site"), count(links(f.Network), "link"))
			return err
		},
	}
	c.Flags().StringVar(&site, "site", "", "the site that this machine is (default: the host's name, if it is one)")
	_ = c.RegisterFlagCompletionFunc("site", a.completeSite)
	return c
}

func (a *app) checkJSON(path, site string) error {
	f, err := a.read(path)
	if err != nil {
		return err
	}
	if f.Network != nil {
		found, err := a.neighbours(f, path, site)
		if err != nil {
			return err
		}
		f.diagnostics = append(f.diagnostics, found...)
	}
	if f.diagnostics == nil {
		f.diagnostics = spec.Diagnostics{} // [], not null
	}
	if err := a.writeJSON(map[string]any{"ok": f.Network != nil, "diagnostics": f.diagnostics}); err != nil {
		return err
	}
	if f.Network == nil {
		return exitCode(exitError)
	}
	return nil
}

// links counts the links that the file asks for and that can be made.
func links(n *spec.Network) int {
	sum := 0
	for a := range n.Sites {
		for b := a + 1; b < len(n.Sites); b++ {
			if n.CanLink(a, b) {
				sum++
			}
		}
	}
	return sum
}

func (a *app) showCommand() *cobra.Command {
	var keys string
	var firewall bool
	c := &cobra.Command{
		Use:   "show FILE SITE",
		Short: "Print what a site's router must hold, as commands",
		Long: `Print what a site's router must hold, as ip, wg, nft and sysctl commands that make it
from nothing; or, with --json, as the versioned state that all of tombolo works on.

With --firewall it is what another firewall on that router must let through, and no more: for a
site of kind openwrt the UCI commands for its zone and forwardings, else nft rules.`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.completeFileAndSite,
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := a.parse(args[0], false)
			if err != nil {
				return err
			}
			known, err := knownKeys(f.Network, key.Store{Dir: keyDir(keys, args[0])})
			if err != nil {
				return err
			}
			r, err := compile.Router(f.Network, args[1], compile.Options{Keys: known})
			if err != nil {
				return unknownSite(f.Network, args[1])
			}
			if i, _ := f.Site(args[1]); firewall {
				return a.showFirewall(r, f.Sites[i].Kind)
			}
			if a.json {
				_, err = a.out.Write(r.Encode())
			} else {
				_, err = fmt.Fprint(a.out, plan.Script(r))
			}
			return err
		},
	}
	c.Flags().StringVar(&keys, "keys", "", "folder of the key files (default: keys/ beside FILE, else /etc/tombolo)")
	c.Flags().BoolVar(&firewall, "firewall", false, "what another firewall there must let through")
	return c
}

func (a *app) completeFileAndSite(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 1 {
		return a.completeSite(c, args, word)
	}
	return completeFile(c, args, word)
}

func unknownSite(n *spec.Network, name string) error {
	hint := "the sites are"
	for i, s := range n.Sites {
		if i == 20 {
			hint += " …"
			break
		}
		hint += " " + s.Name
	}
	return hinted{fmt.Errorf("%s has no site %q", n.File, name), hint}
}

func (a *app) drawCommand() *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "draw FILE",
		Short: "Draw the network as SVG, dot or Mermaid",
		Long: `Draw the network: its sites, links, LANs, clients, exits and uplinks. SVG goes into a
page or a browser (tombolo draw home.yaml > home.svg), dot to Graphviz, and Mermaid into
Markdown.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeFile,
		RunE: func(_ *cobra.Command, args []string) error {
			drawings := map[string]func(*spec.Network) []byte{"svg": draw.SVG, "dot": draw.Dot, "mermaid": draw.Mermaid}
			drawing, ok := drawings[format]
			if !ok {
				return fmt.Errorf("format %q: it is svg, dot or mermaid", format)
			}
			f, err := a.parse(args[0], false)
			if err != nil {
				return err
			}
			picture := drawing(f.Network)
			if a.json {
				return a.writeJSON(map[string]string{"format": format, "drawing": string(picture)})
			}
			_, err = a.out.Write(picture)
			return err
		},
	}
	c.Flags().StringVarP(&format, "format", "f", "svg", "svg, dot or mermaid")
	_ = c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"svg", "dot", "mermaid"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

func (a *app) writeJSON(v any) error {
	e := json.NewEncoder(a.out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// done is the result of a command whose work is all that it has to show.
func (a *app) done(result map[string]any) error {
	if !a.json {
		return nil
	}
	return a.writeJSON(result)
}

// count writes a number with its noun: "1 site", "3 sites".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
