package kernel

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tombolo/internal/babel/space"
)

func watchInitiations(t testing.TB, port uint16) *Initiations {
	t.Helper()
	i, err := WatchInitiations(port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.Close)
	return i
}

// packet sends one UDP packet, on the calling thread.
func packet(t testing.TB, to string, payload []byte) {
	t.Helper()
	at := netip.MustParseAddrPort(to)
	family, address := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: int(at.Port())})
	if at.Addr().Is6() {
		family, address = unix.AF_INET6, &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
	} else {
		address.(*unix.SockaddrInet4).Addr = at.Addr().As4()
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, payload, 0, address); err != nil {
		t.Error(err)
	}
}

// starting is a payload of a size that begins with some bytes.
func starting(size int, with ...byte) []byte {
	b := make([]byte, size)
	copy(b, with)
	return b
}

// door joins the test's namespace to another one: 10.9.0.1 and fd09::1 here, 2 there.
func door(t testing.TB) *space.Space {
	t.Helper()
	namespace(t)
	outside := space.New(t)
	sh(t, fmt.Sprintf(`ip link add v0 type veth peer name v1 netns /proc/%d/ns/net
		ip address add 10.9.0.1/24 dev v0; ip address add fd09::1/64 dev v0 nodad; ip link set v0 up`, outside.Thread))
	outside.Sh("ip address add 10.9.0.2/24 dev v1; ip address add fd09::2/64 dev v1 nodad; ip link set v1 up")
	return outside
}

func TestInitiationsThatComeToThePortAreSeen(t *testing.T) {
	outside := door(t)
	i := watchInitiations(t, 51820)
	for _, c := range []struct {
		what, to string
		payload  []byte
		want     bool
	}{
		{"an initiation", "10.9.0.1:51820", starting(148, 1), true},
		{"an initiation over IPv6", "[fd09::1]:51820", starting(148, 1), true},
		{"one for another port", "10.9.0.1:51821", starting(148, 1), false},
		{"one for another port over IPv6", "[fd09::1]:51821", starting(148, 1), false},
		{"a response", "10.9.0.1:51820", starting(92, 2), false},
		{"data as long as an initiation", "10.9.0.1:51820", starting(148, 4), false},
		{"data as long over IPv6", "[fd09::1]:51820", starting(148, 4), false},
		{"something longer", "10.9.0.1:51820", starting(149, 1), false},
		{"something longer over IPv6", "[fd09::1]:51820", starting(149, 1), false},
		{"a fragment", "10.9.0.1:51820", starting(4000, 1), false},
		{"another initiation", "10.9.0.1:51820", starting(148, 1), true},
	} {
		before := i.Count()
		outside.In(func() { packet(t, c.to, c.payload) })
		seen := false
		select {
		case <-i.Seen():
			seen = true
		case <-time.After(map[bool]time.Duration{true: 10 * time.Second, false: 50 * time.Millisecond}[c.want]):
		}
		if n := i.Count() - before; seen != c.want || n > 1 || (n == 1) != c.want {
			t.Errorf("%s: seen %v, counted %d", c.what, seen, n)
		}
	}
	// What goes out is somebody else's to see.
	packet(t, "10.9.0.2:51820", starting(148, 1))
	select {
	case <-i.Seen():
		t.Error("it saw what this router sent")
	case <-time.After(50 * time.Millisecond):
	}
	if err := i.Err(); err != nil {
		t.Error(err)
	}
}

// Nobody takes what is told, and it goes on; each is counted.
func TestManyInitiationsAreCountedAndWakeOnce(t *testing.T) {
	outside := door(t)
	i := watchInitiations(t, 51820)
	for range 60 {
		outside.In(func() { packet(t, "10.9.0.1:51820", starting(148, 1)) })
	}
	eventually(t, "all are counted", func() bool { return i.Count() == 60 })
	<-i.Seen()
	select {
	case <-i.Seen():
		t.Error("it has a second value for those that came before")
	default:
	}
}

func TestInitiationsStayInTheirNamespaceAndEnd(t *testing.T) {
	outside := door(t)
	i, err := WatchInitiations(51820)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	outside.In(func() { packet(t, "10.9.0.1:51820", starting(148, 1)) })
	select {
	case <-i.Seen():
	case <-time.After(10 * time.Second):
		t.Error("in its namespace an initiation came, and it has not seen it")
	}
	done := make(chan struct{})
	go func() { i.Close(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Error("it does not end")
	}
}
