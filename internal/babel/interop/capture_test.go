package interop

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"tombolo/internal/babel/wire"
)

// capture is a tcpdump that writes down what a router sends on a device.
type capture struct {
	*child
	device, file string
	sent         [][]byte // payloads, as the speaker's host knows them
	via6         bool     // IPv4 routes have IPv6 next hops
	gaps         bool     // the device is down for a while, and drops what it is given
}

func (o *ours) capture(name string) {
	o.T.Helper()
	file := filepath.Join(o.T.TempDir(), fmt.Sprintf("%d-%s.pcap", o.number, name))
	c := &capture{device: name, file: file}
	c.child = o.spawn("tcpdump", "-Z", "root", "-i", name, "-n", "-U", "--immediate-mode", "-Q", "out", "-w", file,
		fmt.Sprintf("udp port 6696 and src %s", o.link6()))
	// It does not say when it begins to see: until then it is shown empty packets.
	var probe *net.UDPConn
	var err error
	zone := strconv.Itoa(o.index(name)) // Go keeps names of interfaces, and knows no namespaces
	o.In(func() {
		probe, err = net.DialUDP("udp6",
			&net.UDPAddr{IP: o.link6().AsSlice(), Port: wire.Port, Zone: zone}, &net.UDPAddr{IP: wire.Group.AsSlice(), Port: wire.Port, Zone: zone})
	})
	if err != nil {
		o.T.Fatal(err)
	}
	defer probe.Close()
	eventually(o.T, "start tcpdump", func() string {
		if _, err := probe.Write([]byte{wire.Magic, wire.Version, 0, 0}); err != nil {
			return err.Error()
		}
		if b, err := os.ReadFile(file); err != nil || len(b) <= 24 { // the header (pcap-savefile(5))
			return "it sees nothing: " + c.log.String()
		}
		return ""
	})
	o.captures = append(o.captures, c)
}

// checkCaptures has tcpdump read what the router sent: all of it, and without complaint.
func (o *ours) checkCaptures() {
	o.T.Helper()
	for _, c := range o.captures {
		end := time.Now().Add(patience)
		for c.unseen() > 0 && time.Now().Before(end) {
			time.Sleep(50 * time.Millisecond)
		}
		c.end(syscall.SIGINT)
		if n := c.unseen(); n > 0 {
			o.T.Errorf("tcpdump did not see %d of the %d packets of router %d on %s\n%s", n, len(c.sent), o.number, c.device, c.log)
		}
		// Not the UDP checksum (-K): over a veth the kernel leaves it to nobody.
		out, err := exec.Command("tcpdump", "-K", "-n", "-t", "-vv", "-r", c.file).Output()
		if err != nil {
			o.T.Errorf("tcpdump -r %s: %v", c.file, err)
		}
		for _, packet := range strings.Split(string(out), "\nIP6 ") {
			if c.via6 {
				// It gives up a packet at the first route of encoding 4 (RFC 9229), which
				// it does not know.
				packet = strings.ReplaceAll(packet, "\tUpdate (invalid)", "")
			}
			if wrong := complaint(packet); wrong != "" {
				o.T.Errorf("tcpdump says %q of\n%s", wrong, packet)
				break
			}
		}
	}
}

// complaint returns what tcpdump does not like in a packet that it decoded.
func complaint(packet string) string {
	// What tcpdump 4.99 does not know, and is right to step over: a source prefix, and our
	// own sub-TLVs.
	packet = strings.NewReplacer("sub-unknown-0x80", "", "sub-unknown-0x70", "", "sub-unknown-0x71", "").Replace(packet)
	for _, word := range []string{"invalid", "truncated", "unknown", "[|", "malformed"} {
		if strings.Contains(strings.ToLower(packet), word) {
			return word
		}
	}
	if !strings.Contains(packet, "babel 2 (") {
		return "no Babel"
	}
	return ""
}

// unseen says how many packets are not in the file. Each has a number or a time in it that
// makes it one of a kind.
func (c *capture) unseen() int {
	if c.gaps {
		return 0
	}
	b, err := os.ReadFile(c.file)
	if err != nil {
		return len(c.sent)
	}
	n := 0
	for _, payload := range c.sent {
		if !bytes.Contains(b, payload) {
			n++
		}
	}
	return n
}
