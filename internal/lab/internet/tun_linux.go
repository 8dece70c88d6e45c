package internet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tailscale/wireguard-go/tun"
	"golang.org/x/sys/unix"
)

// txQueueLen is how many packets (segmentation offload makes one of many) the
// kernel keeps for us between two reads, where its default is 500.
const txQueueLen = 10_000

// writeBatch is how many packets one Write of the tun package takes.
const writeBatch = 128

// Device is an open TUN with offloads: the kernel hands over TCP and UDP
// segments many at a time and leaves checksums to us, and takes them so.
type Device struct {
	name  string
	tun   tun.Device
	conn  syscall.RawConn
	event *os.File // an eventfd, to end wait
	bell  syscall.RawConn
	// closed is set before the last ring, so that no wait begins after it.
	closed atomic.Bool

	in      []byte           // what was read: a virtio header and a packet
	slab    []byte           // its segments
	packets []tun.ReadPacket // where they stand in slab
	readErr error
	readLen int
}

// OpenTUN makes the TUN device name in the network namespace of the calling
// thread, and leaves it down and without addresses. A device of that name
// that exists is an error.
func OpenTUN(name string) (*Device, error) {
	fail := func(err error) (*Device, error) { return nil, fmt.Errorf("open TUN device %s: %w", name, err) }
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return fail(err)
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return fail(err)
	}
	// TUN_EXCL: attach to no persistent device of the same name.
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_TUN_EXCL)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		unix.Close(fd)
		return fail(err)
	}
	if err := setTxQueueLen(name); err != nil {
		unix.Close(fd)
		return fail(err)
	}
	dev, _, err := tun.CreateUnmonitoredTUNFromFD(fd) // closes fd on errors
	if err != nil {
		return fail(err)
	}
	d := &Device{
		name: name,
		tun:  dev,
		in:   make([]byte, virtioHeaderLen+1<<16),
		// Room for a packet of the largest size cut into the smallest segments
		// that occur: a maximum segment size of 48, headers of 120.
		slab:    make([]byte, 1<<18),
		packets: make([]tun.ReadPacket, 2048),
	}
	if d.conn, err = dev.File().SyscallConn(); err == nil {
		err = d.openBell()
	}
	if err != nil {
		dev.Close()
		return fail(err)
	}
	return d, nil
}

// setTxQueueLen enlarges the kernel's queue before us.
func setTxQueueLen(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	ifr.SetUint32(txQueueLen)
	return unix.IoctlIfreq(fd, unix.SIOCSIFTXQLEN, ifr)
}

// openBell makes the eventfd.
func (d *Device) openBell() error {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("make an eventfd: %w", err)
	}
	d.event = os.NewFile(uintptr(fd), "eventfd")
	d.bell, err = d.event.SyscallConn()
	return err
}

// Name is the device's name.
func (d *Device) Name() string { return d.name }

// Close takes the device down for good. A Runner on it ends with
// [os.ErrClosed].
func (d *Device) Close() error {
	d.closed.Store(true)
	d.ring()
	return errors.Join(d.tun.Close(), d.event.Close())
}

// ring ends the wait under way, or else the next one.
func (d *Device) ring() {
	// After Close there is nothing left to wake.
	_ = d.bell.Control(func(fd uintptr) {
		var one [8]byte
		binary.NativeEndian.PutUint64(one[:], 1)
		_, _ = unix.Write(int(fd), one[:])
	})
}

// wait sleeps until there is something to read, until ring, or for so long
// (for ever if negative). It says which of the first two it was.
//
// The thread itself sleeps, in ppoll, because the Go runtime's timers are
// rounded to milliseconds when nothing else runs (runtime/netpoll_epoll.go).
func (d *Device) wait(timeout time.Duration) (readable, rung bool, err error) {
	if d.closed.Load() {
		return false, false, os.ErrClosed
	}
	var limit *unix.Timespec
	if timeout >= 0 {
		ts := unix.NsecToTimespec(int64(timeout))
		limit = &ts
	}
	var fds [2]unix.PollFd
	// Control keeps both descriptors from being closed under the call.
	outer := d.conn.Control(func(fd uintptr) {
		inner := d.bell.Control(func(bell uintptr) {
			fds[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
			fds[1] = unix.PollFd{Fd: int32(bell), Events: unix.POLLIN}
			_, err = unix.Ppoll(fds[:], limit, nil)
			if fds[1].Revents != 0 {
				var count [8]byte
				_, _ = unix.Read(int(bell), count[:])
			}
		})
		if inner != nil {
			err = os.ErrClosed
		}
	})
	switch {
	case outer != nil:
		return false, false, os.ErrClosed
	case errors.Is(err, unix.EINTR):
		return false, false, nil
	case err != nil:
		return false, false, err
	}
	// POLLERR is the device's end; reading tells how.
	return fds[0].Revents != 0, fds[1].Revents != 0, nil
}

// errUnreadable is an offload that the kernel should not have used.
var errUnreadable = errors.New("packet with an unknown offload")

// read calls f with each of the packets that one read gives, their checksums
// complete. The bytes are good until f returns. It returns false when there
// was nothing to read.
func (d *Device) read(f func(packet []byte)) (bool, error) {
	if err := d.conn.Read(d.readOnce); err != nil {
		return false, os.ErrClosed
	}
	switch {
	case errors.Is(d.readErr, unix.EAGAIN), errors.Is(d.readErr, unix.EINTR):
		return false, nil
	case errors.Is(d.readErr, unix.EBADFD): // the device was deleted
		return false, os.ErrClosed
	case d.readErr != nil:
		return false, d.readErr
	}
	n, err := split(d.in[:d.readLen], d.slab, d.packets)
	for _, p := range d.packets[:n] {
		f(d.slab[p.Offset : p.Offset+p.Size])
	}
	if err != nil {
		return true, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	return true, nil
}

// readOnce is for RawConn.Read: true says not to wait.
func (d *Device) readOnce(fd uintptr) bool {
	d.readLen, d.readErr = unix.Read(int(fd), d.in)
	return true
}

// write sends packets, each after headroom bytes of its buffer, in order
// except that adjacent segments of one flow leave together. It changes the
// buffers.
func (d *Device) write(bufs [][]byte) error {
	_, err := d.tun.Write(bufs, headroom)
	return err
}

// virtioHeaderLen is the size of struct virtio_net_hdr (linux/virtio_net.h).
const virtioHeaderLen = 10

// headroom is what write wants before each packet.
const headroom = virtioHeaderLen

// split undoes the offloads of what was read: it completes the checksum and
// cuts what the kernel left for us to cut (Linux
// Documentation/networking/segmentation-offloads.rst).
func split(in, slab []byte, packets []tun.ReadPacket) (int, error) {
	if len(in) < virtioHeaderLen {
		return 0, errors.New("no virtio header")
	}
	packet := in[virtioHeaderLen:]
	field := func(at int) uint16 { return binary.NativeEndian.Uint16(in[at:]) }
	options := tun.GSOOptions{
		NeedsCsum:  in[0]&unix.VIRTIO_NET_HDR_F_NEEDS_CSUM != 0,
		HdrLen:     field(2),
		GSOSize:    field(4),
		CsumStart:  field(6),
		CsumOffset: field(8),
	}
	switch in[1] {
	case unix.VIRTIO_NET_HDR_GSO_NONE:
		options.GSOType, options.HdrLen = tun.GSONone, 0
	case unix.VIRTIO_NET_HDR_GSO_TCPV4:
		options.GSOType = tun.GSOTCPv4
	case unix.VIRTIO_NET_HDR_GSO_TCPV6:
		options.GSOType = tun.GSOTCPv6
	case unix.VIRTIO_NET_HDR_GSO_UDP_L4:
		options.GSOType = tun.GSOUDPL4
	default:
		return 0, fmt.Errorf("GSO type %#x", in[1])
	}
	// hdr_len may be the length of the whole first segment on a forwarding
	// path: find it from the headers.
	switch options.GSOType {
	case tun.GSONone:
	case tun.GSOUDPL4:
		options.HdrLen = options.CsumStart + 8
	default:
		if len(packet) <= int(options.CsumStart)+12 {
			return 0, errors.New("TCP header is cut short")
		}
		options.HdrLen = options.CsumStart + uint16(packet[options.CsumStart+12]>>4*4)
	}
	n, err := tun.GSOSplit(packet, options, slab, packets, 0)
	if err == nil && options.NeedsCsum && options.CsumOffset == 6 { // UDP
		at := int(options.CsumStart) + 6
		for _, p := range packets[:n] {
			// Zero would say that there is no checksum, which IPv6 forbids (RFC 8200 §8.1).
			if b := slab[p.Offset+at:]; b[0]|b[1] == 0 {
				b[0], b[1] = 0xff, 0xff
			}
		}
	}
	return n, err
}
