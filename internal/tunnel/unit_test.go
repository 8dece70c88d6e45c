package tunnel

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const (
	keyA = "0100000000000000000000000000000000000000000000000000000000000000"
	keyB = "0200000000000000000000000000000000000000000000000000000000000000"
	keyC = "0300000000000000000000000000000000000000000000000000000000000000"
)

const answer = `private_key=e84b5a6d2717c1003a13b431570353dbaca9146cf150c5f8575680feba52027a
listen_port=12912
fwmark=1
public_key=` + keyA + `
preshared_key=188515093e952f5f22e865cef3012e72f8b5f0b598ac0309d5dacce3b70fcf52
protocol_version=1
endpoint=[2001:db8::1]:51820
last_handshake_time_sec=1000
last_handshake_time_nsec=5
tx_bytes=38333
rx_bytes=2224
persistent_keepalive_interval=25
allowed_ip=192.168.4.4/32
public_key=` + keyB + `
endpoint=
last_handshake_time_sec=0
last_handshake_time_nsec=0
allowed_ip=192.168.4.6/32
`

func TestSnapshotKeepsWhatCanBeSet(t *testing.T) {
	c := snapshot(answer)
	want := `private_key=e84b5a6d2717c1003a13b431570353dbaca9146cf150c5f8575680feba52027a
listen_port=12912
fwmark=1
public_key=` + keyA + `
preshared_key=188515093e952f5f22e865cef3012e72f8b5f0b598ac0309d5dacce3b70fcf52
protocol_version=1
endpoint=[2001:db8::1]:51820
persistent_keepalive_interval=25
allowed_ip=192.168.4.4/32
public_key=` + keyB + `
allowed_ip=192.168.4.6/32
`
	if diff := cmp.Diff(want, c.settings()); diff != "" {
		t.Error(diff)
	}
	if got := c.listenPort(); got != 12912 {
		t.Errorf("port %d", got)
	}
	if got := configOf("public_key=" + keyA + "\n").listenPort(); got != 0 {
		t.Errorf("port %d of a device without", got)
	}
}

func TestPeersToRouse(t *testing.T) {
	now := time.Unix(10_000, 0)
	peerLines := func(key, endpoint string, met int) string {
		return fmt.Sprintf("public_key=%s\n%slast_handshake_time_sec=%d\n", key, endpoint, met)
	}
	const at = "endpoint=192.0.2.1:1\n"
	for _, c := range []struct {
		name  string
		lines string
		want  bool
	}{
		{"in session", peerLines(keyA, at, 9_900), true},
		{"session expired", peerLines(keyA, at, 9_820), false},
		{"nowhere", peerLines(keyA, "", 9_900), false},
		{"handshake under way", peerLines(keyA, at, 0), true},
		{"configured only", "public_key=" + keyA + "\n" + at, true},
	} {
		// The peers around it must not change the answer.
		all := configOf("listen_port=1\n" + peerLines(keyB, at, 1) + c.lines + peerLines(keyC, "", 9_999)).peers()
		if len(all) != 3 || fmt.Sprintf("%x", all[1].key) != keyA {
			t.Fatalf("%s: peers %+v", c.name, all)
		}
		if got := all[1].mayBeInSession(now); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestConfigurationCannotBePrinted(t *testing.T) {
	c := snapshot(answer)
	m := message{Op: opConfig, Name: "wg0", Config: c}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "config", c, "message", m, "pointer", &m)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&log, verb+" "+verb+" "+verb, c, m, &m)
		fmt.Fprintf(&log, verb, &iface{name: "wg0", config: c})
	}
	text := strings.ToLower(log.String())
	for _, part := range []string{"e84b5a6d", "18851509", fmt.Sprintf("%x", "e84b5a6d")} {
		if strings.Contains(text, part) {
			t.Errorf("%s comes out: %s", part, text)
		}
	}
}

func TestErrorsDoNotRepeatKeys(t *testing.T) {
	r := newRouter(t, "", "")
	os.Setenv("TUNNEL_TEST_DEBUG", "1") // the worker logs all it can
	defer os.Unsetenv("TUNNEL_TEST_DEBUG")
	name := ifName("x")
	if err := r.add(name); err != nil {
		t.Fatal(err)
	}
	secret := strings.Repeat("5e", 31)
	for _, line := range []string{"private_key " + secret + "5e", "private_key=" + secret, "private_key=" + secret + "zz", secret, "preshared_key=" + secret + "5e"} {
		if got := uapi(t, name, "set=1\n"+line+"\n\n"); strings.Contains(got, "errno=0") || strings.Contains(got, secret) {
			t.Errorf("set %s: %q", line, got)
		}
	}
	log, err := os.ReadFile(logPath(r.dir))
	if err != nil || !strings.Contains(string(log), "interface="+name) || strings.Contains(string(log), secret) {
		t.Errorf("log, %v:\n%s", err, log)
	}
}

func TestAddressedNamesThePeerOfEachEndpoint(t *testing.T) {
	got := addressed("private_key=x\npublic_key=" + keyA + "\nendpoint=192.0.2.1:1\nallowed_ip=::/0\npublic_key=" + keyB + "\nremove=true")
	want := "private_key=x\npublic_key=" + keyA + "\nendpoint=" + keyA + "@\nendpoint=" + keyA + "@192.0.2.1:1\nallowed_ip=::/0\npublic_key=" + keyB + "\nendpoint=" + keyB + "@\nremove=true\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestRemoteIsKeptUntilItsPeerIsGone(t *testing.T) {
	r := newRoaming(make(chan struct{}, 1))
	first, err := r.remote(keyA + "@192.0.2.1:1")
	if err != nil || first.DstToString() != "192.0.2.1:1" {
		t.Fatalf("%v, %v", first.DstToString(), err)
	}
	if again, _ := r.remote(keyA + "@"); again != first {
		t.Error("a `set` without endpoint moved the peer")
	}
	if other, _ := r.remote(keyB + "@"); other.DstToString() != "" {
		t.Errorf("a new peer is at %s", other.DstToString())
	}
	r.retain(nil)
	if again, _ := r.remote(keyA + "@"); again == first {
		t.Error("a removed peer is remembered")
	}
	for _, text := range []string{"", "192.0.2.1:1", "@192.0.2.1:1", keyA[2:] + "@", keyA + "@nowhere", keyA + "@192.0.2.1"} {
		if e, err := r.remote(text); err == nil {
			t.Errorf("remote(%q) = %v", text, e.DstToString())
		}
	}
}

func TestKernelsThatDropCoalescedUDP(t *testing.T) {
	for release, want := range map[string]bool{
		"5.15.0-91-generic": true, "6.1.0-13-amd64": true, "6.6.73": true, "6.7": true,
		"6.8.0-31-generic": true, "6.8.4": true, "6.8.5": false, "6.8.12-4-pve": false,
		"6.9.0-rc1": false, "6.18.44-fc": false, "7.0": false, "6.8.5+": false, "": true,
	} {
		if got := dropsCoalescedUDP(release); got != want {
			t.Errorf("%q: %v, want %v", release, got, want)
		}
	}
}

func TestBackoff(t *testing.T) {
	var got []time.Duration
	for _, n := range []int{1, 2, 3, 4, 8, 9, 100} {
		got = append(got, backoff(n))
	}
	const ms = time.Millisecond
	want := []time.Duration{0, 100 * ms, 200 * ms, 400 * ms, 6400 * ms, 10_000 * ms, 10_000 * ms}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLinkCarriesLongMessagesAndDescriptors(t *testing.T) {
	ours, f, err := linkPair()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := newLink(dup(t, int(f.Fd())))
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	long := configOf(strings.Repeat("x", 1<<20)) // several times the socket's buffer
	sent := make(chan error, 1)
	go func() {
		sent <- func() error {
			for i := range 20 {
				p := make([]int, 2)
				if err := unix.Pipe2(p, unix.O_CLOEXEC); err != nil {
					return err
				}
				// What is written into the pipe tells which it is.
				if _, err := unix.Write(p[1], []byte{byte(i)}); err != nil {
					return err
				}
				m := message{Op: opAdd, Name: fmt.Sprint(i)}
				if i%5 == 0 {
					m.Config = long
				}
				if err := ours.send(m, p...); err != nil {
					return err
				}
				unix.Close(p[0])
				unix.Close(p[1])
				if err := ours.send(message{Op: opRemove, Name: fmt.Sprint(i)}); err != nil {
					return err
				}
			}
			return ours.conn.Close()
		}()
	}()
	for i := range 20 {
		m, fds, err := theirs.receive()
		if err != nil || m.Op != opAdd || m.Name != fmt.Sprint(i) || len(fds) != 2 || i%5 == 0 && m.Config.text() != long.text() {
			t.Fatalf("message %d: %s %s, %d descriptors, %v", i, m.Op, m.Name, len(fds), err)
		}
		b := make([]byte, 2)
		if n, err := unix.Read(fds[0], b); n != 1 || int(b[0]) != i || err != nil {
			t.Fatalf("descriptor of message %d is that of %d, %v", i, b[0], err)
		}
		if flags, _ := unix.FcntlInt(uintptr(fds[0]), unix.F_GETFD, 0); flags&unix.FD_CLOEXEC == 0 {
			t.Error("descriptor would be inherited")
		}
		unix.Close(fds[0])
		unix.Close(fds[1])
		if m, fds, err := theirs.receive(); err != nil || m.Op != opRemove || len(fds) != 0 {
			t.Fatalf("message after %d: %+v, %d descriptors, %v", i, m, len(fds), err)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if _, _, err := theirs.receive(); err == nil {
		t.Error("no end")
	}
}

func dup(t *testing.T, fd int) int {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestInterfaceAsJSON(t *testing.T) {
	b, err := json.Marshal(Interface{Name: "wg0", MTU: 1420, Since: time.Unix(0, 0).UTC(), Restarts: 1})
	if want := `{"name":"wg0","mtu":1420,"since":"1970-01-01T00:00:00Z","restarts":1}`; err != nil || string(b) != want {
		t.Errorf("%s, %v", b, err)
	}
}
