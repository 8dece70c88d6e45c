package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"tombolo/internal/lab"
)

const (
	throughputRounds = 9
	throughputTime   = 3 * time.Second // of each measurement, after a second that is not counted
	throughputRatio  = 0.9
)

// benchThroughput measures TCP between two LAN hosts: through what tombolo applies to
// their two routers, with static routing and with a link of its own, and through the same
// devices set up by hand in the same namespaces. They take turns, and each is compared
// with what was measured by hand in its own round; so is a second one by hand, which says
// how much of a difference is the machine's noise.
func benchThroughput(ctx context.Context, o options) (results []result, err error) {
	if _, err := exec.LookPath("iperf3"); err != nil {
		return nil, errors.New("the program iperf3 is missing; on Debian: apt install iperf3")
	}
	p, err := newPair(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close(ctx)) }()
	ways := []way{
		{byHand, p.byHand, p.undoByHand},
		{byHandAgain, p.byHand, p.undoByHand},
		{"static", p.applied("static"), p.down},
		{"babel", p.applied("babel"), p.down},
	}
	if err := p.down(ctx); err != nil { // what the lab came up with
		return nil, err
	}
	rates := map[string][]float64{}
	for round := range throughputRounds + 1 {
		for i := range ways {
			w := ways[(round+i)%len(ways)] // so that none is always first
			rate, err := p.measure(ctx, w)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", w.name, err)
			}
			if round == 0 {
				continue // warm-up
			}
			progress("throughput, round %d of %d: %-13s %s", round, throughputRounds, w.name, gigabits(rate))
			rates[w.name] = append(rates[w.name], rate)
		}
	}
	return compare(rates), nil
}

const (
	byHand      = "by hand"
	byHandAgain = "by hand again"
)

// compare makes the table's lines of rates in bits/s, by way and round.
func compare(rates map[string][]float64) []result {
	const what = "TCP from LAN to LAN, embedded WireGuard, "
	value := func(name string) (text string, ratio float64) {
		var ratios []float64
		for i, rate := range rates[name] {
			ratios = append(ratios, rate/rates[byHand][i])
		}
		return fmt.Sprintf("%s, %.2f of by hand (rounds: %.2f to %.2f)", gigabits(median(rates[name])), median(ratios),
			slices.Min(ratios), slices.Max(ratios)), median(ratios)
	}
	again, _ := value(byHandAgain)
	out := []result{
		fact(what+byHand, gigabits(median(rates[byHand]))),
		fact(what+byHandAgain+", which is noise", again),
	}
	for _, name := range []string{"static", "babel"} {
		text, ratio := value(name)
		out = append(out, result{
			what + "by tombolo, " + name + " links", text,
			fmt.Sprintf("at least %.1f of by hand", throughputRatio), ratio >= throughputRatio,
		})
	}
	return out
}

func gigabits(rate float64) string { return fmt.Sprintf("%.2f Gbit/s", rate/1e9) }

// way is one way to join the two sites.
type way struct {
	name     string
	up, down func(context.Context) error
}

// pair is a lab of two sites, a and b, each with a LAN, and nothing but veth between them.
type pair struct {
	o      options
	lab    *lab.Lab
	dir    string // of the network files
	host   lab.Node
	server *exec.Cmd
}

// pairFile is the network file of the pair. Its endpoints have no impairment between them.
func pairFile(routing string) string { return mesh(2, routing) }

func newPair(ctx context.Context, o options) (_ *pair, err error) {
	p := &pair{o: o}
	if p.o.tombolo, err = filepath.Abs(o.tombolo); err != nil {
		return nil, err
	}
	if p.dir, err = os.MkdirTemp("", "tombolo-bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close(ctx))
		}
	}()
	for _, routing := range []string{"static", "babel"} {
		if err := os.WriteFile(p.file(routing), []byte(pairFile(routing)), 0o600); err != nil {
			return nil, err
		}
	}
	if p.lab, _, err = upLab(ctx, p.o, p.file("static")); err != nil {
		return nil, err
	}
	if p.host, err = p.lab.Node(pairSites[1] + ".host"); err != nil {
		return nil, err
	}
	server := exec.Command("iperf3", "--server")
	if err := p.lab.Start(ctx, p.host.Name, server); err != nil {
		return nil, err
	}
	p.server = server
	return p, nil
}

func (p *pair) close(ctx context.Context) error {
	errs := []error{os.RemoveAll(p.dir)}
	if p.server != nil {
		_ = p.server.Process.Kill() // it may have ended
		_ = p.server.Wait()         // and says that it was killed
	}
	if p.lab != nil {
		errs = append(errs, downLab(ctx, p.o, p.lab))
	}
	return errors.Join(errs...)
}

func (p *pair) file(routing string) string { return filepath.Join(p.dir, routing+".yaml") }

// keys is the folder with the keys of both sites, which the lab made.
func (p *pair) keys() string { return filepath.Join(p.lab.Dir(), "keys") }

// pairSites are the sites of pairFile.
var pairSites = [2]string{"site0", "site1"}

// applied returns what joins the sites by tombolo, as on any two routers.
func (p *pair) applied(routing string) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, site := range pairSites {
			if _, err := p.run(ctx, site, p.o.tombolo, "apply", p.file(routing), "--site", site, "--keys", p.keys()); err != nil {
				return err
			}
		}
		return nil
	}
}

func (p *pair) down(ctx context.Context) error {
	for _, site := range pairSites {
		if _, err := p.run(ctx, site, p.o.tombolo, "down", "--keys", p.keys()); err != nil {
			return err
		}
	}
	return nil
}

// run runs a command on a node and returns its standard output.
func (p *pair) run(ctx context.Context, node, name string, args ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, name, args...)
	var out, said bytes.Buffer
	c.Stdout, c.Stderr = &out, &said
	if err := p.lab.Run(ctx, node, c); err != nil {
		return nil, fmt.Errorf("%s on %s: %w\n%s%s", name, node, err, &out, &said)
	}
	return out.Bytes(), nil
}

// measure joins the sites, measures one TCP stream between their LANs in bits/s, and parts
// them again.
func (p *pair) measure(ctx context.Context, w way) (rate float64, err error) {
	if err := w.up(ctx); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, w.down(context.WithoutCancel(ctx))) }()
	from := pairSites[0] + ".host"
	if err := pingUntil(ctx, p.lab, from, p.host, pingPatience); err != nil {
		return 0, err
	}
	text, err := p.run(ctx, from, "iperf3", "--client", p.host.Addr().String(),
		"--time", fmt.Sprint(throughputTime.Seconds()), "--omit", "1", "--json")
	if err != nil {
		return 0, err
	}
	var report struct {
		End struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal(text, &report); err != nil {
		return 0, fmt.Errorf("read iperf3's report: %w", err)
	}
	if report.End.Received.Rate == 0 {
		return 0, fmt.Errorf("iperf3 carried nothing:\n%s", text)
	}
	return report.End.Received.Rate, nil
}
