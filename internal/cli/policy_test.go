package cli_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// policyGroups are who may or may not speak with whom: two LANs of one site, those of two
// others, and two devices, one of which enters where a LAN is.
var policyGroups = []struct {
	word, node string
	addresses  [2]string // IPv4, IPv6
}{
	{"op1:lan0", "op1.host", [2]string{"10.1.0.10", "fd00:1::10"}},
	{"op1:lan1", "op1.host-lan1", [2]string{"10.4.0.10", "fd00:4::10"}},
	{"op2", "op2.host", [2]string{"10.2.0.10", "fd00:2::10"}},
	{"10.3.0.0/24", "op3.host", [2]string{"10.3.0.10", "fd00:3::10"}},
	{"phone", "phone", [2]string{phone, ""}},
	{"pi", "pi", [2]string{pi, ""}},
}

// policyWords are what rules may say, and whether they let tcp, udp and icmp through.
var policyWords = []struct {
	text string
	lets map[string]bool
}{
	{"allow: all", map[string]bool{"tcp": true, "udp": true, "icmp": true}},
	{"deny: all", nil},
	{"allow: 7007/tcp", map[string]bool{"tcp": true}},
	{"allow: udp/7000-7010", map[string]bool{"udp": true}},
	{"allow: icmp", map[string]bool{"icmp": true}},
	{"allow: [tcp/7007, udp/53]", map[string]bool{"tcp": true}},
	{"", nil},
}

// policyWord is what the file says of two groups. It says something else in the other direction.
func policyWord(from, to int) int { return (from*5 + to*3 + 1) % len(policyWords) }

const policyNetwork = `
network: doors
overlay: 10.9.0.0/24
sites:
  op1: {address: 10.9.0.1, endpoint: op1.example.net, lan: {lan0: [10.1.0.0/24, "fd00:1::/64"], lan1: [10.4.0.0/24, "fd00:4::/64"]}, uplink: {eth0: dhcp}}
  op2: {address: 10.9.0.2, endpoint: op2.example.net, lan: {lan0: [10.2.0.0/24, "fd00:2::/64"]}, uplink: {eth0: dhcp}}
  op3: {address: 10.9.0.3, endpoint: op3.example.net, lan: {lan0: [10.3.0.0/24, "fd00:3::/64"]}, uplink: {eth0: dhcp}}
links: [[op1, op2], [op2, op3]]
clients:
  pool: 10.31.0.0/24
  at: [op1, op2, op3]
  devices:
    phone: {address: 10.31.0.10, full: true}
    pi: {address: 10.31.0.11}
policy:
  default: deny
  rules:
`

func policyRules() string {
	var b strings.Builder
	for i, from := range policyGroups {
		for k, to := range policyGroups {
			word := policyWords[policyWord(i, k)].text
			if word == "" {
				continue
			}
			fromWord, toWord := from.word, to.word
			if from.word == "10.3.0.0/24" {
				fromWord = "[10.3.0.0/24, fd00:3::/64]"
			}
			if to.word == "10.3.0.0/24" {
				toWord = "[10.3.0.0/24, fd00:3::/64]"
			}
			fmt.Fprintf(&b, "    - {from: %s, to: %s, %s}\n", fromWord, toWord, word)
		}
	}
	return b.String()
}

// matrix returns what is wrong between any two groups, in any protocol and both families.
func (l homeLab) matrix(wait time.Duration) []string {
	l.Helper()
	var questions []question
	wants := map[string]bool{}
	for i, from := range policyGroups {
		for k, to := range policyGroups {
			for _, network := range allNetworks {
				for family := range 2 {
					if from.addresses[family] == "" || to.addresses[family] == "" || i == k {
						continue
					}
					q := question{node: from.node, network: network, to: netip.MustParseAddr(to.addresses[family])}
					questions = append(questions, q)
					wants[q.String()] = policyWords[policyWord(i, k)].lets[network]
				}
			}
		}
	}
	return l.all(questions, func(q question) error {
		want, limit := wants[q.String()], wait
		if want {
			limit = forAnswer
		}
		if _, _, err := l.ask(q, limit); (err == nil) != want {
			return fmt.Errorf("%s, and it should be answered: %v", fmt.Sprint(err), want)
		}
		return nil
	})
}

// Of any two groups, in any protocol and both directions, those are heard that the policy lets
// through, also after the rules were loaded again, the agent was killed, and another program
// flushed all tables.
func TestPolicyBetweenAllGroups(t *testing.T) {
	t.Parallel()
	l := open(t, "policy", policyNetwork+policyRules(), "internet:\n  inet: {address: [198.18.0.10, 2001:db8::10]}\n")
	l.roam("phone", "op1")
	l.roam("pi", "op3")
	l.at("phone", "op1")
	l.at("pi", "op3")
	for _, g := range policyGroups {
		addresses := []netip.Addr{netip.MustParseAddr(g.addresses[0])}
		if g.addresses[1] != "" {
			addresses = append(addresses, netip.MustParseAddr(g.addresses[1]))
		}
		l.mirror(g.node, addresses...)
	}
	// Routers reach each other, whatever the rules say.
	for _, pair := range [][2]string{{"op1", "10.9.0.3"}, {"op3", "10.9.0.1"}} {
		l.answers(pair[0], pair[1])
	}
	for _, fault := range l.matrix(forNone) {
		t.Error(fault)
	}
	if t.Failed() {
		t.Logf("%s", l.in("op1", "nft", "list", "table", "inet", "tombolo"))
		return
	}
	// A full tunnel is not the network's: the default is none of its business.
	l.answers("phone", "198.18.0.10")
	again := fmt.Sprintf("%s apply %s/network.yaml --site $(hostname) --keys %[2]s/keys --partial", binary, l.lab.Dir())
	for _, harm := range []string{again, "kill -9 $(cat " + agentPID + ")", "nft flush ruleset", "nft delete table inet tombolo"} {
		for _, site := range []string{"op1", "op2", "op3"} {
			l.in(site, "sh", "-c", strings.Replace(harm, "$(hostname)", site, 1))
		}
		for _, site := range []string{"op1", "op2", "op3"} {
			l.soon(func() string {
				if out, err := l.try(site, "nft", "list", "chain", "inet", "tombolo", "access"); err != nil {
					return out
				}
				return ""
			})
		}
		for _, fault := range l.matrix(forNone) {
			t.Errorf("after %q: %s", harm, fault)
		}
	}
	// Without the rules at either end what is denied is heard.
	l.frozen("op1", func() {
		l.frozen("op2", func() {
			defer l.withoutChain("op1", "access-forward")()
			defer l.withoutChain("op2", "access-forward")()
			l.answers("op2.host", phone)
		})
	})
}

// What is established goes on when the policy is replaced, and what is denied from now on only
// begins no more.
func TestPolicyChangesUnderFlows(t *testing.T) {
	t.Parallel()
	rules := func(words ...string) string {
		return strings.Replace(policyNetwork, "default: deny", "default: allow", 1) + "    - {from: pi, to: internet, deny: all}\n" + strings.Join(words, "")
	}
	l := open(t, "policychange", rules(), "internet:\n  inet: {address: [198.18.0.10, 2001:db8::10]}\n")
	l.reached()
	l.mirror("op3.host", netip.MustParseAddr("10.3.0.10"))
	talk := []*chat{
		l.chat(question{node: "op1.host", network: "tcp", to: netip.MustParseAddr("10.3.0.10")}),
		l.chat(question{node: "op1.host", network: "udp", to: netip.MustParseAddr("10.3.0.10")}),
	}
	for _, x := range talk {
		l.begun(x)
	}
	text := rules("    - {from: op1, to: op3, deny: [tcp, udp]}\n")
	l.apply(text, "op1", "op2", "op3")
	since := time.Now()
	for _, x := range talk {
		l.goesOn(x)
		l.complete(x, since)
	}
	for _, network := range []string{"tcp", "udp"} {
		if node, _, err := l.ask(question{node: "op1.host", network: network, to: netip.MustParseAddr("10.3.0.10")}, forNone); err == nil {
			t.Errorf("%s answers over %s, which is denied now", node, network)
		}
	}
	l.answers("op1.host", "10.3.0.10") // by ping
}
