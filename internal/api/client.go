package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// Ask sends a request to the agent whose socket is path, and calls each with its replies
// until the agent closes, each returns an error, or ctx ends. The error Is ErrNoAgent where
// none listens; what the agent refuses is an error in its own words.
func Ask(ctx context.Context, path string, r Request, each func(Reply) error) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) {
		return ErrNoAgent
	}
	if err != nil {
		return fmt.Errorf("ask the agent: %w", err)
	}
	defer func() { _ = c.Close() }()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, refused := c.Write(append(b, '\n')) // an agent that has no time may have said so, and closed
	in := bufio.NewReader(c)
	for {
		line, err := in.ReadBytes('\n')
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case refused != nil && err != nil:
			return fmt.Errorf("ask the agent: %w", refused)
		case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
			return nil
		case err != nil:
			return fmt.Errorf("listen to the agent: %w", err)
		}
		var reply Reply
		if err := json.Unmarshal(line, &reply); err != nil {
			return fmt.Errorf("understand the agent: %w", err)
		}
		if reply.Error != "" {
			return errors.New(reply.Error)
		}
		if err := each(reply); err != nil {
			return err
		}
	}
}

// One asks for one reply.
func One(ctx context.Context, path string, r Request) (reply Reply, err error) {
	got := false
	err = Ask(ctx, path, r, func(x Reply) error {
		reply, got = x, true
		return nil
	})
	if err == nil && !got {
		err = errors.New("the agent ended without an answer")
	}
	return reply, err
}
