package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Initiations tells of WireGuard handshake initiations that come to a UDP port, of which
// WireGuard tells nobody. What is told is only that somebody begins: who that is, and
// whether it is more than a copy of an old packet, shows when the handshake completes.
//
// An IPv4 packet with options, an IPv6 packet with extension headers, and what a flood has
// the kernel drop are not told. It may be used from any goroutine.
type Initiations struct {
	seen    chan struct{}
	count   atomic.Uint64
	closed  chan struct{}
	files   []*os.File
	running sync.WaitGroup

	mu  sync.Mutex
	err error
}

const (
	// initiationPause is how long after packets no more are looked at: a flood costs a
	// hundred looks a second, and the rest is dropped by the kernel.
	initiationPause = 10 * time.Millisecond
	// initiationBuffer holds some hundred packets, of which the kernel counts more than
	// the one byte that is kept.
	initiationBuffer = 256 << 10
	// initiationMost is how many packets are looked at at a time.
	initiationMost = 256
)

// WatchInitiations begins to watch a port, on all devices of the calling thread's namespace
// and no other later. It must be closed.
func WatchInitiations(port uint16) (*Initiations, error) {
	i := &Initiations{seen: make(chan struct{}, 1), closed: make(chan struct{})}
	for protocol, filter := range map[uint16][]unix.SockFilter{
		unix.ETH_P_IP: initiation4(port), unix.ETH_P_IPV6: initiation6(port),
	} {
		f, err := packetSocket(protocol, filter)
		if errors.Is(err, unix.EAFNOSUPPORT) && protocol == unix.ETH_P_IPV6 {
			continue
		}
		if err != nil {
			i.Close()
			return nil, fmt.Errorf("watch for handshakes on port %d: %w", port, err)
		}
		i.files = append(i.files, f)
	}
	for _, f := range i.files {
		raw, err := f.SyscallConn()
		if err != nil {
			i.Close()
			return nil, fmt.Errorf("watch for handshakes on port %d: %w", port, err)
		}
		i.running.Go(func() { i.listen(raw) })
	}
	return i, nil
}

// Seen has a value when initiations came since it had one.
func (i *Initiations) Seen() <-chan struct{} { return i.seen }

// Count returns how many initiations have come so far.
func (i *Initiations) Count() uint64 { return i.count.Load() }

// Err says why nothing is told any more; nil while all is well.
func (i *Initiations) Err() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.err
}

// Close ends it.
func (i *Initiations) Close() {
	close(i.closed)
	for _, f := range i.files {
		_ = f.Close()
	}
	i.running.Wait()
}

// listen counts packets until the socket is closed.
func (i *Initiations) listen(raw syscall.RawConn) {
	var b [1]byte
	for {
		var n uint64
		var broken error
		err := raw.Read(func(fd uintptr) bool {
			for {
				_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_TRUNC)
				switch {
				case err == nil:
					if n++; n == initiationMost {
						return true
					}
				case errors.Is(err, unix.EAGAIN):
					return n > 0
				case !errors.Is(err, unix.EINTR):
					broken = err
					return true
				}
			}
		})
		if err != nil {
			return // closed
		}
		if n > 0 {
			i.count.Add(n)
			i.poke()
		}
		if broken != nil {
			i.mu.Lock()
			i.err = fmt.Errorf("watch for handshakes: %w", broken)
			i.mu.Unlock()
			i.poke()
			return
		}
		select {
		case <-i.closed:
			return
		case <-time.After(initiationPause):
		}
	}
}

func (i *Initiations) poke() {
	select {
	case i.seen <- struct{}{}:
	default:
	}
}

// packetSocket opens a socket that gets a byte of the packets of a protocol that come in by
// any device and pass the filter. It belongs to no protocol before it has the filter, and so
// never gets another packet.
func packetSocket(protocol uint16, filter []unix.SockFilter) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	err = errors.Join(
		unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, initiationBuffer),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: native.Uint16(binary.BigEndian.AppendUint16(nil, protocol))}),
	)
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "packet"), nil
}

// A handshake initiation is 148 bytes, the first of them 1 (WireGuard's whitepaper §5.4.2).
const (
	initiationType = 1
	initiationSize = 148
	udpHeaderSize  = 8
)

// initiation4 passes initiations in packets that begin with an IPv4 header without options.
func initiation4(port uint16) []unix.SockFilter {
	const header, plain, fragment = 20, 0x45, 0x3fff // version and length; more of it, or not its beginning (RFC 791 §3.1)
	return passes(
		check{unix.BPF_B, 0, unix.BPF_JEQ, plain},
		check{unix.BPF_B, 9, unix.BPF_JEQ, unix.IPPROTO_UDP},
		check{unix.BPF_H, 6, unix.BPF_JSET, fragment},
		check{unix.BPF_H, header + 2, unix.BPF_JEQ, uint32(port)},
		check{unix.BPF_H, header + 4, unix.BPF_JEQ, udpHeaderSize + initiationSize},
		check{unix.BPF_B, header + udpHeaderSize, unix.BPF_JEQ, initiationType},
	)
}

// initiation6 passes those in packets with an IPv6 header and no other.
func initiation6(port uint16) []unix.SockFilter {
	const header = 40
	return passes(
		check{unix.BPF_B, 6, unix.BPF_JEQ, unix.IPPROTO_UDP},
		check{unix.BPF_H, header + 2, unix.BPF_JEQ, uint32(port)},
		check{unix.BPF_H, header + 4, unix.BPF_JEQ, udpHeaderSize + initiationSize},
		check{unix.BPF_B, header + udpHeaderSize, unix.BPF_JEQ, initiationType},
	)
}

// check looks at a number in a packet: it must be value (BPF_JEQ), or have none of its bits
// (BPF_JSET).
type check struct {
	size  uint16
	at    uint32
	jump  uint16
	value uint32
}

// passes returns a program that lets a byte through of the packets for which all checks hold.
func passes(checks ...check) []unix.SockFilter {
	var out []unix.SockFilter
	for i, c := range checks {
		jump := unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | c.jump, K: c.value}
		drop := uint8(2*(len(checks)-1-i) + 1) // behind what is left, and the return
		if c.jump == unix.BPF_JSET {
			jump.Jt = drop
		} else {
			jump.Jf = drop
		}
		out = append(out, unix.SockFilter{Code: unix.BPF_LD | unix.BPF_ABS | c.size, K: c.at}, jump)
	}
	return append(out, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 1}, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K})
}
