package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"tombolo/internal/compile"
	"tombolo/internal/lab"
	"tombolo/internal/spec"
)

const (
	accessSites = 300
	accessMany  = 10_000 // rules
	accessFew   = 10

	accessCompile = time.Second
	accessLoad    = 300 * time.Millisecond
)

// accessRouters are the sites that the lab brings up: a hub, and three with two LANs each.
var accessRouters = []string{"h", "a", "b", "c"}

// accessFile is a network of sites around h, of which the first are accessRouters. Its policy is
// rules, all of which are about one router.
func accessFile(sites int, rules string) string {
	var b strings.Builder
	b.WriteString("network: access\noverlay: 10.200.0.0/16\nlinks: {star: h}\nsites:\n")
	for i := range sites {
		name, high, low := accessSite(i), i/256, i%256
		fmt.Fprintf(&b, "  %s: {address: 10.200.%d.%d, endpoint: %s.example.net, uplink: {eth0: dhcp}, ", name, (i+1)/256, (i+1)%256, name)
		fmt.Fprintf(&b, "lan: {lan0: [10.%d.%d.0/24, 'fd00:%x::/64'], lan1: 10.%d.%d.0/24}}\n", 100+high, low, i+1, 110+high, low)
	}
	if rules != "" {
		b.WriteString("policy:\n  default: deny\n  rules:\n" + rules)
	}
	return b.String()
}

// accessSite is the name of a site.
func accessSite(i int) string {
	if i < len(accessRouters) {
		return accessRouters[i]
	}
	return fmt.Sprintf("s%d", i)
}

// services are what rules may be about where many are about the same.
var services = []string{
	"tcp/22", "tcp/25", "udp/53", "[tcp/80, tcp/443]", "tcp/443", "tcp/8443", "tcp/5432", "tcp/3306", "udp/123", "tcp/445",
	"tcp/3389", "tcp/5900-5910", "udp/161", "udp/514", "tcp/9100", "[tcp/2049, tcp/111, udp/111]", "[tcp/389, tcp/636]", "[icmp, tcp/443]", "all", "icmp",
}

// accessRules lets all other sites speak with hosts of a site's lan0, each rule by another port
// from a number on, or by one of the services where that is 0.
func accessRules(site, rules, port int) string {
	var b strings.Builder
	for k := range rules {
		from := k % (accessSites - 1)
		if from >= site {
			from++
		}
		service := services[(k/7+k%13)%len(services)]
		if port > 0 {
			service = fmt.Sprintf("tcp/%d", port+k)
		}
		host := 1 + (k/(accessSites-1)*7+from)%250
		fmt.Fprintf(&b, "    - {from: %s, to: 10.100.%d.%d, allow: %s}\n", accessSite(from), site, host, service)
	}
	return b.String()
}

// measuredRule is the last rule: about flows from a site's lan1 to the tenth host of its lan0.
func measuredRule(site int) string {
	return fmt.Sprintf("    - {from: %q, to: 10.100.%d.10, allow: [udp/9, udp/11]}\n", accessSite(site)+":lan1", site)
}

// benchAccess measures what a policy costs: to compile, to load, for packets, and while it is
// replaced.
func benchAccess(ctx context.Context, o options) (all []result, err error) {
	dir, err := os.MkdirTemp("", "tombolo-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a temporary folder
	if all, err = compileAccess(ctx, o, dir); err != nil {
		return nil, err
	}
	l, err := upOf(ctx, o, dir, "access", accessFile(len(accessRouters), ""), costPaths)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, downLab(ctx, o, l)) }()
	for _, site := range accessRouters[1:] { // its agent, too
		if _, err := outputOf(ctx, l, site, o.tombolo, "down"); err != nil {
			return nil, err
		}
	}
	for _, measure := range []func(context.Context, options, *lab.Lab, string) ([]result, error){changeAccess, rateAccess} {
		more, err := measure(ctx, o, l, dir)
		if err != nil {
			return nil, err
		}
		all = append(all, more...)
	}
	return all, nil
}

// compileAccess times how long the hub of a large network takes to compile and to load its rules,
// where others are loaded already. There its 299 links have their own rules, too.
func compileAccess(ctx context.Context, o options, dir string) (all []result, err error) {
	for _, c := range []struct {
		words string
		port  int
	}{{"20 kinds of ports", 0}, {"each with a port of its own", 1000}} {
		text := []byte(accessFile(accessSites, accessRules(0, accessMany-1, c.port)+measuredRule(0)))
		rules := ""
		took, err := medianOf(o.runs, func() error {
			n, problems := spec.Parse("access.yaml", text)
			if n == nil {
				return problems.Err()
			}
			r, err := compile.Router(n, "h", compile.Options{})
			if err == nil {
				rules = r.Rulesets[0].Text
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		file := filepath.Join(dir, "rules")
		if err := os.WriteFile(file, []byte("table inet tombolo; delete table inet tombolo; "+rules+"\n"), 0o600); err != nil {
			return nil, err
		}
		var loaded time.Duration
		var busy []time.Duration
		err = inNewNamespace(func() error {
			loaded, err = medianOf(o.runs, func() error {
				cpu, err := nftFile(ctx, file)
				busy = append(busy, cpu)
				return err
			})
			return err
		})
		if err != nil {
			return nil, err
		}
		cpu := median(busy)
		progress("access: %s: compiled in %s, loaded in %s, %s of it on a processor", c.words, rounded(took), rounded(loaded), rounded(cpu))
		name := fmt.Sprintf("policy of %d rules about the hub of %d sites, %s: ", accessMany, accessSites, c.words)
		all = append(all,
			atMost(name+"read the file and compile the hub", took, accessCompile),
			atMost(name+"nft puts the rules in the place of others", loaded, accessLoad),
			fact(name+"processor time of that", rounded(cpu)))
	}
	return all, nil
}

// nftFile loads a file where the calling thread is, and returns the processor time that it took.
func nftFile(ctx context.Context, file string) (time.Duration, error) {
	var complaint bytes.Buffer
	c := exec.CommandContext(ctx, "nft", "-f", file)
	c.Stderr = &complaint
	if err := c.Run(); err != nil {
		return 0, errors.Join(fmt.Errorf("nft: %w", err), errors.New(complaint.String()))
	}
	return c.ProcessState.UserTime() + c.ProcessState.SystemTime(), nil
}
