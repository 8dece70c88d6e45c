package internet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tailscale/wireguard-go/tun"
	"golang.org/x/sys/unix"
)

// TxQueueLen is how many packets (segmentation offload makes one of many) the
// kernel keeps for us between two reads, where its default is 500.
const TxQueueLen = 10_000

// Device is an open TUN with offloads: the kernel hands over TCP and UDP
// segments many at a time and leaves checksums to us, and takes them so.
//
// Its descriptors are kept from the Go runtime's poller, which would wake a
// second thread for every packet.
type Device struct {
	name string
	fd   int
	bell int // an eventfd, to end wait

	// closing is set before the last ring, so that no wait begins after it.
	closing atomic.Bool
	use     sync.Mutex // held by a Runner while it runs, and to close
	ringing sync.Mutex // held to ring, and to close
	closed  bool       // under ringing

	in      []byte           // what was read: a virtio header and a packet
	slab    []byte           // its segments
	packets []tun.ReadPacket // where they stand in slab
	train   train
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
	d := &Device{
		name: name,
		fd:   fd,
		bell: -1,
		in:   make([]byte, virtioHeaderLen+1<<16),
		// Room for a packet of the largest size cut into the smallest segments
		// that occur: a maximum segment size of 48, headers of 120.
		slab:    make([]byte, 1<<18),
		packets: make([]tun.ReadPacket, 2048),
	}
	// TUN_EXCL: attach to no persistent device of the same name.
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_TUN_EXCL)
	if err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err == nil {
		err = d.setUp()
	}
	if err != nil {
		return fail(errors.Join(err, d.Close()))
	}
	return d, nil
}

// setUp asks for offloads and a long queue, and makes the eventfd.
func (d *Device) setUp() error {
	const tcp, udp = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6, unix.TUN_F_USO4 | unix.TUN_F_USO6
	// UDP segmentation came with Linux 6.2.
	d.train.udp = unix.IoctlSetInt(d.fd, unix.TUNSETOFFLOAD, tcp|udp) == nil
	if !d.train.udp {
		if err := unix.IoctlSetInt(d.fd, unix.TUNSETOFFLOAD, tcp); err != nil {
			return fmt.Errorf("set offloads: %w", err)
		}
	}
	if err := setTxQueueLen(d.name); err != nil {
		return fmt.Errorf("set the queue length: %w", err)
	}
	var err error
	if d.bell, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("make an eventfd: %w", err)
	}
	return nil
}

// setTxQueueLen enlarges the kernel's queue before us.
func setTxQueueLen(name string) error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	ifr.SetUint32(TxQueueLen)
	// This takes privileges on the machine, not only in the namespace (Linux
	// net/core/dev_ioctl.c). Who lacks them may set it by netlink.
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFTXQLEN, ifr); !errors.Is(err, unix.EPERM) {
		return err
	}
	return nil
}

// Name is the device's name.
func (d *Device) Name() string { return d.name }

// Close removes the device. A Runner on it ends with [os.ErrClosed], before
// Close returns.
func (d *Device) Close() error {
	d.closing.Store(true)
	d.ring()
	d.use.Lock()
	defer d.use.Unlock()
	d.ringing.Lock()
	defer d.ringing.Unlock()
	if d.closed {
		return os.ErrClosed
	}
	d.closed = true
	err := unix.Close(d.fd)
	if d.bell >= 0 {
		err = errors.Join(err, unix.Close(d.bell))
	}
	return err
}

// ring ends the wait under way, or else the next one.
func (d *Device) ring() {
	d.ringing.Lock()
	defer d.ringing.Unlock()
	if d.closed {
		return
	}
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	// It fails when the count would overflow; then it rings already.
	_, _ = unix.Write(d.bell, one[:])
}

// wait sleeps until there is something to read, until ring, or for so long
// (for ever if negative). It says which of the first two it was.
//
// The thread itself sleeps, in ppoll, because the Go runtime's timers are
// rounded to milliseconds when nothing else runs (runtime/netpoll_epoll.go).
func (d *Device) wait(timeout time.Duration) (readable, rung bool, err error) {
	if d.closing.Load() {
		return false, false, os.ErrClosed
	}
	var limit *unix.Timespec
	if timeout >= 0 {
		ts := unix.NsecToTimespec(int64(timeout))
		limit = &ts
	}
	fds := [2]unix.PollFd{{Fd: int32(d.fd), Events: unix.POLLIN}, {Fd: int32(d.bell), Events: unix.POLLIN}}
	if _, err := unix.Ppoll(fds[:], limit, nil); err != nil {
		if errors.Is(err, unix.EINTR) {
			err = nil
		}
		return false, false, err
	}
	if fds[1].Revents != 0 {
		var count [8]byte
		_, _ = unix.Read(d.bell, count[:])
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
	size, err := unix.Read(d.fd, d.in)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return false, nil
	case errors.Is(err, unix.EBADFD): // the device was deleted
		return false, os.ErrClosed
	case err != nil:
		return false, err
	}
	n, err := split(d.in[:size], d.slab, d.packets)
	for _, p := range d.packets[:n] {
		f(d.slab[p.Offset : p.Offset+p.Size])
	}
	if err != nil {
		return true, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	return true, nil
}

// write sends packets in order, and changes their bytes. It goes on after an
// error, and returns how many writes the kernel refused, and [os.ErrClosed]
// when the device is gone.
func (d *Device) write(packets [][]byte) (refused int, err error) {
	for len(packets) > 0 {
		n := d.train.load(packets)
		packets = packets[n:]
		for {
			_, err = unix.Writev(d.fd, d.train.parts)
			if err != unix.EINTR {
				break
			}
		}
		if err == unix.EBADFD {
			return refused, os.ErrClosed
		}
		if err != nil {
			refused++
		}
	}
	return refused, nil
}

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
