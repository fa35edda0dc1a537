package relay

import "time"

// The outcome of what a client sent is known shortly after the canister has queued its answer, so then a poll is worth more than at
// any other time. How soon it may start after another one that was asked for like this is a share of poll_interval.
const (
	// quickShare is for polls that bring something. A single sender's wait for nothing, those of many for a tenth of the interval
	// at most.
	quickShare = 10
	// slowShare is for those that may bring nothing, because the canister does not answer what clients send.
	slowShare = 4
)

// demand is for what a canister has probably queued and no poll has brought. The zero value asks for nothing. It belongs to the
// canister, whose lock guards it.
type demand struct {
	any   bool
	ahead bool      // it may have been queued, see foresight
	blind bool      // nobody knows by when it was queued: a poll must leave from now on
	asOf  time.Time // otherwise by when it was, by the network's clock
}

// add asks for what the canister had queued by the certified time asOf, zero if that is not known.
func (d *demand) add(asOf time.Time) {
	d.any = true
	d.blind = d.blind || asOf.IsZero()
	d.asOf = later(d.asOf, asOf)
}

// metBy reports whether it is met by a page that brings everything up to the certified time complete.
func (d *demand) metBy(complete time.Time) bool { return d.any && !d.blind && !complete.Before(d.asOf) }

// nudge asks for a poll: something has been queued, probably, by the certified time asOf; zero = not known. Of the answers that
// the network certifies in one block, the page of the first brings all, so the others ask for nothing.
func (c *canister) nudge(asOf time.Time) {
	c.mu.Lock()
	c.active = time.Now()
	asks := asOf.IsZero() || asOf.After(c.complete)
	if asks {
		c.demand.add(asOf)
	}
	c.mu.Unlock()
	if !asks {
		return
	}
	c.wakePoller()
}

func (c *canister) wakePoller() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// hasten moves the next poll forward if one is asked for.
func (p *poller) hasten() {
	c := p.c
	c.mu.Lock()
	failures, _, _ := c.queue.Failing()
	asked, gap := c.demand.any || c.demand.ahead, p.gap()
	c.mu.Unlock()
	if !asked || failures > 0 {
		return // the pause after a failure decides
	}
	if soon := p.asked.Add(gap); p.due.After(soon) {
		p.due = soon
	}
}

// quicken has the next poll follow at the pace of a canister with traffic, of which there is some now.
func (p *poller) quicken() {
	soon := time.Now().Add(p.c.g.cfg.PollInterval)
	if !p.usual.After(soon) {
		return
	}
	if p.due.Equal(p.usual) {
		p.due = soon
	}
	p.usual = soon
}

// gap is the pause between two polls that are asked for. As many as may overlap are spread over the time that one takes: if all of
// them left at once, what comes next would wait until one is back. The caller holds the canister's lock.
func (p *poller) gap() time.Duration {
	interval := p.c.g.cfg.PollInterval
	slow := interval / slowShare
	if !p.pays {
		return slow
	}
	return min(slow, max(interval/quickShare, p.c.foresight.poll/maxOverlap))
}

// noteWorth takes from a poll for news how long they take, and whether those pay that are asked for. While they wait for upstream_rate,
// more of them would take turns from others.
func (p *poller) noteWorth(r *pollResult, brought bool) {
	c := p.c
	c.mu.Lock()
	defer c.mu.Unlock()
	c.foresight.notePoll(r.took)
	switch {
	case r.demand.any:
		p.pays = brought && r.waited < c.g.cfg.PollInterval/quickShare
	case r.demand.ahead:
		c.foresight.noteAhead(brought)
	}
}

// noteComplete notes that what the queue had at the certified time of a page is handed out. If that is all that was asked for, the
// next poll comes at its usual time.
func (p *poller) noteComplete(certified time.Time) {
	c := p.c
	c.mu.Lock()
	c.complete = later(c.complete, certified)
	met := c.demand.metBy(c.complete)
	if met {
		c.demand = demand{ahead: c.demand.ahead}
	}
	c.mu.Unlock()
	if met {
		p.due = later(p.due, p.usual)
	}
}
