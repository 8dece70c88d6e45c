package cli

import (
	"context"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tombolo/internal/api"
	"tombolo/internal/enroll"
	"tombolo/internal/spec"
)

// shownDevice is a device as it is shown to programs.
type shownDevice struct {
	Name          string       `json:"name"`
	Addresses     []netip.Addr `json:"addresses"`
	Key           string       `json:"key,omitempty"`
	Full          bool         `json:"full"`
	DNS           []netip.Addr `json:"dns,omitempty"`
	Given         []string     `json:"given,omitempty"`
	Configuration string       `json:"configuration,omitempty"` // empty: the file does not say what it was given
	Seen          *sighting    `json:"seen,omitempty"`
}

// How the configuration that a device was given is to the one that it would get now.
const (
	isCurrent  = "current"
	isOutdated = "outdated"
)

func showDevice(n *spec.Network, d *spec.Device) shownDevice {
	out := shownDevice{
		Name: d.Name, Addresses: []netip.Addr{d.Address, d.Address6}, Key: d.Key.String(),
		Full: d.Full, DNS: d.DNS, Given: d.Given,
	}
	switch {
	case len(d.Given) == 0:
	case enroll.Outdated(n, d):
		out.Configuration = isOutdated
	default:
		out.Configuration = isCurrent
	}
	return out
}

// sighting is where a device is, as this router's agent knows it.
type sighting struct {
	At    string         `json:"at"`             // site by which it entered
	Since time.Time      `json:"since,omitzero"` // when
	From  netip.AddrPort `json:"from,omitzero"`  // where its packets come from; known at its door
	In    uint64         `json:"in,omitempty"`   // bytes from it
	Out   uint64         `json:"out,omitempty"`  // and to it
}

// sightings returns where devices are, by name: those that are anywhere.
func sightings(s *api.Status) map[string]sighting {
	out := map[string]sighting{}
	for _, c := range s.Clients {
		if c.Site != "" {
			out[c.Name] = sighting{At: c.Site, Since: c.Since, From: c.Endpoint, In: c.Received, Out: c.Sent}
		}
	}
	return out
}

// agentPatience is how long a list of devices waits for what an agent adds to it.
const agentPatience = 2 * time.Second

// seen asks this router's agent where devices are. Where there is none, or none that answers
// us, the list is that of the file.
func (a *app) seen(ctx context.Context) (map[string]sighting, time.Time) {
	ctx, cancel := context.WithTimeout(ctx, agentPatience)
	defer cancel()
	r, err := api.One(ctx, a.socketPath(), api.Request{Do: api.DoStatus})
	if err != nil || r.Status == nil {
		return nil, time.Time{}
	}
	return sightings(r.Status), r.Status.Now
}

func (a *app) clientListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list [FILE]",
		Short: "List the devices, and which of them hold an outdated configuration",
		Long: `List the devices of the network file: their addresses, whether they have a key, and whether
the configuration that they were given is still the one that they would get now. It is not
when, for example, a LAN was added since: tombolo client show NAME prints the one that is.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeFile,
		RunE: func(c *cobra.Command, args []string) error {
			f, err := a.readClients(clientFile(args))
			if err != nil {
				return err
			}
			seen, now := a.seen(c.Context())
			list := make([]shownDevice, 0, len(f.Clients.Devices)) // [], not null
			for i := range f.Clients.Devices {
				d := showDevice(f.Network, &f.Clients.Devices[i])
				if s, ok := seen[d.Name]; ok {
					d.Seen = &s
				}
				list = append(list, d)
			}
			if a.json {
				return a.writeJSON(list)
			}
			if _, err = io.WriteString(a.out, a.clientTable(list, now)); err != nil {
				return err
			}
			if i := slices.IndexFunc(list, func(d shownDevice) bool { return d.Configuration == isOutdated }); i >= 0 {
				a.say("note: what an outdated one would be now: tombolo client show %s", list[i].Name)
			}
			return nil
		},
	}
}

// bytesOf writes an amount of bytes.
func bytesOf(n uint64) string { return strings.TrimSuffix(perSecond(float64(n)), "/s") }

func (a *app) clientTable(list []shownDevice, now time.Time) string {
	if len(list) == 0 {
		return "there are no devices yet: tombolo client add NAME\n"
	}
	t := &table{title: []string{"device", "address", "", "key", "full", "configuration", "at", "since", "from", "in", "out"}, right: "       r rr"}
	for _, d := range list {
		full, at, since, from, in, out := "", "", "", "", "", ""
		keySet, configuration := a.paint(yellow, "none"), "-"
		if d.Key != "" {
			keySet = a.paint(green, "set")
		}
		if d.Full {
			full = "yes"
		}
		switch d.Configuration {
		case isCurrent:
			configuration = a.paint(green, d.Configuration)
		case isOutdated:
			configuration = a.paint(yellow, d.Configuration)
		}
		if s := d.Seen; s != nil {
			at, in, out = s.At, bytesOf(s.In), bytesOf(s.Out)
			if !s.Since.IsZero() {
				since = age(s.Since, now)
			}
			if s.From.IsValid() {
				from = s.From.String()
			}
		}
		t.row(d.Name, d.Addresses[0].String(), d.Addresses[1].String(), keySet, full, configuration, at, since, from, in, out)
	}
	var b strings.Builder
	t.write(&b)
	return b.String()
}
