package main

import (
	"context"
	"fmt"
	"path/filepath"

	"tombolo/internal/compile"
	"tombolo/internal/key"
	"tombolo/internal/spec"
	"tombolo/internal/state"
	"tombolo/internal/tunnel"
)

const (
	handDevice = "wg0"
	handPort   = 51820
	// handDir is the tunnel process's own, in a node's own /run/tombolo.
	handDir = "/run/tombolo/hand"
)

// byHand joins the two sites as an engineer does who has wg and ip: an interface, a peer,
// a route to the other LAN, forwarding on. No rules, no nftables. The device is the
// embedded one with the MTU that tombolo gives it, so that only what is around it differs.
func (p *pair) byHand(ctx context.Context) error {
	n, ds := spec.Parse("pair.yaml", []byte(pairFile("static")))
	if n == nil {
		return ds.Err()
	}
	routers := compile.All(n, compile.Options{})
	for i, r := range routers {
		other := routers[1-i]
		if err := p.addDevice(ctx, r); err != nil {
			return err
		}
		secret, err := (key.Store{Dir: p.keys()}).Private(key.Ref(other.Site))
		if err != nil {
			return err
		}
		node, err := p.lab.Node(other.Site)
		if err != nil {
			return err
		}
		lan := other.LANs[0].Prefixes[0].String()
		for _, argv := range [][]string{
			{"wg", "set", handDevice, "listen-port", fmt.Sprint(handPort), "private-key", filepath.Join(p.keys(), r.Site+".key"),
				"peer", secret.Public().String(), "endpoint", fmt.Sprintf("%s:%d", node.Addr(), handPort), "allowed-ips", lan},
			{"ip", "link", "set", handDevice, "up"},
			{"ip", "route", "add", lan, "dev", handDevice},
			{"sysctl", "-q", "-w", "net.ipv4.ip_forward=1"},
		} {
			if _, err := p.run(ctx, r.Site, argv[0], argv[1:]...); err != nil {
				return err
			}
		}
	}
	return nil
}

// addDevice makes the embedded device on a router.
func (p *pair) addDevice(ctx context.Context, r state.Router) error {
	return p.lab.Do(ctx, r.Site, func() error {
		return p.tunnels().Add(ctx, handDevice, r.Interfaces[0].MTU)
	})
}

// tunnels is the client of a router's tunnel process, the one by hand.
func (p *pair) tunnels() *tunnel.Client {
	return tunnel.New(handDir, []string{p.o.tombolo, "tunnel", "--run-dir", handDir})
}

// undoByHand takes the device away again, and its route with it.
func (p *pair) undoByHand(ctx context.Context) error {
	for _, site := range pairSites {
		if err := p.lab.Do(ctx, site, func() error { return p.tunnels().Stop(ctx) }); err != nil {
			return err
		}
		if _, err := p.run(ctx, site, "sysctl", "-q", "-w", "net.ipv4.ip_forward=0"); err != nil {
			return err
		}
	}
	return nil
}
