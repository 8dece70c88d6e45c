package lab

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// roamers reads what is said of roaming devices, each of which has one uplink: of the
// network's, and of further ones that are copies of one of them.
func (p *parser) roamers(n *yaml.Node) {
	p.entries(n, "devices", func(key, value *yaml.Node) {
		var s Site
		var u Uplink
		var of string
		known := p.uplinkKeys(&u, roamingUplink)
		known["reaches"] = func(n *yaml.Node) { s.Reaches = p.reaches(n) }
		switch what := p.called(key.Value); {
		case what == "site":
			p.wrong(key, "what is said of a site stands under `sites:`", "the network has no device %q", key.Value)
			return
		case what == "" && !hasKey(value, "copy"):
			hint := ""
			if len(p.roaming) > 0 {
				hint = "there are " + strings.Join(slices.Sorted(slices.Values(p.roaming)), ", ") + "; a further one with the key of one of them says `copy:`"
			}
			p.wrong(key, hint, "the network has no device %q", key.Value)
			return
		case what == "":
			known["copy"] = func(n *yaml.Node) { of = p.original(n) }
			if !validName(key.Value) || p.isHost(key.Value) {
				p.wrong(key, "", "%q cannot be a device's name: letters, digits and dashes can, where no host is called so", key.Value)
			}
		}
		p.mapping(value, "device "+key.Value, known)
		s.Uplinks = map[string]Uplink{roamingUplink.Device: u}
		p.say(key.Value, s)
		if of != "" {
			if p.file.Copies == nil {
				p.file.Copies = map[string]string{}
			}
			p.file.Copies[key.Value] = of
		}
	})
}

func (p *parser) isHost(name string) bool {
	return slices.ContainsFunc(p.file.Internet, func(h InternetHost) bool { return h.Name == name })
}

// original reads the name of a device of which another one is a copy.
func (p *parser) original(n *yaml.Node) string {
	name := p.text(n)
	if name != "" && !slices.Contains(p.roaming, name) {
		p.wrong(n, "", "the network has no device %q", name)
	}
	return name
}

// copies returns the names under `devices:` of those that are copies, where nobody else is
// called so.
func copies(devices *yaml.Node, taken []string) []string {
	var out []string
	if devices == nil {
		return nil
	}
	devices = resolve(devices)
	for i := 0; devices.Kind == yaml.MappingNode && i+1 < len(devices.Content); i += 2 {
		name := devices.Content[i].Value
		if hasKey(resolve(devices.Content[i+1]), "copy") && !slices.Contains(taken, name) {
			out = append(out, name)
		}
	}
	return out
}
