package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"tombolo/internal/api"
)

// Answer answers a request of the socket.
func (a *Agent) Answer(ctx context.Context, r api.Request, root bool, say func(api.Reply) error) error {
	switch r.Do {
	case api.DoStatus, api.DoRoutes, api.DoPing: // `apply` lets go of the lock when it ends: a moment after it started us
		select {
		case <-a.begun:
		case <-time.After(freshTime):
		case <-ctx.Done():
			return nil
		}
	}
	switch r.Do {
	case api.DoStatus:
		s, err := a.status(ctx)
		if err != nil {
			return err
		}
		return say(api.Reply{Status: &s})
	case api.DoRoutes:
		s, err := a.routes(ctx)
		if err != nil {
			return err
		}
		return say(api.Reply{Routes: &s})
	case api.DoWatch:
		return a.tellEvents(ctx, say)
	case api.DoPing:
		return a.ping(ctx, r, say)
	case api.DoReload, api.DoApplied, api.DoRetire, api.DoYield:
		if !root {
			return errors.New("only root may ask for that")
		}
		return a.obey(ctx, r.Do, say)
	}
	return fmt.Errorf("this agent, %s, knows no request %q", a.o.Version, r.Do)
}

func (a *Agent) obey(ctx context.Context, do string, say func(api.Reply) error) error {
	switch do {
	case api.DoReload:
		a.Reload()
	case api.DoApplied:
		poke(a.base.record)
		a.ask(false)
	case api.DoRetire:
		return a.retire(ctx, func() error { return say(api.Reply{Done: true}) })
	case api.DoYield:
		if a.o.Source != nil || a.o.Stay {
			return errors.New("this agent was not left behind by apply, and stays")
		}
		defer a.halt() // when that was said
	}
	return say(api.Reply{Done: true})
}

func (a *Agent) tellEvents(ctx context.Context, say func(api.Reply) error) error {
	events, end := a.hub.subscribe()
	defer end()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-events:
			if err := say(api.Reply{Event: &e}); err != nil {
				return nil // the client is gone
			}
		}
	}
}

// pingEvery is the time between two requests.
const pingEvery = time.Second

// ping sends echo requests to a site until the client is gone.
func (a *Agent) ping(ctx context.Context, r api.Request, say func(api.Reply) error) error {
	w, _ := a.base.now()
	name, to, err := addressOf(w, r.Site, r.IPv6)
	if err != nil {
		return err
	}
	for seq := 1; ctx.Err() == nil; seq++ {
		begin := time.Now()
		e := api.Echo{Time: begin, Seq: seq, Site: name, To: to, Via: a.wayTo(ctx, to)}
		e.RTT, err = ping(ctx, to, pingEvery)
		if err != nil {
			e.Lost = err.Error()
		}
		if ctx.Err() != nil || say(api.Reply{Echo: &e}) != nil {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(pingEvery - time.Since(begin)):
		}
	}
	return nil
}

// addressOf returns the overlay address of a site, given its name, or the address itself.
func addressOf(w Wanted, site string, six bool) (string, netip.Addr, error) {
	if to, err := netip.ParseAddr(site); err == nil {
		for _, s := range w.Sites {
			if s.Address == to || s.Address6 == to {
				return s.Name, to, nil
			}
		}
		return "", to, nil
	}
	for _, s := range w.Sites {
		if s.Name != site {
			continue
		}
		if six {
			return s.Name, s.Address6, nil
		}
		return s.Name, s.Address, nil
	}
	if len(w.Sites) == 0 {
		return "", netip.Addr{}, errors.New("nothing is applied on this router")
	}
	hint := ""
	for i, s := range w.Sites {
		if i == 20 {
			hint += " …"
			break
		}
		hint += " " + s.Name
	}
	return "", netip.Addr{}, fmt.Errorf("the network has no site %q; the sites are%s", site, hint)
}

// wayTo names the way that packets to an address take now.
func (a *Agent) wayTo(ctx context.Context, to netip.Addr) string {
	w, _ := a.base.now()
	var best netip.Prefix
	via := ""
	for _, r := range w.Router.Routes {
		if r.Dst.Contains(to) && r.Dst.Bits() >= max(best.Bits(), 1) && r.Device != "" {
			best, via = r.Dst, peerName(w.Router, r.Device, to)
		}
	}
	h := a.routing.host()
	if h == nil {
		return via
	}
	v, _, _, err := h.view(ctx)
	if err != nil {
		return via
	}
	for _, e := range v.Routes {
		if e.Hop != nil && !e.Hop.Unreachable && e.Dst.Contains(to) && e.Dst.Bits() > max(best.Bits(), 0) {
			best, via = e.Dst, peerName(w.Router, e.Hop.Link, to)
		}
	}
	return via
}
