package agent

import (
	"log/slog"
	"sync"
	"time"

	"tombolo/internal/api"
)

// Kinds of event beside those of package babel.
const (
	Applied  = "applied"  // the kernel was changed
	Reloaded = "reloaded" // another state is wanted
	Trouble  = "problem"
	Mended   = "mended" // a problem is gone
	Started  = "started"
	LinkUp   = "link up"
	LinkDown = "link down"
	Announce = "announced"
	Withdraw = "withdrawn"

	Uplink = "uplink" // one works, or does not any more

	ClientCame  = "client came" // a roaming device completed a handshake here
	ClientMoved = "client moved"
	ClientGone  = "client gone"
)

// backlog is how many events wait for a subscriber before it loses some.
const backlog = 256

// hub tells events to the log and to whoever watches.
type hub struct {
	log *slog.Logger

	mu   sync.Mutex
	subs map[chan api.Event]bool
}

func newHub(log *slog.Logger) *hub { return &hub{log: log, subs: map[chan api.Event]bool{}} }

// emit never waits: a subscriber that does not keep up loses events.
func (h *hub) emit(e api.Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	level := slog.LevelInfo
	if e.Kind == Trouble {
		level = slog.LevelWarn
	}
	var where []any
	for _, f := range []struct{ key, value string }{{"peer", e.Peer}, {"device", e.Device}, {"route", e.Route}, {"client", e.Client}} {
		if f.value != "" {
			where = append(where, f.key, f.value)
		}
	}
	h.log.Log(nil, level, e.Kind+": "+e.Text, where...) //nolint:staticcheck // a log line belongs to no request
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.subs {
		select {
		case c <- e:
		default:
		}
	}
}

// subscribe returns the events from now on, and what ends that.
func (h *hub) subscribe() (<-chan api.Event, func()) {
	c := make(chan api.Event, backlog)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.subs[c] = true
	return c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.subs, c)
	}
}

// problems are what could not be done, by subject. Each is told once when it comes, when it
// changes, and when it goes: not at each pass.
type problems struct {
	hub *hub

	mu    sync.Mutex
	texts map[string]string
	order []string
}

func newProblems(h *hub) *problems { return &problems{hub: h, texts: map[string]string{}} }

// set says what is wrong with a subject; nil says that nothing is.
func (p *problems) set(subject string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	p.mu.Lock()
	was := p.texts[subject]
	if was == text {
		p.mu.Unlock()
		return
	}
	p.order = without(p.order, subject)
	delete(p.texts, subject)
	if text != "" {
		p.texts[subject] = text
		p.order = append(p.order, subject)
	}
	p.mu.Unlock()
	if text == "" {
		p.hub.emit(api.Event{Kind: Mended, Text: was})
	} else {
		p.hub.emit(api.Event{Kind: Trouble, Text: text})
	}
}

// list returns them, newest last.
func (p *problems) list() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := []string{}
	for _, s := range p.order {
		out = append(out, p.texts[s])
	}
	return out
}

func without(list []string, s string) []string {
	var out []string
	for _, x := range list {
		if x != s {
			out = append(out, x)
		}
	}
	return out
}
