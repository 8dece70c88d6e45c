package enroll

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	yaml "go.yaml.in/yaml/v4"

	"tombolo/internal/key"
	"tombolo/internal/spec"
)

// Device is what is to stand in the file of a device. What is zero stays as it is.
type Device struct {
	Address netip.Addr
	Key     key.Public
	Full    bool
	DNS     []netip.Addr
	Given   []string // digests of configurations (Config.Digest)
}

// fields returns the device as entries of its mapping.
func (d Device) fields() []field {
	var out []field
	if d.Address.IsValid() {
		out = append(out, field{"address", scalar(d.Address.String())})
	}
	if !d.Key.IsZero() {
		out = append(out, field{"key", scalar(d.Key.String())})
	}
	if d.Full {
		out = append(out, field{"full", "true"})
	}
	if len(d.DNS) > 0 {
		var texts []string
		for _, a := range d.DNS {
			texts = append(texts, a.String())
		}
		out = append(out, field{"dns", oneOrList(texts)})
	}
	if len(d.Given) > 0 {
		out = append(out, field{"given", oneOrList(d.Given)})
	}
	return out
}

func oneOrList(texts []string) string {
	parts := make([]string, len(texts))
	for i, t := range texts {
		parts[i] = scalar(t)
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// Set returns the text of a network file in which a device is as d says: a new one, or
// fields of one that is there. Comments, order and layout of the rest are those of text.
//
// The error Is ErrLayout when that cannot be done, and is spec.Diagnostics when the text, or
// what would come out, has mistakes; their places are in what would come out.
func Set(text []byte, name string, d Device) ([]byte, error) {
	return change(text, func(p *page) (*page, error) {
		if err := checkName(name); err != nil {
			return nil, err
		}
		return p.setDevice(name, d.fields())
	})
}

// Remove returns the text without a device; its errors are those of Set.
func Remove(text []byte, name string) ([]byte, error) {
	return change(text, func(p *page) (*page, error) {
		clients := get(p.root, "clients")
		devices := get(clients, "devices")
		if devices == nil || find(devices, name) < 0 {
			return nil, fmt.Errorf("the file has no device %q", name)
		}
		if err := p.remove(clients, find(clients, "devices"), find(devices, name)); err != nil {
			return nil, err
		}
		return p.done()
	})
}

// SetKey returns the text with the public half of the access key, which all doors share;
// its errors are those of Set.
func SetKey(text []byte, k key.Public) ([]byte, error) {
	return change(text, func(p *page) (*page, error) {
		clients := get(p.root, "clients")
		if err := p.put(clients, find(clients, "at"), field{"key", scalar(k.String())}); err != nil {
			return nil, err
		}
		return p.done()
	})
}

// change has a page changed that has clients, and sees to it that a network file comes out.
func change(text []byte, by func(*page) (*page, error)) ([]byte, error) {
	n, ds := spec.Parse("the file", text)
	if n == nil {
		return nil, ds.Err()
	}
	if n.Clients == nil {
		return nil, ErrNoClients
	}
	p, err := open(string(text))
	if err != nil {
		return nil, err
	}
	if p, err = by(p); err != nil {
		return nil, err
	}
	if _, ds := spec.Parse("the file", []byte(p.text)); ds.HasErrors() {
		return nil, ds.Err()
	}
	return []byte(p.text), nil
}

// ErrNoClients is what errors.Is finds when a file has no `clients:`, whose pool and doors
// only its owner can choose.
var ErrNoClients = fmt.Errorf("the file has no `clients:`")

// checkName refuses what is no name before it stands in a text.
func checkName(name string) error {
	if name == "" || name != spec.CleanName(name) {
		return fmt.Errorf("%q is no name of a device: it has lower-case letters, digits and hyphens", name)
	}
	return nil
}

// setDevice makes a device, or gives one that is there more fields, or others.
func (p *page) setDevice(name string, fields []field) (*page, error) {
	clients := get(p.root, "clients")
	step := 2
	if !isFlow(clients) && clients.Column > 1 {
		step = clients.Column - 1
	}
	devices := get(clients, "devices")
	if devices == nil || len(devices.Content) == 0 {
		return p.firstDevice(clients, field{scalar(name), flow(fields)}, step)
	}
	below := blockSibling(devices)
	if below != nil {
		step = below.Column - devices.Column
	}
	indent := devices.Column - 1 + step
	i := find(devices, name)
	if i >= 0 && devices.Content[2*i+1].Kind == yaml.MappingNode {
		return p.setFields(name, fields)
	}
	var err error
	switch {
	case i >= 0:
		err = p.fill(devices, i, fields, below != nil, indent)
	case below != nil:
		err = p.insert(devices, -1, scalar(name)+":"+p.block(fields, indent))
	default:
		err = p.insert(devices, -1, field{scalar(name), flow(fields)}.String())
	}
	if err != nil {
		return nil, err
	}
	return p.done()
}

// firstDevice makes a device in a file that has none.
func (p *page) firstDevice(clients *yaml.Node, device field, step int) (*page, error) {
	devices := get(clients, "devices")
	var err error
	switch {
	case devices != nil:
		err = p.insert(devices, -1, device.String())
	case isFlow(clients):
		err = p.insert(clients, -1, field{"devices", "{" + device.String() + "}"}.String())
	default:
		err = p.insert(clients, -1, "devices:"+p.block([]field{device}, clients.Column-1+step))
	}
	if err != nil {
		return nil, err
	}
	return p.done()
}

// setFields sets fields of a device that has some already, one after the other: each moves
// what stands behind it.
func (p *page) setFields(name string, fields []field) (*page, error) {
	for _, f := range fields {
		device := get(get(get(p.root, "clients"), "devices"), name)
		if err := p.put(device, -1, f); err != nil {
			return nil, err
		}
		next, err := p.done()
		if err != nil {
			return nil, err
		}
		p = next
	}
	return p, nil
}

// blockSibling returns the last device that is described on lines of its own, unless a later
// one is described in one line.
func blockSibling(devices *yaml.Node) *yaml.Node {
	for i := len(devices.Content) - 1; i > 0; i -= 2 {
		if d := devices.Content[i]; d.Kind == yaml.MappingNode && !isFlow(devices) {
			if isFlow(d) {
				return nil
			}
			return d
		}
	}
	return nil
}

// FreeAddress returns the address that a new device without one needs in the file: none
// where that which its name hashes to is free, else the next one that is.
func FreeAddress(n *spec.Network, name string) netip.Addr {
	taken := func(a netip.Addr) bool {
		return slices.ContainsFunc(n.Clients.Devices, func(d spec.Device) bool { return d.Address == a })
	}
	pool := n.Clients.Pool
	a := spec.AddressAt(pool, spec.HashedIndex(name, pool, 0))
	if !taken(a) {
		return netip.Addr{}
	}
	for range n.Clients.Devices {
		if a = a.Next(); !pool.Contains(a.Next()) { // the last one is the pool's broadcast address
			a = pool.Addr().Next()
		}
		if !taken(a) {
			break
		}
	}
	return a
}
