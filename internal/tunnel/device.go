package tunnel

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	wireguard "github.com/tailscale/wireguard-go/device"
	"github.com/tailscale/wireguard-go/tun"
	"golang.org/x/sys/unix"
)

// device is one WireGuard device in the worker.
type device struct {
	name string
	wg   *wireguard.Device
	tun  *tunDevice
	bind *bind
	uapi net.Listener
	link *link
	log  *slog.Logger
	look chan struct{} // the interface may have changed
	news chan struct{} // a peer has a new session or a new endpoint
	stop func()        // ends the subscription to changes

	mu   sync.Mutex // one change and its report to the supervisor at a time
	kept config     // as the supervisor has it
	up   bool
	shut bool // it should be up and its UDP port is taken
}

const (
	// News of a peer is reported soon, as the worker may die any moment, but not more than
	// twice a second; and once more when a handshake that it began must be over.
	keepSoon   = 5 * time.Millisecond
	keepSeldom = 500 * time.Millisecond
	keepAgain  = 5 * time.Second // REKEY_TIMEOUT: one that is not over by now begins anew
	// retryUp is the pause before the UDP port of an interface that is up is tried again.
	retryUp = time.Second
)

// queueDepth is how many batches wait between wireguard-go's stages: some for each CPU to
// work on. Its default, 1024, is no faster, and each place may hold 128 kB.
func queueDepth() int { return 8 * runtime.NumCPU() }

// openDevice makes a device on descriptors that it takes over in any case, with the
// configuration that a worker before it had, if any.
func openDevice(w *work, name string, c config, tunFD, uapiFD int) (*device, error) {
	f := os.NewFile(uintptr(uapiFD), uapiPath(name))
	l, err := net.FileListener(f) // works on a copy, and does not remove the socket's file
	f.Close()
	if err != nil {
		_ = unix.Close(tunFD)
		return nil, fmt.Errorf("listen on %s: %w", uapiPath(name), err)
	}
	log := w.log.With("interface", name)
	t, err := newTUNDevice(tunFD, log)
	if err != nil {
		l.Close()
		return nil, err
	}
	news := make(chan struct{}, 1)
	b := newBind(w.watch, news)
	d := &device{
		name: name, tun: t, bind: b, uapi: l, link: w.link, log: log, kept: c,
		look: make(chan struct{}, 1), news: news,
		wg: wireguard.NewDevice(t, b, deviceLogger(log),
			wireguard.WithQueueInboundSize(queueDepth()), wireguard.WithQueueOutboundSize(queueDepth())),
	}
	w.watch.subscribe(t.index, d.look)
	d.stop = func() { w.watch.unsubscribe(t.index) }
	d.wg.SetSessionStateFunc(func(_ wireguard.NoisePublicKey, s wireguard.PeerSessionState) {
		if s == wireguard.PeerSessionEstablished {
			poke(news)
		}
	})
	if c != (config{}) {
		if err := d.wg.IpcSet(addressed(c.settings())); err != nil {
			d.close()
			return nil, fmt.Errorf("restore configuration: %w", redacted(err))
		}
	}
	d.follow()
	d.rouse(c.peers(), time.Now())
	return d, nil
}

// run serves the device until ctx is done or its interface is deleted.
func (d *device) run(ctx context.Context) {
	var serving sync.WaitGroup
	sctx, cancel := context.WithCancel(ctx)
	serving.Go(func() { d.serveUAPI(sctx) })
	keep := time.NewTimer(time.Hour) // reports the configuration if it has changed
	keep.Stop()
	var kept time.Time         // when that was last
	var news, soon bool        // there is news since then, and keep runs for it
	var retry <-chan time.Time // to bring the device up
	for ended := false; !ended; {
		if retry = nil; !d.follow() {
			retry = time.After(retryUp)
		}
		select {
		case <-d.look:
		case <-retry:
		case <-d.news:
			if news = true; !soon {
				soon = true
				keep.Reset(max(keepSoon, keepSeldom-time.Since(kept)))
			}
		case <-keep.C:
			d.keep()
			if kept = time.Now(); news {
				keep.Reset(keepAgain)
			}
			news, soon = false, false
		case <-d.wg.Wait(): // reading the TUN failed: it was deleted, as a rule
			ended = true
		case <-ctx.Done():
			ended = true
		}
	}
	d.close()
	cancel()
	serving.Wait()
}

func (d *device) close() {
	d.stop()
	d.uapi.Close()
	d.wg.Close()
}

// follow takes over what the interface is now: up or down, and its MTU. It reports false
// when the device should be up and could not be.
func (d *device) follow() bool {
	up, err := ifUp(d.name)
	if err != nil {
		return true // deleted, or moved to another namespace, where it works on as it is
	}
	d.tun.event(tun.EventMTUUpdate)
	d.mu.Lock()
	defer d.mu.Unlock()
	if up == d.up {
		return true
	}
	d.up = up
	if !up {
		if err := d.wg.Down(); err != nil {
			d.log.Error("close UDP sockets", "error", err)
		}
		return true
	}
	err = d.wg.Up()
	if shut := err != nil; shut != d.shut {
		d.shut = shut
		d.log.Log(context.Background(), portLevel(shut), "open UDP sockets", "port", d.kept.listenPort(), "error", err)
	}
	if d.shut {
		d.up = false
		d.keepPort()
		return false
	}
	d.keepLocked() // the port may have been chosen just now
	return true
}

// portLevel is the level at which a change of device.shut is logged.
func portLevel(shut bool) slog.Level {
	if shut {
		return slog.LevelError
	}
	return slog.LevelInfo
}

// keepPort puts back the listening port that wireguard-go forgets when it cannot be opened.
func (d *device) keepPort() {
	if err := d.wg.IpcSet(fmt.Sprintf("listen_port=%d\n", d.kept.listenPort())); err != nil {
		d.log.Error("return to the former UDP port", "error", err)
	}
}

// keep reports the configuration to the supervisor if it differs from what that has.
func (d *device) keep() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.keepLocked()
}

func (d *device) keepLocked() {
	c := snapshot(d.get())
	select {
	case <-d.wg.Wait():
		return // closed, perhaps before the question: then it has no peers any more
	default:
	}
	if c.text() != d.kept.text() {
		d.kept = c
		_ = d.link.send(message{Op: opConfig, Name: d.name, Config: c}) // no supervisor, no worker
	}
}

// get returns wireguard-go's answer to `get=1`.
func (d *device) get() string {
	var b strings.Builder
	if err := d.wg.IpcGetOperation(&b); err != nil {
		panic("tunnel: a strings.Builder refused: " + err.Error())
	}
	return b.String()
}

// rouse begins a handshake with the peers that had a session before a restart: they would
// go on using it, and notice only after some 15 seconds that nobody has its keys any more.
func (d *device) rouse(peers []peer, now time.Time) {
	for _, p := range peers {
		if wp := d.wg.LookupPeer(p.key); wp != nil && p.mayBeInSession(now) {
			wp.SendKeepalive()
		}
	}
}

// poke fills c unless it is full.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
