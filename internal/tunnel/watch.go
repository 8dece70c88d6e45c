package tunnel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// watch hears from the kernel what changes in the network namespace, once for all devices.
// wireguard-go's own listeners would take two threads, a wake-up per second and a reaction
// to every route message for each device, and those for routes end for good at the first
// overflow of their socket.
type watch struct {
	changes *netlink.Conn // multicast groups
	lookups *netlink.Conn // questions

	// routes counts how often routes, rules or addresses have changed; see bind.
	routes atomic.Uint32

	mu    sync.Mutex
	links map[uint32]chan<- struct{} // by interface index: who wants to look at it
}

// settle is the time between two counts of watch.routes: a full table that is being loaded
// is a handful of changes, not ten thousand.
const settle = 200 * time.Millisecond

func newWatch() (*watch, error) {
	changes, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{
		Groups: unix.RTMGRP_LINK |
			unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE |
			unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR |
			unix.RTMGRP_IPV4_RULE | 1<<(unix.RTNLGRP_IPV6_RULE-1),
	})
	if err != nil {
		return nil, fmt.Errorf("watch the network: %w", err)
	}
	lookups, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		changes.Close()
		return nil, fmt.Errorf("watch the network: %w", err)
	}
	return &watch{changes: changes, lookups: lookups, links: make(map[uint32]chan<- struct{})}, nil
}

// subscribe has look filled, if it is empty, whenever the interface may have changed.
func (w *watch) subscribe(index uint32, look chan<- struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.links[index] = look
}

func (w *watch) unsubscribe(index uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.links, index)
}

// run listens until ctx is done.
func (w *watch) run(ctx context.Context, log *slog.Logger) {
	defer w.lookups.Close()
	stop := context.AfterFunc(ctx, func() { w.changes.Close() })
	defer stop()
	var changed bool      // since the last count
	var counted time.Time // when that was
	for {
		if wait := time.Until(counted.Add(settle)); changed && wait <= 0 {
			w.routes.Add(1)
			changed, counted = false, time.Now()
			_ = w.changes.SetReadDeadline(time.Time{})
		} else if changed {
			_ = w.changes.SetReadDeadline(time.Now().Add(wait))
		}
		msgs, err := w.changes.Receive()
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, os.ErrDeadlineExceeded):
		case errors.Is(err, unix.ENOBUFS): // some were lost: any may have been
			changed = true
			w.poke(0)
		case err != nil:
			log.Error("watch the network", "error", err)
			if pause(ctx, time.Second) != nil {
				return
			}
		}
		for _, m := range msgs {
			switch m.Header.Type {
			case unix.RTM_NEWLINK, unix.RTM_DELLINK:
				if len(m.Data) >= unix.SizeofIfInfomsg {
					w.poke(binary.NativeEndian.Uint32(m.Data[4:8])) // ifi_index
				}
			default:
				changed = true
			}
		}
	}
}

// poke has the owner of an interface look at it; 0 means all owners.
func (w *watch) poke(index uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, look := range w.links {
		if index == 0 || index == i {
			poke(look)
		}
	}
}

// leaves returns the index of the interface by which a UDP packet with this source,
// destination and mark would leave (RTM_GETROUTE, see rtnetlink(7)). A source that is not
// an address of this host is an error, as is a destination without a route.
func (w *watch) leaves(src, dst netip.Addr, mark uint32) (uint32, error) {
	src, dst = src.Unmap(), dst.Unmap()
	family, bits := byte(unix.AF_INET), byte(32)
	if dst.Is6() {
		family, bits = unix.AF_INET6, 128
	}
	ae := netlink.NewAttributeEncoder()
	ae.Bytes(unix.RTA_DST, dst.AsSlice())
	ae.Bytes(unix.RTA_SRC, src.AsSlice())
	if mark != 0 {
		ae.Uint32(unix.RTA_MARK, mark)
	}
	attrs, err := ae.Encode()
	if err != nil {
		return 0, err
	}
	header := make([]byte, unix.SizeofRtMsg)
	header[0], header[1], header[2] = family, bits, bits // rtm_family, rtm_dst_len, rtm_src_len
	answers, err := w.lookups.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_GETROUTE, Flags: netlink.Request},
		Data:   append(header, attrs...),
	})
	if err != nil {
		return 0, fmt.Errorf("look up route to %s from %s: %w", dst, src, err)
	}
	for _, m := range answers {
		if m.Header.Type != unix.RTM_NEWROUTE || len(m.Data) < unix.SizeofRtMsg {
			continue
		}
		ad, err := netlink.NewAttributeDecoder(m.Data[unix.SizeofRtMsg:])
		if err != nil {
			return 0, err
		}
		for ad.Next() {
			if ad.Type() == unix.RTA_OIF {
				return ad.Uint32(), ad.Err()
			}
		}
	}
	return 0, fmt.Errorf("look up route to %s from %s: no interface in the answer", dst, src)
}
