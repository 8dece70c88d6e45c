package health

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// sockets sends probes: echo requests by one raw socket for each family, which stays open
// while it can send, and connections of TCP by a socket each, for which a goroutine waits.
// All sockets are opened where send is called, and so in its namespace.
type sockets struct {
	targets []netip.AddrPort
	device  string
	mark    uint32
	results chan<- result

	id     uint16  // of the echo requests
	cookie [8]byte // in them, so that nobody else can answer
	echo   [2]int  // raw sockets, IPv4's and IPv6's; -1: none

	done    chan struct{}
	running sync.WaitGroup

	mu          sync.Mutex
	connections map[*os.File]bool // on their way
}

func newSockets(targets []netip.AddrPort, device string, mark uint32, results chan<- result) *sockets {
	s := &sockets{
		targets: targets, device: device, mark: mark, results: results,
		echo: [2]int{-1, -1}, done: make(chan struct{}), connections: map[*os.File]bool{},
	}
	var id [2]byte
	_, _ = rand.Read(id[:]) // it never fails (crypto/rand)
	_, _ = rand.Read(s.cookie[:])
	s.id = binary.BigEndian.Uint16(id[:])
	return s
}

func (s *sockets) close() {
	close(s.done)
	for i := range s.echo {
		s.drop(i)
	}
	s.mu.Lock()
	for f := range s.connections {
		_ = f.Close()
	}
	s.mu.Unlock()
	s.running.Wait()
}

func (s *sockets) send(round uint16) (errs []error) {
	for _, t := range s.targets {
		var err error
		if t.Port() == 0 {
			err = s.ping(round, t.Addr())
		} else {
			err = s.connect(round, t)
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// tell hands over what became of a probe, unless it is over.
func (s *sockets) tell(r result) {
	select {
	case s.results <- r:
	case <-s.done:
	}
}

// open opens a socket that sends by the device alone, with the mark.
func (s *sockets) open(family, kind, protocol int) (int, error) {
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return 0, err
	}
	err = unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, s.device)
	if err == nil && s.mark != 0 {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(s.mark))
	}
	if err != nil {
		_ = unix.Close(fd)
		return 0, fmt.Errorf("device %s: %w", s.device, err)
	}
	return fd, nil
}

func sockaddr(a netip.AddrPort) (family int, to unix.Sockaddr) {
	if a.Addr().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

// ping sends an echo request. A socket that cannot send is closed, and the next round opens
// another: the device it was bound to may have been replaced by another of its name.
func (s *sockets) ping(round uint16, to netip.Addr) error {
	i := 0
	if to.Is6() {
		i = 1
	}
	err := s.openEcho(i)
	if err == nil {
		_, address := sockaddr(netip.AddrPortFrom(to, 0))
		err = unix.Sendto(s.echo[i], echoRequest(to.Is6(), s.id, round, s.cookie), 0, address)
	}
	if err != nil {
		s.drop(i)
		return fmt.Errorf("ping %s: %w", to, err)
	}
	return nil
}

// openEcho opens the socket of a family (0: IPv4) where there is none.
func (s *sockets) openEcho(i int) error {
	if s.echo[i] >= 0 {
		return nil
	}
	family, protocol, filter := unix.AF_INET, unix.IPPROTO_ICMP, replies4(s.id)
	if i == 1 {
		family, protocol, filter = unix.AF_INET6, unix.IPPROTO_ICMPV6, replies6(s.id)
	}
	fd, err := s.open(family, unix.SOCK_RAW, protocol)
	if err != nil {
		return err
	}
	// It keeps nothing else of all that is answered on the device.
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program)
	// Where seconds have 32 bits the older option ends in 2038; the newer one is of Linux 5.1.
	if err == nil && unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS_NEW, 1) != nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	}
	if err != nil {
		_ = unix.Close(fd)
		return err
	}
	s.echo[i] = fd
	return nil
}

func (s *sockets) drop(i int) {
	if s.echo[i] >= 0 {
		_ = unix.Close(s.echo[i])
		s.echo[i] = -1
	}
}

// replies reads what has come.
func (s *sockets) replies() (out []result) {
	var b, control [128]byte
	for i, fd := range s.echo {
		for s.echo[i] >= 0 {
			n, c, _, _, err := unix.Recvmsg(fd, b[:], control[:], 0)
			if errors.Is(err, unix.EAGAIN) {
				break
			}
			if err != nil && !errors.Is(err, unix.EINTR) {
				s.drop(i)
				break
			}
			if round, ok := echoReply(i == 1, b[:max(0, n)], s.id, s.cookie); ok {
				out = append(out, result{round: round, at: received(control[:c])})
			}
		}
	}
	return out
}

// received returns when the kernel received a packet, or the time of now where it does not
// say.
func received(control []byte) time.Time {
	for len(control) > 0 {
		h, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			break
		}
		if h.Level == unix.SOL_SOCKET && (h.Type == unix.SO_TIMESTAMPNS_NEW || h.Type == unix.SO_TIMESTAMPNS) {
			// Seconds and nanoseconds: of 64 bits each, or of 32 in the older form on a machine
			// of 32 bits.
			native := binary.NativeEndian
			switch {
			case len(data) >= 16:
				return time.Unix(int64(native.Uint64(data)), int64(native.Uint64(data[8:])))
			case len(data) >= 8:
				return time.Unix(int64(native.Uint32(data)), int64(native.Uint32(data[4:])))
			}
		}
		control = rest
	}
	return time.Now()
}

// connect begins a connection of TCP, which is ended at once if there is an answer.
func (s *sockets) connect(round uint16, to netip.AddrPort) error {
	family, address := sockaddr(to)
	fd, err := s.open(family, unix.SOCK_STREAM, 0)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", to, err)
	}
	// Closing it resets it: no port waits for a minute (TIME_WAIT), here or there.
	err = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	if err == nil {
		err = unix.Connect(fd, address)
	}
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		_ = unix.Close(fd)
		if errors.Is(err, unix.ECONNREFUSED) {
			s.running.Go(func() { s.tell(result{round: round, at: time.Now()}) })
			return nil
		}
		return fmt.Errorf("connect to %s: %w", to, err)
	}
	f := os.NewFile(uintptr(fd), "connection")
	s.mu.Lock()
	s.connections[f] = true
	s.mu.Unlock()
	s.running.Go(func() {
		err := s.connected(f)
		r := result{round: round, at: time.Now()}
		if err != nil {
			r.err = fmt.Errorf("connect to %s: %w", to, err)
		}
		s.mu.Lock()
		delete(s.connections, f)
		s.mu.Unlock()
		_ = f.Close()
		s.tell(r)
	})
	return nil
}

// connected waits until a connection is there or refused, which are both an answer.
func (s *sockets) connected(f *os.File) error {
	raw, err := f.SyscallConn()
	if err == nil {
		err = f.SetWriteDeadline(time.Now().Add(kept))
	}
	if err != nil {
		return err
	}
	var refusal error
	err = raw.Write(func(fd uintptr) bool {
		number, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && number != 0 {
			err = unix.Errno(number)
		}
		if refusal = err; err != nil {
			return true
		}
		_, err = unix.Getpeername(int(fd))
		return err == nil
	})
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errNoReply
	case err != nil:
		return err
	case errors.Is(refusal, unix.ECONNREFUSED):
		return nil
	}
	return refusal
}
