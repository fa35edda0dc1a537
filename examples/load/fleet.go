package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/icws-gateway/caddy-icws/relay/client"
)

// A target is where sessions are opened.
type target struct {
	url     string
	options client.Options // everything but the callbacks
	// dial opens a session; nil for one with a gateway.
	dial func(ctx context.Context, url string, o client.Options) (conn, error)
}

// A conn is what a session has to its gateway, or to the server that the gateway is compared with. Its methods are those of
// client.Client.
type conn interface {
	Send(ctx context.Context, payload []byte) error
	Close() error
	Abort()
	Done() <-chan struct{}
	Err() error
}

func (t *target) open(ctx context.Context, o client.Options) (conn, error) {
	if t.dial != nil {
		return t.dial(ctx, t.url, o)
	}
	c, err := client.Dial(ctx, t.url, o)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// A plan says how the clients of a fleet behave.
type plan struct {
	clients int
	rate    float64       // messages per second and client
	size    int           // bytes of a message
	window  int           // messages of one client that may be on their way at once
	opens   float64       // sessions opened per second at most; 0: no limit
	life    time.Duration // mean length of a session before its client opens another; 0: for ever
	grace   time.Duration // how long none of the messages on their way may come before a session is closed
	seed    uint64
	// judge decides about sessions that we did not end: nil means every such end is a violation.
	judge func(end *client.CloseError) error
}

// A fleet is a number of clients, each of which always has a session or is opening one.
type fleet struct {
	target target
	plan   plan
	stats  *stats
	pace   *rate.Limiter
	ids    atomic.Uint64
}

func newFleet(t target, p plan) *fleet {
	f := &fleet{target: t, plan: p, stats: new(stats)}
	limit := rate.Inf
	if p.opens > 0 {
		limit = rate.Limit(p.opens)
	}
	f.pace = rate.NewLimiter(limit, max(1, int(p.opens/10)))
	return f
}

// A session is one of the fleet's.
type session struct {
	id     uint64
	client conn
	ledger ledger
	slots  chan struct{} // one for each message on its way
	late   bool          // reads late on purpose: its times say nothing about the gateway
}

// open opens a session. change may set further options.
func (f *fleet) open(ctx context.Context, change func(*session, *client.Options)) (*session, error) {
	if err := f.pace.Wait(ctx); err != nil {
		return nil, err
	}
	s := &session{id: f.ids.Add(1), slots: make(chan struct{}, f.plan.window)}
	o := f.target.options
	o.OnMessage = func(m client.Message) {
		f.stats.message(s.id, &s.ledger, m, !s.late)
		select {
		case <-s.slots:
		default:
		}
	}
	if change != nil {
		change(s, &o)
	}
	started := time.Now()
	c, err := f.target.open(ctx, o)
	if err != nil {
		if over(ctx) {
			return nil, err
		}
		f.stats.refused.Add(1)
		f.stats.count(&f.stats.refusals, reason(err))
		var end *client.CloseError
		if f.plan.judge == nil {
			f.stats.violation("session refused: %s", reason(err))
		} else if !errors.As(err, &end) {
			f.stats.violation("session refused: %s: not by a close frame", reason(err))
		} else if err := f.plan.judge(end); err != nil {
			f.stats.violation("session refused: %s: %v", reason(end), err)
		}
		return nil, err
	}
	s.client = c
	f.stats.opens.Add(1)
	f.stats.openTime.add(time.Since(started))
	return s, nil
}

// over reports whether ctx has ended, or ends about now: deadlines of sockets that come from it fire a little earlier.
func over(ctx context.Context) bool {
	limit, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && time.Until(limit) < 50*time.Millisecond
}

// send sends the next message of s if the window allows.
func (f *fleet) send(ctx context.Context, s *session) error {
	select {
	case s.slots <- struct{}{}:
	default:
		f.stats.held.Add(1)
		return nil
	}
	return f.say(ctx, s, 1)
}

// say sends the next message of s, which calls for so many deliveries. It counts even if the write fails: how much of it
// went out is then not known.
func (f *fleet) say(ctx context.Context, s *session, deliveries int) error {
	m := payload{session: s.id, number: s.ledger.next(), sent: time.Since(epoch)}.encode(f.plan.size)
	f.stats.send(m, deliveries)
	// A write that is given up half-way costs the session, so the end of ctx must not interrupt it.
	return s.client.Send(context.WithoutCancel(ctx), m)
}

// end closes s after its last messages came back or none came for the grace, and books what did not.
func (f *fleet) end(s *session) {
	f.settle(s)
	s.client.Close()
	f.book(s)
}

// settle waits until the last messages of s came back, none came for the grace, or s has ended.
func (f *fleet) settle(s *session) {
	var last uint64
	for limit := time.Now().Add(f.plan.grace); s.client.Err() == nil && time.Now().Before(limit); {
		passed, pending := s.ledger.open()
		left := passed + pending
		if left == 0 {
			break
		}
		if left != last {
			last, limit = left, time.Now().Add(f.plan.grace)
		}
		select {
		case <-s.client.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// book counts what has become of a session that has ended, and of its messages.
func (f *fleet) book(s *session) {
	passed, pending := s.ledger.open()
	var end *client.CloseError
	errors.As(s.client.Err(), &end)
	own := end == nil || end.Local && errors.Is(end, client.ErrClosed)
	if own && end != nil && end.Code == client.CodeNormal {
		passed, pending = passed+pending, 0 // it stayed open for all that was to come
	}
	// Closed by the other side, by an error or without a word: what was under way then is open, what was passed over is lost.
	f.leave(s, own, passed, pending)
	if own {
		return
	}
	if f.plan.judge == nil {
		f.stats.violation("session closed: %s", reason(end))
	} else if err := f.plan.judge(end); err != nil {
		f.stats.violation("session closed: %s: %v", reason(end), err)
	}
}

// leave counts the end of s.
func (f *fleet) leave(s *session, own bool, lost, unresolved uint64) {
	f.stats.lost.Add(lost)
	f.stats.unresolved.Add(unresolved)
	to := &f.stats.own
	if !own {
		to = &f.stats.closes
		f.stats.ended.Add(1)
	}
	f.stats.count(to, reason(s.client.Err()))
	f.stats.closed.Add(1)
}

// run keeps all clients busy until ctx ends and returns when every session is closed and booked.
func (f *fleet) run(ctx context.Context) {
	var wg sync.WaitGroup
	for i := range f.plan.clients {
		wg.Go(func() { f.client(ctx, rand.New(rand.NewPCG(f.plan.seed, uint64(i)))) })
	}
	wg.Wait()
}

// client is one client: a session after the other.
func (f *fleet) client(ctx context.Context, random *rand.Rand) {
	for ctx.Err() == nil {
		s := f.persist(ctx, random, nil)
		if s == nil {
			return
		}
		life := ctx
		cancel := context.CancelFunc(func() {})
		if f.plan.life > 0 {
			life, cancel = context.WithTimeout(ctx, f.plan.life/2+time.Duration(random.Float64()*float64(f.plan.life)))
		}
		f.chat(life, s, random)
		cancel()
		f.end(s)
	}
}

// persist opens a session, with growing pauses while that fails. It returns nil when ctx has ended. change is that of open.
func (f *fleet) persist(ctx context.Context, random *rand.Rand, change func(*session, *client.Options)) *session {
	for wait := 50 * time.Millisecond; ctx.Err() == nil; wait = min(2*wait, 5*time.Second) {
		if s, err := f.open(ctx, change); err == nil {
			return s
		}
		sleep(ctx, jitter(random, wait))
	}
	return nil
}

// chat sends at the plan's rate until ctx or the session ends.
func (f *fleet) chat(ctx context.Context, s *session, random *rand.Rand) {
	if f.plan.rate <= 0 {
		select {
		case <-ctx.Done():
		case <-s.client.Done():
		}
		return
	}
	period := time.Duration(float64(time.Second) / f.plan.rate)
	timer := time.NewTimer(time.Duration(random.Float64() * float64(period)))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.client.Done():
			return
		case <-timer.C:
		}
		timer.Reset(period)
		if f.send(ctx, s) != nil {
			return
		}
	}
}

// jitter is between half of d and d and a half.
func jitter(random *rand.Rand, d time.Duration) time.Duration {
	return d/2 + time.Duration(random.Float64()*float64(d))
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// hangUp ends s without a close frame.
func (f *fleet) hangUp(s *session) {
	s.client.Abort()
	f.book(s)
}

// endAnyhow calls end for s, and counts its end, whatever it was, as its own doing.
func (f *fleet) endAnyhow(s *session, end func()) {
	end()
	passed, pending := s.ledger.open()
	f.leave(s, true, passed, pending)
}
