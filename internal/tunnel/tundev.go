package tunnel

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"

	"github.com/tailscale/wireguard-go/tun"
	"golang.org/x/sys/unix"
)

// tunDevice is wireguard-go's TUN without its two listeners per device (see watch): the
// device's owner tells it what has changed.
type tunDevice struct {
	*tun.NativeTun
	index uint32
	log   *slog.Logger

	mu     sync.Mutex
	closed bool
	events chan tun.Event
}

// newTUNDevice takes over descriptor fd in any case.
func newTUNDevice(fd int, log *slog.Logger) (*tunDevice, error) {
	dev, name, err := tun.CreateUnmonitoredTUNFromFD(fd)
	if err != nil {
		return nil, fmt.Errorf("open TUN: %w", err)
	}
	index, err := ifIndex(name)
	if err != nil {
		dev.Close()
		return nil, err
	}
	t := &tunDevice{
		NativeTun: dev.(*tun.NativeTun), index: index, log: log,
		events: make(chan tun.Event, 1),
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil && dropsCoalescedUDP(unix.ByteSliceToString(u.Release[:])) {
		t.DisableUDPGRO()
	}
	return t, nil
}

// Events implements tun.Device.
func (t *tunDevice) Events() <-chan tun.Event { return t.events }

// event tells wireguard-go, unless the same word is still unread.
func (t *tunDevice) event(e tun.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	select {
	case t.events <- e:
	default:
	}
}

// Close implements tun.Device.
func (t *tunDevice) Close() error {
	t.mu.Lock()
	if !t.closed {
		t.closed = true
		close(t.events)
	}
	t.mu.Unlock()
	return t.NativeTun.Close()
}

// WriteTo implements tun.MultiQueueDevice, the way wireguard-go writes.
func (t *tunDevice) WriteTo(flow int, bufs [][]byte, offset int) (int, error) {
	n, err := t.NativeTun.WriteTo(flow, bufs, offset)
	if errors.Is(err, unix.EINVAL) {
		// Some 6.1, 6.6 and 6.10 kernels refuse coalesced segments (see tun.GRODevice).
		// One batch is lost, then segments go one by one.
		t.log.Warn("kernel refuses coalesced packets, writing them one by one", "error", err)
		t.DisableTCPGRO()
		t.DisableUDPGRO()
	}
	return n, err
}

// dropsCoalescedUDP reports whether a kernel of this release loses coalesced UDP packets
// on their way into a VXLAN or Geneve interface (before 6.8.5, see tun.GRODevice). Before
// 6.2 a TUN does not take them at all, and wireguard-go finds that out by itself.
func dropsCoalescedUDP(release string) bool {
	release, _, _ = strings.Cut(release, "-")
	var v [3]int
	for i, part := range strings.SplitN(release, ".", 3) {
		n := strings.IndexFunc(part, func(r rune) bool { return r < '0' || r > '9' })
		if n < 0 {
			n = len(part)
		}
		v[i], _ = strconv.Atoi(part[:n])
	}
	return v[0] < 6 || v[0] == 6 && (v[1] < 8 || v[1] == 8 && v[2] < 5)
}
