package cli_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tombolo/internal/api"
	"tombolo/internal/lab"
)

// Three doors, and ways of 20, 27 and 52 ms between them.
const (
	doorsNetwork = `
network: doors
overlay: 10.9.0.0/24
sites:
  op1: {address: 10.9.0.1, endpoint: op1.example.net, lan: {lan0: 10.1.0.0/24}, uplink: {eth0: dhcp}}
  op2: {address: 10.9.0.2, endpoint: op2.example.net, lan: {lan0: 10.2.0.0/24}, uplink: {eth0: dhcp}}
  op3: {address: 10.9.0.3, endpoint: op3.example.net, lan: {lan0: 10.3.0.0/24}, uplink: {eth0: dhcp}}
links: mesh
clients:
  pool: 10.31.0.0/24
  at: [op1, op2, op3]
  devices:
    phone: {address: 10.31.0.10}
    pi: {address: 10.31.0.11}
`
	doorsPaths = `
paths:
  - {between: [op1, op2], rtt: 20ms}
  - {between: [op1, op3], rtt: 27ms}
  - {between: [op2, op3], rtt: 52ms}
`
	phone, pi = "10.31.0.10", "10.31.0.11"

	// reachedIn is how long a device may not be reached after its handshake begins.
	reachedIn = 2 * time.Second
)

func upDoors(t *testing.T, name, paths string) homeLab {
	t.Helper()
	l := homeLab{testLab: up(t, name, doorsNetwork, doorsPaths+paths)}
	var err error
	l.lab, err = lab.Open(l.name)
	l.do(err)
	l.reached()
	return l
}

func (l homeLab) roam(device, door string) {
	l.Helper()
	l.do(l.lab.Roam(l.Context(), device, door))
}

// everywhere waits until a device is reached from all LANs, and from the routers.
func (l homeLab) everywhere(address string) {
	l.Helper()
	for _, s := range []string{"op1", "op2", "op3"} {
		l.answers(s+".host", address)
		l.answers(s, address)
	}
}

// at waits until all routers have a device at a door, and nobody else has it.
func (l homeLab) at(device, door string) {
	l.Helper()
	l.soon(func() string {
		for _, s := range []string{"op1", "op2", "op3"} {
			c := l.client(s, device)
			if c.Site != door || c.Here != (s == door) {
				return fmt.Sprintf("%s has %s at %q, here: %v, want it at %q", s, device, c.Site, c.Here, door)
			}
		}
		return ""
	})
}

func (l testLab) client(site, device string) api.Client {
	l.Helper()
	s := l.status(site)
	i := slices.IndexFunc(s.Clients, func(c api.Client) bool { return c.Name == device })
	if i < 0 {
		l.Fatalf("%s knows no device %q: %+v", site, device, s.Clients)
	}
	return s.Clients[i]
}

// A device has one address for life, whichever door it enters by.
func TestDeviceIsReachedFromEverywhere(t *testing.T) {
	t.Parallel()
	l := upDoors(t, "devices", "")
	l.roam("phone", "op1")
	l.roam("pi", "op3")
	l.at("phone", "op1")
	l.at("pi", "op3")
	l.everywhere(phone)
	l.everywhere(pi)
	l.answers("pi", phone)
	for _, host := range []string{"10.1.0.10", "10.2.0.10", "10.3.0.10", pi, "10.9.0.3"} {
		l.answers("phone", host)
	}
	// The true source is seen.
	watch := l.start("op2.host", "timeout", "10", "tcpdump", "-lni", "eth0", "-c1", "icmp[icmptype] == icmp-echo and dst host 10.2.0.10")
	time.Sleep(time.Second)
	l.in("phone", "ping", "-c3", "-i0.3", "10.2.0.10")
	if out := watch.Stdout.(*strings.Builder); watch.Wait() != nil || !strings.Contains(out.String(), phone+" > 10.2.0.10") {
		t.Errorf("the host sees %q", out)
	}
	// It cannot send as another: what it sends with a source that is not its own ends at the door.
	l.in("phone", "ip", "address", "add", "10.31.0.77/32", "dev", "wg0")
	l.fails("phone", "ping", "-c2", "-W1", "-I", "10.31.0.77", "10.1.0.10")
	l.in("phone", "ip", "address", "add", pi+"/32", "dev", "wg0")
	before := l.client("op3", "pi")
	l.fails("phone", "ping", "-c2", "-W1", "-I", pi, "10.1.0.10")
	if now := l.client("op3", "pi"); !now.Here || now.Since != before.Since {
		t.Errorf("pi was at op3 %+v, and now %+v", before, now)
	}

	t.Run("gone without a word", func(t *testing.T) {
		l := homeLab{testLab{t, l.name}, l.lab}
		l.roam("phone", "")
		time.Sleep(time.Second)
		l.at("phone", "op1") // it may only sleep
		l.roam("phone", "op1")
		l.everywhere(phone)
		l.roam("phone", "")
		time.Sleep(time.Second)
		l.roam("phone", "op3")
		l.at("phone", "op3")
		l.everywhere(phone)
	})
	t.Run("its door is cut off", func(t *testing.T) {
		l := homeLab{testLab{t, l.name}, l.lab}
		l.roam("phone", "op1")
		l.at("phone", "op1")
		l.do(l.lab.Cut(t.Context(), "op1", ""))
		l.roam("phone", "op2")
		for _, s := range []string{"op2.host", "op3.host", "op3"} {
			l.answers(s, phone)
		}
		l.do(l.lab.Heal(t.Context(), "op1", ""))
		l.at("phone", "op2")
		l.everywhere(phone)
	})
	t.Run("two doors are parted while it moves", func(t *testing.T) {
		l := homeLab{testLab{t, l.name}, l.lab}
		l.roam("phone", "op3")
		l.at("phone", "op3")
		for _, s := range []string{"op1", "op2"} {
			l.do(l.lab.Cut(t.Context(), s, "op3"))
		}
		l.roam("phone", "op1")
		l.answers("op2.host", phone)
		l.roam("phone", "op2")
		l.answers("op1.host", phone)
		l.roam("phone", "op3") // where a lower number is known
		l.answers("op3.host", phone)
		for _, s := range []string{"op1", "op2"} {
			l.do(l.lab.Heal(t.Context(), s, "op3"))
		}
		l.at("phone", "op3")
		l.everywhere(phone)
	})
	t.Run("its door's agent dies", func(t *testing.T) {
		l := homeLab{testLab{t, l.name}, l.lab}
		s := l.stream("op2.host", phone)
		time.Sleep(2 * time.Second)
		l.in("op3", "sh", "-c", "kill -9 $(cat "+agentPID+")")
		time.Sleep(6 * time.Second)
		if lost, _ := s.end(); lost > 0 {
			t.Errorf("%d packets were lost", lost)
		}
		l.at("phone", "op3")
	})
}

// A phone that hops between doors keeps its connections.
func TestDeviceHops(t *testing.T) {
	t.Parallel() // it mostly waits
	l := upDoors(t, "hops", "")
	l.roam("phone", "op1")
	l.everywhere(phone)
	var there net.Listener
	l.do(l.lab.Do(t.Context(), "op2.host", func() (err error) {
		there, err = net.Listen("tcp", "10.2.0.10:7777")
		return err
	}))
	go func() {
		for {
			c, err := there.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c) }()
		}
	}()
	defer there.Close()
	var conn net.Conn
	l.do(l.lab.Do(t.Context(), "phone", func() (err error) {
		conn, err = net.Dial("tcp", "10.2.0.10:7777")
		return err
	}))
	defer conn.Close()

	var streams []stream
	for _, s := range []string{"op1.host", "op2.host", "op3.host"} {
		streams = append(streams, l.stream(s, phone))
	}
	doors := []string{"op2", "op3", "op1"}
	const every = 5 * time.Second
	hops := int(soak(t) / every)
	for i := range hops {
		time.Sleep(every)
		l.roam("phone", doors[i%len(doors)])
		word := fmt.Sprintf("after hop %d", i)
		l.do(conn.SetDeadline(time.Now().Add(10 * time.Second)))
		if _, err := conn.Write([]byte(word)); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(word))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != word {
			t.Fatalf("the connection said %q: %v", got, err)
		}
	}
	time.Sleep(3 * time.Second)
	for i, s := range streams {
		lost, longest := s.end()
		t.Logf("op%d: %d packets lost in %d hops, at most %s in a row", i+1, lost, hops, longest)
		if longest > reachedIn {
			t.Errorf("from op%d the phone was not reached for %s", i+1, longest)
		}
	}
	l.at("phone", doors[(hops-1)%len(doors)])
}

// What the file no longer lets in is cut at every door: a device that is not in it any more, and
// one whose key is another.
func TestRemovedDeviceIsCut(t *testing.T) {
	t.Parallel()
	const phoneLine, other = "    phone: {address: 10.31.0.10}\n", "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
	for _, c := range []struct{ name, line string }{
		{"removed", ""}, {"rekeyed", "    phone: {address: 10.31.0.10, key: " + other + "}\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := upDoors(t, c.name, "")
			l.roam("phone", "op1")
			l.roam("pi", "op1")
			l.everywhere(phone)
			l.everywhere(pi)
			s := l.stream("op1.host", pi)
			file := filepath.Join(l.lab.Dir(), "network.yaml")
			l.do(os.WriteFile(file, []byte(strings.Replace(doorsNetwork, phoneLine, c.line, 1)), 0o600))
			for _, site := range []string{"op1", "op2", "op3"} {
				l.in(site, binary, "apply", file, "--site", site, "--keys", filepath.Join(l.lab.Dir(), "keys"))
			}
			time.Sleep(2 * time.Second)
			l.fails("op1.host", "ping", "-c1", "-W1", phone)
			l.fails("op3.host", "ping", "-c1", "-W1", phone)
			l.fails("phone", "ping", "-c1", "-W1", "10.1.0.10")
			if out := l.in("op1", "wg", "show", "wg-clients", "peers"); strings.Contains(out, other) != (c.line != "") || strings.Count(out, "=") != strings.Count(c.line, "key:")+1 {
				t.Errorf("op1 has these peers:\n%s", out)
			}
			if lost, _ := s.end(); lost > 0 {
				t.Errorf("%d packets of the other device were lost", lost)
			}
		})
	}
}

// A plain site in no link enters like a device, with its LAN.
func TestPlainSiteEntersAtADoor(t *testing.T) {
	t.Parallel()
	network := strings.Replace(doorsNetwork, "links: mesh", "  cabin: {kind: plain, address: 10.9.0.9, lan: {lan0: 10.4.0.0/24}, uplink: {eth0: dhcp}}\nlinks: [[op1, op2], [op1, op3], [op2, op3]]", 1)
	l := homeLab{testLab: up(t, "cabin", network, doorsPaths)}
	var err error
	l.lab, err = lab.Open(l.name)
	l.do(err)
	l.roam("phone", "op3")
	for _, from := range []string{"op1.host", "op2.host", "op3.host", "phone", "op2"} {
		l.answers(from, "10.4.0.10")
	}
	l.answers("cabin.host", "10.2.0.10")
	l.answers("cabin.host", phone)
	l.at("cabin", "op1")
	if out := l.in("op2", "ip", "route", "show", "table", "110", "10.4.0.0/24"); !strings.Contains(out, "dev wg-op1") {
		t.Errorf("op2 has %q", out)
	}
}

// Two devices with one key take it from each other, for ever: a person must know.
func TestTwoDevicesWithOneKeyAreReported(t *testing.T) {
	t.Parallel() // it mostly waits
	l := upDoors(t, "twins", "devices: {phone2: {copy: phone}}\n")
	l.roam("phone", "op1")
	l.roam("phone2", "op3")
	stop := []stream{l.streamOf("phone", "10.1.0.10"), l.streamOf("phone2", "10.3.0.10")}
	defer func() {
		for _, s := range stop {
			_ = s.cmd.Process.Kill()
		}
	}()
	for end := time.Now().Add(3 * time.Minute); ; time.Sleep(time.Second) {
		problems := append(l.status("op1").Problems, l.status("op3").Problems...)
		if slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, "phone") }) {
			t.Logf("%q", problems)
			return
		}
		if time.Now().After(end) {
			t.Fatalf("nobody says so: %q\n%s", problems, l.in("op1", "cat", "/run/tombolo/log"))
		}
	}
}

// streamOf is a stream that may be lost on its way.
func (l testLab) streamOf(from, to string) stream {
	l.Helper()
	c := l.start(from, "ping", "-n", "-i", "0.5", "-W", "2", to)
	return stream{l, c, c.Stdout.(*strings.Builder)}
}

// All traffic of a device that is told so comes into the network, and leaves at its door.
func TestFullDeviceLeavesAtItsDoor(t *testing.T) {
	t.Parallel()
	network := strings.Replace(doorsNetwork, "    pi: ", "    laptop: {address: 10.31.0.12, full: true}\n    pi: ", 1)
	l := homeLab{testLab: up(t, "full", network, doorsPaths)}
	var err error
	l.lab, err = lab.Open(l.name)
	l.do(err)
	outside := func(site string) string {
		return strings.Split(strings.Fields(l.in(site, "ip", "-4", "-o", "address", "show", "dev", "eth0"))[3], "/")[0]
	}
	for _, door := range []string{"op1", "op2"} {
		l.roam("laptop", door)
		l.answers("laptop", "10.3.0.10")
		watch := l.start("op3", "timeout", "20", "tcpdump", "-lni", "eth0", "-c1", "icmp[icmptype] == icmp-echo and dst host "+outside("op3"))
		time.Sleep(time.Second)
		l.answers("laptop", outside("op3"))
		if out := watch.Stdout.(*strings.Builder); watch.Wait() != nil || !strings.Contains(out.String(), outside(door)+" > ") {
			t.Errorf("at door %s (%s) it is seen as %q", door, outside(door), out)
		}
	}
}
