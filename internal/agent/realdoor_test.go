package agent

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tombolo/internal/babel/space"
	"tombolo/internal/babel/wire"
	"tombolo/internal/kernel"
	"tombolo/internal/key"
	"tombolo/internal/plan"
	"tombolo/internal/state"
	"tombolo/internal/tunnel"
)

// The test binary is also the tunnel process.
const (
	roleSupervise = "agent-test-supervise" // dir
	roleWork      = "agent-test-work"
)

func TestMain(m *testing.M) {
	if len(os.Args) < 2 || os.Args[1] != roleSupervise && os.Args[1] != roleWork {
		os.Exit(m.Run())
	}
	o := tunnel.Options{Log: slog.New(slog.DiscardHandler), Grace: time.Second, Worker: []string{"/proc/self/exe", roleWork}}
	run := tunnel.Work
	if os.Args[1] == roleSupervise {
		o.Dir, run = os.Args[2], tunnel.Supervise
	}
	if err := run(context.Background(), o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func tunnels(t *testing.T) *tunnel.Client {
	t.Helper()
	dir := t.TempDir()
	c := tunnel.New(dir, []string{"/proc/self/exe", roleSupervise, dir})
	t.Cleanup(func() {
		if err := c.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return c
}

// realDoor is a roaming goroutine at a real interface, and a device outside.
type realDoor struct {
	*testing.T
	*roaming
	router, device *space.Space
	phone          string // the device's interface
	told           presences
}

func newRealDoor(t *testing.T) *realDoor {
	d := &realDoor{T: t, router: space.New(t), device: space.New(t), phone: fmt.Sprintf("at%d-1", os.Getpid()%10_000_000)}
	d.router.Sh(fmt.Sprintf(`ip link add v0 type veth peer name v1 netns /proc/%d/ns/net
		ip address add 10.9.0.1/24 dev v0; ip link set v0 up`, d.device.Thread))
	d.device.Sh("ip address add 10.9.0.2/24 dev v1; ip link set v1 up")
	store := key.Store{Dir: t.TempDir()}
	keys := map[key.Ref]key.Private{}
	for _, ref := range []key.Ref{"clients", "phone"} {
		k, _, err := store.Make(ref, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[ref] = k
	}
	r := withClients(1)
	r.Babel = nil
	r.Clients.Devices[0].PublicKey = keys["phone"].Public()
	f := &r.Interfaces[0]
	f.Name = fmt.Sprintf("at%d-0", os.Getpid()%10_000_000)
	f.Addresses = []netip.Prefix{prefix("10.0.32.1/32")}
	f.WireGuard.PrivateKey, f.WireGuard.PublicKey = "clients", keys["clients"].Public()
	f.WireGuard.Peers[0].PublicKey = keys["phone"].Public()
	r.Clients.Device, r.Routes, r.Rules = f.Name, nil, nil

	options := kernel.Options{Owner: r.Owner, Store: store, RunDir: t.TempDir(), Embedded: tunnels(t), ForceEmbedded: true}
	m := Machine{
		Door:        func(Wanted) (Door, error) { return kernel.Open(options) },
		Initiations: func(port uint16) (Initiations, error) { return kernel.WatchInitiations(port) },
	}
	var err error
	d.router.In(func() {
		var k *kernel.Kernel
		if k, err = kernel.Open(options); err != nil {
			return
		}
		defer k.Close()
		var have state.Router
		if have, err = k.Read(context.Background(), r); err == nil {
			err = k.Apply(context.Background(), plan.Diff(have, r).Ops)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	d.router.Sh("ip route add 10.40.0.0/32 dev " + f.Name)
	outside := tunnels(t)
	d.device.In(func() { err = outside.Add(context.Background(), d.phone, 1420) })
	if err != nil {
		t.Fatal(err)
	}
	d.device.Sh(fmt.Sprintf(`umask 077; cd %s; echo %s > key
		wg set %[3]s private-key key listen-port 40000 peer %[4]s allowed-ips 0.0.0.0/0 endpoint 10.9.0.1:51820
		ip address add 10.40.0.0/32 dev %[3]s`, t.TempDir(), keys["phone"].RevealText(), d.phone, f.WireGuard.PublicKey))

	d.roaming = newRoaming(&m, newProblems(newHub(quietLog())))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		d.router.In(func() { d.run(ctx) }) // on its thread
	}()
	t.Cleanup(func() { cancel(); <-ended })
	d.host = newGuestbook()
	d.follow(wantedOf(r), d.host)
	time.Sleep(100 * time.Millisecond)
	return d
}

// visit returns the device's visit as the host is told; 0: it is not here.
func (d *realDoor) visit() uint64 {
	d.told = guestsOf(d.told, d.host)
	return d.told.keys[keyTo("10.40.0.0/32")].visit
}

// enter has the device's app begin anew, and returns how long it took until it was here.
func (d *realDoor) enter(last uint64) time.Duration {
	d.Helper()
	// WireGuard sees that it is down and up when its port is closed and opened.
	d.device.Sh(fmt.Sprintf(`ip link set %[1]s down; while ss -Huln | grep -q :40000; do sleep 0.01; done
		ip link set %[1]s up; until ss -Huln | grep -q :40000; do sleep 0.01; done
		ip route replace 10.0.32.1/32 dev %[1]s`, d.phone))
	began := time.Now()
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.device.Sh("ping -c 1 -W 10 10.0.32.1")
	}()
	for d.visit() == 0 || d.visit() == last {
		if time.Since(began) > 10*time.Second {
			d.Fatalf("it is not here; problems: %q", d.problems.list())
		}
		time.Sleep(time.Millisecond)
	}
	took := time.Since(began)
	<-done
	return took
}

// With real packets: a device is here soon after its first one, is dropped when it is
// elsewhere, and is here again after the next handshake.
func TestARealDeviceIsSeenSoonAfterItsFirstPacket(t *testing.T) {
	d := newRealDoor(t)
	last := uint64(0)
	for range 5 {
		took := d.enter(last)
		t.Logf("here after %s", took.Round(time.Millisecond))
		if took > 2*time.Second {
			t.Errorf("it took %s until it was seen", took)
		}
		last = d.visit()
		d.displaced(map[uint64]displacement{last: {by: wire.RouterID{0x0a, 0, 0x20, 2}}})
		for began := time.Now(); d.visit() != 0 || !strings.Contains(d.onRouter("wg show all endpoints"), "(none)"); time.Sleep(time.Millisecond) {
			if time.Since(began) > 10*time.Second {
				t.Fatalf("its session is not dropped; problems: %q", d.problems.list())
			}
		}
	}
	if p := d.problems.list(); len(p) != 1 || !strings.Contains(p[0], `device "device0": two devices seem to have its key`) {
		t.Errorf("it was back from the same endpoint four times: %q", p)
	}
}

// onRouter runs a command in the router's namespace, whose thread serves the roaming.
func (d *realDoor) onRouter(line string) string {
	d.Helper()
	return d.device.Sh(fmt.Sprintf("nsenter --net=/proc/%d/ns/net %s", d.router.Thread, line))
}

// A copy of an old initiation is answered by a WireGuard that knows nothing of it any more,
// and yet nobody is here.
func TestACopyOfAnOldInitiationCountsForNothing(t *testing.T) {
	d := newRealDoor(t)
	copied := make(chan []byte, 1)
	d.device.In(func() { copied <- nil }) // the thread is there
	<-copied
	go func() {
		runtime.LockOSThread() // it ends with the goroutine
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", d.device.Thread))
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if err != nil {
			t.Error(err)
			close(copied)
			return
		}
		copied <- initiationOn(t)
	}()
	time.Sleep(200 * time.Millisecond)
	d.enter(0)
	packet := <-copied
	if len(packet) != 148 {
		t.Fatalf("of the initiation there are %d bytes", len(packet))
	}
	d.displaced(map[uint64]displacement{d.visit(): {}})
	for d.visit() != 0 {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(300 * time.Millisecond)
	d.device.Sh("ip link set " + d.phone + " down")
	answers := 0
	d.device.In(func() { answers = sendFrom(t, packet) })
	if answers == 0 {
		t.Error("the copy was not answered: this test says nothing")
	}
	time.Sleep(underWay + time.Second)
	if d.visit() != 0 {
		t.Error("the device is said to be here")
	}
}

// initiationOn returns the first handshake initiation that leaves by the calling thread's
// namespace.
func initiationOn(t *testing.T) []byte {
	const all = unix.ETH_P_ALL
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, all<<8)
	if err != nil {
		t.Error(err)
		return nil
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
		t.Error(err)
	}
	b := make([]byte, 2000)
	for {
		n, _, err := unix.Recvfrom(fd, b, 0)
		if err != nil {
			t.Error(err)
			return nil
		}
		if n == 28+148 && b[28] == 1 {
			return append([]byte(nil), b[28:n]...)
		}
	}
}

// sendFrom sends a packet to the door, and returns how many bytes come back.
func sendFrom(t *testing.T, packet []byte) int {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer unix.Close(fd)
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2})
	if err := unix.Sendto(fd, packet, 0, &unix.SockaddrInet4{Port: 51820, Addr: [4]byte{10, 9, 0, 1}}); err != nil {
		t.Error(err)
	}
	n, _, _ := unix.Recvfrom(fd, make([]byte, 2000), 0)
	return max(n, 0)
}
