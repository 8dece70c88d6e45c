package cli_test

import (
	"os/exec"
	"testing"
)

// besideNetwork has a site whose uplink is in the LAN of its exit, where its own provider's
// gateway is another machine, which is not there.
const besideNetwork = `
network: beside
overlay: 10.9.0.0/24
sites:
  office: {address: 10.9.0.1, lan: {eth1: [192.168.5.0/24, "fd00:5::/64"]}, uplink: {eth0: dhcp}}
  cabin:
    address: 10.9.0.2
    lan: {lan0: [10.2.0.0/24, "fd00:2::/64"]}
    uplink: {eth0: {address: [192.168.5.2/24, "fd00:5::2/64"], gateway: [192.168.5.254, "fd00:5::fe"]}}
links:
  - {between: [cabin, office], transport: none, on: {cabin: eth0, office: eth1}}
exits:
  - {for: cabin, via: office}
`

// sharedNetwork has both behind one provider, on one wire.
const sharedNetwork = `
network: shared
overlay: 10.9.0.0/24
sites:
  office: {address: 10.9.0.1, lan: {lan0: [10.1.0.0/24, "fd00:1::/64"]}, uplink: {eth0: {address: [10.8.0.3/24, "2001:db8:8::3/64"], gateway: [10.8.0.1, "2001:db8:8::1"]}}}
  cabin: {address: 10.9.0.2, lan: {lan0: [10.2.0.0/24, "fd00:2::/64"]}, uplink: {eth0: {address: [10.8.0.2/24, "2001:db8:8::2/64"], gateway: [10.8.0.1, "2001:db8:8::1"]}}}
links:
  - {between: [cabin, office], transport: none, on: {cabin: eth0, office: eth0}}
exits:
  - {for: cabin, via: office}
`

// plug puts a site's uplink into the LAN of another one.
func (l exitLab) plug(site, device, other, lan string) {
	l.Helper()
	core, there, port := l.node("core").Namespace, l.node(other).Namespace, site+"."+device
	for _, args := range [][]string{
		{"-n", core, "link", "set", port, "netns", there},
		{"-n", there, "link", "set", port, "master", lan, "up"},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			l.Fatalf("ip %v: %v\n%s", args, err, out)
		}
	}
}

// A site on the same wire as its exit needs no tunnel.
func TestExitOnOneLAN(t *testing.T) {
	t.Parallel() // it mostly waits
	t.Run("a LAN of the exit", func(t *testing.T) {
		l := upExits(t, "beside", besideNetwork, "sites: {office: {eth0: {nat: none}}}")
		l.plug("cabin", "eth0", "office", "eth1")
		l.leavesAt("cabin.host", "office")
		at := l.overhear("office", "eth0")
		l.browses("cabin.host")
		at.sources(l.addresses("office")...)
	})
	t.Run("one provider", func(t *testing.T) {
		l := upExits(t, "shared", sharedNetwork, "sites: {office: {eth0: {nat: none}}, cabin: {eth0: {nat: none}}}")
		l.leavesAt("cabin.host", "office")
		l.leavesAt("office.host", "office")
		at := l.overhear("inet", "eth0")
		l.browses("cabin.host")
		at.sources(l.addresses("office")...)
	})
}
