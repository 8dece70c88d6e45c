package plan

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"tombolo/internal/state"
)

// shell is a network namespace in which commands are tried out.
type shell struct {
	t         *testing.T
	namespace string
	dir       string // with keys/
}

func newShell(t *testing.T) *shell {
	s := &shell{t: t, namespace: fmt.Sprintf("tombolo-plan-%d", os.Getpid()), dir: t.TempDir()}
	s.outside("ip", "netns", "add", s.namespace)
	t.Cleanup(func() { s.outside("ip", "netns", "del", s.namespace) })
	if err := os.Mkdir(filepath.Join(s.dir, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"op2.key", "op1+op2.psk", "op2+op3.psk"} {
		text := "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n"
		if err := os.WriteFile(filepath.Join(s.dir, "keys", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// The example's uplink and LAN. A kernel without WireGuard has TUN devices.
	s.run("ip tuntap add eth0 mode tun\nip tuntap add br-lan mode tun\nip link set lo up")
	return s
}

func (s *shell) outside(words ...string) {
	s.t.Helper()
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		s.t.Fatalf("%s: %v\n%s", strings.Join(words, " "), err, out)
	}
}

// run runs a script inside and returns what it printed.
func (s *shell) run(script string) string {
	s.t.Helper()
	c := exec.Command("ip", "netns", "exec", s.namespace, "bash", "-e", "-u", "-o", "pipefail")
	c.Stdin, c.Dir = strings.NewReader(script), s.dir
	out, err := c.CombinedOutput()
	if err != nil {
		s.t.Fatalf("%v: %s\nin:\n%s", err, out, script)
	}
	return string(out)
}

// do runs the commands of a plan, with TUN devices for WireGuard ones. The wg commands
// are given to wg for a device that is not there: what it says then is of the device.
func (s *shell) do(script string) {
	s.t.Helper()
	var rest []string
	for line := range strings.Lines(script) {
		if strings.HasPrefix(line, "wg ") {
			out := s.run(strings.TrimSpace(line) + " 2>&1 || true")
			if !strings.HasPrefix(out, "Unable to modify interface") {
				s.t.Errorf("%s\nwg says: %s", line, out)
			}
			continue
		}
		if name, ok := strings.CutSuffix(line, " type wireguard\n"); ok {
			name = strings.TrimPrefix(name, "ip link add ")
			line = fmt.Sprintf("ip tuntap add %s mode tun; sysctl -qw net.ipv6.conf.%s.addr_gen_mode=1\n", name, name)
		}
		rest = append(rest, line)
	}
	s.run(strings.Join(rest, ""))
}

// read returns the interfaces, addresses, routes and rules that `ip` shows of ours.
func (s *shell) read() state.Router {
	r := state.Router{Owner: state.DefaultOwner()}
	var links []struct {
		Name      string `json:"ifname"`
		MTU       int    `json:"mtu"`
		Alias     string `json:"ifalias"`
		Flags     []string
		Addresses []struct {
			Local netip.Addr `json:"local"`
			Bits  int        `json:"prefixlen"`
		} `json:"addr_info"`
	}
	s.json("ip -j -d address", &links)
	for _, l := range links {
		i := state.Interface{Name: l.Name, Alias: l.Alias, MTU: l.MTU, Down: !slices.Contains(l.Flags, "UP")}
		for _, a := range l.Addresses {
			i.Addresses = append(i.Addresses, netip.PrefixFrom(a.Local, a.Bits))
		}
		if r.Owner.OwnsInterface(i) {
			r.Interfaces = append(r.Interfaces, i)
		}
	}
	for _, family := range []string{"-4", "-6"} {
		s.readRoutes(&r, family)
		s.readRules(&r, family)
	}
	r.Sort()
	return r
}

func (s *shell) json(command string, to any) {
	if err := json.Unmarshal([]byte(s.run(command)), to); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shell) readRoutes(r *state.Router, family string) {
	var routes []struct {
		Type, Dst, From, Dev, Gateway, PrefSrc, Table string
		Via                                           struct{ Host string }
		Metric                                        uint32
		Flags                                         []string
	}
	s.json("ip -j -d "+family+" route show table all proto 84", &routes)
	for _, x := range routes {
		table, _ := strconv.ParseUint(x.Table, 10, 32)
		o := state.Route{
			Table: uint32(table), Dst: parsePrefix(x.Dst, family), Metric: x.Metric, Type: state.RouteType(x.Type),
			Device: x.Dev, OnLink: slices.Contains(x.Flags, "onlink"), Protocol: 84,
		}
		o.PrefSrc, _ = netip.ParseAddr(x.PrefSrc)
		o.Gateway, _ = netip.ParseAddr(x.Gateway + x.Via.Host)
		if x.From != "" {
			o.Src = parsePrefix(x.From, family)
		}
		if o.Type != state.Unicast {
			o.Device = ""
		}
		if family == "-6" && o.Metric == defaultMetric6 {
			o.Metric = 0
		}
		r.Routes = append(r.Routes, o)
	}
}

func (s *shell) readRules(r *state.Router, family string) {
	var rules []struct {
		Priority                                          uint32
		Src, IIF, FwMark, FwMask, Table, Action, Protocol string
		SrcLen                                            int
		Suppress                                          *int `json:"suppress_prefixlen"`
	}
	s.json("ip -j "+family+" rule", &rules)
	for _, x := range rules {
		if x.Protocol != "84" {
			continue
		}
		o := state.Rule{Priority: x.Priority, IPv6: family == "-6", IIF: x.IIF, Action: state.RuleAction(x.Action), Protocol: 84}
		mark, _ := strconv.ParseUint(x.FwMark, 0, 32)
		mask, _ := strconv.ParseUint(x.FwMask, 0, 32)
		o.Mark, o.Mask = uint32(mark), uint32(mask)
		if x.Src != "all" {
			o.From = netip.PrefixFrom(netip.MustParseAddr(x.Src), x.SrcLen)
		}
		if o.Action == "" {
			table, _ := strconv.ParseUint(strings.Replace(x.Table, "main", "254", 1), 10, 32)
			o.Action, o.Table = state.Lookup, uint32(table)
		}
		if x.Suppress != nil {
			o.Suppress = *x.Suppress + 1
		}
		r.Rules = append(r.Rules, o)
	}
}

// parsePrefix reads a prefix as ip shows it.
func parsePrefix(s, family string) netip.Prefix {
	if s == "default" {
		s = map[string]string{"-4": "0.0.0.0/0", "-6": "::/0"}[family]
	}
	if p, err := netip.ParsePrefix(s); err == nil {
		return p
	}
	a := netip.MustParseAddr(s)
	return netip.PrefixFrom(a, a.BitLen())
}

// shown returns what of a router shell.read sees.
func shown(r state.Router) state.Router {
	r = Apply(r, nil)
	for i := range r.Interfaces {
		r.Interfaces[i].Kind, r.Interfaces[i].WireGuard = "", nil
	}
	return state.Router{Owner: r.Owner, Interfaces: r.Interfaces, Routes: r.Routes, Rules: r.Rules}
}

func (s *shell) compare(after string, want state.Router) {
	s.t.Helper()
	if d := difference(shown(want), s.read()); d != "" {
		s.t.Errorf("after %s the machine is another than the model (-model +machine):\n%s", after, d)
	}
}

func commandsOf(ops []Op) (script string) {
	for _, op := range ops {
		script += strings.Join(append(op.Commands(), ""), "\n")
	}
	return script
}

// TestCommandsMakeAMachineWhatTheModelSays pastes what plans print into a real machine.
func TestCommandsMakeAMachineWhatTheModelSays(t *testing.T) {
	s := newShell(t)
	s.do(Script(sample()))
	s.compare("the script", sample())
	if got := s.run("nft list table inet tombolo | grep -c accept"); got != "5\n" {
		t.Errorf("the table has %q lines with accept, want 5", got)
	}
	if got := s.run("sysctl -n net.ipv4.ip_forward net.ipv4.conf.wg-op1.rp_filter"); got != "1\n0\n" {
		t.Errorf("the settings are %q", got)
	}

	have, want := observed(sample()), sample()
	unused := observed(sample())
	changeALot(&unused, &want)
	p := Diff(have, want)
	s.do(commandsOf(p.Ops))
	s.compare("the change", want)
	s.run("nft list table inet tombolo | grep wg-\\\\*")

	s.do(commandsOf(Undo(p.Ops)))
	s.compare("the change and back", sample())

	none := state.Router{Owner: want.Owner}
	s.do(commandsOf(Diff(have, none).Ops))
	s.compare("everything is taken away", none)
	if got := s.run("nft list tables"); got != "" {
		t.Errorf("there are tables left: %s", got)
	}
}
