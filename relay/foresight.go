package relay

import "time"

// The outcome of a call travels to the gateway before a poll for the answer leaves, and the poll there and back after that. Where calls
// take about the same time, a poll that leaves before the outcome is back finds the answer as soon as the canister has it.

const (
	// recentCalls is how many calls it is learned from, and fewCalls how many there must be.
	recentCalls = 16
	fewCalls    = 8
	// maxMisses is how many polls may leave too early or too late one after the other. Then none leaves ahead for missRest calls.
	maxMisses = 4
	missRest  = 64
)

// foresight is when polls leave ahead of outcomes. The zero value is ready, and lets none leave. It belongs to the canister, whose
// lock guards it.
type foresight struct {
	poll   time.Duration // how long a poll takes, as a rule
	calls  [recentCalls]time.Duration
	count  int // of all calls there were
	after  time.Duration
	pays   bool
	misses int // one after the other
	rest   int // calls for which none leaves
}

// lead returns after how long a poll should leave for the answer of a call that goes out now, and whether one should.
func (f *foresight) lead() (after time.Duration, ok bool) {
	if f.rest > 0 {
		f.rest--
		return 0, false
	}
	return f.after, f.pays
}

// notePoll notes how long a poll took.
func (f *foresight) notePoll(took time.Duration) { f.poll += (min(took, hangs) - f.poll) / 8 }

// noteAhead notes whether a poll that left ahead brought anything. The next ones after a rest have half of the misses to show that
// they do.
func (f *foresight) noteAhead(brought bool) {
	if brought {
		f.misses = 0
		return
	}
	if f.misses++; f.misses >= maxMisses {
		f.misses, f.rest = maxMisses/2, missRest
	}
}

// noteCall notes how long a call took to its outcome, where a canister is polled every interval anyway. The moment is chosen that would
// have been the best one for the recent calls. It pays if the answers would have come a tenth of the interval earlier on average.
func (f *foresight) noteCall(took, interval time.Duration) {
	f.calls[f.count%recentCalls] = took
	f.count++
	f.pays = false
	least := interval / quickShare
	if f.count < fewCalls || f.poll <= least {
		return // the polls that outcomes ask for are as good
	}
	recent := f.calls[:min(f.count, recentCalls)]
	best := time.Duration(len(recent)) * least
	for _, latest := range recent {
		after := max(0, latest-f.poll+f.poll/8) // it is there a little later than what it is to find
		gain := time.Duration(0)
		for _, call := range recent {
			gain += f.gain(after, call, interval)
		}
		if gain >= best {
			best, f.after, f.pays = gain, after, true
		}
	}
}

// gain is how much earlier than without it a poll brings the answer of a call that leaves after the call does. The answer is there half
// a poll before the outcome is back, and half a poll is the way to it.
func (f *foresight) gain(after, call, interval time.Duration) time.Duration {
	early := after - max(0, call-f.poll) // than which it finds nothing
	if early < 0 || after >= call {
		return 0
	}
	return untilPoll(min(call, f.poll), interval) - untilPoll(early, interval)
}

// untilPoll is how long it is on average to the next poll, where there is one every interval, and one at most after limit.
func untilPoll(limit, interval time.Duration) time.Duration {
	if limit >= interval {
		return interval / 2
	}
	return limit - time.Duration(limit.Seconds()*limit.Seconds()/(2*interval.Seconds())*float64(time.Second))
}

// foresee has a poll leave ahead for the answer of a call that goes out now, if that pays. The caller stops the timer when it has the
// outcome. It is nil if none leaves.
func (c *canister) foresee() *time.Timer {
	c.mu.Lock()
	defer c.mu.Unlock()
	after, ok := c.foresight.lead()
	if !ok {
		return nil
	}
	return time.AfterFunc(after, func() {
		c.mu.Lock()
		c.demand.ahead = true
		c.mu.Unlock()
		c.wakePoller()
	})
}

// noteOutcome notes how long a call took to its certified outcome.
func (c *canister) noteOutcome(took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.foresight.noteCall(took, c.g.cfg.PollInterval)
}
