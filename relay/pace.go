package relay

import "time"

const (
	// busyFor is how long after the last traffic a canister is polled at poll_interval.
	busyFor = 30 * time.Second
	// slowStep is the time after which a silent canister's interval grows by half, until poll_idle_interval.
	slowStep = 5 * time.Second
	// maxOverlap bounds the polls of one canister under way, so that a slow network does not stretch the interval.
	maxOverlap = 4
	// hangs is the time after which a poll no longer counts towards maxOverlap, and maxFlying bounds even those.
	hangs     = time.Second
	maxFlying = 16
	// lingerFor is how long a canister without sessions is still polled: a page that reloads finds the poller at the
	// head of the queue.
	lingerFor = 30 * time.Second
)

// pace is the pause between polls of a canister that has been silent for some time.
func pace(silent, interval, idle time.Duration) time.Duration {
	for silent -= busyFor; silent >= 0 && interval < idle; silent -= slowStep {
		interval = min(idle, interval+interval/2)
	}
	return interval
}
