package main

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// headOfLineBound is how much slower delivery to the others may be with clients that never read.
const headOfLineBound = 1.2

// pairs is the number of turns of each kind. They alternate, so that what else the machine does falls on both.
const pairs = 4

// headOfLine broadcasts to all clients, in turns with and without some that never read, and compares how long the others
// waited.
func headOfLine(ctx context.Context, s *settings, rec *recorder) (*report, error) {
	before := measure()
	w, err := newWorld(worldOptions{
		latency: s.latency, seed: s.seed, sendBuffer: 4 << 10, memory: s.memory,
		cdk: localnet.CDKOptions{App: localnet.Broadcast{}},
	})
	if err != nil {
		return nil, err
	}
	h := &hall{world: w, fleet: newFleet(w.target(), s.plan()), settings: s}
	recorded := rec.start(h.fleet.stats)
	stop := h.fleet.explainSilence(ctx, w.why, rec.console)
	unfinished := h.run(ctx, rec)
	stop()
	recorded()
	r := h.fleet.stats.report(s.mode, time.Since(rec.started))
	if unfinished != nil {
		r.violate("the comparison is not finished: %v", unfinished)
	} else {
		h.judge(r)
	}
	if err := w.close(); err != nil {
		r.violate("%v", err)
	}
	r.Before, r.During = before, h.during
	h, w = nil, nil // the canister's queues are not what the gateway left behind
	r.After = settle(before.Goroutines)
	return r, nil
}

// hall is one speaker, listeners, and some who sleep.
type hall struct {
	world    *world
	fleet    *fleet
	settings *settings
	speaker  atomic.Pointer[session]
	times    atomic.Pointer[histogram] // of the current turn
	with     histogram                 // of all turns with sleepers
	without  histogram
	dropped  atomic.Uint64 // sleepers that the gateway closed in this turn
	closed   int           // the same, of all turns
	fewest   int           // sleepers that the gateway felt in a turn
	during   footprint
}

// run has the turns taken and ends all sessions. The error says why there were not all turns.
func (h *hall) run(ctx context.Context, rec *recorder) (unfinished error) {
	awakeCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	listeners := make([]*session, h.settings.clients-h.settings.stalled)
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	for i := range listeners {
		wg.Go(func() {
			s, err := h.fleet.open(awakeCtx, h.listen)
			if err != nil {
				failed.Store(&err)
				return
			}
			listeners[i] = s
		})
	}
	wg.Wait()
	defer func() {
		for _, s := range listeners {
			switch {
			case s == nil:
			case unfinished != nil: // what is on its way need not come any more
				s.ledger.expect(h.spoken())
				wg.Go(func() { h.fleet.endAnyhow(s, func() { s.client.Close() }) })
			default:
				s.ledger.expect(h.spoken())
				wg.Go(func() { h.fleet.end(s) })
			}
		}
		wg.Wait()
	}()
	if err := failed.Load(); err != nil {
		return fmt.Errorf("opening the sessions: %w", *err)
	}
	h.speaker.Store(listeners[0])
	turns := []*histogram{new(histogram)} // the first one warms up
	for range pairs {
		turns = append(turns, &h.without, &h.with)
	}
	h.fewest = h.settings.stalled
	for i, turn := range turns {
		h.times.Store(turn)
		stop, stalled := func() {}, 0
		if turn == &h.with {
			stop, stalled = h.sleepers(ctx), h.settings.stalled
		}
		rec.mark("turn %d of %d, %d stalled clients", i+1, len(turns), stalled)
		err := h.speak(ctx, len(listeners), h.settings.duration/time.Duration(len(turns)))
		if turn == &h.with {
			h.fewest = min(h.fewest, h.stuck())
		}
		stop()
		if err != nil {
			return err
		}
	}
	h.during = measure()
	return nil
}

// judge compares the turns.
func (h *hall) judge(r *report) {
	ratio := float64(h.with.quantile(.99)) / float64(max(h.without.quantile(.99), 1))
	r.note("without stalled clients  %s", h.without.report())
	r.note("with %d stalled clients  %s", h.settings.stalled, h.with.report())
	r.note("p99 ratio %.3f (at most %.1f), stalled clients closed by the gateway: %d", ratio, headOfLineBound, h.closed)
	if h.fewest < h.settings.stalled {
		r.violate("only %d of %d stalled clients were felt by the gateway: raise -size, -rate or -duration", h.fewest, h.settings.stalled)
	}
	if ratio > headOfLineBound {
		r.violate("p99 is %.3f times as long with %d stalled clients, at most %.1f is allowed", ratio, h.settings.stalled, headOfLineBound)
	}
}

// stuck is how many of the sleepers the gateway feels at the end of a turn: their frames wait in it, or it has closed them.
func (h *hall) stuck() int {
	n := int(h.dropped.Swap(0))
	h.closed += n
	for _, s := range h.world.gateway.Sessions() {
		if s.Outbox > 0 {
			n++
		}
	}
	return n
}

// spoken is how many messages the speaker has sent.
func (h *hall) spoken() uint64 {
	if s := h.speaker.Load(); s != nil {
		return s.ledger.last()
	}
	return 0
}

// listen makes a session one that is due what the speaker says, and notes how long that took in which turn.
func (h *hall) listen(s *session, o *client.Options) {
	o.OnMessage = func(m client.Message) {
		var speaker uint64
		if s := h.speaker.Load(); s != nil {
			speaker = s.id
		}
		s.ledger.expect(h.spoken())
		h.fleet.stats.message(speaker, &s.ledger, m, true)
		if p, ok := decodePayload(m.Payload); ok {
			h.times.Load().add(time.Since(epoch) - p.sent)
		}
	}
}

// speak has the speaker send at the rate for the given time, and waits until everybody has heard everything.
func (h *hall) speak(ctx context.Context, listeners int, d time.Duration) error {
	turn := time.After(d)
	tick := time.NewTicker(time.Duration(float64(time.Second) / max(h.settings.rate, .1)))
	defer tick.Stop()
	heard := h.fleet.stats.delivered.Load
	expect := heard()
	for sending := true; sending; {
		if err := h.fleet.say(ctx, h.speaker.Load(), listeners); err != nil {
			return fmt.Errorf("the speaker cannot send: %w", err)
		}
		expect += uint64(listeners)
		select {
		case <-tick.C:
		case <-turn:
			sending = false
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	last := heard()
	for limit := time.Now().Add(h.settings.grace); heard() < expect; time.Sleep(5 * time.Millisecond) {
		if n := heard(); n != last {
			last, limit = n, time.Now().Add(h.settings.grace)
		} else if time.Now().After(limit) {
			return nil // the books of the listeners say what is lost
		}
	}
	return nil
}

// sleepers opens the sessions that never read and keeps up their number while the gateway closes them. The function
// that it returns ends them.
func (h *hall) sleepers(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg, opened sync.WaitGroup
	for range h.settings.stalled {
		opened.Add(1)
		wg.Go(func() {
			first := sync.OnceFunc(opened.Done)
			defer first()
			for ctx.Err() == nil {
				awake, wake := context.WithCancel(ctx)
				s, err := h.fleet.open(ctx, func(_ *session, o *client.Options) {
					o.OnMessage = func(client.Message) { <-awake.Done() }
					if o.NetDial == nil {
						o.NetDial = dialNarrow
					}
				})
				if err != nil {
					wake()
					sleep(ctx, 100*time.Millisecond)
					continue
				}
				first()
				h.doze(ctx, s)
				wake()
				s.client.Abort()
				h.fleet.leave(s, true, 0, 0) // nothing is due to it
			}
		})
	}
	opened.Wait()
	return func() { cancel(); wg.Wait() }
}

// doze waits until ctx ends or the gateway has closed s. The session does not read, so it sees that only by writing.
func (h *hall) doze(ctx context.Context, s *session) {
	for ctx.Err() == nil {
		sleep(ctx, 500*time.Millisecond)
		// An unsolicited pong is a heartbeat of one direction (RFC 6455 section 5.5.3).
		if s.client.(*client.Client).Raw().Conn().WriteControl(websocket.PongMessage, nil, time.Now().Add(time.Second)) != nil {
			h.dropped.Add(1)
			return
		}
	}
}

// narrowBuffer is the receive buffer of a sleeper, so that the gateway soon feels that it does not read.
const narrowBuffer = 4 << 10

// dialNarrow opens a connection with a small receive buffer.
func dialNarrow(ctx context.Context, network, address string) (net.Conn, error) {
	return (&net.Dialer{Control: narrow}).DialContext(ctx, network, address)
}
