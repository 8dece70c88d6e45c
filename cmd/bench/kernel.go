package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

const (
	kernelRatio = 0.98
	kernelRates = "bin/vm-bench/out/case-1/rates.json"
)

// benchKernel measures TCP between two LAN hosts through the kernel's own WireGuard, in the
// machine of `make vm`: what tombolo applies against the same interfaces set up by hand,
// in one boot, in turns (vm/throughput_test.go). The machine's clock counts instructions, one
// to the nanosecond. So a rate says how many instructions the same bytes took, which is
// what differs between the two, and the load of this machine does not enter into it. By an
// ordinary clock the emulator's work would be measured, and that of its neighbours.
func benchKernel(ctx context.Context, _ options) ([]result, error) {
	c := exec.CommandContext(ctx, "vm/run", "bench")
	c.Stdout, c.Stderr = os.Stderr, os.Stderr
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	if err := c.Run(); err != nil {
		return nil, fmt.Errorf("vm/run bench: %w", err)
	}
	text, err := os.ReadFile(filepath.FromSlash(kernelRates))
	if err != nil {
		return nil, err
	}
	var rates map[string][]float64
	if err := json.Unmarshal(text, &rates); err != nil {
		return nil, fmt.Errorf("read %s: %w", kernelRates, err)
	}
	return kernelResults(rates)
}

// kernelResults makes the table's lines of rates in bits/s, by way and round. What
// masquerades is compared with what masquerades, and what does not with the mean of both
// that were set up by hand.
func kernelResults(rates map[string][]float64) ([]result, error) {
	const (
		what      = "TCP from LAN to LAN, the kernel's WireGuard in an emulated machine, "
		byHandNAT = byHand + ", masquerading"
	)
	var out []result
	for _, line := range []struct {
		way, than, label string
		bound            bool
	}{
		{byHand, byHand, byHand, false},
		{byHandAgain, byHand, byHandAgain + ", which is noise", false},
		{"static", byHand, "by tombolo, static links", true},
		{"babel", byHand, "by tombolo, babel links", true},
		{byHandNAT, byHand, byHand + ", masquerading LANs towards the Internet", false},
		{"static, masquerading", byHandNAT, "by tombolo, static links, masquerading", true},
		{"babel, masquerading", byHandNAT, "by tombolo, babel links, masquerading", true},
	} {
		got, base, than := rates[line.way], slices.Clone(rates[line.than]), line.than
		if line.bound && than == byHand {
			than = "the mean of both by hand"
			if again := rates[byHandAgain]; len(again) == len(base) {
				for i := range base {
					base[i] = (base[i] + again[i]) / 2
				}
			} else {
				base = nil
			}
		}
		if len(got) == 0 || len(got) != len(base) {
			return nil, fmt.Errorf("%d rates %s, and %d of %s", len(got), line.way, len(base), than)
		}
		value := fmt.Sprintf("%.0f Mbit/s of its own clock", median(got)/1e6)
		if line.way == byHand {
			out = append(out, fact(what+line.label, value))
			continue
		}
		ratios := make([]float64, len(got))
		for i := range got {
			ratios[i] = got[i] / base[i]
		}
		value += fmt.Sprintf(", %.3f of %s (rounds: %.3f to %.3f)", median(ratios), than, slices.Min(ratios), slices.Max(ratios))
		r := fact(what+line.label, value)
		if line.bound {
			r.target = fmt.Sprintf("at least %.2f of %s", kernelRatio, than)
			r.met = median(ratios) >= kernelRatio
		}
		out = append(out, r)
	}
	return out, nil
}
