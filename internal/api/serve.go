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
	maxRequest = 4 << 10         // bytes
	patience   = 5 * time.Second // for a request to come, and for a line to be taken
	maxClients = 32
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
	room := make(chan struct{}, maxClients)
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		select {
		case room <- struct{}{}:
		default:
			_ = c.Close()
			continue
		}
		clients.Go(func() {
			defer func() { <-room }()
			defer func() { _ = c.Close() }()
			converse(ctx, c, h)
		})
	}
}

// converse reads a request and has it answered. What goes wrong the client sees.
func converse(ctx context.Context, c net.Conn, h Handler) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	line, err := bufio.NewReader(io.LimitReader(c, maxRequest)).ReadBytes('\n')
	if err != nil {
		return
	}
	say := func(r Reply) error {
		b, err := json.Marshal(r)
		if err != nil {
			return err
		}
		_ = c.SetWriteDeadline(time.Now().Add(patience))
		_, err = c.Write(append(b, '\n'))
		return err
	}
	var r Request
	if err := json.Unmarshal(line, &r); err != nil {
		_ = say(Reply{Error: fmt.Sprintf("read request: %v", err)})
		return
	}
	gone := make(chan struct{})
	go func() { // a client says nothing more: what can be read is its end
		defer close(gone)
		_ = c.SetReadDeadline(time.Time{})
		_, _ = c.Read(make([]byte, 1))
		cancel()
	}()
	if err := h.Answer(ctx, r, isRoot(c), say); err != nil && ctx.Err() == nil {
		_ = say(Reply{Error: err.Error()})
	}
	_ = c.Close()
	<-gone
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
