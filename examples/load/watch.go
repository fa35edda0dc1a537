package main

import (
	"context"
	"sync"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/internal/quiet"
)

// A trend holds what the process needed over time.
type trend struct {
	warm, last footprint // after -warm, and at the end of the run
}

// watch measures during a run. The trend comes when ctx ends.
func watch(ctx context.Context, s *settings) <-chan trend {
	out := make(chan trend, 1)
	go func() {
		var t trend
		defer func() { out <- t }()
		// The last look comes shortly before the end, while everything still runs.
		last := time.NewTimer(s.duration - min(s.duration/20, 2*time.Second))
		defer last.Stop()
		warm := time.NewTimer(s.warm)
		defer warm.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-warm.C:
				t.warm = measure()
			case <-last.C:
				t.last = measure()
			}
		}
	}()
	return out
}

// explainSilence says on the console, while no session opens and no message comes, what why returns. stop ends it.
func (f *fleet) explainSilence(ctx context.Context, why func() string, c *console) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	arrived := func() uint64 { return f.stats.opens.Load() + f.stats.delivered.Load() }
	var done sync.WaitGroup
	done.Go(func() {
		quiet.Watch(ctx, quiet.Patience, arrived, why, func(text string) { c.say("        nothing arrives: %s", printable(text)) })
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
