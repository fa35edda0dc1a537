package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"
)

// A recorder turns what a run counts into rows, one each interval: each goes to the time series at once, and all of them, or
// sums of some, are kept for the page. It also says now and then how far the run is.
type recorder struct {
	console  *console
	every    time.Duration // between two states of the run on the console, 0 for none
	interval time.Duration
	process  process // whose use is recorded; "" for none

	stats   *stats // of the run; nil until it starts
	started time.Time
	last    row             // the counters when the last row was taken
	buckets [buckets]uint64 // the same, of the latency
	series  *csv.Writer     // nil if there is none
	failed  func(error)     // told of the first row that could not be written
	drawn   []row           // for the page, at most maxRows
	per     int             // rows that one of drawn holds
	held    int             // rows that the last of drawn holds
	marked  int             // marks of drawn, at most maxMarks
	missed  int             // marks beyond

	mu    sync.Mutex // guards what follows
	fresh []mark     // since the last row
}

// A mark is something that happened at a moment of the run.
type mark struct {
	elapsed time.Duration
	text    string
}

// What a run keeps for its page, however long it is. When all rows are taken, pairs of them become one.
const maxRows, maxMarks = 2000, 100

// A row is what happened in a span of the run. As the state of the counters its numbers are those since the beginning.
type row struct {
	at            time.Time     // the end of the span
	elapsed, span time.Duration // from the start of the run to the end of the span; of the span

	opened, refused, closed  uint64
	sent, received           uint64
	sentBytes, receivedBytes uint64
	errors                   uint64

	latency  tally
	longest  time.Duration // latency of the run so far
	sessions uint64        // open at the end of the span
	use      use           // CPU time of the span, resident memory at its end
	marks    []mark
}

// plus is the span of r and the one of next, which follows it.
func (r row) plus(next row) row {
	next.span += r.span
	next.opened += r.opened
	next.refused += r.refused
	next.closed += r.closed
	next.sent += r.sent
	next.received += r.received
	next.sentBytes += r.sentBytes
	next.receivedBytes += r.receivedBytes
	next.errors += r.errors
	next.latency = r.latency.plus(next.latency)
	if next.use.cpu += r.use.cpu; r.use == (use{}) {
		next.use = use{} // nothing is known of a part
	}
	next.marks = slices.Concat(r.marks, next.marks)
	return next
}

// minus makes the state of the counters r the span since the state before.
func (r row) minus(before row) row {
	r.span = r.elapsed - before.elapsed
	r.opened -= before.opened
	r.refused -= before.refused
	r.closed -= before.closed
	r.sent -= before.sent
	r.received -= before.received
	r.sentBytes -= before.sentBytes
	r.receivedBytes -= before.receivedBytes
	r.errors -= before.errors
	if r.use.cpu -= before.use.cpu; r.use.cpu < 0 || before.use == (use{}) {
		r.use = use{} // the process is another one than before, or was not there
	}
	return r
}

// newRecorder makes the recorder that the flags describe.
func newRecorder(c *console, s *settings) *recorder {
	r := &recorder{console: c, every: s.progress, interval: s.interval, per: 1}
	if c.terminal() {
		r.every = min(r.every, time.Second)
	}
	switch {
	case s.url == "":
		r.process = thisProcess
	case s.pid > 0:
		r.process = process(strconv.Itoa(s.pid))
	}
	return r
}

// start begins to record what s counts. The function that it returns takes the last row and ends it.
func (r *recorder) start(s *stats) (stop func()) {
	r.stats, r.started = s, time.Now()
	r.last = row{use: r.process.use()}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		rows := time.NewTicker(r.interval)
		defer rows.Stop()
		var states <-chan time.Time
		if r.every > 0 {
			t := time.NewTicker(r.every)
			defer t.Stop()
			states = t.C
		}
		for {
			select {
			case <-ctx.Done():
				r.take()
				return
			case <-rows.C:
				r.take()
			case <-states:
				r.console.show("%4.0f s  %s", time.Since(r.started).Seconds(), s.state())
			}
		}
	})
	return func() { cancel(); done.Wait(); r.console.leave() }
}

// state is how far the run is, in one line.
func (s *stats) state() string {
	closed := s.closed.Load() // before the opened ones, so that no session counts as closed only
	return fmt.Sprintf("%d sessions, opened %d, refused %d, sent %d, delivered %d, p99 %s, %s", s.opens.Load()-closed, s.opens.Load(),
		s.refused.Load(), s.sent.Load(), s.delivered.Load(), s.roundTrip.quantile(.99).Round(time.Millisecond), peek())
}

// counters are those of s now.
func (s *stats) counters() row {
	closed := s.closed.Load() // see state
	r := row{
		closed: closed, opened: s.opens.Load(), refused: s.refused.Load(), sent: s.sent.Load(), received: s.received.Load(),
		sentBytes: s.sentBytes.Load(), receivedBytes: s.receivedBytes.Load(),
		errors: s.refused.Load() + s.ended.Load() + s.lost.Load() + s.duplicated.Load() + s.reordered.Load() + s.foreign.Load(),
	}
	r.sessions = r.opened - closed
	return r
}

// take takes a row.
func (r *recorder) take() {
	now := r.stats.counters()
	now.at, now.elapsed, now.use = time.Now(), time.Since(r.started), r.process.use()
	w := now.minus(r.last)
	r.last = now
	w.latency, w.longest = r.stats.roundTrip.since(&r.buckets), time.Duration(r.stats.roundTrip.largest.Load())
	r.mu.Lock()
	w.marks, r.fresh = r.fresh, nil
	r.mu.Unlock()
	r.write(w)
	r.keep(w)
}

// keep keeps w for the page.
func (r *recorder) keep(w row) {
	if room := maxMarks - r.marked; len(w.marks) > room {
		r.missed += len(w.marks) - room
		w.marks = w.marks[:room]
	}
	r.marked += len(w.marks)
	n := len(r.drawn)
	// What is left at the end of a run is too short to be a rate.
	if n > 0 && (r.held < r.per || w.span < r.interval/2) {
		r.drawn[n-1] = r.drawn[n-1].plus(w)
		r.held++
		return
	}
	if n == maxRows {
		n /= 2
		for i := range n {
			r.drawn[i] = r.drawn[2*i].plus(r.drawn[2*i+1])
		}
		clear(r.drawn[n:])
		r.drawn, r.per = r.drawn[:n], 2*r.per
	}
	r.drawn, r.held = append(r.drawn, w), 1
}

// mark notes what happens now, in the time series, on the page and on the console. The text is one of this program's own: a
// time series is opened by programs that take some texts for formulas.
func (r *recorder) mark(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if r.every > 0 {
		r.console.say("        %s", text)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fresh = append(r.fresh, mark{time.Since(r.started), text})
}
