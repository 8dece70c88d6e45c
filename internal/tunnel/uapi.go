package tunnel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	wireguard "github.com/tailscale/wireguard-go/device"
	"golang.org/x/sys/unix"
)

// serveUAPI answers wg(8) and wgctrl until ctx is done.
func (d *device) serveUAPI(ctx context.Context) {
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		c, err := d.uapi.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors, most likely: it may pass
			d.log.Error("accept on the UAPI socket", "error", err)
			if pause(ctx, 100*time.Millisecond) != nil {
				return
			}
			continue
		}
		conns.Go(func() {
			defer c.Close()
			stop := context.AfterFunc(ctx, func() { c.Close() })
			defer stop()
			d.talk(c)
		})
	}
}

// talk handles the operations of one connection, as wireguard-go's own IpcHandle does
// (https://www.wireguard.com/xplatform/#configuration-protocol), save that a change is with
// the supervisor before it is acknowledged.
func (d *device) talk(c net.Conn) {
	in, out := bufio.NewReader(c), bufio.NewWriter(c)
	for {
		op, err := in.ReadString('\n')
		if err != nil {
			return
		}
		switch op {
		case "set=1\n":
			err = d.set(in)
		case "get=1\n":
			if blank, rerr := in.ReadString('\n'); rerr != nil || blank != "\n" {
				return
			}
			_, err = out.WriteString(keepLines(d.get(), known))
		default:
			d.log.Debug("unknown operation on the UAPI socket")
			return
		}
		fmt.Fprintf(out, "errno=%d\n\n", errno(err))
		if out.Flush() != nil {
			return
		}
	}
}

// set changes the device by the lines up to a blank one.
func (d *device) set(lines *bufio.Reader) error {
	text, err := readBlock(lines)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	err = d.wg.IpcSet(addressed(text))
	d.bind.crossing.forget() // a peer that was made anew, or has another key, begins from nothing
	if errno(err) == -int64(unix.EADDRINUSE) {
		// wireguard-go has closed its sockets; the kernel's driver keeps the former ones
		// when it cannot have the new (wg_set_device in drivers/net/wireguard/netlink.c).
		d.keepPort()
	}
	d.keepLocked() // also after an error: what came before it is in force
	d.forgetRemoved()
	return err
}

// forgetRemoved has the bind forget the peers that are no more. d.mu is held.
func (d *device) forgetRemoved() {
	have := make(map[[32]byte]bool)
	for _, p := range d.kept.peers() {
		have[p.key] = true
	}
	d.bind.retain(have)
}

// readBlock reads up to and without the blank line. Reading it all before the device is
// locked keeps a slow writer from holding it.
func readBlock(r *bufio.Reader) (string, error) {
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", err
		}
		if line == "\n" {
			return b.String(), nil
		}
		b.WriteString(line)
	}
}

// errno is an operation's error as the protocol has it: 0 for none, else negative.
func errno(err error) int64 {
	var ipc *wireguard.IPCError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &ipc):
		return ipc.ErrorCode()
	}
	return -int64(unix.EIO)
}
