package cli

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"tombolo/internal/spec"
)

// protocolWords are how a flow's protocol begins.
var protocolWords = []cobra.Completion{"icmp", "tcp/", "udp/"}

func (a *app) completeFlow(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return completeFile(c, args, word)
	}
	f, err := a.read(args[0])
	if err != nil || f.Network == nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	if len(args) > 2 {
		return protocolWords, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
	var out []string
	if len(args) < 2 || args[1] != "outside" {
		out = append(out, "outside")
	}
	for i := range f.Sites {
		s := &f.Sites[i]
		out = append(out, s.Name)
		for _, l := range s.LANs {
			for _, m := range l.Prefixes {
				out = append(out, s.Name+":"+strings.TrimSuffix(m.Prefix.Masked().Addr().String(), "0"))
			}
		}
	}
	if f.Clients != nil {
		for _, d := range f.Clients.Devices {
			out = append(out, d.Name)
		}
	}
	for _, x := range f.Publish {
		if s, _, ok := lanOf(f.Network, "", x.To.Addr()); ok { // of hosts the file has no others
			inside := s.Inside(netip.PrefixFrom(x.To.Addr(), x.To.Addr().BitLen())).Addr()
			out = append(out, s.Name+":"+inside.String())
		}
		if len(args) > 1 {
			out = append(out, fmt.Sprintf("%s:%d/%s", x.At, x.Port.First, x.Protocol))
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// completeReach completes a file, and the protocol behind it.
func completeReach(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 1 {
		return protocolWords, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
	return completeFile(c, args, word)
}

// completeList completes the last word of a flag's list by what the file, the first argument, has.
func (a *app) completeList(words func(*spec.Network) []string) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		f, err := a.read(args[0])
		if err != nil || f.Network == nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		before := word[:strings.LastIndexByte(word, ',')+1]
		out := words(f.Network)
		for i := range out {
			out[i] = before + out[i]
		}
		return out, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
}

// whatFails are the words of --down.
func whatFails(n *spec.Network) (out []string) {
	for i := range n.Sites {
		name := n.Sites[i].Name
		out = append(out, name)
		for _, u := range n.Sites[i].Uplinks {
			out = append(out, name+"/"+u.Device)
		}
		for _, l := range n.Sites[i].LANs {
			out = append(out, name+"/"+l.Device)
		}
		for k := range i {
			if n.Links.Has(k, i) {
				out = append(out, n.Sites[k].Name+"-"+name)
			}
		}
	}
	return out
}

// whereDevicesAre are the words of --at.
func whereDevicesAre(n *spec.Network) (out []string) {
	for _, name := range roamers(n) {
		for _, door := range n.Clients.At {
			out = append(out, name+"="+door)
		}
	}
	return out
}

// roamers are the names of those that have no place of their own.
func roamers(n *spec.Network) (out []string) {
	if n.Clients == nil {
		return nil
	}
	for _, d := range n.Clients.Devices {
		out = append(out, d.Name)
	}
	for i := range n.Sites {
		if n.Roams(i) {
			out = append(out, n.Sites[i].Name)
		}
	}
	return out
}
