package cli

import (
	"fmt"
	"slices"
	"strings"

	"tombolo/internal/kernel"
	"tombolo/internal/state"
)

// mend is what to type so that a firewall lets through what must pass.
type mend struct {
	intro    string
	commands []string
}

// mends returns what to type, for each firewall that is in the way.
func mends(want state.Router, found kernel.Obstacles) []mend {
	by := map[kernel.Firewall][]kernel.Obstacle{}
	for _, o := range found.Found {
		by[o.Firewall] = append(by[o.Firewall], o)
	}
	var out []mend
	if own := by[kernel.FirewallFW4]; len(own) > 0 {
		out = append(out, mend{"in the words of OpenWrt's firewall", fw4Mend(want, own, found.Zones)})
	}
	for _, f := range []struct {
		firewall kernel.Firewall
		intro    string
		command  func(kernel.Obstacle, *state.Flow) string
	}{
		{kernel.FirewallUFW, "in ufw's words", ufwCommand},
		{kernel.FirewallDocker, "in the chain that Docker leaves to others (write it where it outlasts a reboot)", iptablesCommand},
		{kernel.FirewallIPTables, "with iptables (write it where it outlasts a reboot)", iptablesCommand},
		{kernel.FirewallNFT, "until that program writes its rules anew; better in its own words", nftCommand},
	} {
		var commands []string
		for _, o := range by[f.firewall] {
			flows := []*state.Flow{nil}
			if len(o.Only) > 0 && !o.Answers {
				flows = nil
				for i := range o.Only {
					flows = append(flows, &o.Only[i])
				}
			}
			for _, flow := range flows {
				if c := f.command(o, flow); !slices.Contains(commands, c) {
					commands = append(commands, c)
				}
			}
		}
		if len(commands) > 0 {
			out = append(out, mend{f.intro, commands})
		}
	}
	return out
}

// plus writes a name for several devices as iptables and fw4 do: wg-+ for wg-*.
func plus(device string) string {
	if begin, all := strings.CutSuffix(device, "*"); all {
		return begin + "+"
	}
	return device
}

// ufwCommand is in ufw-framework(8)'s words. Answers it always lets through.
func ufwCommand(o kernel.Obstacle, flow *state.Flow) string {
	if o.Answers {
		return iptablesCommand(o, flow)
	}
	c := "ufw allow in on " + plus(o.In)
	if o.Out != "" {
		c = "ufw route allow in on " + plus(o.In) + " out on " + plus(o.Out)
	}
	if flow != nil {
		to := "any"
		if flow.To.IsValid() {
			to = flow.To.String()
		}
		c += fmt.Sprintf(" proto %s to %s port %s", flow.Protocol, to, portRange(*flow, ":"))
	}
	return c
}

func iptablesCommand(o kernel.Obstacle, flow *state.Flow) string {
	program, chain := "iptables", o.Chain
	if o.Family == "ip6" {
		program = "ip6tables"
	}
	if o.Firewall == kernel.FirewallDocker {
		chain = "DOCKER-USER"
	}
	c := fmt.Sprintf("%s -I %s -i %s", program, chain, plus(o.In))
	if o.Out != "" {
		c += " -o " + plus(o.Out)
	}
	if flow != nil {
		c += " -p " + flow.Protocol
		if flow.To.IsValid() {
			c += " -d " + flow.To.String()
		}
		c += " --dport " + portRange(*flow, ":")
	}
	if o.Answers {
		c += " -m conntrack --ctstate ESTABLISHED,RELATED"
	}
	return c + " -j ACCEPT"
}

func nftCommand(o kernel.Obstacle, flow *state.Flow) string {
	return fmt.Sprintf("nft insert rule %s %s %s '%s'", o.Family, o.Table, o.Chain, nftRule(o.In, o.Out, flow, o.Answers))
}

// nftRule is a rule that lets something pass.
func nftRule(in, out string, flow *state.Flow, answers bool) string {
	r := fmt.Sprintf("iifname %q", in)
	if out != "" {
		r += fmt.Sprintf(" oifname %q", out)
	}
	if answers {
		r += " ct state established,related"
	}
	if flow != nil {
		if flow.To.Is4() {
			r += " ip daddr " + flow.To.String()
		} else if flow.To.Is6() {
			r += " ip6 daddr " + flow.To.String()
		}
		r += fmt.Sprintf(" %s dport %s", flow.Protocol, portRange(*flow, "-"))
	}
	return r + " accept"
}
