package udp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tombolo/internal/babel/wire"
)

// router is a network namespace with a socket.
type router struct {
	t      testing.TB
	thread int            // that is in it
	do     chan<- func()  // runs there
	socket *Socket        // nil: none
	batch  *Batch         //
	own    netip.Addr     // its link-local address
	index  map[string]int // of its devices
}

// newRouter makes a namespace on a thread of its own, which never returns to the pool.
func newRouter(t testing.TB, own string) *router {
	t.Helper()
	do, ready := make(chan func()), make(chan error)
	r := &router{t: t, do: do, own: netip.MustParseAddr(own), batch: NewBatch(), index: map[string]int{}}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread()
		r.thread = unix.Gettid()
		ready <- unix.Unshare(unix.CLONE_NEWNET)
		for f := range do {
			f()
		}
	}()
	t.Cleanup(func() { close(do); <-ended })
	if err := <-ready; err != nil {
		t.Fatalf("make a network namespace: %v (the tests need root)", err)
	}
	r.sh("ip link set lo up")
	return r
}

// in runs f in the namespace.
func (r *router) in(f func()) {
	done := make(chan struct{})
	r.do <- func() { defer close(done); f() }
	<-done
}

func (r *router) sh(line string) {
	r.t.Helper()
	var out []byte
	var err error
	r.in(func() { out, err = exec.Command("sh", "-ec", line).CombinedOutput() })
	if err != nil {
		r.t.Fatalf("%s: %v\n%s", line, err, out)
	}
}

// device gives a device the router's link-local address and brings it up.
func (r *router) device(name string) int {
	r.t.Helper()
	r.sh(fmt.Sprintf(`ip link set %[1]s addrgenmode none
		ip address add %[2]s/64 dev %[1]s nodad; ip link set %[1]s up`, name, r.own))
	r.in(func() {
		i, err := net.InterfaceByName(name)
		if err != nil {
			r.t.Error(err)
			return
		}
		r.index[name] = i.Index
	})
	return r.index[name]
}

// open opens the router's socket and joins the group on its devices.
func (r *router) open(start time.Time) {
	r.t.Helper()
	var err error
	r.in(func() { r.socket, err = Open(start) })
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { r.socket.Close() })
	for _, index := range r.index {
		if err := r.socket.Join(index); err != nil {
			r.t.Fatal(err)
		}
	}
}

// pair is two routers with sockets, of one clock, at the ends of a veth v0–v0.
func pair(t testing.TB, start time.Time) (a, b *router) {
	t.Helper()
	a, b = newRouter(t, "fe80::a"), newRouter(t, "fe80::b")
	a.sh(fmt.Sprintf(`ip link add v0 mtu 9000 address 02:00:00:00:00:0a type veth peer name v0 mtu 9000 address 02:00:00:00:00:0b netns %d`, b.thread))
	for _, r := range []*router{a, b} {
		r.device("v0")
		r.open(start)
	}
	// They know each other's address, lest a burst wait for that.
	a.sh("ip neighbour replace fe80::b lladdr 02:00:00:00:00:0b dev v0")
	b.sh("ip neighbour replace fe80::a lladdr 02:00:00:00:00:0a dev v0")
	a.greet(b, "v0")
	b.greet(a, "v0")
	return a, b
}

// greet sends to the group until the other hears it: a device that has just come up drops
// what it is given.
func (r *router) greet(other *router, device string) {
	r.t.Helper()
	for end := time.Now().Add(10 * time.Second); ; {
		_ = r.socket.Send(r.index[device], r.own, wire.Group, []byte("first"))
		if len(other.receive(20*time.Millisecond)) > 0 {
			break
		}
		if time.Now().After(end) {
			r.t.Fatal("10 s after the device came up no packet to the group arrives")
		}
	}
	for len(other.receive(20*time.Millisecond)) > 0 {
	}
}

func (r *router) send(device string, to netip.Addr, payload string) {
	r.t.Helper()
	if err := r.socket.Send(r.index[device], r.own, to, []byte(payload)); err != nil {
		r.t.Fatal(err)
	}
}

// receive waits for packets at most for so long; none then.
func (r *router) receive(wait time.Duration) []Packet {
	r.t.Helper()
	if err := r.socket.file.SetReadDeadline(time.Now().Add(wait)); err != nil {
		r.t.Fatal(err)
	}
	got, err := r.socket.Receive(r.batch)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		r.t.Fatal(err)
	}
	return got
}

// one waits for one packet.
func (r *router) one() Packet {
	r.t.Helper()
	got := r.receive(10 * time.Second)
	if len(got) != 1 {
		r.t.Fatalf("%d packets came, want 1", len(got))
	}
	return got[0]
}

// quiet checks that nothing comes. after makes sure that what was sent before has come:
// it sends what does.
func (r *router) quiet(after func()) {
	r.t.Helper()
	after()
	if p := r.one(); string(p.Payload) != "last" {
		r.t.Errorf("came: %q from %s to %s", p.Payload, p.From, p.To)
	}
}

func (r *router) flags(device string) (flags net.Flags) {
	r.in(func() {
		i, err := net.InterfaceByName(device)
		if err != nil {
			r.t.Error(err)
			return
		}
		flags = i.Flags
	})
	return flags
}

// tun makes a TUN device and returns its other side.
func (r *router) tun(name string) *os.File {
	r.t.Helper()
	var file *os.File
	var err error
	r.in(func() {
		var fd int
		if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); err != nil {
			return
		}
		var request *unix.Ifreq
		if request, err = unix.NewIfreq(name); err != nil {
			return
		}
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		if err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err == nil {
			file = os.NewFile(uintptr(fd), name)
		}
	})
	if err != nil {
		r.t.Fatalf("make a TUN device: %v", err)
	}
	r.t.Cleanup(func() { file.Close() })
	return file
}
