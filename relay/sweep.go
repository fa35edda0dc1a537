package relay

import "time"

// startSweeper makes sure that the sweeper runs. The caller holds mu.
func (g *Gateway) startSweeper() {
	if !g.sweeping {
		g.sweeping = true
		g.spawn("sweeper", g.sweep, func() {
			g.mu.Lock()
			g.sweeping = false
			g.mu.Unlock()
		})
	}
}

// sweep looks after the deadlines of all sessions. One goroutine with one timer replaces three timers a session; it
// ends with the last one.
func (g *Gateway) sweep() {
	every := g.sweepInterval()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var all []*session
	for {
		select {
		case <-ticker.C:
		case <-g.ctx.Done():
			return
		}
		g.mu.Lock()
		all = g.appendSessions(all[:0])
		if len(all) == 0 {
			g.sweeping = false
			g.mu.Unlock()
			return
		}
		g.mu.Unlock()
		now := time.Now()
		for _, s := range all {
			s.check(now, every)
		}
		g.relieve(all, now)
		clear(all[:cap(all)]) // those that end meanwhile are let go
	}
}

// sweepInterval is fine enough for the shortest deadline. Deadlines are met early by up to that, never late.
func (g *Gateway) sweepInterval() time.Duration {
	shortest := min(g.cfg.OpenTimeout, g.cfg.PingInterval, g.cfg.PongTimeout, canisterCloseGrace)
	return min(time.Second, max(shortest/10, 5*time.Millisecond))
}
