package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/icws-gateway/caddy-icws/relay/client"
)

// A crowd is the sessions of a fleet that all do the same at the same time.
type crowd struct {
	fleet      *fleet
	change     func(*session, *client.Options) // of each session
	sessions   []*session
	restarting atomic.Bool // sessions may end
	said       atomic.Uint64
	burst      uint64 // messages to each client for one that is said; 0: an echo
}

// newCrowd makes the crowd of a subject. It opens nothing.
func newCrowd(s *subject, p plan, burst int) *crowd {
	c := &crowd{burst: uint64(burst)}
	p.judge = c.judge
	c.fleet = newFleet(s.target, p)
	c.fleet.stats.network = s.network
	c.change = func(session *session, o *client.Options) {
		if s.change != nil {
			s.change(session, o)
		}
		if burst > 0 {
			o.OnMessage = func(m client.Message) {
				session.ledger.expect(c.said.Load() * c.burst)
				c.fleet.stats.message(0, &session.ledger, m, true)
			}
		}
	}
	return c
}

// judge decides about openings that were refused and about sessions that ended.
func (c *crowd) judge(*client.CloseError) error {
	if c.restarting.Load() {
		return nil
	}
	return errors.New("without a restart")
}

// open opens so many sessions, at the rate of the plan or as fast as it goes. The error is that ctx has ended.
func (c *crowd) open(ctx context.Context, n int) error {
	opened := make([]*session, n)
	var wg sync.WaitGroup
	for i := range opened {
		wg.Go(func() {
			opened[i] = c.fleet.persist(ctx, rand.New(rand.NewPCG(c.fleet.plan.seed, uint64(i))), c.change)
		})
	}
	wg.Wait()
	for _, s := range opened {
		if s != nil {
			c.sessions = append(c.sessions, s)
		}
	}
	if len(c.sessions) < n {
		return fmt.Errorf("only %d of %d sessions opened: %w", len(c.sessions), n, ctx.Err())
	}
	return nil
}

// each does f for every session at the same time.
func (c *crowd) each(f func(*session, *rand.Rand)) {
	var wg sync.WaitGroup
	for i, s := range c.sessions {
		wg.Go(func() { f(s, rand.New(rand.NewPCG(c.fleet.plan.seed+1, uint64(i)))) })
	}
	wg.Wait()
}

// talk has all sessions send at the rate of the plan for d, and waits for what is on its way then.
func (c *crowd) talk(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	c.each(func(s *session, random *rand.Rand) {
		c.fleet.chat(ctx, s, random)
		c.fleet.settle(s)
	})
}

// shout has the first session say something that calls for many messages to every session, and waits for them. The error is that
// some did not come, or that ctx has ended.
func (c *crowd) shout(ctx context.Context) error {
	f := c.fleet
	m := payload{number: c.said.Add(1), sent: time.Since(epoch)}.encode(f.plan.size)
	f.stats.send(m, len(c.sessions)*int(c.burst))
	if err := c.sessions[0].client.Send(context.WithoutCancel(ctx), m); err != nil {
		return err
	}
	c.each(func(s *session, _ *rand.Rand) {
		s.ledger.expect(c.said.Load() * c.burst)
		f.settle(s)
	})
	left := uint64(0)
	for _, s := range c.sessions {
		passed, pending := s.ledger.open()
		left += passed + pending
	}
	if left > 0 {
		return fmt.Errorf("%d of %d messages did not come", left, len(c.sessions)*int(c.burst))
	}
	return ctx.Err()
}

// gone is how many sessions have ended.
func (c *crowd) gone() (n int) {
	for _, s := range c.sessions {
		if s.client.Err() != nil {
			n++
		}
	}
	return n
}

// restart restarts the server, which ends all sessions. Those of after it have to be opened.
func (c *crowd) restart(ctx context.Context, restart func(context.Context) (string, error)) error {
	c.restarting.Store(true)
	defer c.restarting.Store(false)
	url, err := restart(ctx)
	if err != nil {
		return err
	}
	c.each(func(s *session, _ *rand.Rand) {
		select {
		case <-s.client.Done(): // its connection ended with the process
		case <-time.After(c.fleet.plan.grace):
			s.client.Abort()
		}
		c.fleet.book(s)
	})
	c.sessions, c.fleet.target.url = nil, url
	return nil
}

// end closes all sessions once their messages came back.
func (c *crowd) end() {
	c.each(func(s *session, _ *rand.Rand) { c.fleet.end(s) })
	c.sessions = nil
}
