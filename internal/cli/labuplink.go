//go:build !router

package cli

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"tombolo/internal/lab"
)

// uplinkArgument is what the commands about one uplink have to say of their argument.
const uplinkArgument = "An uplink is SITE/DEVICE; a site, or a roaming device, means its first uplink."

func (a *app) labCarrierCommand(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "carrier UPLINK on|off",
		Short: "Take an uplink's carrier away, or give it back",
		Long: `Take an uplink's carrier away, as when its cable is pulled out, or give it back. A DHCP
uplink loses its address with it, and leases one again, as under OpenWrt's netifd and
systemd-networkd. Where a provider dies and the cable stays, it is "lab cut". ` + uplinkArgument,
		Example:   "  tombolo lab carrier office/eth1 off\n  tombolo lab carrier office/eth1 on",
		Args:      cobra.ExactArgs(2),
		ValidArgs: []string{"on", off},
		RunE: func(c *cobra.Command, args []string) error {
			if args[1] != "on" && args[1] != off {
				return fmt.Errorf("carrier %s: it is on or off", args[1])
			}
			l, err := openLab(*name)
			if err != nil {
				return err
			}
			site, device, _ := strings.Cut(args[0], "/")
			if err := l.Carrier(c.Context(), site, device, args[1] == "on"); err != nil {
				return err
			}
			return a.done(map[string]any{"uplink": args[0], "carrier": args[1] == "on"})
		},
		ValidArgsFunction: completeNode(name, 1),
	}
}

func (a *app) labLeaseCommand(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "lease UPLINK [ADDRESS/LENGTH]",
		Short: "Lease another IPv4 address to a DHCP uplink",
		Long: `Lease another IPv4 address to a DHCP uplink, as providers do overnight; without one, the
next of its subnet. An address outside the subnet brings another gateway, the first address
of its own. The names of endpoints lead to the new address. ` + uplinkArgument,
		Example: "  tombolo lab lease op1\n  tombolo lab lease office/eth1 192.0.2.99/24",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			var to netip.Prefix
			if len(args) > 1 {
				var err error
				if to, err = netip.ParsePrefix(args[1]); err != nil {
					return fmt.Errorf("%q is not an address with its length, as 192.0.2.99/24 is", args[1])
				}
			}
			l, err := openLab(*name)
			if err != nil {
				return err
			}
			site, device, _ := strings.Cut(args[0], "/")
			leased, err := l.Relet(c.Context(), site, device, to)
			if err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(map[string]any{"uplink": args[0], "address": leased})
			}
			_, err = fmt.Fprintln(a.out, leased)
			return err
		},
		ValidArgsFunction: completeNode(name, 1),
	}
}

func (a *app) labCountersCommand(name *string) *cobra.Command {
	var reset bool
	c := &cobra.Command{
		Use:   "counters [PLACE …]",
		Short: "Show what uplinks have sent, to whom, and with whose source",
		Long: `Show how many packets uplinks have handed to their providers: for the Internet, for other
sites (tunnels, mostly) and for the provider itself (DHCP, neighbour discovery); and how
many of them had a source that is not the uplink's, which the provider dropped. With
places, which are sites, roaming devices or uplinks (SITE/DEVICE), a line for each pair of
addresses.

It is counted before a NAT, and before what paths do. What the kernel handed over in one
piece counts once.`,
		Example: "  tombolo lab counters --reset\n  tombolo lab exec op2.host -- ping -c 1 198.18.0.10\n  tombolo lab counters op2",
		RunE: func(c *cobra.Command, args []string) error {
			l, err := openLab(*name)
			if err != nil {
				return err
			}
			if reset {
				if err := l.ResetUplinks(c.Context()); err != nil {
					return err
				}
				return a.done(map[string]any{"reset": true})
			}
			return a.listCounters(c.Context(), l, args)
		},
		ValidArgsFunction: completeNode(name, 100),
	}
	c.Flags().BoolVar(&reset, "reset", false, "begin to count anew, and show nothing")
	return c
}

// families is how many packets went to one kind of destination.
type families struct {
	IPv4 uint64 `json:"ipv4"`
	IPv6 uint64 `json:"ipv6"`
}

func (f families) String() string { return fmt.Sprintf("%d + %d", f.IPv4, f.IPv6) }

// perFamily counts the packets of an uplink of which f is true.
func perFamily(c lab.UplinkCount, f func(lab.Sent) bool) families {
	return families{
		IPv4: c.Count(func(s lab.Sent) bool { return s.From.Is4() && f(s) }),
		IPv6: c.Count(func(s lab.Sent) bool { return s.From.Is6() && f(s) }),
	}
}

func (a *app) listCounters(ctx context.Context, l *lab.Lab, places []string) error {
	counts, err := l.Uplinks(ctx, places...)
	if err != nil {
		return err
	}
	type uplink struct {
		lab.UplinkCount
		Internet    families `json:"internet"`
		Sites       families `json:"sites"`
		Link        families `json:"link"`
		WrongSource families `json:"wrongSource"`
	}
	to := func(d lab.Destination) func(lab.Sent) bool {
		return func(s lab.Sent) bool { return s.Destination == d }
	}
	all := []uplink{}
	for _, c := range counts {
		all = append(all, uplink{
			UplinkCount: c,
			Internet:    perFamily(c, to(lab.ToInternet)), Sites: perFamily(c, to(lab.ToSite)), Link: perFamily(c, to(lab.ToLink)),
			WrongSource: perFamily(c, func(s lab.Sent) bool { return s.WrongSource }),
		})
	}
	if a.json {
		return a.writeJSON(all)
	}
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	if len(places) > 0 {
		fmt.Fprintln(w, "UPLINK\tFROM\tTO\tWHO\tPROTOCOL\tPACKETS\t")
		for _, c := range counts {
			for _, s := range c.Sent {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\n", c.Uplink, s.From, s.To, whose(s), s.Protocol, s.Packets, remark(s))
			}
		}
		return w.Flush()
	}
	fmt.Fprintln(w, "PACKETS, IPv4 + IPv6\tINTERNET\tSITES\tPROVIDER\tOF ALL, WRONG SOURCE")
	for _, u := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", u.Uplink, u.Internet, u.Sites, u.Link, u.WrongSource)
	}
	return w.Flush()
}

// whose says whose address packets went to.
func whose(s lab.Sent) string {
	switch {
	case s.Place != "":
		return s.Place
	case s.Destination == lab.ToLink:
		return "provider"
	}
	return "nobody"
}

func remark(s lab.Sent) string {
	if s.WrongSource {
		return "wrong source: dropped"
	}
	return ""
}
