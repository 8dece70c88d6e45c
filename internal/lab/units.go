package lab

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// parseRate reads a rate in bits per second: 64kbit, 100mbit, 2.5gbit, 800bit. The
// prefixes are decimal, as in tc(8).
func parseRate(s string) (uint64, error) {
	number, ok := strings.CutSuffix(strings.ToLower(s), "bit")
	factor := 1.0
	if n := len(number); ok && n > 0 {
		if f, known := map[byte]float64{'k': 1e3, 'm': 1e6, 'g': 1e9}[number[n-1]]; known {
			number, factor = number[:n-1], f
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || !(v*factor >= 1) || v*factor > math.MaxUint32*1000 {
		return 0, fmt.Errorf("%q is not a rate, as 100mbit, 64kbit or 1gbit are", s)
	}
	return uint64(v * factor), nil
}

// parseLoss reads the part of packets that is lost: 1% or 0.01.
func parseLoss(s string) (float64, error) {
	number, percent := strings.CutSuffix(s, "%")
	v, err := strconv.ParseFloat(number, 64)
	if percent {
		v /= 100
	}
	if err != nil || !(v >= 0 && v <= 1) {
		return 0, fmt.Errorf("%q is not a loss between 0%% and 100%%", s)
	}
	return v, nil
}
