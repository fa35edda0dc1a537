package relay

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/icws-gateway/caddy-icws/relay/internal/pause"
)

// Drain ends the gateway politely: new sessions are refused, the present ones are closed with code 1001, spread over
// two thirds of drain_timeout so that they do not reconnect all at once, what they sent before is submitted, and their
// canisters are told. It returns when that is done, or at the end of drain_timeout or of ctx; then the rest is dropped.
// Afterwards the gateway is closed. reason is Draining or Reconfigured. It reports whether the canisters have been told of all
// clients, see [Config.CleanStart]; not if a drain or Close has begun before.
func (g *Gateway) Drain(ctx context.Context, reason CloseReason) (told bool) {
	return g.StartDrain(reason)(ctx)
}

// StartDrain is the beginning of Drain: once it has returned, new sessions are refused. finish does the rest, is to be called
// once, and returns what Drain does.
func (g *Gateway) StartDrain(reason CloseReason) (finish func(ctx context.Context) (told bool)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.refusing != nil {
		return func(context.Context) bool {
			g.Close()
			return false
		}
	}
	g.refusing = newClosing(reason, "")
	why, all := g.refusing, g.snapshotSessions()
	return func(ctx context.Context) bool { return g.end(ctx, why, all) }
}

// end closes all sessions that there were when why became the reason to refuse new ones, and the gateway.
func (g *Gateway) end(ctx context.Context, why *closing, all []*session) (told bool) {
	ctx, cancel := context.WithTimeout(ctx, g.cfg.DrainTimeout)
	defer cancel()
	before := g.closer.startDrain()

	if len(all) > 0 {
		g.log().Info("draining", zap.String("reason", why.reason.Label()), zap.Int("sessions", len(all)), zap.Duration("over", g.cfg.DrainTimeout))
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
	left := g.waitUntilGone(ctx)
	told = left == 0 && !g.orphansLeft()
	after, pending := g.closer.wait(ctx)
	told = told && pending == 0 && after.untold == 0
	during := tally{after.told - before.told, after.untold - before.untold + pending + left}
	switch {
	case during.untold > 0:
		g.log().Warn("canisters were not told of all closed sessions, they will notice by themselves", zap.Int("told", during.told), zap.Int("not_told", during.untold))
	case len(all) > 0:
		g.log().Info("drained", zap.Int("told", during.told))
	}
	g.Close()
	return told
}

// orphansLeft reports whether some canister may still list clients that a crash left behind.
func (g *Gateway) orphansLeft() bool {
	g.mu.Lock()
	all := slices.Collect(maps.Values(g.canisters))
	g.mu.Unlock()
	return g.scans.Load() > 0 || slices.ContainsFunc(all, (*canister).orphansLeft)
}

// waitUntilGone waits until no session is left and what they sent has its outcome, or ctx ends, and returns how many are left.
func (g *Gateway) waitUntilGone(ctx context.Context) int {
	for {
		g.mu.Lock()
		left := g.places + g.departing.Len()
		g.mu.Unlock()
		if left == 0 || pause.Sleep(ctx, 10*time.Millisecond) != nil {
			return left
		}
	}
}
