package main

import (
	"context"
	"fmt"
	"time"
)

// A course says what the sessions of a trial do, and for how long.
type course struct {
	sessions int
	rest     time.Duration // between the openings and idle, in which the polls of a silent canister slow down
	idle     time.Duration
	talk     time.Duration
	bursts   int
}

// open opens the sessions. The figures begin with the given words.
func (t *trial) open(ctx context.Context, what string, n int) error {
	t.say("%s: %d sessions", what, n)
	w := t.window()
	t.files.cpu(ctx, what, openingTime(n, t.crowd.fleet.plan.opens))
	if err := t.crowd.open(ctx, n); err != nil {
		return err
	}
	w.end()
	t.add(what+": sessions opened a second", "1/s", float64(n)/w.seconds)
	t.add(what+": CPU per session", "ms", 1e3*w.cpu/float64(n))
	t.add(what+": time until it is open, p50", "ms", ms(w.opening, .5))
	t.add(what+": time until it is open, p99", "ms", ms(w.opening, .99))
	return nil
}

// openingTime is how long it takes at least to open n sessions at so many a second, 0 for as fast as it goes.
func openingTime(n int, perSecond float64) time.Duration {
	if perSecond == 0 {
		return 0
	}
	return time.Duration(float64(n) / perSecond * float64(time.Second))
}

// full is a whole life: openings, silence, messages, a reload and a restart.
func (t *trial) full(ctx context.Context, c course) error {
	empty, err := t.quiet(ctx, c)
	if err != nil {
		return err
	}
	t.messages(ctx, c, "messages")
	if t.subject.reload != nil {
		t.reloading(ctx, c)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return t.restarted(ctx, c, empty)
}

// rest lets the polls slow down; a server without a network has none.
func (t *trial) rest(ctx context.Context, c course) {
	if t.subject.asked == nil {
		return
	}
	t.say("rest for %s", c.rest)
	sleep(ctx, c.rest)
}

// quiet opens the sessions and measures them while they do nothing. It returns the memory of the server without a session.
func (t *trial) quiet(ctx context.Context, c course) (empty float64, err error) {
	empty = resident(t.subject.use())
	t.files.heap(ctx, "no session")
	t.add("no session: RSS", "MB", empty/1e6)
	live, err := t.live(ctx)
	if err != nil {
		return 0, err
	}
	slab := t.window()
	if err := t.open(ctx, "opening", c.sessions); err != nil {
		return 0, err
	}
	t.rest(ctx, c)
	t.say("idle for %s", c.idle)
	w := t.window()
	t.files.cpu(ctx, "idle", c.idle)
	sleep(ctx, c.idle)
	w.end()
	n := float64(c.sessions)
	t.add("idle: RSS per session", "kB", (w.rss-empty)/n/1e3)
	t.add("idle: kernel slab per session, both ends of its connection", "kB", slab.end().kernel/n/1e3)
	t.add("idle: CPU per session and second", "µs", 1e6*w.cpu/n/w.seconds)
	if t.subject.asked != nil {
		t.addAlone("idle: requests to the network a second", "1/s", w.requests/w.seconds)
	}
	after, err := t.live(ctx)
	t.files.heap(ctx, "idle")
	if t.subject.live != nil {
		t.addAlone("idle: heap and stack per session after a collection", "kB", (after-live)/n/1e3)
	}
	return empty, err
}

// live is what the server has in use after a collection; 0 if it does not tell.
func (t *trial) live(ctx context.Context) (float64, error) {
	if t.subject.live == nil {
		return 0, nil
	}
	return t.subject.live(ctx)
}

// messages measures sessions that talk.
func (t *trial) messages(ctx context.Context, c course, what string) {
	t.say("%s for %s", what, c.talk)
	w := t.window()
	t.files.cpu(ctx, what, c.talk)
	t.crowd.talk(ctx, c.talk)
	w.end()
	t.add(what+": delivered", "", w.delivered)
	t.add(what+": CPU per round trip", "ms", 1e3*w.cpu/w.delivered)
	t.add(what+": round trips a second and core", "1/s", w.delivered/w.cpu)
	t.add(what+": round trip, p50", "ms", ms(w.trip, .5))
	t.add(what+": round trip, p99", "ms", ms(w.trip, .99))
	t.add(what+": round trip, longest", "ms", ms(w.trip, 1))
	t.add(what+": held back because too many were on their way", "", float64(w.held))
	t.add(what+": added to the time in the network, p50", "ms", ms(w.extra, .5))
	t.add(what+": added to the time in the network, p99", "ms", ms(w.extra, .99))
	if t.subject.asked != nil {
		t.addAlone(what+": requests to the network a second", "1/s", w.requests/w.seconds)
	}
}

// reloading has the server take another configuration while all talk.
func (t *trial) reloading(ctx context.Context, c course) {
	t.say("messages for %s, with a reload in the middle", c.talk/2)
	w := t.window()
	type outcome struct {
		took time.Duration
		err  error
	}
	reloaded := make(chan outcome, 1)
	timer := time.AfterFunc(c.talk/4, func() {
		began := time.Now()
		err := t.subject.reload(ctx)
		reloaded <- outcome{time.Since(began), err}
	})
	defer timer.Stop()
	t.crowd.talk(ctx, c.talk/2)
	var o outcome
	select {
	case o = <-reloaded:
	case <-ctx.Done():
		o.err = ctx.Err()
	}
	w.end()
	if o.err != nil {
		t.wrong = append(t.wrong, "reload: "+o.err.Error())
	}
	gone := t.crowd.gone()
	if gone > 0 {
		t.wrong = append(t.wrong, fmt.Sprintf("reload: %d sessions lost", gone))
	}
	t.addAlone("reload: time until it is in force", "ms", millis(o.took))
	t.addAlone("reload: sessions lost", "", float64(gone))
	t.addAlone("reload: round trip around it, p99", "ms", ms(w.trip, .99))
}

// restarted restarts the server, has everybody open again at once, and talk. empty is the memory of the server without a session.
func (t *trial) restarted(ctx context.Context, c course, empty float64) error {
	t.say("restart")
	if err := t.crowd.restart(ctx, t.subject.restart); err != nil {
		return fmt.Errorf("restart: %w", err)
	}
	if err := t.open(ctx, "after a restart", c.sessions); err != nil {
		return err
	}
	t.crowd.talk(ctx, c.talk/2)
	t.add("after a restart: RSS per session, with messages", "kB", (resident(t.subject.use())-empty)/float64(c.sessions)/1e3)
	return nil
}

// fanOut measures many messages to everybody.
func (t *trial) fanOut(ctx context.Context, c course) error {
	if err := t.crowd.open(ctx, c.sessions); err != nil {
		return err
	}
	if err := t.crowd.shout(ctx); err != nil { // caches and pools exist from here on
		return err
	}
	t.say("%d bursts", c.bursts)
	w := t.window()
	t.files.cpu(ctx, "bursts", 2*time.Second) // they take longer
	for range c.bursts {
		if err := t.crowd.shout(ctx); err != nil {
			return err
		}
	}
	w.end()
	t.add("CPU per delivered message", "µs", 1e6*w.cpu/w.delivered)
	t.add("messages a second and core", "1/s", w.delivered/w.cpu)
	t.add("delivered", "", w.delivered)
	return nil
}

// busy measures idle sessions of a canister that is polled often.
func (t *trial) busy(ctx context.Context, c course) error {
	if err := t.crowd.open(ctx, c.sessions); err != nil {
		return err
	}
	t.say("idle for %s", c.idle)
	w := t.window()
	t.files.cpu(ctx, "busy", c.idle)
	sleep(ctx, c.idle)
	w.end()
	t.add("CPU in 30 s", "s", 30*w.cpu/w.seconds)
	if t.subject.asked != nil {
		t.addAlone("requests to the network a second", "1/s", w.requests/w.seconds)
	}
	return nil
}

// idle measures sessions that do nothing, and what it took to open them.
func (t *trial) idle(ctx context.Context, c course) error {
	_, err := t.quiet(ctx, c)
	return err
}

// echoes measures sessions that talk.
func (t *trial) echoes(ctx context.Context, c course) error {
	if err := t.crowd.open(ctx, c.sessions); err != nil {
		return err
	}
	t.messages(ctx, c, "echo")
	return nil
}
