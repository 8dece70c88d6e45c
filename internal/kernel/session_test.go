package kernel

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tombolo/internal/babel/space"
	"tombolo/internal/key"
	"tombolo/internal/plan"
	"tombolo/internal/state"
	"tombolo/internal/tunnel"
)

// tunnels returns the client of a tunnel process of the test's own.
func tunnels(t testing.TB) *tunnel.Client {
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

// entrance is a router with an interface at which devices enter, and a device outside.
type entrance struct {
	k       *Kernel
	want    state.Router
	device  *space.Space
	name    string // of the device's interface
	private key.Private
	ns      *os.File // the router's
}

// newEntrance makes one with some peers, the first of which is the device. It dials.
func newEntrance(t testing.TB, peers int) *entrance {
	t.Helper()
	e := &entrance{device: door(t), name: devName(1)}
	var err error
	if e.ns, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.ns.Close() })
	store := key.Store{Dir: t.TempDir()}
	e.k = open(t, forceEmbedded, func(o *Options) { o.Store, o.Embedded = store, tunnels(t) })
	for _, ref := range []key.Ref{"clients", "phone"} {
		if _, _, err := store.Make(ref, rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := store.MakePreshared("phone+clients", rand.Reader); err != nil {
		t.Fatal(err)
	}
	if e.private, err = store.Private("phone"); err != nil {
		t.Fatal(err)
	}
	shared, err := store.Preshared("phone+clients")
	if err != nil {
		t.Fatal(err)
	}
	w := &state.WireGuard{PrivateKey: "clients", PublicKey: publicOf(t, store, "clients"), ListenPort: 51820}
	for i := range peers {
		p := state.Peer{Name: fmt.Sprint("device", i), AllowedIPs: []netip.Prefix{
			netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 40, byte(i >> 8), byte(i)}), 32),
			netip.PrefixFrom(netip.MustParseAddr(fmt.Sprintf("fd40::%x", i+1)), 128),
		}}
		if _, err := rand.Read(p.PublicKey[:]); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			p.Name, p.PublicKey, p.Preshared = "phone", e.private.Public(), "phone+clients"
		}
		w.Peers = append(w.Peers, p)
	}
	e.want = empty()
	e.want.Interfaces = []state.Interface{{
		Name: devName(0), Kind: state.WireGuardKind, Alias: "tombolo home clients", MTU: 1420,
		Addresses: []netip.Prefix{prefixOf("10.0.32.1/32")}, WireGuard: w,
	}}
	e.want.Sort()
	apply(t, e.k, e.want)
	sh(t, "ip route add 10.40.0.0/32 dev "+devName(0))
	eventually(t, "the port is open", func() bool { return strings.Contains(sh(t, "ss -Huln"), ":51820 ") })

	outside := tunnels(t)
	e.device.In(func() { err = outside.Add(context.Background(), e.name, 1420) })
	if err != nil {
		t.Fatal(err)
	}
	e.device.Sh(fmt.Sprintf(`umask 077; cd %s; echo %s > key; echo %s > psk
		wg set %[4]s private-key key listen-port 40000 peer %[5]s preshared-key psk allowed-ips 0.0.0.0/0 endpoint 10.9.0.1:51820
		ip address add 10.40.0.0/32 dev %[4]s`,
		t.TempDir(), e.private.RevealText(), shared.RevealText(), e.name, w.PublicKey))
	e.restart()
	return e
}

// restart has the device begin anew, as its app does.
func (e *entrance) restart() {
	// WireGuard sees that it is down and up when its port is closed and opened.
	e.device.Sh(fmt.Sprintf(`ip link set %[1]s down; while ss -Huln | grep -q :40000; do sleep 0.01; done
		ip link set %[1]s up; until ss -Huln | grep -q :40000; do sleep 0.01; done
		ip route replace 10.0.32.1/32 dev %[1]s`, e.name))
}

func (e *entrance) peer() state.Peer {
	return e.want.Interfaces[0].WireGuard.Peers[slices.IndexFunc(e.want.Interfaces[0].WireGuard.Peers, func(p state.Peer) bool { return p.Name == "phone" })]
}

// session returns the device's.
func (e *entrance) session(t testing.TB) Session {
	t.Helper()
	all, err := e.k.Sessions(devName(0))
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(s Session) bool { return s.Peer == e.private.Public() })
	if i < 0 {
		t.Fatal("it is no peer")
	}
	return all[i]
}

// reaches has the device ping the router.
func (e *entrance) reaches(t testing.TB) {
	t.Helper()
	e.device.Sh("ping -c 1 -W 10 10.0.32.1")
}

func TestSessionsTellOfEveryPeer(t *testing.T) {
	e := newEntrance(t, 3)
	all, err := e.k.Sessions(devName(0))
	if err != nil || len(all) != 3 {
		t.Fatalf("of 3 peers it tells of %v, %v", all, err)
	}
	for _, s := range all {
		if s != (Session{Peer: s.Peer}) {
			t.Errorf("before anybody spoke: %+v", s)
		}
	}
	began := time.Now()
	i := watchInitiations(t, 51820)
	e.reaches(t)
	select {
	case <-i.Seen():
	case <-time.After(10 * time.Second):
		t.Error("the handshake's initiation was not seen")
	}
	eventually(t, "the handshake is told", func() bool { return e.session(t).Handshake != 0 })
	s := e.session(t)
	if at := time.Unix(0, s.Handshake); at.Before(began) || at.After(time.Now()) || s.Handshake%int64(time.Second) == 0 {
		t.Errorf("the handshake was at %s, and is said to have been at %s", began, at)
	}
	if s.Endpoint != netip.MustParseAddrPort("10.9.0.2:40000") || s.Received == 0 || s.Sent == 0 {
		t.Errorf("it tells %+v", s)
	}
	tun, err := e.k.Tunnels([]string{devName(0)})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range tun[devName(0)].Peers {
		if p.PublicKey == s.Peer && (p.Handshake != s.Handshake/1e9 || p.Addresses[0] != s.Endpoint) {
			t.Errorf("as a tunnel's peer it is %+v, and %+v", p, s)
		}
	}
	if all, err := e.k.Sessions("none0"); all != nil || err != nil {
		t.Errorf("where there is no interface: %v, %v", all, err)
	}
	if all, err := e.k.Sessions("v0"); all != nil || err != nil {
		t.Errorf("where it is none of ours: %v, %v", all, err)
	}
}

// A peer that is dropped is what it was, but for its session and its endpoint. It has to
// begin anew, and others do not notice.
func TestADroppedPeerIsSentNothingUntilItSpeaks(t *testing.T) {
	e := newEntrance(t, 3)
	e.reaches(t)
	eventually(t, "the handshake is told", func() bool { return e.session(t).Handshake != 0 })
	if err := e.k.Drop(devName(0), e.peer()); err != nil {
		t.Fatal(err)
	}
	if s := e.session(t); s != (Session{Peer: s.Peer}) {
		t.Errorf("dropped, it has %+v", s)
	}
	wantNothing(t, e.k, e.want)
	received := func() string { return e.device.Sh("wg show " + e.name + " transfer | cut -f 2") }
	before := received()
	_, _ = e.k.Sessions(devName(0))
	sh(t, "ping -c 3 -i 0.2 -W 1 10.40.0.0 || true")
	if after := received(); after != before {
		t.Errorf("it was sent something: it had received %s bytes, and now %s", before, after)
	}
	e.restart()
	e.reaches(t)
	if s := e.session(t); s.Endpoint != netip.MustParseAddrPort("10.9.0.2:40000") {
		t.Errorf("after it spoke: %+v", s)
	}
	gone := e.peer()
	gone.PublicKey = key.Public{7}
	gone.Preshared = "nobody"
	if err := e.k.Drop(devName(0), gone); err == nil || !strings.Contains(err.Error(), "drop peer "+gone.PublicKey.String()) {
		t.Errorf("with a key that no file holds: %v", err)
	}
	wantNothing(t, e.k, e.want)
}

// A peer that is roused answers, if it is there, although it has nothing to say.
func TestARousedPeerHasANewSessionAtOnce(t *testing.T) {
	e := newEntrance(t, 3)
	e.reaches(t)
	eventually(t, "the handshake is told", func() bool { return e.session(t).Handshake != 0 })
	at := e.session(t)
	if err := e.k.Rouse(devName(0), e.peer(), at.Endpoint); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	eventually(t, "it has a new session", func() bool {
		s := e.session(t)
		return s.Handshake > at.Handshake && s.Endpoint == at.Endpoint
	})
	t.Logf("a new session within %s", time.Since(began).Round(time.Millisecond))
	if p := plan.Diff(read(t, e.k, e.want), e.want); len(p.Ops) != 1 {
		t.Errorf("while it is roused there is to do: %s", planText(p))
	}
	if err := e.k.Calm(devName(0), e.peer()); err != nil {
		t.Fatal(err)
	}
	wantNothing(t, e.k, e.want)
	quiet := e.session(t)
	time.Sleep(1500 * time.Millisecond)
	if s := e.session(t); s.Sent != quiet.Sent {
		t.Errorf("calm, it is sent %d bytes", s.Sent-quiet.Sent)
	}
	// One that is no peer any more is none after Calm either.
	gone := e.peer()
	gone.PublicKey = key.Public{7}
	if err := e.k.Calm(devName(0), gone); err != nil {
		t.Error(err)
	}
	wantNothing(t, e.k, e.want)
}

func TestAnswersOfAnUnknownFormAreAnError(t *testing.T) {
	public := strings.Repeat("ab", 32)
	for _, text := range []string{
		"public_key=ab\n\n", "public_key=" + public + "00\nendpoint=here\n\n", "public_key=" + public + "\nrx_bytes=x\n\n",
		"public_key=" + public + "\n", "errno=-5\n\n", "errno=x\n\n", "",
	} {
		if s, err := decodeSessions(bufio.NewReader(strings.NewReader(text))); err == nil {
			t.Errorf("%q is read as %v", text, s)
		}
	}
	text := "private_key=00\nlisten_port=1\npublic_key=" + public + "\nendpoint=[2001:db8::1]:5\nlast_handshake_time_sec=7\nlast_handshake_time_nsec=9\nrx_bytes=1\ntx_bytes=2\nfuture=?\nerrno=0\n\n"
	s, err := decodeSessions(bufio.NewReader(strings.NewReader(text)))
	if err != nil || len(s) != 1 || s[0].Handshake != 7e9+9 || s[0].Received != 1 || s[0].Sent != 2 || s[0].Endpoint != netip.MustParseAddrPort("[2001:db8::1]:5") {
		t.Errorf("it is read as %+v, %v", s, err)
	}
}

// BenchmarkSessions is a look at two hundred devices of an embedded WireGuard; wgctrl is the
// same by Tunnels, and drop is to take one's session away.
func BenchmarkSessions(b *testing.B) {
	e := newEntrance(b, 200)
	b.Run("sessions", func(b *testing.B) {
		enterSpace(b, e)
		for b.Loop() {
			if s, err := e.k.Sessions(devName(0)); err != nil || len(s) != 200 {
				b.Fatal(len(s), err)
			}
		}
	})
	b.Run("wgctrl", func(b *testing.B) {
		enterSpace(b, e)
		for b.Loop() {
			if s, err := e.k.Tunnels([]string{devName(0)}); err != nil || len(s[devName(0)].Peers) != 200 {
				b.Fatal(err)
			}
		}
	})
	b.Run("drop", func(b *testing.B) {
		enterSpace(b, e)
		for b.Loop() {
			if err := e.k.Drop(devName(0), e.peer()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// enterSpace moves a benchmark's thread into the router's namespace.
func enterSpace(b *testing.B, e *entrance) {
	b.Helper()
	runtime.LockOSThread()
	if err := unix.Setns(int(e.ns.Fd()), unix.CLONE_NEWNET); err != nil {
		b.Fatal(err)
	}
}
