package tunnel

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// The words between supervisor and worker. Every add and every remove is answered, in any
// order; for one name there is never more than one of them under way.
const (
	opAdd     = "add"     // to the worker: name, configuration (empty for a new device), TUN and UAPI descriptors
	opAdded   = "added"   // from it: name, error
	opRemove  = "remove"  // to the worker: name
	opRemoved = "removed" // from it: name; also for a name it does not know
	opConfig  = "config"  // from the worker: name, configuration as it is now
	opGone    = "gone"    // from the worker: name; the interface was deleted under it
)

// message is one word between supervisor and worker, a line of JSON.
type message struct {
	Op     string `json:"op"`
	Name   string `json:"name"`
	Config config `json:"-"`
	Error  string `json:"error,omitempty"`
}

// envelope is what is written for a message.
type envelope struct {
	message
	Lines string `json:"config,omitempty"` // message.Config
	FDs   int    `json:"fds,omitempty"`    // how many descriptors travel with it
}

// link is one end of the socketpair between supervisor and worker. Descriptors travel
// beside the text as ancillary data (unix(7), SCM_RIGHTS): the kernel delivers them no
// later than the bytes they were sent with, so a queue keeps the two in step.
type link struct {
	conn *net.UnixConn
	out  sync.Mutex // whole messages only

	in  *json.Decoder
	fds []int // received, not yet taken by a message
	oob [64]byte
}

// maxFDs is the most descriptors that one message carries; link.oob has room for them.
const maxFDs = 2

// linkPair returns the supervisor's end, and the worker's as a file to be inherited.
func linkPair() (*link, *os.File, error) {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socketpair: %w", err)
	}
	theirs := os.NewFile(uintptr(p[1]), "worker's end")
	ours, err := newLink(p[0])
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

// newLink takes over descriptor fd.
func newLink(fd int) (*link, error) {
	f := os.NewFile(uintptr(fd), "link")
	if f == nil {
		return nil, fmt.Errorf("open link: descriptor %d: %w", fd, unix.EBADF)
	}
	defer f.Close() // FileConn works on a copy
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("open link: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("open link: descriptor %d is not a unix socket", fd)
	}
	l := &link{conn: u}
	l.in = json.NewDecoder(fdReader{l})
	return l, nil
}

// send writes m with copies of fds. Safe for concurrent use.
func (l *link) send(m message, fds ...int) error {
	b, err := json.Marshal(envelope{m, m.Config.text(), len(fds)})
	if err != nil {
		panic("tunnel: marshal message: " + err.Error())
	}
	b = append(b, '\n')
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	l.out.Lock()
	defer l.out.Unlock()
	n, _, err := l.conn.WriteMsgUnix(b, oob, nil)
	if err == nil && n < len(b) { // a stream socket may take less than all
		_, err = l.conn.Write(b[n:])
	}
	return err
}

// receive returns the next message and its descriptors, which the caller then owns. One
// goroutine only.
func (l *link) receive() (message, []int, error) {
	var e envelope
	if err := l.in.Decode(&e); err != nil {
		return message{}, nil, err
	}
	if e.FDs > len(l.fds) {
		return message{}, nil, fmt.Errorf("message %s %s came with %d descriptors of %d", e.Op, e.Name, len(l.fds), e.FDs)
	}
	fds := l.fds[:e.FDs:e.FDs]
	l.fds = l.fds[e.FDs:]
	if e.Lines != "" {
		e.Config = configOf(e.Lines)
	}
	return e.message, fds, nil
}

// fdReader reads a link's bytes and puts descriptors that come along into its queue.
type fdReader struct{ *link }

func (r fdReader) Read(p []byte) (int, error) {
	n, oobn, _, _, err := r.conn.ReadMsgUnix(p, r.oob[:]) // sets close-on-exec
	if oobn > 0 {
		msgs, perr := unix.ParseSocketControlMessage(r.oob[:oobn])
		if perr != nil {
			return n, fmt.Errorf("read descriptors: %w", perr)
		}
		for i := range msgs {
			fds, perr := unix.ParseUnixRights(&msgs[i])
			if perr != nil {
				return n, fmt.Errorf("read descriptors: %w", perr)
			}
			r.fds = append(r.fds, fds...)
		}
	}
	return n, err
}
