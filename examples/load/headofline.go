package main

import (
	"context"
	"fmt"
	"io"
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
func headOfLine(ctx context.Context, s *settings, progress io.Writer) (*report, error) {
	before := measure()
	w, err := newWorld(worldOptions{
		latency: s.latency, seed: s.seed, sendBuffer: 4 << 10, memory: s.memory,
		cdk: localnet.CDKOptions{App: localnet.Broadcast{}},
	})
	if err != nil {
		return nil, err
	}
	h := &hall{world: w, fleet: newFleet(w.target(), s.plan()), settings: s}
	started := time.Now()
	stop := h.fleet.explainSilence(ctx, w.why, progress)
	r, unfinished := h.run(ctx, progress)
	stop()
	if unfinished != nil {
		r = h.fleet.stats.report(s.mode, time.Since(started))
		r.Seed, r.Clients = s.seed, s.clients
		r.violate("the comparison is not finished: %v", unfinished)
	}
	if err := w.close(); err != nil {
		return nil, err
	}
	r.Before, r.After = before, settle(before.Goroutines)
	if r.After.Goroutines > before.Goroutines {
		r.violate("%d goroutines before, %d after", before.Goroutines, r.After.Goroutines)
	}
	return r, nil
}

// hall is one speaker, listeners, and some who sleep.
type hall struct {
	world    *world
	fleet    *fleet
	settings *settings
	times    atomic.Pointer[histogram] // of the current turn
	heard    atomic.Uint64             // messages received by listeners
	gaps     atomic.Uint64
	dropped  atomic.Uint64 // sleepers that the gateway closed in this turn
	closed   int           // the same, of all turns
}

func (h *hall) run(ctx context.Context, progress io.Writer) (*report, error) {
	started := time.Now()
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
			if s != nil {
				wg.Go(func() { h.fleet.endAnyhow(s) })
			}
		}
		wg.Wait()
	}()
	if err := failed.Load(); err != nil {
		return nil, fmt.Errorf("opening the sessions: %w", *err)
	}
	var warmUp, with, without histogram
	turns := []*histogram{&warmUp}
	for range pairs {
		turns = append(turns, &without, &with)
	}
	fewest := h.settings.stalled
	for i, turn := range turns {
		h.times.Store(turn)
		stop := func() {}
		if turn == &with {
			stop = h.sleepers(ctx)
		}
		err := h.speak(ctx, listeners[0], len(listeners), h.settings.duration/time.Duration(len(turns)))
		if turn == &with {
			fewest = min(fewest, h.stuck())
		}
		stop()
		if err != nil {
			return nil, err
		}
		if h.settings.progress > 0 {
			fmt.Fprintf(progress, "turn %d of %d: without %s, with %s\n", i+1, len(turns), without.report(), with.report())
		}
	}
	during := measure()
	for _, s := range listeners {
		if err := s.client.Err(); err != nil {
			h.fleet.stats.violation("listener closed: %s", reason(err))
		}
	}
	r := h.fleet.stats.report("headofline", time.Since(started))
	r.Seed, r.Clients, r.During = h.settings.seed, h.settings.clients, during
	r.Delivered, r.Push = h.heard.Load(), with.report()
	ratio := float64(with.quantile(.99)) / float64(max(without.quantile(.99), 1))
	r.note("without stalled clients  %s", without.report())
	r.note("with %d stalled clients  %s", h.settings.stalled, with.report())
	r.note("p99 ratio %.3f (at most %.1f), stalled clients closed by the gateway: %d", ratio, headOfLineBound, h.closed)
	if fewest < h.settings.stalled {
		r.violate("only %d of %d stalled clients were felt by the gateway: raise -size, -rate or -duration", fewest, h.settings.stalled)
	}
	if ratio > headOfLineBound {
		r.violate("p99 is %.3f times as long with %d stalled clients, at most %.1f is allowed", ratio, h.settings.stalled, headOfLineBound)
	}
	if n := h.gaps.Load(); n > 0 {
		r.violate("%d messages missing or out of order", n)
	}
	return r, nil
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

// listen makes a session one that notes when it heard what.
func (h *hall) listen(_ *session, o *client.Options) {
	var last uint64
	o.OnMessage = func(m client.Message) {
		p, ok := decodePayload(m.Payload)
		if !ok || p.number != last+1 && last != 0 {
			h.gaps.Add(1)
		}
		last = p.number
		h.times.Load().add(time.Since(epoch) - p.sent)
		h.heard.Add(1)
	}
}

// speak has the speaker send at the rate for the given time, and waits until everybody has heard everything.
func (h *hall) speak(ctx context.Context, speaker *session, listeners int, d time.Duration) error {
	turn := time.After(d)
	tick := time.NewTicker(time.Duration(float64(time.Second) / max(h.settings.rate, .1)))
	defer tick.Stop()
	expect := h.heard.Load()
	for sending := true; sending; {
		p := payload{session: speaker.id, number: speaker.ledger.next(), sent: time.Since(epoch)}
		if err := speaker.client.Send(ctx, p.encode(h.settings.size)); err != nil {
			return fmt.Errorf("the speaker cannot send: %w", err)
		}
		h.fleet.stats.sent.Add(1)
		expect += uint64(listeners)
		select {
		case <-tick.C:
		case <-turn:
			sending = false
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	last := h.heard.Load()
	for limit := time.Now().Add(h.settings.grace); h.heard.Load() < expect; time.Sleep(5 * time.Millisecond) {
		if heard := h.heard.Load(); heard != last {
			last, limit = heard, time.Now().Add(h.settings.grace)
		} else if time.Now().After(limit) {
			h.fleet.stats.lost.Add(expect - heard)
			return nil
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
				h.fleet.live.Add(-1)
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
		if s.client.Raw().Conn().WriteControl(websocket.PongMessage, nil, time.Now().Add(time.Second)) != nil {
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
