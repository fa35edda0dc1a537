package relay

import (
	"context"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"

	"github.com/icws-gateway/caddy-icws/relay/internal/pause"
)

// Drain ends the gateway politely: new sessions are refused, the present ones are closed with code 1001, spread over
// two thirds of drain_timeout so that they do not reconnect all at once, what they sent before is submitted, and their
// canisters are told. It returns when that is done, or at the end of drain_timeout or of ctx; then the rest is dropped.
// Afterwards the gateway is closed. reason is Draining or Reconfigured.
func (g *Gateway) Drain(ctx context.Context, reason CloseReason) {
	ctx, cancel := context.WithTimeout(ctx, g.cfg.DrainTimeout)
	defer cancel()
	g.mu.Lock()
	if g.refusing != nil {
		g.mu.Unlock()
		g.Close()
		return
	}
	why := newClosing(reason, "")
	g.refusing = why
	all := g.snapshotSessions()
	g.mu.Unlock()
	g.closer.startDrain()

	if len(all) > 0 {
		g.log().Info("draining", zap.String("reason", reason.Label()), zap.Int("sessions", len(all)), zap.Duration("over", g.cfg.DrainTimeout))
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	began, window := time.Now(), g.cfg.DrainTimeout*2/3
	for i, s := range all {
		// Each closes at a random moment of its own slice of the window.
		at := time.Duration((float64(i) + rand.Float64()) / float64(len(all)) * float64(window))
		if len(all) == 1 {
			at = 0
		}
		if pause.Sleep(ctx, at-time.Since(began)) != nil {
			s.abort(why)
			continue
		}
		s.end(why)
	}
	g.waitUntilGone(ctx)
	if left := g.closer.wait(ctx); left > 0 {
		g.log().Warn("canisters were not told of all closed sessions, they will notice by themselves", zap.Int("sessions", left))
	}
	g.Close()
}

// waitUntilGone waits until no session is left and what they sent has its outcome, or ctx ends.
func (g *Gateway) waitUntilGone(ctx context.Context) {
	for {
		g.mu.Lock()
		left := g.places + g.departing.Len()
		g.mu.Unlock()
		if left == 0 || pause.Sleep(ctx, 10*time.Millisecond) != nil {
			return
		}
	}
}
