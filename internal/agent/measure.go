package agent

import (
	"context"
	"slices"
	"time"

	"tombolo/internal/kernel"
	"tombolo/internal/key"
)

const (
	meterEvery = 200 * time.Millisecond // how soon it is seen that a link carries traffic

	// A tunnel that hears nothing for so long is mute. Where Babel is spoken something is sent at
	// least every two seconds, or could not be; and what is sent is answered
	// within 10 s, by an empty packet if by nothing else (KEEPALIVE_TIMEOUT), and who hears
	// nothing for 15 s asks for a new session (and REKEY_TIMEOUT; WireGuard's whitepaper §6.2,
	// 6.5), also where there is no agent any more.
	muteAfter = 20 * time.Second

	// A rate is over the last rateSpan, or since the last look where that is longer ago, and
	// over no less than rateLeast.
	rateSpan  = 10 * time.Second
	rateLeast = time.Second
)

type peerID struct {
	device string
	peer   key.Public
}

// rate is how much a peer sends and receives, in bytes/s.
type rate struct{ rx, tx float64 }

// sample is what a peer had sent and received at a time.
type sample struct {
	at     time.Time
	rx, tx uint64
	heard  time.Time // when rx was last seen to grow, or first seen
}

// measure returns the peers' rates, and finds the tunnels that are mute.
// What was known of the tunnels of last that are not looked at now is still so.
func (o *observer) measure(last sight, seen map[string]kernel.Tunnel, now time.Time) map[peerID]rate {
	rates, mute, samples := map[peerID]rate{}, map[string]bool{}, map[peerID][]sample{}
	for device, t := range last.tunnels {
		if v, known := o.mute[device]; known {
			mute[device] = v
		}
		for _, p := range t.Peers {
			id := peerID{device, p.PublicKey}
			samples[id] = o.samples[id]
			if r, known := last.rates[id]; known {
				rates[id] = r
			}
		}
	}
	for device, t := range seen {
		for _, p := range t.Peers {
			id := peerID{device, p.PublicKey}
			before := o.samples[id]
			this := sample{now, p.Received, p.Sent, now}
			if n := len(before); n > 1 && now.Sub(before[n-2].at) < rateLeast {
				before = before[:n-1] // somebody asks often
			}
			if n := len(before); n > 0 && (before[n-1].rx > this.rx || before[n-1].tx > this.tx) {
				before = nil // it is another interface of the same name
			}
			if n := len(before); n > 0 {
				last := before[n-1]
				if this.rx == last.rx {
					this.heard = last.heard
				}
				if len(t.Peers) == 1 {
					mute[device] = now.Sub(this.heard) >= muteAfter
				}
				first := before[0]
				if d := now.Sub(first.at); d >= rateLeast {
					rates[id] = rate{float64(this.rx-first.rx) / d.Seconds(), float64(this.tx-first.tx) / d.Seconds()}
				}
			}
			before = append(slices.Clone(before), this)
			for len(before) > 2 && now.Sub(before[1].at) >= rateSpan {
				before = before[1:]
			}
			samples[id] = before
		}
	}
	o.samples, o.mute = samples, mute
	return rates
}

// meter counts packets, so that the speaker knows which links are in use.
func (o *observer) meter(ctx context.Context) {
	m, err := o.machine.Meter()
	if err != nil {
		o.problems.set("meter", err)
		return
	}
	defer m.Close()
	tick := time.NewTicker(meterEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		_, h := o.subject()
		if h == nil {
			continue
		}
		counters, err := m.Counters()
		o.problems.set("meter", err)
		packets := make(map[string]uint64, len(counters))
		for name, c := range counters {
			packets[name] = c.RxPackets + c.TxPackets
		}
		newest(h.traffic, packets)
	}
}
