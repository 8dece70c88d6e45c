package tunnel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"syscall"
	"time"
)

// Interface is one embedded WireGuard interface.
type Interface struct {
	Name     string    `json:"name"`
	MTU      int       `json:"mtu"`      // bytes, as the kernel has it now
	Since    time.Time `json:"since"`    // when Add made it
	Restarts int       `json:"restarts"` // how often its worker ended and was started again
}

// What a Client asks of a supervisor over DIR/tunnel.sock: one request and one reply per
// connection, each a line of JSON.
const (
	askAdd    = "add"    // name, mtu, netns
	askRemove = "remove" // name, netns
	askList   = "list"
	askStop   = "stop"
)

type request struct {
	Ask  string `json:"ask"`
	Name string `json:"name,omitempty"`
	MTU  int    `json:"mtu,omitempty"`
	// NetNS is the caller's network namespace; empty means that it does not matter. A
	// supervisor refuses a change from another namespace than its own.
	NetNS string `json:"netns,omitempty"`
}

type reply struct {
	Error      string      `json:"error,omitempty"`
	Foreign    bool        `json:"foreign,omitempty"` // the error is ErrForeign
	Ending     bool        `json:"ending,omitempty"`  // nothing was done, the supervisor is about to end
	Interfaces []Interface `json:"interfaces,omitempty"`
}

func replyError(err error) reply {
	return reply{Error: err.Error(), Foreign: errors.Is(err, ErrForeign)}
}

// err returns what went wrong at the supervisor.
func (r reply) err() error {
	switch {
	case r.Foreign:
		return ErrForeign
	case r.Error != "":
		return errors.New(r.Error)
	}
	return nil
}

func socketPath(dir string) string { return filepath.Join(dir, "tunnel.sock") }
func lockPath(dir string) string   { return filepath.Join(dir, "tunnel.lock") }
func logPath(dir string) string    { return filepath.Join(dir, "tunnel.log") }

// checkDir refuses a directory whose socket no address can name: sun_path holds 107 bytes
// and a zero (unix(7)).
func checkDir(dir string) error {
	if p := socketPath(dir); len(p) >= len(syscall.RawSockaddrUnix{}.Path) {
		return fmt.Errorf("path %s is too long for a unix socket (%d bytes at most)", p, len(syscall.RawSockaddrUnix{}.Path)-1)
	}
	return nil
}

// exchange sends one request on c and reads the reply.
func exchange(c net.Conn, r request) (reply, error) {
	if err := json.NewEncoder(c).Encode(r); err != nil {
		return reply{}, err
	}
	var a reply
	err := json.NewDecoder(c).Decode(&a)
	return a, err
}

// serve answers one connection: ask carries the request to the supervisor's goroutine.
func serve(ctx context.Context, c net.Conn, ask func(request) reply) {
	defer c.Close()
	// A caller sends its request at once; one that does not must not hold a goroutine.
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var r request
	if err := json.NewDecoder(c).Decode(&r); err != nil {
		return
	}
	_ = json.NewEncoder(c).Encode(ask(r))
}
