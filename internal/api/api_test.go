package api

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// answers is a Handler that is a function.
type answers func(ctx context.Context, r Request, root bool, say func(Reply) error) error

func (a answers) Answer(ctx context.Context, r Request, root bool, say func(Reply) error) error {
	return a(ctx, r, root, say)
}

// serve serves on a socket until the test ends, and returns its path and what ends it.
func serve(t *testing.T, h Handler) (path string, end func()) {
	t.Helper()
	path = filepath.Join(t.TempDir(), SocketName)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, h) }()
	ended := false
	end = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("serve: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("it does not end")
		}
	}
	t.Cleanup(end)
	return path, end
}

func TestRequestsAreAnswered(t *testing.T) {
	path, _ := serve(t, answers(func(_ context.Context, r Request, root bool, say func(Reply) error) error {
		switch r.Do {
		case DoStatus:
			return say(Reply{Status: &Status{Site: r.Site}})
		case DoReload:
			return say(Reply{Done: root})
		}
		return errors.New("what?")
	}))
	r, err := One(t.Context(), path, Request{Do: DoStatus, Site: "op1"})
	if err != nil || r.Status == nil || r.Status.Site != "op1" {
		t.Errorf("the answer is %+v, %v", r, err)
	}
	r, err = One(t.Context(), path, Request{Do: DoReload})
	if err != nil || r.Done != (os.Geteuid() == 0) {
		t.Errorf("as user %d: %+v, %v", os.Geteuid(), r, err)
	}
	if _, err = One(t.Context(), path, Request{Do: "dance"}); err == nil || err.Error() != "what?" {
		t.Errorf("a request that is refused: %v", err)
	}
}

func TestWithoutAnAgentThatIsSaid(t *testing.T) {
	path := filepath.Join(t.TempDir(), SocketName)
	if _, err := One(t.Context(), path, Request{}); !errors.Is(err, ErrNoAgent) {
		t.Errorf("without a socket: %v", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false) // as one that was killed
	_ = l.Close()
	if _, err := One(t.Context(), path, Request{}); !errors.Is(err, ErrNoAgent) {
		t.Errorf("with the socket of a dead one: %v", err)
	}
}

// A client that goes ends what it asked for; the agent's end ends its clients.
func TestEitherEndEndsTheConversation(t *testing.T) {
	ended := make(chan struct{}, 10)
	path, end := serve(t, answers(func(ctx context.Context, _ Request, _ bool, say func(Reply) error) error {
		defer func() { ended <- struct{}{} }()
		for ctx.Err() == nil {
			if say(Reply{Event: &Event{Kind: "tick"}}) != nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		return nil
	}))
	n := 0
	enough := errors.New("enough")
	err := Ask(t.Context(), path, Request{Do: DoWatch}, func(r Reply) error {
		if n++; n == 5 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Errorf("after five events: %v", err)
	}
	wait := func(what string) {
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Fatal(what)
		}
	}
	wait("the agent speaks on to nobody")
	first := make(chan struct{}, 1)
	done := make(chan error, 1)
	go func() {
		done <- Ask(t.Context(), path, Request{Do: DoWatch}, func(Reply) error {
			select {
			case first <- struct{}{}:
			default:
			}
			return nil
		})
	}()
	<-first
	end()
	wait("the agent's end did not end it")
	if err := <-done; err != nil {
		t.Errorf("the client was told: %v", err)
	}
}

// Whatever a client sends, or does not, the agent serves the others.
func TestBadClientsHarmNobody(t *testing.T) {
	path, _ := serve(t, answers(func(_ context.Context, _ Request, _ bool, say func(Reply) error) error {
		return say(Reply{Done: true})
	}))
	for _, text := range []string{"", "\n", "{", "nonsense\n", strings.Repeat("x", 2*maxRequest) + "\n", `{"do": 7}` + "\n"} {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write([]byte(text))
		if text == "" {
			defer func() { _ = c.Close() }() // it says nothing and stays
			continue
		}
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		b := make([]byte, 1000)
		n, _ := c.Read(b)
		if strings.Contains(string(b[:n]), `"done"`) {
			t.Errorf("%.20q was taken for a request", text)
		}
		_ = c.Close()
	}
	if r, err := One(t.Context(), path, Request{Do: DoStatus}); err != nil || !r.Done {
		t.Errorf("%+v, %v", r, err)
	}
}

// Whoever watches, and however many, leaves place for those who ask and go: `apply` and
// `down` find the agent.
func TestManyWatchersLeavePlaceForQuestions(t *testing.T) {
	path, _ := serve(t, answers(func(ctx context.Context, r Request, _ bool, say func(Reply) error) error {
		if r.Do == DoWatch {
			if err := say(Reply{Event: &Event{Kind: "tick"}}); err != nil {
				return err
			}
			<-ctx.Done()
			return nil
		}
		return say(Reply{Done: true})
	}))
	taken, refused := make(chan bool, 200), make(chan error, 200)
	for range 200 {
		go func() {
			refused <- Ask(t.Context(), path, Request{Do: DoWatch}, func(Reply) error {
				taken <- true
				return nil
			})
		}()
	}
	for range 200 - maxLasting {
		if err := <-refused; err == nil || !strings.Contains(err.Error(), "too many clients") {
			t.Fatalf("one watcher too many is told: %v", err)
		}
	}
	for range maxLasting {
		<-taken
	}
	if r, err := One(t.Context(), path, Request{Do: DoApplied}); err != nil || !r.Done {
		t.Errorf("a question is answered with %+v, %v", r, err)
	}
}
