package health

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
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
	echo   [2]*echo

	done    chan struct{}
	running sync.WaitGroup

	mu          sync.Mutex
	connections map[*os.File]bool // on their way
}

func newSockets(targets []netip.AddrPort, device string, mark uint32, results chan<- result) *sockets {
	s := &sockets{
		targets: targets, device: device, mark: mark, results: results,
		done: make(chan struct{}), connections: map[*os.File]bool{},
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

// echo is a raw socket, and what reads from it.
type echo struct {
	file   *os.File
	raw    syscall.RawConn
	broken atomic.Bool // nothing is read any more
}

// ping sends an echo request. A socket that cannot send is closed, and the next round opens
// another: the device it was bound to may have been replaced by another of its name.
func (s *sockets) ping(round uint16, to netip.Addr) error {
	i := 0
	if to.Is6() {
		i = 1
	}
	if e := s.echo[i]; e != nil && e.broken.Load() {
		s.drop(i)
	}
	err := s.openEcho(i)
	if err == nil {
		_, address := sockaddr(netip.AddrPortFrom(to, 0))
		request := echoRequest(to.Is6(), s.id, round, s.cookie)
		if failed := s.echo[i].raw.Control(func(fd uintptr) { err = unix.Sendto(int(fd), request, 0, address) }); failed != nil {
			err = failed
		}
	}
	if err != nil {
		s.drop(i)
		return fmt.Errorf("ping %s: %w", to, err)
	}
	return nil
}

func (s *sockets) drop(i int) {
	if s.echo[i] != nil {
		_ = s.echo[i].file.Close() // which ends its goroutine
		s.echo[i] = nil
	}
}

// openEcho opens the socket of a family (0: IPv4) where there is none.
func (s *sockets) openEcho(i int) error {
	if s.echo[i] != nil {
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
	// Of all that is answered on the device only this wakes anybody.
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program); err != nil {
		_ = unix.Close(fd)
		return err
	}
	e := &echo{file: os.NewFile(uintptr(fd), "ping")}
	if e.raw, err = e.file.SyscallConn(); err != nil {
		_ = e.file.Close()
		return err
	}
	s.echo[i] = e
	s.running.Go(func() { s.listen(e, i == 1) })
	return nil
}

// listen tells of replies until the socket is closed or broken.
func (s *sockets) listen(e *echo, six bool) {
	var b [128]byte
	for {
		n, err := e.file.Read(b[:])
		if err != nil {
			e.broken.Store(true)
			return
		}
		if round, ok := echoReply(six, b[:n], s.id, s.cookie); ok {
			s.tell(result{round: round})
		}
	}
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
			s.running.Go(func() { s.tell(result{round: round}) })
			return nil
		}
		return fmt.Errorf("connect to %s: %w", to, err)
	}
	f := os.NewFile(uintptr(fd), "connection")
	s.mu.Lock()
	s.connections[f] = true
	s.mu.Unlock()
	s.running.Go(func() {
		r := result{round: round}
		if err := s.connected(f); err != nil {
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
