package tunnel

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// processFigure reads one figure of /proc/PID/status, in MB.
func processFigure(b *testing.B, pid int, field string) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			var kB float64
			_, _ = fmt.Sscan(rest, &kB)
			return kB / 1024
		}
	}
	b.Fatalf("no %s", field)
	return 0
}

// cpuTime is what a process has used so far, to 10 ms.
func cpuTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	f := strings.Fields(rest)
	var user, system int
	_, _ = fmt.Sscan(f[11]+" "+f[12], &user, &system)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// BenchmarkAdd makes interfaces, with one peer each, and brings them up: the time of all
// calls of Add from the start of the process, of what wg(8) and ip(8) need besides, and what
// the processes then hold.
func BenchmarkAdd(b *testing.B) {
	for _, n := range []int{1, 30} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var add, restart, remove time.Duration
			for range b.N {
				r := newRouter(b, "", "")
				start := time.Now()
				for i := range n {
					if err := r.add(ifName(fmt.Sprintf("n%d", i))); err != nil {
						b.Fatal(err)
					}
				}
				add += time.Since(start)
				for i := range n {
					name := ifName(fmt.Sprintf("n%d", i))
					uapi(b, name, fmt.Sprintf("set=1\nprivate_key=%064x\nlisten_port=%d\npublic_key=%064x\nendpoint=127.0.0.1:%d\nallowed_ip=0.0.0.0/0\n\n", i+1, 52000+i, i+100, 53000+i))
					r.ip("link set " + name + " up")
				}
				supervisor, worker := r.processes()
				time.Sleep(time.Second)
				before := cpuTime(b, worker)
				time.Sleep(2 * time.Second)
				b.ReportMetric(float64((cpuTime(b, worker)-before).Milliseconds())/2, "ms-cpu/s-idle")
				b.ReportMetric(processFigure(b, supervisor, "VmRSS"), "MB-supervisor")
				b.ReportMetric(processFigure(b, supervisor, "RssAnon"), "MB-supervisor-own")
				b.ReportMetric(processFigure(b, worker, "VmRSS"), "MB-worker")
				b.ReportMetric(processFigure(b, worker, "RssAnon"), "MB-worker-own")
				b.ReportMetric(processFigure(b, worker, "Threads")*1024, "threads-worker")
				if err := syscall.Kill(worker, syscall.SIGKILL); err != nil {
					b.Fatal(err)
				}
				start = time.Now()
				for i := range n { // each waits for its device
					if err := r.add(ifName(fmt.Sprintf("n%d", i))); err != nil {
						b.Fatal(err)
					}
				}
				restart += time.Since(start)
				start = time.Now()
				if err := r.Stop(ctxOf(b)); err != nil {
					b.Fatal(err)
				}
				remove += time.Since(start)
			}
			b.ReportMetric(float64(add.Milliseconds())/float64(b.N), "ms-add")
			b.ReportMetric(float64(restart.Milliseconds())/float64(b.N), "ms-restart")
			b.ReportMetric(float64(remove.Milliseconds())/float64(b.N), "ms-stop")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkThroughput is one TCP stream between two namespaces, median of three.
func BenchmarkThroughput(b *testing.B) {
	x, y := newPair(b)
	wgPair(b, x, y)
	x.reaches(y.inner, 3*time.Second)
	server := exec.Command("ip", "netns", "exec", y.ns, "iperf3", "-s")
	if err := server.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = server.Process.Kill(); _ = server.Wait() }()
	for to, name := range map[string]string{y.inner: "tunnel", y.addr: "veth"} {
		eventually(b, 3*time.Second, "iperf3 answers", func() bool {
			_, err := x.try("ip netns exec " + x.ns + " iperf3 -n 1K -c " + to)
			return err == nil
		})
		var rates []float64
		for range 3 {
			var out struct {
				End struct {
					Received struct {
						BitsPerSecond float64 `json:"bits_per_second"`
					} `json:"sum_received"`
				} `json:"end"`
			}
			if err := json.Unmarshal([]byte(x.exec("iperf3 -J -t 3 -c "+to)), &out); err != nil {
				b.Fatal(err)
			}
			rates = append(rates, out.End.Received.BitsPerSecond/1e9)
		}
		slices.Sort(rates)
		b.ReportMetric(rates[1], "Gbit/s-"+name)
	}
	for i, r := range []*router{x, y} {
		_, worker := r.processes()
		b.ReportMetric(processFigure(b, worker, "VmHWM"), fmt.Sprintf("MB-peak-worker%d", i+1))
	}
	b.ReportMetric(0, "ns/op")
}
