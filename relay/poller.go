package relay

import (
	"slices"
	"time"

	"github.com/icws-gateway/caddy-icws/relay/internal/queue"
	"github.com/icws-gateway/caddy-icws/relay/internal/upstream"
)

const (
	// busyFor is how long after the last traffic a canister is polled at poll_interval.
	busyFor = 30 * time.Second
	// slowStep is the time after which a silent canister's interval grows by half, until poll_idle_interval.
	slowStep = 5 * time.Second
	// maxOverlap bounds the polls of one canister under way, so that a slow network does not stretch the interval.
	maxOverlap = 4
	// hangs is the time after which a poll no longer counts towards maxOverlap, and maxPolls bounds even those.
	hangs    = time.Second
	maxPolls = 16
	// lingerFor is how long a canister without sessions is still polled: a page that reloads finds the poller at the
	// head of the queue. It ends earlier when another canister needs the place.
	lingerFor = 30 * time.Second
	// pollBackoffMax bounds the pause after a failed poll.
	pollBackoffMax = 5 * time.Second
)

// poller is the goroutine that polls one canister and hands out its messages. Polls run in goroutines of their own and may
// overlap. Their answers are told to the canister's queue here, one after the other, and what it decides is carried out.
type poller struct {
	c       *canister
	results chan *pollResult
	polls   []*poll         // under way
	due     time.Time       // when the next poll starts
	usual   time.Time       // when it would if nothing was asked for
	asked   time.Time       // when the last one started that was asked for
	pays    bool            // the last one that was asked for brought something
	refused *upstream.Error // the last refusal since the last good answer
}

func newPoller(c *canister) *poller {
	return &poller{c: c, results: make(chan *pollResult, maxPolls)}
}

// run polls until the gateway ends, another canister needs the place, or the canister has had no sessions for a while.
func (c *canister) run() {
	defer c.stop()
	p := newPoller(c)
	for {
		p.loop()
		if c.g.ctx.Err() != nil || c.g.forget(c) {
			return
		}
	}
}

// loop polls until there is nobody left to poll for. It never waits for an answer: one node that hangs would hold up all
// messages.
func (p *poller) loop() {
	p.due = time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(max(0, time.Until(p.due)))
		select {
		case <-p.c.ctx.Done():
			return
		case r := <-p.results:
			p.polls = slices.DeleteFunc(p.polls, func(o *poll) bool { return &o.ask == r.said.Question })
			p.finishPoll(r)
		case <-p.c.wake:
			p.quicken()
			p.hasten()
		case <-timer.C:
			if p.c.deserted() {
				return
			}
			p.tick()
		}
	}
}

// deserted reports whether nobody has needed the poller for a while.
func (c *canister) deserted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.sessions) == 0 && time.Since(c.emptied) > lingerFor
}

// tick starts the polls that are due.
func (p *poller) tick() {
	now := time.Now()
	c := p.c
	c.mu.Lock()
	defer c.mu.Unlock()
	silent := now.Sub(c.active)
	failures, _, _ := c.queue.Failing()
	p.due = now.Add(pace(silent, c.g.cfg.PollInterval, c.g.cfg.PollIdleInterval))
	p.usual = p.due
	if p.mayLook() {
		watched := len(c.routes) > 0 && c.g.up.KnownAuthority() != nil
		if ask, due := c.queue.Check(now, c.active, watched); due {
			p.startPoll(&poll{ask: ask, class: classOf(ask, silent)})
		}
	}
	if c.queue.Searching() && !p.mayLook() || !p.mayPoll(now, failures > 0) {
		return
	}
	ask := c.queue.Next()
	o := &poll{ask: ask, class: classOf(ask, silent)}
	if ask.Purpose == queue.News {
		o.demand, c.demand = c.demand, demand{}
	}
	if o.demand.any || o.demand.ahead {
		p.asked = now
	}
	p.startPoll(o)
}

// pace is the pause between polls of a canister that has been silent for some time.
func pace(silent, interval, idle time.Duration) time.Duration {
	for silent -= busyFor; silent >= 0 && interval < idle; silent -= slowStep {
		interval = min(idle, interval+interval/2)
	}
	return interval
}

// classOf is how urgent a question is.
func classOf(ask queue.Question, silent time.Duration) upstream.Class {
	if ask.Purpose == queue.Newest || ask.Purpose == queue.News && silent >= busyFor {
		return upstream.ClassIdle
	}
	return upstream.ClassBusy
}

// startPoll starts a poll. Its answer comes to results.
func (p *poller) startPoll(o *poll) {
	p.polls = append(p.polls, o)
	c := p.c
	c.g.spawn("poll", func() { p.results <- c.runPoll(c.ctx, o) }, func() {
		p.results <- &pollResult{err: errPanic,
			said: queue.Answer{Question: &o.ask, Failure: queue.Failure{Kind: queue.Unreachable}}}
	})
}

// mayPoll reports whether one more poll may start. Only one at a time waits for upstream_rate: more would take turns that belong
// to other canisters, or to the next page. A poll that hangs must not keep the others from starting: the answers of a few slow
// nodes would hold up everybody's messages. It costs a connection though, so even those are bounded.
func (p *poller) mayPoll(now time.Time, failing bool) bool {
	prompt := 0
	for _, o := range p.polls {
		if o.ask.Purpose != queue.News {
			continue
		}
		sentAt := o.sentAt.Load()
		if sentAt == 0 {
			return false
		}
		if now.Sub(time.Unix(0, sentAt)) < hangs {
			prompt++
		}
	}
	if failing {
		return prompt == 0 && len(p.polls) < maxOverlap
	}
	return prompt < maxOverlap && len(p.polls) < maxPolls
}

// mayLook reports whether a poll other than for news may start: one at a time.
func (p *poller) mayLook() bool {
	return len(p.polls) < maxPolls && !slices.ContainsFunc(p.polls, func(o *poll) bool { return o.ask.Purpose != queue.News })
}
