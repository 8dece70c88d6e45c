package cli

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tombolo/internal/api"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show how this router is: links, neighbours, uplinks, problems",
		Long: `Show how this router is, as its agent sees it: what is wrong, first; each link with its
state, round trip, loss, handshake and traffic; roaming devices that are here; LANs and uplinks; what is announced to the
other routers, and why or why not. The exit code is 1 if there is a problem.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := a.askOne(c.Context(), api.Request{Do: api.DoStatus})
			if err != nil {
				return err
			}
			if a.json {
				err = a.writeJSON(r.Status)
			} else {
				_, err = io.WriteString(a.out, a.statusText(r.Status))
			}
			if err == nil && len(r.Status.Problems) > 0 {
				return exitCode(exitError)
			}
			return err
		},
	}
}

func (a *app) statusText(s *api.Status) string {
	var b strings.Builder
	if s.Site == "" {
		b.WriteString("nothing is applied on this router\n")
	} else {
		fmt.Fprintf(&b, "%s of network %s", a.bold(s.Site), s.Network)
		if s.WireGuard != "" {
			fmt.Fprintf(&b, ", WireGuard: %s", s.WireGuard)
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "agent %s, up %s", s.Version, age(s.Started, s.Now))
	switch {
	case s.Follows != "" && s.Source != "" && s.Follows != s.Source:
		fmt.Fprintf(&b, ", follows %s, but %s was applied by hand", s.Follows, s.Source)
	case s.Follows != "":
		fmt.Fprintf(&b, ", follows %s", s.Follows)
	case s.Source != "":
		fmt.Fprintf(&b, ", keeps what was applied from %s", s.Source)
	}
	if !s.LastChange.IsZero() {
		fmt.Fprintf(&b, "; last changed something %s ago", age(s.LastChange, s.Now))
	}
	b.WriteString("\n")
	if s.Waiting {
		b.WriteString(a.paint(yellow, "a change waits for its confirmation: tombolo confirm") + "\n")
	}
	if len(s.Problems) > 0 {
		b.WriteString("\n" + a.paint(red, "problems") + "\n")
		for _, p := range s.Problems {
			b.WriteString("  " + strings.ReplaceAll(strings.TrimSpace(p), "\n", "\n  ") + "\n")
		}
	}
	b.WriteString(a.summary(s))
	a.links(&b, s)
	a.clients(&b, s)
	a.devices(&b, "LAN", s.LANs)
	a.uplinks(&b, s)
	a.announced(&b, s)
	return b.String()
}

// summary says in a line whether all is well.
func (a *app) summary(s *api.Status) string {
	if len(s.Links) == 0 {
		return ""
	}
	var bad []string
	up := 0
	for _, l := range s.Links {
		switch {
		case colourOf(l.State) == green:
			up++
		case l.Peer != "": // on a LAN nobody need be there
			bad = append(bad, fmt.Sprintf("%s is %s", l.Peer, l.State))
		}
	}
	text := a.paint(green, fmt.Sprintf("%d of %s up", up, count(up+len(bad), "link")))
	if len(bad) > 0 {
		text = a.paint(yellow, fmt.Sprintf("%d of %s up: %s", up, count(up+len(bad), "link"), strings.Join(bad[:min(3, len(bad))], ", ")))
		if len(bad) > 3 {
			text += fmt.Sprintf(", and %d more", len(bad)-3)
		}
	}
	if s.Routes > 0 {
		text += fmt.Sprintf("; %s learned (tombolo routes)", count(s.Routes, "route"))
	}
	withheld := 0
	for _, x := range s.Announced {
		if !x.Now {
			withheld++
		}
	}
	if withheld > 0 {
		text += "; " + a.paint(yellow, fmt.Sprintf("%d of %d prefixes not announced", withheld, len(s.Announced)))
	}
	return "\n" + text + "\n"
}

func (a *app) links(b *strings.Builder, s *api.Status) {
	if len(s.Links) == 0 {
		return
	}
	t := &table{title: []string{"link", "device", "state", "for", "rtt", "loss", "handshake", "in", "out", "routes", "endpoint"}, right: "   rrrrrrr"}
	for _, l := range s.Links {
		state, since, rtt, loss, shake, in, out, endpoint := l.State, "", "", "", "", "", "", ""
		if !l.Since.IsZero() {
			since = age(l.Since, s.Now)
		}
		if l.RTT > 0 {
			rtt = fmt.Sprintf("%.1f ms", milliseconds(l.RTT))
		}
		if l.Cost != unusable || l.RTT > 0 {
			loss = fmt.Sprintf("%.0f%%", 100*l.Loss)
		}
		if l.WireGuard {
			shake, in, out = "never", perSecond(l.RxRate), perSecond(l.TxRate)
			if !l.Handshake.IsZero() {
				shake = age(l.Handshake, s.Now)
			}
			if endpoint = "-"; l.Endpoint.IsValid() {
				endpoint = l.Endpoint.String()
			}
		}
		t.row(orDash(l.Peer), l.Device, a.paint(colourOf(state), state), since, rtt, loss, shake, in, out, fmt.Sprint(l.Prefixes), endpoint)
	}
	b.WriteString("\n")
	t.write(b)
	for _, c := range []struct {
		n    uint64
		what string
	}{
		{s.Refused, "announcements that the network file does not allow were not believed: tombolo watch"},
		{s.Malformed, "Babel packets, or parts of them, made no sense"},
		{s.Unsigned, "Babel packets had not the right signature"},
	} {
		if c.n > 0 {
			b.WriteString(a.paint(yellow, fmt.Sprintf("%d %s", c.n, c.what)) + "\n")
		}
	}
}

// clients shows the roaming devices that are here, and counts the others.
func (a *app) clients(b *strings.Builder, s *api.Status) {
	if len(s.Clients) == 0 {
		return
	}
	t := &table{title: []string{"client", "for", "handshake", "in", "out", "endpoint"}, right: " rrrr"}
	elsewhere, nowhere := 0, 0
	for _, c := range s.Clients {
		switch {
		case c.Here:
			shake, endpoint := "never", "-"
			if !c.Handshake.IsZero() {
				shake = age(c.Handshake, s.Now)
			}
			if c.Endpoint.IsValid() {
				endpoint = c.Endpoint.String()
			}
			t.row(c.Name, age(c.Since, s.Now), shake, size(c.Received), size(c.Sent), endpoint)
		case c.Site != "":
			elsewhere++
		default:
			nowhere++
		}
	}
	b.WriteString("\n")
	here := len(s.Clients) - elsewhere - nowhere
	if here > 0 {
		t.write(b)
	}
	fmt.Fprintf(b, "%s here, %d at other sites, %d not connected\n", count(here, "client"), elsewhere, nowhere)
}

// unusable is the cost of a link that carries nothing.
const unusable = 0xffff

func (a *app) devices(b *strings.Builder, what string, ds []api.Device) {
	if len(ds) == 0 {
		return
	}
	t := &table{title: []string{what, "state", "addresses", "gateways"}}
	for _, d := range ds {
		t.row(d.Name, a.paint(colourOf(d.State), d.State), words(d.Addresses), words(d.Gateways))
	}
	b.WriteString("\n")
	t.write(b)
}

// uplinks says of the uplinks also whether they lead anywhere.
func (a *app) uplinks(b *strings.Builder, s *api.Status) {
	if len(s.Uplinks) == 0 {
		return
	}
	t := &table{title: []string{"uplink", "state", "for", "rtt", "loss", "new flows", "addresses", "gateways"}, right: "  rrr"}
	for _, u := range s.Uplinks {
		state, colour := u.State, colourOf(u.State)
		since, rtt, loss, carries := "", "", "", ""
		if u.State == "up" {
			state = "works"
			if !u.Works {
				state, colour = "does not work", red
			}
		}
		if u.Checked {
			since, rtt, loss = age(u.Since, s.Now), fmt.Sprintf("%.1f ms", milliseconds(u.RTT)), fmt.Sprintf("%.0f%%", 100*u.Loss)
		}
		if u.Carries {
			carries = "yes"
		}
		t.row(u.Name, a.paint(colour, state), since, rtt, loss, carries, words(u.Addresses), words(u.Gateways))
	}
	b.WriteString("\n")
	t.write(b)
}

func (a *app) announced(b *strings.Builder, s *api.Status) {
	if len(s.Announced) == 0 {
		return
	}
	t := &table{title: []string{"announces", "now", "because"}}
	for _, x := range s.Announced {
		now, colour := "yes", green
		if !x.Now {
			now, colour = "no", yellow
		}
		t.row(destination(x.Dst, x.Src), a.paint(colour, now), x.Why)
	}
	b.WriteString("\n")
	t.write(b)
}

// colourOf returns the colour of a link's or a device's state.
func colourOf(state string) string {
	switch state {
	case "up", "static":
		return green
	case "new", "suspect", "one-way", "no neighbour":
		return yellow
	}
	return red
}

// Colours of a terminal.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	strong = "1"
)

func (a *app) paint(colour, text string) string {
	if !a.colour || text == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

func (a *app) bold(text string) string { return a.paint(strong, text) }

// age says how long ago something was: 12s, 3m, 4h, 5d.
func age(then, now time.Time) string {
	switch d := max(now.Sub(then), 0); {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours())/24)
	}
}

// perSecond writes a rate of bytes.
func perSecond(bytes float64) string { return decimals(bytes) + "B/s" }

// size writes a number of bytes.
func size(bytes uint64) string { return decimals(float64(bytes)) + "B" }

// decimals writes a number with the prefix of a unit.
func decimals(n float64) string {
	for _, prefix := range []string{"", "k", "M"} {
		if n < 999.5 {
			if prefix == "" || n >= 99.95 {
				return fmt.Sprintf("%.0f %s", n, prefix)
			}
			return fmt.Sprintf("%.1f %s", n, prefix)
		}
		n /= 1000
	}
	return fmt.Sprintf("%.1f G", n)
}

func destination(dst, src netip.Prefix) string {
	if src.IsValid() {
		return dst.String() + " from " + src.String()
	}
	return dst.String()
}

func words[T fmt.Stringer](things []T) string {
	out := make([]string, len(things))
	for i, t := range things {
		out[i] = t.String()
	}
	return orDash(strings.Join(out, " "))
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
