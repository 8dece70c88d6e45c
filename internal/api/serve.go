package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxRequest  = 4 << 10         // bytes
	patience    = 5 * time.Second // for a request to come, and for a line to be taken
	acceptAgain = 100 * time.Millisecond
)

// Handler answers requests, each in a goroutine of its own.
type Handler interface {
	// Answer says what it has to with say, until it returns or ctx ends, which it does when
	// the client is gone. root says that the client is root.
	Answer(ctx context.Context, r Request, root bool, say func(Reply) error) error
}

// Serve serves clients until ctx ends, and closes l. All clients are gone when it returns.
func Serve(ctx context.Context, l net.Listener, h Handler) error {
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	var clients sync.WaitGroup
	defer clients.Wait()
	rooms := map[bool]room{true: newRoom(maxRoot), false: newRoom(maxOthers)}
	for {
		c, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = c.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil: // no descriptor, no memory: that passes
			select {
			case <-time.After(acceptAgain):
			case <-ctx.Done():
			}
			continue
		}
		root := isRoot(c)
		in := rooms[root]
		if !enter(in.clients) {
			full(c)
			_ = c.Close()
			continue
		}
		clients.Go(func() {
			defer leave(in.clients)
			defer func() { _ = c.Close() }()
			converse(ctx, c, h, root, in)
		})
	}
}

// converse reads a request and has it answered. What goes wrong the client sees.
func converse(ctx context.Context, c net.Conn, h Handler, root bool, in room) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	line, err := bufio.NewReader(io.LimitReader(c, maxRequest)).ReadBytes('\n')
	if err != nil {
		return
	}
	say := func(r Reply) error { return sayTo(c, r) }
	var r Request
	if err := json.Unmarshal(line, &r); err != nil {
		_ = say(Reply{Error: fmt.Sprintf("read request: %v", err)})
		return
	}
	if lasts(r) {
		if !enter(in.lasting) {
			full(c)
			return
		}
		defer leave(in.lasting)
	}
	gone := make(chan struct{})
	go func() { // a client says nothing more: what can be read is its end
		defer close(gone)
		_ = c.SetReadDeadline(time.Time{})
		_, _ = c.Read(make([]byte, 1))
		cancel()
	}()
	if err := h.Answer(ctx, r, root, say); err != nil && ctx.Err() == nil {
		_ = say(Reply{Error: err.Error()})
	}
	_ = c.Close()
	<-gone
}

// sayTo sends a reply to a client.
func sayTo(c net.Conn, r Reply) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_ = c.SetWriteDeadline(time.Now().Add(patience))
	_, err = c.Write(append(b, '\n'))
	return err
}

// isRoot reports whether the client's process is root's (SO_PEERCRED, unix(7)).
func isRoot(c net.Conn) bool {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return false
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return false
	}
	root := false
	_ = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		root = err == nil && cred.Uid == 0
	})
	return root
}

// ErrNoAgent says that no agent listens.
var ErrNoAgent = errors.New("no agent runs on this router")
