package draw

import (
	"bytes"
	"testing"
)

// relayed is delivered over two hops to the Internet, and answered.
func relayed() *Way {
	return &Way{
		There:   []Stop{{Name: "lab-a"}, {Name: "relay-b"}, {Name: "exit-c", Out: "eth0"}, {}},
		Back:    []Stop{{}, {Name: "exit-c", In: "eth0"}, {Name: "relay-b"}, {Name: "lab-a"}},
		Flow:    "icmp to 8.8.8.8 from lab-a",
		Verdict: []string{"delivered to outside (8.8.8.8), and answered"},
	}
}

// strayed is lost on its way back: the answer leaves by another site than it came by.
func strayed() *Way {
	return &Way{
		There:   []Stop{{Name: "op2", LAN: true}, {Name: "op2"}, {Name: "op1", Out: "eth0"}, {}},
		Back:    []Stop{{}, {Name: "op1", In: "eth0"}},
		Lost:    &Stop{Name: "op1"},
		Reason:  "refused in chain denied",
		Flow:    "udp/53 to 8.8.8.8 from op2:192.168.36.10",
		Verdict: []string{"the answer is lost at op1, in filter: refused in chain denied"},
	}
}

// called comes from a device by way of a door, and is lost outside.
func called() *Way {
	return &Way{
		There:   []Stop{{Name: "phone"}, {Name: "op3", In: "eth0"}, {Name: "op2"}, {Name: "nobody"}},
		Lost:    &Stop{Name: "op2"},
		Reason:  "<nothing> is there",
		Verdict: []string{"lost"},
	}
}

func TestWaysLookAsBefore(t *testing.T) {
	golden(t, "way-delivered.svg", SVGWay(example("relay"), relayed()))
	golden(t, "way-lost.svg", SVGWay(example("home"), strayed()))
}

// What is said at the sites stays legible under a way.
func TestWaysCoverNoText(t *testing.T) {
	for name, svg := range map[string][]byte{
		"delivered": SVGWay(example("relay"), relayed()),
		"lost":      SVGWay(example("home"), strayed()),
		"device":    SVGWay(example("home"), called()),
	} {
		for _, p := range read(t, svg).problems() {
			t.Errorf("%s: %s", name, p)
		}
	}
}

// Every shape of network takes a way, also one between sites that are not linked and one to the
// Internet, which pictures of many sites do not show otherwise.
func TestWaysFitEveryPicture(t *testing.T) {
	for name, n := range pictures() {
		if len(n.Sites) < 2 {
			continue
		}
		first, last := n.Sites[0].Name, n.Sites[len(n.Sites)-1].Name
		svg := SVGWay(n, &Way{
			There: []Stop{{Name: first, LAN: true}, {Name: first}, {Name: last}, {}},
			Back:  []Stop{{}, {Name: last}},
			Lost:  &Stop{Name: last},
		})
		if s := read(t, svg); len(s.lines) <= len(read(t, drawn()[name]).lines) {
			t.Errorf("%s: no way is drawn", name)
		}
		if !bytes.Contains(svg, []byte(magenta)) || !bytes.Contains(svg, []byte(teal)) || !bytes.Contains(svg, []byte(red)) {
			t.Errorf("%s: the way, the answer's or the cross is missing", name)
		}
	}
}

// The way is at the uplink that it takes: the first, if nobody says which.
func TestWaysTakeTheirUplinks(t *testing.T) {
	through := func(device string) []byte {
		return SVGWay(example("two-uplinks"), &Way{There: []Stop{{}, {Name: "office", In: device}}})
	}
	if !bytes.Equal(through(""), through("eth1")) || bytes.Equal(through("eth1"), through("eth2")) {
		t.Error("the way does not come in by its uplink")
	}
}
