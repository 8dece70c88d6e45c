//go:build !router

package cli

import (
	"fmt"
	"sync"

	"tombolo/internal/lab"
)

// progress shows what a lab does on its way up: on a terminal in one line that is written
// over, else a line for each new step.
type progress struct {
	a        *app
	terminal bool

	mu   sync.Mutex // lab.Up reports from several goroutines
	last string
}

func (a *app) newProgress() *progress { return &progress{a: a, terminal: isTerminal(a.err)} }

func (p *progress) show(e lab.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal {
		text := e.Text
		if e.Total > 0 {
			text = fmt.Sprintf("%s %d/%d", e.Text, e.Done, e.Total)
		}
		fmt.Fprintf(p.a.err, "\r\x1b[K%s %s", text, e.Node)
	} else if e.Text != p.last {
		fmt.Fprintf(p.a.err, "  %s\n", e.Text)
	}
	p.last = e.Text
}

// end leaves the terminal's line empty.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal && p.last != "" {
		fmt.Fprint(p.a.err, "\r\x1b[K")
	}
	p.last = ""
}
