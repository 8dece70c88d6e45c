// Command bench measures the figures that tombolo promises, prints them as a table and
// writes them to docs/benchmarks.md. It needs root: routes and tunnels are real ones, in
// namespaces of their own.
//
//	go run ./cmd/bench -tombolo bin/tombolo [-write docs/benchmarks.md] [-only routes]
//
// Each figure is the median of several runs. What is compared is measured side by side, in
// turns, in one run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// result is one line of the table.
type result struct {
	name, value, target string
	met                 bool
}

// bench is one thing to measure.
type bench struct {
	name string
	run  func(ctx context.Context, o options) ([]result, error)
}

type options struct {
	tombolo string // the binary
	runs    int

	contenders string // of failover, with commas between; empty: all
}

var benches = []bench{
	{"compile", benchCompile},
	{"check", benchCheck},
	{"routes", benchRoutes},
	{"trace", benchTrace},
	{"size", benchSize},
	{"babel", benchBabel},
	{"lab", benchLab},
	{"throughput", benchThroughput},
	{"failover", benchFailover},
	{"agent", benchAgent},
	{"clients", benchClients},
	{"uplinks", benchUplinks},
	{"forwarding", benchForwarding},
	{"access", benchAccess},
	{"kernel", benchKernel},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var o options
	flag.StringVar(&o.tombolo, "tombolo", "bin/tombolo", "the binary to measure")
	flag.IntVar(&o.runs, "runs", 5, "runs of each")
	flag.StringVar(&o.contenders, "contenders", "", "of failover, measure only these: ours,babeld,frr…")
	write := flag.String("write", "", "also write the table to this file")
	only := flag.String("only", "", "measure only these, with commas between; what is not measured again stays in the file")
	flag.Parse()
	if err := run(ctx, o, *only, *write); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, only, write string) error {
	var all []result
	missed := false
	wanted := strings.Split(only, ",")
	for _, b := range benches {
		if only != "" && !slices.Contains(wanted, b.name) {
			continue
		}
		progress("measuring: %s", b.name)
		start := time.Now()
		results, err := b.run(ctx, o)
		if err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		for _, r := range results {
			missed = missed || !r.met
		}
		all = append(all, results...)
		progress("measured %s in %s", b.name, rounded(time.Since(start)))
	}
	fmt.Fprint(os.Stdout, head+strings.Join(rows(all), ""))
	if write != "" {
		var before []byte
		if only != "" {
			var err error
			if before, err = os.ReadFile(write); err != nil {
				return err
			}
		}
		text := head + strings.Join(merged(string(before), rows(all)), "")
		if err := os.WriteFile(write, []byte(page(text)), 0o644); err != nil {
			return err
		}
	}
	if missed {
		return errors.New("not every figure was reached")
	}
	return nil
}

const head = "| figure | measured | target | |\n|---|---|---|---|\n"

// rows are the table's lines.
func rows(results []result) (out []string) {
	for _, r := range results {
		mark := "reached"
		if !r.met {
			mark = "**missed**"
		}
		if r.target == "" {
			mark = ""
		}
		out = append(out, fmt.Sprintf("| %s | %s | %s | %s |\n", r.name, r.value, r.target, mark))
	}
	return out
}

// merged returns the lines of a page's table, those that were measured again in the place
// of what they were, and new ones at the end.
func merged(page string, rows []string) []string {
	figure := func(row string) string { name, _, _ := strings.Cut(row[2:], " |"); return name }
	var out []string
	for line := range strings.Lines(page) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| figure |") {
			continue
		}
		if i := slices.IndexFunc(rows, func(r string) bool { return figure(r) == figure(line) }); i >= 0 {
			line, rows = rows[i], slices.Delete(slices.Clone(rows), i, i+1)
		}
		out = append(out, line)
	}
	return append(out, rows...)
}

func page(table string) string {
	return fmt.Sprintf(`# Benchmarks

Made by `+"`make bench`"+` on %d cores of %s, Linux %s/%s, %s. Each
figure is the median of several runs; what is compared was measured side by side, in turns,
in the same run. What has no target is there to be compared with the next time. A row may be
of an earlier run than its neighbours (`+"`bench -only`"+`), never of an earlier one than its group.

%s%s`, runtime.NumCPU(), processor(), release(), runtime.GOARCH, runtime.Version(), table, failoverNotes)
}

// processor names the processor as /proc/cpuinfo does.
func processor() string {
	b, _ := os.ReadFile("/proc/cpuinfo") // without it the page only says less
	for line := range strings.Lines(string(b)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "an unnamed processor"
}

// release is the kernel's version, without what a distribution appends.
func release() string {
	b, _ := os.ReadFile("/proc/sys/kernel/osrelease") // as above
	version, _, _ := strings.Cut(strings.TrimSpace(string(b)), "-")
	return version
}

// medianOf runs f several times and returns the median time, after one run that is not
// counted.
func medianOf(n int, f func() error) (time.Duration, error) {
	var times []time.Duration
	for i := range n + 1 {
		start := time.Now()
		if err := f(); err != nil {
			return 0, err
		}
		if i > 0 {
			times = append(times, time.Since(start))
		}
	}
	return median(times), nil
}

func median[T ~int64 | ~float64](values []T) T {
	values = slices.Clone(values)
	slices.Sort(values)
	return values[len(values)/2]
}

// atMost is a result that must stay below a limit.
func atMost(name string, got, limit time.Duration) result {
	return result{name, rounded(got), "under " + rounded(limit), got < limit}
}

// fact is a result that has no target.
func fact(name, value string) result { return result{name: name, value: value, met: true} }

// rounded returns a time with three digits, in milliseconds or seconds.
func rounded(d time.Duration) string {
	value, unit := d.Seconds(), "s"
	if d < time.Second {
		value, unit = 1000*value, "ms"
	}
	text := strconv.FormatFloat(value, 'g', 3, 64)
	return text + " " + unit
}

// progress says on standard error what goes on.
func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
