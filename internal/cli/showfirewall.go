package cli

import (
	"fmt"
	"strings"

	"tombolo/internal/spec"
	"tombolo/internal/state"
)

// showFirewall prints what the router's own firewall must let through, in the words of the one
// that its kind of router has.
func (a *app) showFirewall(r state.Router, kind spec.Kind) error {
	var commands []string
	if kind == spec.OpenWrt {
		commands = fw4Commands(r)
	}
	if a.json {
		return a.writeJSON(struct {
			Forwards []state.Forward `json:"forwards"`
			Commands []string        `json:"commands,omitempty"`
		}{append([]state.Forward{}, r.Forwards...), commands})
	}
	text := nftForwards(r.Forwards)
	if kind == spec.OpenWrt {
		text = "# lan and wan are the zones of the LANs and uplinks as OpenWrt ships them: look whether they are yours.\n" + strings.Join(commands, "\n") + "\n"
	}
	_, err := fmt.Fprint(a.out, text)
	return err
}

// nftForwards writes each pair with the rule that lets it pass, into the router first.
func nftForwards(all []state.Forward) string {
	var b strings.Builder
	write := func(heading string, input bool) {
		first := true
		for _, f := range all {
			if (f.Out == "") != input {
				continue
			}
			if first {
				b.WriteString(heading)
				first = false
			}
			why, _, _ := strings.Cut(f.Why, ":")
			fmt.Fprintf(&b, "# %s\n", why)
			if len(f.Only) == 0 {
				fmt.Fprintln(&b, nftRule(f.In, f.Out, nil, false))
			}
			for i := range f.Only {
				fmt.Fprintln(&b, nftRule(f.In, f.Out, &f.Only[i], false))
			}
		}
	}
	write("## in a chain of hook input\n", true)
	write("## in a chain of hook forward, after `ct state established,related accept`\n", false)
	return b.String()
}
