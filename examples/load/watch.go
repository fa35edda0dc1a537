package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/internal/quiet"
)

// A trend holds what the process needed over time.
type trend struct {
	warm, last footprint // after -warm, and at the end of the run
}

// watch measures during a run and prints lines of progress. The trend comes when ctx ends.
func watch(ctx context.Context, f *fleet, s *settings, progress io.Writer) <-chan trend {
	out := make(chan trend, 1)
	go func() {
		var t trend
		defer func() { out <- t }()
		started := time.Now()
		period := s.progress
		if period <= 0 {
			period = max(s.duration/10, time.Second)
		}
		// The last look comes shortly before the end, while everything still runs.
		look := time.NewTimer(s.duration - min(s.duration/20, 2*time.Second))
		defer look.Stop()
		tick := time.NewTicker(period)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-look.C:
				t.last = measure()
			case <-tick.C:
				if t.warm == (footprint{}) && time.Since(started) > s.warm {
					t.warm = measure()
				}
				if s.progress > 0 {
					fmt.Fprintf(progress, "%4.0f s  %d sessions, opened %d, refused %d, sent %d, delivered %d, p99 %s, %s\n",
						time.Since(started).Seconds(), f.live.Load(), f.stats.opens.Load(), f.stats.refused.Load(),
						f.stats.sent.Load(), f.stats.delivered.Load(), f.stats.roundTrip.quantile(.99).Round(time.Millisecond),
						peek())
				}
			}
		}
	}()
	return out
}

// explainSilence says on progress, while no session opens and no message comes, what why returns. stop ends it.
func (f *fleet) explainSilence(ctx context.Context, why func() string, progress io.Writer) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	arrived := func() uint64 { return f.stats.opens.Load() + f.stats.delivered.Load() }
	var done sync.WaitGroup
	done.Go(func() {
		quiet.Watch(ctx, quiet.Patience, arrived, why, func(text string) { fmt.Fprintf(progress, "        nothing arrives: %s\n", text) })
	})
	return func() { cancel(); done.Wait() }
}

// judge adds a violation if the process grew between the warm state and the end. With an embedded network the process
// holds what the canister retains and the requests that the network remembers, so warm is after those have levelled off.
func (t trend) judge(r *report) {
	if t.warm == (footprint{}) || t.last == (footprint{}) {
		r.note("ended before -warm: nothing is known about whether the heap is flat")
		return
	}
	r.note("warm  %s", t.warm)
	r.note("end   %s", t.last)
	if limit := t.warm.HeapBytes + t.warm.HeapBytes/4 + 16<<20; t.last.HeapBytes > limit {
		r.violate("heap grew from %.1f to %.1f MiB", mib(t.warm.HeapBytes), mib(t.last.HeapBytes))
	}
	if limit := t.warm.Goroutines + t.warm.Goroutines/4 + 50; t.last.Goroutines > limit {
		r.violate("goroutines grew from %d to %d", t.warm.Goroutines, t.last.Goroutines)
	}
}
