package queue

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// TestRandomHistories drives a queue with random histories of a canister and its hosts: clients that come, messages, upgrades,
// deletion by retention; nodes that lag, a host that lies, hosts that die, polls that overtake each other. Whatever happens, each
// client gets its messages once and in order; nobody is held for forgotten who is not; and once the trouble is over everything
// arrives and those that were forgotten are known.
//
// The seed is fixed. ICWS_QUEUE_SEED makes other runs, and ICWS_QUEUE_STEPS longer ones.
func TestRandomHistories(t *testing.T) {
	seed, steps := uint64(envInt("ICWS_QUEUE_SEED", 1)), envInt("ICWS_QUEUE_STEPS", 3000)
	total := counts{}
	const histories = 24
	for run := range uint64(histories) {
		name := fmt.Sprintf("seed=%d,run=%d", seed, run)
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, rand.New(rand.NewPCG(seed, run)), int(run))
			defer w.report(seed, steps)
			w.run(steps)
			total.add(w.counts)
		})
	}
	t.Logf("%+v", total)
	if total.histories < histories {
		return // some were chosen with -run
	}
	if total.delivered == 0 || total.resets == 0 || total.lies == 0 || total.rewinds == 0 || total.doubts == 0 || total.lone == 0 {
		t.Errorf("the histories show too little: %+v", total)
	}
}

func envInt(name string, standard int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return standard
}

// counts says what happened in histories.
type counts struct{ histories, delivered, resets, lies, rewinds, doubts, lone, sessions, forgotten int }

func (c *counts) add(o counts) {
	c.histories++
	c.delivered += o.delivered
	c.resets += o.resets
	c.lies += o.lies
	c.rewinds += o.rewinds
	c.doubts += o.doubts
	c.lone += o.lone
	c.sessions += o.sessions
	c.forgotten += o.forgotten
}

// run is a history, and calm after it.
func (w *world) run(steps int) {
	for w.steps = 1; w.steps <= steps; w.steps++ {
		w.step()
		if w.t.Failed() {
			return
		}
	}
	w.note("calm")
	w.calm()
	for range 3000 {
		w.tick()
		if w.t.Failed() {
			return
		}
	}
	w.settled()
}

// note keeps an event for the report of a failure. It is put into words only there.
func (w *world) note(format string, args ...any) {
	const kept = 30
	if len(w.events) == kept {
		w.events = append(w.events[:0], w.events[1:]...)
	}
	w.events = append(w.events, event{w.steps, w.now, format, args})
}

// event is something that happened in a history.
type event struct {
	step   int
	at     time.Time
	format string
	args   []any
}

// report says of a history that failed how to repeat it, and what happened last.
func (w *world) report(seed uint64, steps int) {
	if !w.t.Failed() {
		return
	}
	var b strings.Builder
	for _, e := range w.events {
		fmt.Fprintf(&b, "step %d, %s: %s\n", e.step, e.at.Sub(w.began), fmt.Sprintf(e.format, e.args...))
	}
	w.t.Logf("repeat it with ICWS_QUEUE_SEED=%d ICWS_QUEUE_STEPS=%d and -run '%s'; it failed at step %d. The last events:\n%s",
		seed, steps, w.t.Name(), w.steps, b.String())
}

// calm ends the trouble. A host that lies goes on.
func (w *world) calm() {
	w.lag, w.trapped = 0, time.Time{}
	clear(w.dead)
}

// step is something that happens, and a tick.
func (w *world) step() {
	switch n := w.rnd.IntN(1000); {
	case n < 20 && len(w.members) < 30:
		switch {
		case !w.q.head.found:
		case w.rnd.IntN(8) == 0: // what comes for it meanwhile is passed, and read again
			from := w.q.Bookmark()
			m := w.join(false)
			m.late, m.from = w.now.Add(time.Duration(w.rnd.IntN(5000))*time.Millisecond), from
			w.note("client %d opens, its session comes late", m.key.Nonce)
		default:
			w.note("client %d opens", w.join(true).key.Nonce)
		}
	case n < 32 && len(w.members) > 0:
		i := w.rnd.IntN(len(w.members))
		w.note("client %d leaves", w.members[i].key.Nonce)
		w.q.Forget(w.members[i].key)
		w.members = append(w.members[:i], w.members[i+1:]...)
	case n < 120:
		if len(w.members) > 0 {
			m := w.members[w.rnd.IntN(len(w.members))]
			for range 1 + w.rnd.IntN(4) {
				w.send(m)
			}
			w.note("client %d has been sent %d messages", m.key.Nonce, m.sent)
		}
	case n < 122:
		w.note("everybody is sent 20 messages")
		for _, m := range w.members {
			for range 20 {
				w.send(m)
			}
		}
	case n < 126:
		w.lag = time.Duration(w.rnd.IntN(45)) * time.Second
		w.note("nodes lag by up to %s", w.lag)
	case n < 132:
		w.lag = 0
		w.note("no node lags")
	case n < 138 && w.hosts > 1:
		for i := range w.dead {
			w.dead[i] = w.rnd.IntN(2) == 0
		}
		w.dead[w.hosts-1] = false // one that is honest lives
		w.note("dead hosts: %v", slices.Clone(w.dead))
	case n < 144:
		clear(w.dead)
		w.note("no host is dead")
	case n < 146 && w.rnd.IntN(3) == 0:
		w.now = w.now.Add(300 * time.Millisecond) // a block of its own
		w.epochs = append(w.epochs, &epoch{began: w.block()})
		w.note("upgrade")
		w.now = w.now.Add(400 * time.Millisecond)
	case n < 148 && w.now.Sub(w.trapped) > time.Minute: // one that does so on and off cannot be told from one that fails
		w.trapped = w.now.Add(time.Duration(w.rnd.IntN(20)) * time.Second)
		w.note("polls are rejected for %s", w.trapped.Sub(w.now))
	case n < 150 && w.rnd.IntN(4) == 0:
		w.now = w.now.Add(time.Duration(w.rnd.IntN(60)) * time.Second)
	}
	w.tick()
}

// tick is 100 ms of the poller: answers that arrive, and questions.
func (w *world) tick() {
	w.now = w.now.Add(100 * time.Millisecond)
	for i := 0; i < len(w.pending); i++ {
		if f := w.pending[i]; !f.arrives.After(w.now) {
			w.pending = append(w.pending[:i], w.pending[i+1:]...)
			i--
			w.take(f.answer)
		}
	}
	for _, m := range w.members {
		if !m.late.IsZero() && m.late.Before(w.now) && m.epoch == w.epoch() {
			m.late = time.Time{}
			w.admit(m)
			w.q.Rewind(m.from)
			w.rewinds++
		}
	}
	news, looks := 0, 0
	for _, f := range w.pending {
		if p := f.answer.Question.Purpose; p == News {
			news++
		} else {
			looks++
		}
	}
	if looks == 0 {
		if ask, due := w.q.Check(w.now, w.active, len(w.members) > 0); due {
			w.ask(ask)
		}
	}
	if w.now.Before(w.due) || w.q.Searching() && len(w.pending) > 0 || news >= 4 {
		return
	}
	w.ask(w.q.Next())
}

// ask asks a question: a host answers it from what it knows.
func (w *world) ask(ask Question) {
	a := &Answer{Question: &ask, Nonce: w.q.Nonce(&ask)}
	w.answer(a)
	w.pending = append(w.pending, &pendingAnswer{a, w.now.Add(time.Duration(w.rnd.Int64N(int64(w.latency))))})
}

// take hands an answer to the queue and carries out what it decides, as a poller does.
func (w *world) take(a *Answer) {
	before := w.q.Position()
	d := w.q.Step(w.now, a)
	if d.Do != Nothing {
		messages := 0
		if a.Page != nil {
			messages = len(a.Page.Messages)
		}
		w.note("%d messages from %d of host %s, asked with purpose %d: decision %d, position %d", messages, a.Nonce, a.Vote.Host,
			a.Question.Purpose, d.Do, w.q.Position())
	}
	times, _, _ := w.q.Failing()
	w.due = w.now.Add(100 * time.Millisecond)
	switch d.Do {
	case Deliver:
		w.active = w.now
		for i := d.From; i < len(a.Page.Messages); i++ {
			w.receive(&a.Page.Messages[i])
		}
	case AskOther:
		w.doubts++
		w.due = w.now.Add(d.Pause)
	case AskOn:
		w.due = w.now
	case Rewind:
		w.rewinds++
		w.due = w.now
	case Restart:
		w.restart(&d.Reset)
		w.due = w.now
	case Skip:
		w.t.Fatalf("skips %d messages from %d that can be had", d.Skipped, before)
	case TryAgain:
		w.due = w.now.Add(time.Duration(min(times, 50)) * 100 * time.Millisecond)
	case GiveUp:
		w.t.Fatalf("gives up: %+v of %+v", d, a.Failure)
	}
}

// member returns the client of this key, nil if it has gone.
func (w *world) member(key verify.ClientKey) *member {
	for _, m := range w.members {
		if m.key == key {
			return m
		}
	}
	return nil
}

// receive hands a message to its session.
func (w *world) receive(msg *verify.PageMessage) {
	m := w.member(msg.Client)
	if m == nil || !m.session || m.ended || msg.Poison != nil {
		if m != nil && m.session && !m.ended {
			w.t.Errorf("message %d of a client is held for poisoned on the word of a liar", msg.Sequence)
		}
		return
	}
	switch got := int(msg.Sequence); {
	case got <= m.got: // again
	case got == m.got+1:
		if m.got == 0 {
			m.born = msg.Timestamp
			w.q.Forget(m.key)
		}
		m.got++
		w.delivered++
	case m.got == 0:
		w.q.Suspect(w.now)
		w.q.Await(m.key, w.now, time.Time{})
	default:
		w.t.Errorf("a client gets message %d after %d", got, m.got)
	}
}

// restart ends the sessions that are held for forgotten.
func (w *world) restart(r *Reset) {
	w.resets++
	end := func(m *member) {
		if m.epoch == w.epoch() {
			w.t.Errorf("a session is held for forgotten that the canister knows: %+v", r)
		}
		m.ended = true
		w.forgotten++
		w.q.Forget(m.key)
	}
	for _, m := range w.members {
		if m.session && !m.ended && m.got > 0 && m.born <= r.Floor {
			end(m)
		}
	}
	for _, key := range r.Forgotten {
		if m := w.member(key); m != nil && !m.ended {
			end(m)
		}
	}
}

// settled checks that everything has arrived, and that those who were forgotten are known.
func (w *world) settled() {
	for _, m := range w.members {
		switch {
		case !m.session || m.ended:
		case m.epoch != w.epoch() && m.got > 0:
			w.t.Errorf("a session of before an upgrade goes on, born at %d; queue at %+v", m.born, w.q.at.next)
		case m.epoch == w.epoch() && m.got < m.sent:
			w.t.Errorf("a client has %d of %d messages; queue at %d of %d", m.got, m.sent, w.q.at.next, len(w.epoch().messages))
		}
	}
}
