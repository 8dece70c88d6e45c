package kernel

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// listener is a netlink socket that is in multicast groups. Unlike a socket it waits, by
// Go's poller, until it is closed.
type listener struct {
	file *os.File
	raw  syscall.RawConn
	buf  []byte

	// fill reads one datagram into buf; n and err are its results.
	fill func(fd uintptr) bool
	n    int
	err  error
}

// openListener joins groups (RTNLGRP_*, NFNLGRP_*) in the namespace of the calling thread.
func openListener(netlinkFamily int, groups ...int) (*listener, error) {
	s, err := openSocket(netlinkFamily)
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		if err := unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g); err != nil {
			s.close()
			return nil, fmt.Errorf("join netlink group %d: %w", g, err)
		}
	}
	if err := unix.SetNonblock(s.fd, true); err != nil {
		s.close()
		return nil, fmt.Errorf("watch a netlink socket: %w", err)
	}
	l := &listener{file: os.NewFile(uintptr(s.fd), "netlink"), buf: s.buf}
	if l.raw, err = l.file.SyscallConn(); err != nil {
		l.close()
		return nil, fmt.Errorf("watch a netlink socket: %w", err)
	}
	l.fill = func(fd uintptr) bool {
		l.n, l.err = unix.Read(int(fd), l.buf)
		return !errors.Is(l.err, unix.EAGAIN)
	}
	return l, nil
}

func (l *listener) close() { _ = l.file.Close() }

// listen calls each for every message, and lost where the kernel had to drop some, until
// the listener is closed or broken.
func (l *listener) listen(each func(h header, data []byte), lost func()) error {
	for {
		if err := l.raw.Read(l.fill); err != nil {
			return err
		}
		switch {
		case l.err == nil:
			messages(l.buf[:l.n], each)
		case errors.Is(l.err, unix.ENOBUFS):
			lost()
		case !errors.Is(l.err, unix.EINTR):
			return l.err
		}
	}
}
