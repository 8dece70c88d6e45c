package lab

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"tombolo/internal/state"
)

// counted returns what one uplink has sent.
func counted(t *testing.T, l *Lab, name string) UplinkCount {
	t.Helper()
	counts, err := l.Uplinks(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return counts[0]
}

// tries pings without the hope for an answer.
func tries(t *testing.T, l *Lab, from string, e Echo) {
	t.Helper()
	e.Timeout = 50 * time.Millisecond
	if _, err := l.Ping(t.Context(), from, e); err == nil {
		t.Errorf("%s reaches %s from %s", from, e.To, e.From)
	}
}

// TestTwoProviders is a router with two uplinks on which nothing of ours runs.
func TestTwoProviders(t *testing.T) {
	l := up(t, examples["two-uplinks"], exampleFile(t, "two-uplinks"))
	t.Run("MetricsAreInOrder", func(t *testing.T) { metricsAreInOrder(t, l) })
	t.Run("WrongSourcesAreDropped", func(t *testing.T) { wrongSourcesAreDropped(t, l) })
	t.Run("WhatIsSentIsCounted", func(t *testing.T) { whatIsSentIsCounted(t, l) })
	t.Run("ADeadProviderSaysNothing", func(t *testing.T) { aDeadProviderSaysNothing(t, l) })
	t.Run("CarrierIsLost", func(t *testing.T) { carrierIsLost(t, l) })
	t.Run("DHCPFollowsTheCarrier", func(t *testing.T) { dhcpFollowsTheCarrier(t, l) })
}

func metricsAreInOrder(t *testing.T, l *Lab) {
	got := in(t, l, "office", "ip route show default")
	want := "default via 211.200.0.1 dev eth1 proto static onlink \ndefault via 58.56.0.1 dev eth2 proto static metric 100 onlink"
	if got != want {
		t.Errorf("IPv4: %q, want %q", got, want)
	}
	var six []string
	for line := range strings.Lines(in(t, l, "office", "ip -6 route show default")) {
		if head, _, ok := strings.Cut(line, " expires"); ok {
			six = append(six, head)
		}
	}
	want6 := []string{"default via fe80::1 dev eth1 proto ra metric 1024", "default via fe80::1 dev eth2 proto ra metric 1124"}
	if !slices.Equal(six, want6) {
		t.Errorf("IPv6: %q, want %q", six, want6)
	}
}

func wrongSourcesAreDropped(t *testing.T, l *Lab) {
	inet := node(t, l, "inet")
	in(t, l, "office", "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
	in(t, l, "office", "ip address add fd00:50::1/64 dev br-lan nodad")
	in(t, l, "office.host", "ip address add fd00:50::10/64 dev eth0 nodad")
	in(t, l, "office.host", "ip route add default via fd00:50::1")
	two := node(t, l, "office").Devices[1]
	if err := l.ResetUplinks(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Nobody hides the LAN's sources here, and nobody sends what has uplink 2's address out
	// by it.
	for _, c := range []struct {
		node string
		echo Echo
	}{
		{"office.host", Echo{To: inet.Addr()}},
		{"office.host", Echo{To: addr("8.8.8.8")}}, // whom the lab does not have
		{"office.host", Echo{To: inet.Addr6()}},
		{"office", Echo{To: inet.Addr(), From: two.Addresses[0].Addr()}},
		{"office", Echo{To: inet.Addr6(), From: two.Addresses[1].Addr()}},
		{"office", Echo{To: addr("211.200.0.1"), From: addr("192.168.50.1")}},
	} {
		tries(t, l, c.node, c.echo)
	}
	got := counted(t, l, "office/eth1")
	if got.Wrong() != 6 || got.Internet() != 5 || got.To("inet") != 4 {
		t.Errorf("%+v", got)
	}
	if other := counted(t, l, "office/eth2"); other.Wrong() != 0 || other.Internet() != 0 {
		t.Errorf("the other provider was sent something: %+v", other)
	}
	want := Sent{
		From: addr("192.168.50.10"), To: inet.Addr(), Destination: ToInternet, Place: "inet", Protocol: "icmp",
		Packets: 1, Bytes: 44, WrongSource: true,
	}
	if !slices.Contains(got.Sent, want) {
		t.Errorf("%+v is not in %+v", want, got.Sent)
	}
}

func whatIsSentIsCounted(t *testing.T, l *Lab) {
	check, inet := node(t, l, "check-2"), node(t, l, "inet")
	if err := l.ResetUplinks(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		from string
		to   netip.Addr
	}{
		{"office", check.Addr()},
		{"office", check.Addr()},
		{"office", check.Addr6()},
		{"office", addr("211.200.0.1")}, // the gateway
		{"branch", inet.Addr()},         // behind a NAT, before which it is counted
		{"branch", addr("211.200.0.2")},
		{"branch", addr("58.56.0.2")}, // the answer leaves by the wrong uplink
	} {
		if got, want := reaches(t, l, c.from, c.to), c.to != addr("58.56.0.2"); got != want {
			t.Errorf("%s reaches %s: %v", c.from, c.to, got)
		}
	}
	office, branch := counted(t, l, "office/eth1"), counted(t, l, "branch")
	sum := func(c UplinkCount, d Destination, wrong bool) uint64 {
		return c.Count(func(s Sent) bool { return s.Destination == d && s.WrongSource == wrong && s.Protocol != "ipv6-icmp" })
	}
	got := fmt.Sprint(office.Internet(), office.To("check-2"), sum(office, ToLink, false), sum(office, ToSite, false), sum(office, ToSite, true),
		branch.Internet(), branch.To("office/eth1"), branch.To("office/eth2"), branch.Wrong())
	if want := "3 3 1 1 1 1 1 1 0"; got != want {
		t.Errorf("%s, want %s\n%+v\n%+v", got, want, office, branch)
	}
	if from := branch.Sent[slices.IndexFunc(branch.Sent, func(s Sent) bool { return s.Place == "inet" })].From; !from.IsPrivate() && !private4.Contains(from) {
		t.Errorf("branch is counted after its NAT: %v", from)
	}
	if _, err := l.Uplinks(t.Context(), "office/eth9"); err == nil || !strings.HasSuffix(err.Error(), `there is no uplink "office/eth9"`) {
		t.Error(err)
	}
}

func aDeadProviderSaysNothing(t *testing.T, l *Lab) {
	check, gateway := node(t, l, "check-1"), addr("211.200.0.1")
	if err := l.Cut(t.Context(), "office/eth1", ""); err != nil {
		t.Fatal(err)
	}
	for _, to := range []netip.Addr{check.Addr(), check.Addr6(), gateway, addr("8.8.8.8")} {
		tries(t, l, "office", Echo{To: to})
	}
	if got := in(t, l, "office", "cat /sys/class/net/eth1/carrier"); got != "1" {
		t.Errorf("carrier: %s", got)
	}
	if reaches(t, l, "inet", addr("211.200.0.2")) {
		t.Error("what is cut off is reached")
	}
	if !answers(t, l, "office", addr("58.56.0.1")) {
		t.Error("the other provider is dead too")
	}
	// To heal one path is enough for the provider to live.
	if err := l.Heal(t.Context(), "check-1", "office"); err != nil {
		t.Fatal(err)
	}
	if !answers(t, l, "office", gateway) || !answers(t, l, "office", check.Addr()) || reaches(t, l, "office", node(t, l, "inet").Addr()) {
		t.Error("healing one path healed none, or more")
	}
	if err := l.Heal(t.Context(), "office/eth1", ""); err != nil {
		t.Fatal(err)
	}
	if !answers(t, l, "office", node(t, l, "inet").Addr()) {
		t.Error("the provider does not come back")
	}
}

func carrierIsLost(t *testing.T, l *Lab) {
	check := node(t, l, "check-1")
	for range 2 {
		if err := l.Carrier(t.Context(), "office", "eth1", false); err != nil {
			t.Fatal(err)
		}
	}
	if got := in(t, l, "office", "cat /sys/class/net/eth1/carrier"); got != "0" {
		t.Errorf("carrier: %s", got)
	}
	if reaches(t, l, "inet", addr("211.200.0.2")) {
		t.Error("it is reached without a cable")
	}
	if err := l.Carrier(t.Context(), "office", "eth1", true); err != nil {
		t.Fatal(err)
	}
	for _, to := range []netip.Addr{check.Addr(), check.Addr6(), addr("211.200.0.1")} {
		if !answers(t, l, "office", to) {
			t.Errorf("office does not reach %s", to)
		}
	}
	for _, to := range node(t, l, "office").Devices[0].Addresses {
		if !answers(t, l, "inet", to.Addr()) {
			t.Errorf("%s is not reached", to)
		}
	}
	if err := l.Carrier(t.Context(), "office", "eth9", true); err == nil || !strings.HasSuffix(err.Error(), "there is no uplink office/eth9") {
		t.Error(err)
	}
}

func dhcpFollowsTheCarrier(t *testing.T, l *Lab) {
	inet := node(t, l, "inet")
	if err := l.Carrier(t.Context(), "branch", "", false); err != nil {
		t.Fatal(err)
	}
	if got := in(t, l, "branch", "ip -4 -br address show eth0") + in(t, l, "branch", "ip route show default"); strings.Contains(got, "100.64.") {
		t.Errorf("it keeps what it leased: %s", got)
	}
	if _, err := l.Relet(t.Context(), "branch", "", netip.Prefix{}); err == nil || !strings.HasSuffix(err.Error(), "it is cut off, and would not hear of it") {
		t.Error(err)
	}
	if err := l.Carrier(t.Context(), "branch", "", true); err != nil {
		t.Fatal(err)
	}
	if !answers(t, l, "branch", inet.Addr()) || !answers(t, l, "branch", inet.Addr6()) {
		t.Error("branch does not come back")
	}
	// Its old address is nobody's once it has another.
	old := node(t, l, "branch").Devices[0].Addresses[0]
	next, err := l.Relet(t.Context(), "branch", "eth0", prefix("100.100.7.9/24"))
	if err != nil {
		t.Fatal(err)
	}
	in(t, l, "branch", "ip address add "+old.String()+" dev eth0")
	before := counted(t, l, "branch").Wrong()
	tries(t, l, "branch", Echo{To: inet.Addr(), From: old.Addr()})
	if got := counted(t, l, "branch").Wrong() - before; got != 1 {
		t.Errorf("%d packets from the old address were dropped", got)
	}
	if _, err := l.Ping(t.Context(), "branch", Echo{To: inet.Addr(), From: next.Addr()}); err != nil {
		t.Error(err)
	}
}

// TestRoutedPrefixes has LANs in prefixes that a provider routes.
func TestRoutedPrefixes(t *testing.T) {
	second := static("eth2", "58.56.0.2/30", "58.56.0.1")
	second.Addresses = append(second.Addresses, prefix("2001:db8:58::2/64"))
	second.Gateways = append(second.Gateways, addr("2001:db8:58::1"))
	first := static("eth1", "211.200.0.2/30", "211.200.0.1")
	first.Addresses = append(first.Addresses, prefix("2001:db8:211::2/64"))
	first.Gateways = append(first.Gateways, addr("2001:db8:211::1"))
	routers := []state.Router{{Site: "office", LANs: brLAN("203.0.113.0/29", "2001:db8:a::/64"), Uplinks: []state.Uplink{first, second}}}
	f, mistakes := ParseFile("x", []byte("sites: {office: {eth1: {routed: [203.0.113.0/29, 2001:db8:a::/56]}}}"), routers, nil)
	if len(mistakes) > 0 {
		t.Fatal(mistakes)
	}
	l := up(t, routers, f)
	want := "default via 2001:db8:211::1 dev eth1 proto static metric 1024 onlink pref medium\n" +
		"default via 2001:db8:58::1 dev eth2 proto static metric 1124 onlink pref medium"
	if got := in(t, l, "office", "ip -6 route show default"); got != want {
		t.Errorf("default routes: %q, want %q", got, want)
	}
	in(t, l, "office", "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
	host, inet := node(t, l, "office.host"), node(t, l, "inet")
	works := func() {
		t.Helper()
		for _, c := range []struct {
			from string
			to   netip.Addr
		}{{"office.host", inet.Addr()}, {"office.host", inet.Addr6()}, {"inet", host.Addr()}, {"inet", host.Addr6()}} {
			if !answers(t, l, c.from, c.to) {
				t.Errorf("%s does not reach %s", c.from, c.to)
			}
		}
	}
	works()
	for _, on := range []bool{false, true} {
		if err := l.Carrier(t.Context(), "office", "eth1", on); err != nil {
			t.Fatal(err)
		}
	}
	works()
	// The second provider does not know these prefixes.
	in(t, l, "office", "ip -6 route del default via 2001:db8:211::1")
	tries(t, l, "office.host", Echo{To: inet.Addr6()})
	if got := counted(t, l, "office/eth2"); got.Wrong() != 1 || counted(t, l, "office/eth1").Wrong() != 0 {
		t.Errorf("%+v", got)
	}
}

// TestSharedWireIsCountedApart has two uplinks on one wire.
func TestSharedWireIsCountedApart(t *testing.T) {
	routers := []state.Router{
		{Site: "a", Endpoints: []string{"192.0.2.2:1"}, Uplinks: []state.Uplink{static("eth0", "192.0.2.2/24", "192.0.2.1")}},
		{Site: "b", Endpoints: []string{"192.0.2.3:1"}, Uplinks: []state.Uplink{static("br-wan", "192.0.2.3/24", "192.0.2.1")}},
	}
	l := up(t, routers, File{})
	inet := node(t, l, "inet")
	if !answers(t, l, "a", addr("192.0.2.3")) || !answers(t, l, "b", inet.Addr()) {
		t.Error("the wire does not work")
	}
	in(t, l, "b", "ip address add 10.0.0.1/32 dev lo")
	tries(t, l, "b", Echo{To: inet.Addr(), From: addr("10.0.0.1")})
	a, b := counted(t, l, "a"), counted(t, l, "b")
	if a.Internet() != 0 || a.Wrong() != 0 || b.Internet() != 2 || b.Wrong() != 1 {
		t.Errorf("a: %+v\nb: %+v", a, b)
	}
	// One is cut off, and the other not.
	if err := l.Cut(t.Context(), "b", ""); err != nil {
		t.Fatal(err)
	}
	if reaches(t, l, "b", addr("192.0.2.1")) || !answers(t, l, "a", addr("192.0.2.1")) || !answers(t, l, "a", addr("192.0.2.3")) {
		t.Error("not b alone is cut from its provider, or from a too")
	}
	if err := l.Heal(t.Context(), "b", ""); err != nil {
		t.Fatal(err)
	}
	for _, on := range []bool{false, true} {
		if err := l.Carrier(t.Context(), "b", "br-wan", on); err != nil {
			t.Fatal(err)
		}
	}
	if !answers(t, l, "b", inet.Addr()) || !answers(t, l, "b", inet.Addr6()) {
		t.Error("b does not come back")
	}
}

func TestCountersAreRead(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`{"nftables": [{"set": {"name": "sent4", "elem": [{"elem": {"val": {"concat": ["x", "m", "192.0.2.1", "192.0.2.2", 6]}, "counter": {"packets": 3, "bytes": 7}}}]}}]}`, "x 192.0.2.1 tcp 3 false"},
		{`{"nftables": [{"set": {"name": "wrong6", "elem": [{"elem": {"val": {"concat": ["x", "m", "fd00::1", "fd00::2", "ipv6-icmp"]}, "counter": {"packets": 1, "bytes": 7}}}]}}]}`, "x fd00::1 ipv6-icmp 1 true"},
		{`{"nftables": [{"set": {"name": "own4", "elem": ["x"]}}, {"set": {"name": "sent4"}}]}`, ""},
		{`{"nftables": [{"set": {"name": "sent4", "elem": ["x"]}}]}`, `sent4: json: cannot unmarshal string into Go value of type struct`},
	} {
		flows, err := parseFlows([]byte(c.text))
		got := ""
		for _, f := range flows {
			got += fmt.Sprint(f.device, " ", f.From, " ", f.Protocol, " ", f.Packets, " ", f.WrongSource)
		}
		if err != nil {
			got += err.Error()
		}
		if !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s: %q, want %q", c.text, got, c.want)
		}
	}
}
