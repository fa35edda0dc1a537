package upstream

import (
	"math"
	"time"

	"go.uber.org/zap"
)

const (
	// slowWait is how long a request may wait for its budget before that is worth a warning.
	slowWait = time.Second
	// pressureEvery is the pause between two warnings about a budget.
	pressureEvery = time.Minute
	// demandWindow is the time over which it is counted what a budget is asked for.
	demandWindow = 10 * time.Second
)

// demand counts what a budget is asked for. Its budget's lock guards it.
type demand struct {
	since  time.Time
	count  int
	before float64   // requests per second of the window before
	warned time.Time // when the last warning was
}

// add counts a request.
func (d *demand) add(now time.Time) {
	if took := now.Sub(d.since); took >= demandWindow {
		d.before, d.since, d.count = float64(d.count)/took.Seconds(), now, 0
	}
	d.count++
}

// rate is how many requests per second the budget is asked for.
func (d *demand) rate(now time.Time) float64 {
	took := max(now.Sub(d.since), time.Second)
	return max(d.before, float64(d.count)/took.Seconds())
}

// pressed reports whether a wait is worth a warning now, and what the budget's rate should be: what it is asked for, and twice what
// it is at least, as clients that wait ask for less.
func (b *budget) pressed(waited time.Duration) (enough float64, worth bool) {
	if waited < slowWait {
		return 0, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if !b.asked.warned.IsZero() && now.Sub(b.asked.warned) < pressureEvery {
		return 0, false
	}
	b.asked.warned = now
	return math.Ceil(max(2*b.rate, b.asked.rate(now))), true
}

// notePressure warns of a request of class cl that waited for its budget where clients notice: not of polls of silent canisters.
func (n *Network) notePressure(cl Class, waited time.Duration) {
	if cl == ClassIdle {
		return
	}
	b, setting := n.budget(cl), "upstream_rate"
	if cl == ClassCall {
		setting = "upstream_call_rate"
	}
	if enough, worth := b.pressed(waited); worth {
		n.log().Warn("messages of clients wait for "+setting+": raise it, unless it is this low on purpose",
			zap.Duration("waited", waited), zap.Float64(setting, b.rate), zap.Float64("raise_to", enough))
	}
}
