package cli

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"tombolo/internal/agent"
)

// records are what an agent finds in the run folder.
type records struct {
	app *app
	mu  sync.Mutex
	was os.FileInfo // of what last holds
	got agent.Wanted
}

// Applied implements agent.Records. The file is read again only when it is another one.
func (r *records) Applied() (agent.Wanted, error) {
	path := filepath.Join(r.app.runDir, wantedFile)
	r.mu.Lock()
	defer r.mu.Unlock()
	is, err := os.Stat(path)
	if err != nil {
		r.was = nil
		return agent.Wanted{}, err
	}
	if r.was != nil && os.SameFile(is, r.was) && is.ModTime().Equal(r.was.ModTime()) && is.Size() == r.was.Size() {
		return r.got, nil
	}
	m, err := readRunFile[remembered](r.app, wantedFile)
	if err != nil {
		return agent.Wanted{}, err
	}
	w, err := m.wanted()
	if err != nil {
		return agent.Wanted{}, err
	}
	r.was, r.got = is, w
	return w, nil
}

// Remember implements agent.Records.
func (r *records) Remember(w agent.Wanted) error {
	m, err := rememberWanted(w)
	if err != nil {
		return err
	}
	return r.app.writeRunFile(wantedFile, m)
}

// Waiting implements agent.Records.
func (r *records) Waiting() bool { return r.app.pending() }

// Lock implements agent.Records.
func (r *records) Lock(ctx context.Context) (func(), error) {
	r.app.trimLog()
	return r.app.lock(ctx)
}

// maxLog bounds the log in bytes: the run folder lies in memory.
const maxLog = 256 << 10

// trimLog empties the log of the detached processes when it has grown too long.
func (a *app) trimLog() {
	path := filepath.Join(a.runDir, "log")
	if info, err := os.Stat(path); err == nil && info.Size() > maxLog {
		_ = os.Truncate(path, 0) // they append, so the next line is the first
	}
}

// source is the network file that an agent follows.
type source struct {
	app    *app
	target target
	log    *slog.Logger
	said   string // warnings, at the last Load
}

// takenFile says which file an agent took last, and how it was then.
const takenFile = "taken.json"

type taken struct{ File, Digest string }

func (a *app) newSource(t *target, log *slog.Logger) (*source, error) {
	s := &source{app: a, target: *t, log: log}
	var err error
	if s.target.file, err = filepath.Abs(t.file); err != nil {
		return nil, fmt.Errorf("follow %s: %w", t.file, err)
	}
	return s, nil
}

// Name implements agent.Source.
func (s *source) Name() string { return s.target.file }

// Load implements agent.Source. What there is to say beside mistakes goes to the log when
// it is something else than the last time.
func (s *source) Load(ctx context.Context) (agent.Wanted, error) {
	var said bytes.Buffer
	quiet := &app{in: s.app.in, out: &said, err: &said, runDir: s.app.runDir}
	t := s.target
	n, err := quiet.read(t.file)
	if err != nil {
		return agent.Wanted{}, err
	}
	if n.Network == nil {
		return agent.Wanted{}, fmt.Errorf("%s has mistakes, and what was applied before is kept: %w", t.file, n.diagnostics.Err())
	}
	if n, err = quiet.site(n, &t); err != nil {
		return agent.Wanted{}, err
	}
	if err := unbuilt(n.diagnostics, t.partial); err != nil {
		return agent.Wanted{}, err
	}
	w, err := quiet.want(ctx, n, &t, true)
	if text := said.String(); text != s.said {
		s.said = text
		for line := range bytes.Lines(said.Bytes()) {
			s.log.Info(string(bytes.TrimSpace(line)))
		}
	}
	return w, err
}

// Taken implements agent.Source.
func (s *source) Taken() string {
	t, err := readRunFile[taken](s.app, takenFile)
	if err != nil || t.File != s.target.file {
		return ""
	}
	return t.Digest
}

// Take implements agent.Source.
func (s *source) Take(digest string) error {
	return s.app.writeRunFile(takenFile, taken{s.target.file, digest})
}
