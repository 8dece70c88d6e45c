package kernel

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// socket is a netlink socket. The kernel answers within the call that sends, so reading
// never waits and needs no deadline.
type socket struct {
	fd     int
	seq    uint32
	strict bool // the kernel filters dumps (Linux 4.20)
	buf    []byte
}

// A datagram with this many messages goes to the kernel at once. Only the last of them
// asks for an acknowledgement, but every refused one is answered, and the answers to all
// must fit into the receive buffer.
const (
	maxBatch      = 512
	maxBatchBytes = 48 << 10
	receiveBuffer = 2 << 20
)

// openSocket opens a socket of a netlink family in the namespace of the calling thread.
func openSocket(netlinkFamily int) (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, netlinkFamily)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	s := &socket{fd: fd, buf: make([]byte, 64<<10)}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		s.close()
		return nil, fmt.Errorf("bind netlink socket: %w", err)
	}
	// What these give is better messages and fewer bytes: an old kernel works without.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	s.strict = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1) == nil
	return s, nil
}

func (s *socket) close() { _ = unix.Close(s.fd) }

// port returns the number by which notifications name the socket that made a change.
func (s *socket) port() (uint32, error) {
	a, err := unix.Getsockname(s.fd)
	if err != nil {
		return 0, fmt.Errorf("look at a netlink socket: %w", err)
	}
	return a.(*unix.SockaddrNetlink).Pid, nil
}

// refusal is the kernel's answer to a message that it does not carry out.
type refusal struct {
	errno unix.Errno
	text  string // its extended acknowledgement, if it gave one
}

func (r *refusal) Error() string {
	if r.text == "" {
		return r.errno.Error()
	}
	return r.text + " (" + r.errno.Error() + ")"
}

func (r *refusal) Unwrap() error { return r.errno }

// execute sends the messages of w in order and returns what became of each that was sent:
// after a datagram with a refused message no further one is sent. An error means that
// what became of the last datagram's messages is not known; they are then no part of
// outcomes, and there are unknown of them.
func (s *socket) execute(w *writer) (outcomes []error, unknown int, err error) {
	for first := 0; first < len(w.starts); {
		last := first
		end := w.end(last)
		for last+1 < len(w.starts) && last-first+1 < maxBatch && w.end(last+1)-w.starts[first] <= maxBatchBytes {
			last++
			end = w.end(last)
		}
		for i := first; i <= last; i++ {
			s.seq++
			native.PutUint32(w.b[w.starts[i]+8:], s.seq)
		}
		flags := w.b[w.starts[last]+6:]
		native.PutUint16(flags, native.Uint16(flags)|unix.NLM_F_ACK)
		count := last - first + 1
		got, refused, err := s.exchange(w.b[w.starts[first]:end], s.seq-uint32(count)+1, count)
		if err != nil {
			return outcomes, count, err
		}
		outcomes = append(outcomes, got...)
		if refused {
			break
		}
		first = last + 1
	}
	return outcomes, 0, nil
}

// end returns where message i ends.
func (w *writer) end(i int) int {
	if i+1 < len(w.starts) {
		return w.starts[i+1]
	}
	return len(w.b)
}

// exchange sends one datagram of count messages, numbered from first, and waits for the
// answer to the last.
func (s *socket) exchange(b []byte, first uint32, count int) (outcomes []error, refused bool, err error) {
	if err := s.send(b); err != nil {
		return nil, false, err
	}
	outcomes = make([]error, count)
	for answered := false; !answered; {
		err := s.receive(func(h header, data []byte) {
			i := h.seq - first // wraps with the numbers
			if h.kind != unix.NLMSG_ERROR || i >= uint32(count) {
				return
			}
			if err := answer(h, data); err != nil {
				outcomes[i], refused = err, true
			}
			answered = answered || i == uint32(count)-1
		})
		if err != nil {
			return nil, false, err
		}
	}
	return outcomes, refused, nil
}

// query sends the one message of w and returns the kernel's answer, without its header.
func (s *socket) query(w *writer) (data []byte, err error) {
	s.seq++
	native.PutUint32(w.b[8:], s.seq)
	if err := s.send(w.b); err != nil {
		return nil, err
	}
	for data == nil && err == nil {
		failed := s.receive(func(h header, d []byte) {
			switch {
			case h.seq != s.seq:
			case h.kind == unix.NLMSG_ERROR:
				err = answer(h, d)
			default:
				data = append([]byte{}, d...)
			}
		})
		if failed != nil {
			return nil, failed
		}
	}
	return data, err
}

// errInterrupted says that a list changed while the kernel dumped it.
var errInterrupted = errors.New("the list changes faster than it can be read")

// dumpTries is how often an interrupted dump is begun anew.
const dumpTries = 20

// dump sends the one message of w, a request for a list, and returns what decode makes of
// its elements; an element for which decode returns false is left out.
func dump[T any](s *socket, w *writer, decode func(data []byte) (T, bool)) ([]T, error) {
	flags := w.b[6:]
	native.PutUint16(flags, native.Uint16(flags)|unix.NLM_F_DUMP)
	err := errInterrupted
	for try := 0; try < dumpTries && errors.Is(err, errInterrupted); try++ {
		var out []T
		err = s.dump(w, func(data []byte) {
			if v, ok := decode(data); ok {
				out = append(out, v)
			}
		})
		if err == nil {
			return out, nil
		}
	}
	return nil, err
}

func (s *socket) dump(w *writer, each func(data []byte)) error {
	s.seq++
	native.PutUint32(w.b[8:], s.seq)
	if err := s.send(w.b); err != nil {
		return err
	}
	var result error
	for done := false; !done; {
		err := s.receive(func(h header, data []byte) {
			if h.seq != s.seq || done {
				return
			}
			if h.flags&unix.NLM_F_DUMP_INTR != 0 && result == nil {
				result = errInterrupted
			}
			switch h.kind {
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				// A dump that stops early says why in its last message.
				done = true
				if err := answer(h, data); err != nil {
					result = err
				}
			default:
				each(data)
			}
		})
		if err != nil {
			return err
		}
	}
	return result
}

func (s *socket) send(b []byte) error {
	for {
		err := unix.Sendto(s.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if !errors.Is(err, unix.EINTR) {
			return wrap("send to netlink", err)
		}
	}
}

// header is the header of a message.
type header struct {
	kind, flags uint16
	seq         uint32
	port        uint32 // of a notification: the socket that made the change, 0 for the kernel
}

// receive reads one datagram and calls each for its messages. data is valid until the next
// datagram.
func (s *socket) receive(each func(h header, data []byte)) error {
	n, _, flags, _, err := unix.Recvmsg(s.fd, s.buf, nil, 0)
	if errors.Is(err, unix.EINTR) {
		return nil
	}
	if err != nil {
		return wrap("receive from netlink", err)
	}
	if flags&unix.MSG_TRUNC != 0 {
		return fmt.Errorf("receive from netlink: a message is longer than %d bytes", len(s.buf))
	}
	messages(s.buf[:n], each)
	return nil
}

// messages calls each for every whole message in b.
func messages(b []byte, each func(h header, data []byte)) {
	for len(b) >= unix.NLMSG_HDRLEN {
		size := int(native.Uint32(b))
		if size < unix.NLMSG_HDRLEN || size > len(b) {
			return
		}
		h := header{kind: native.Uint16(b[4:]), flags: native.Uint16(b[6:]), seq: native.Uint32(b[8:]), port: native.Uint32(b[12:])}
		each(h, b[unix.NLMSG_HDRLEN:size])
		b = b[min(align(size), len(b)):]
	}
}

// Attributes of an extended acknowledgement (linux/netlink.h, NLMSGERR_ATTR_*).
const ackText = 1

// answer reads NLMSG_ERROR, or the result in NLMSG_DONE; nil is success.
func answer(h header, data []byte) error {
	code := -int32(number(data))
	if code == 0 {
		return nil
	}
	r := &refusal{errno: unix.Errno(code)}
	if h.flags&unix.NLM_F_ACK_TLVS != 0 {
		rest := data[4:]
		if h.kind == unix.NLMSG_ERROR {
			// It repeats the message that it answers, or only its header.
			repeated := uint32(unix.NLMSG_HDRLEN)
			if h.flags&unix.NLM_F_CAPPED == 0 {
				repeated = number(rest)
			}
			rest = rest[min(uint64(repeated)+alignTo-1, uint64(len(rest)))&^(alignTo-1):]
		}
		attributes(rest, func(kind uint16, b []byte) {
			if kind == ackText {
				r.text = text(b)
			}
		})
	}
	return r
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
