package main

import (
	"bytes"
	"context"
	"math"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/icws-gateway/caddy-icws/relay/client"
)

// A trial is one measurement of one subject.
type trial struct {
	subject *subject
	crowd   *crowd
	say     func(format string, args ...any) // tells what is done
	figures []figure
	wrong   []string // violations
	files   *profiles

	up, down frames // of messages
}

// A figure is one number that a trial found.
type figure struct {
	name, unit string
	value      float64 // NaN where this system does not tell
	alone      bool    // there is no such thing for the bare server
}

// frames counts frames of one direction.
type frames struct{ count, bytes atomic.Uint64 }

func (f *frames) add(n int) {
	f.count.Add(1)
	f.bytes.Add(uint64(n))
}

// mean is the average length.
func (f *frames) mean() float64 { return float64(f.bytes.Load()) / float64(f.count.Load()) }

// newTrial prepares a trial. burst is that of the rig.
func newTrial(s *subject, p plan, burst int, say func(string, ...any)) *trial {
	t := &trial{subject: s, crowd: newCrowd(s, p, burst), say: say}
	change := t.crowd.change
	t.crowd.change = func(session *session, o *client.Options) {
		change(session, o)
		o.Trace = func(e client.Event) {
			switch {
			case e.Err != nil || e.Service != "":
			case e.Step == client.StepSent:
				t.up.add(e.Bytes)
			case e.Step == client.StepFrame:
				t.down.add(e.Bytes)
			}
		}
	}
	return t
}

func (t *trial) add(name, unit string, value float64) {
	t.figures = append(t.figures, figure{name: name, unit: unit, value: value})
}

// addAlone adds a figure that the bare server cannot have.
func (t *trial) addAlone(name, unit string, value float64) {
	t.figures = append(t.figures, figure{name: name, unit: unit, value: value, alone: true})
}

// A window is a part of a trial: what was used and delivered in it.
type window struct {
	t     *trial
	began time.Time
	use   use
	slab  float64
	asked uint64
	count uint64 // delivered
	late  uint64 // held back
	added [buckets]uint64
	trips [buckets]uint64
	opens [buckets]uint64

	seconds     float64
	cpu         float64 // seconds; NaN if not known
	requests    float64
	delivered   float64
	held        uint64 // messages that had to wait
	trip, extra tally
	opening     tally
	kernel      float64 // bytes that kernel memory grew by; NaN if not known
	rss         float64 // bytes at the end; NaN if not known
}

// window begins a window.
func (t *trial) window() *window {
	w := &window{t: t, use: t.subject.use(), slab: kernelMemory()}
	if t.subject.asked != nil {
		w.asked = t.subject.asked()
	}
	s := t.crowd.fleet.stats
	w.count, w.late = s.delivered.Load(), s.held.Load()
	s.roundTrip.since(&w.trips)
	s.added.since(&w.added)
	s.openTime.since(&w.opens)
	w.began = time.Now()
	return w
}

// end ends it.
func (w *window) end() *window {
	w.seconds = time.Since(w.began).Seconds()
	now, s := w.t.subject.use(), w.t.crowd.fleet.stats
	w.cpu, w.rss = math.NaN(), resident(now)
	if now != (use{}) {
		w.cpu = (now.cpu - w.use.cpu).Seconds()
	}
	if w.t.subject.asked != nil {
		w.requests = float64(w.t.subject.asked() - w.asked)
	}
	w.kernel = kernelMemory() - w.slab
	w.delivered, w.held = float64(s.delivered.Load()-w.count), s.held.Load()-w.late
	w.trip, w.extra, w.opening = s.roundTrip.since(&w.trips), s.added.since(&w.added), s.openTime.since(&w.opens)
	return w
}

// resident is the memory of a process in bytes.
func resident(u use) float64 {
	if u == (use{}) {
		return math.NaN()
	}
	return float64(u.rss)
}

// ms is the time that the share q of t did not exceed, in milliseconds; NaN if there is none.
func ms(t tally, q float64) float64 {
	if len(t) == 0 {
		return math.NaN()
	}
	return millis(t.quantile(q))
}

// kernelMemory is what the kernel of this machine has in slabs, in bytes: sockets, files and what belongs to them, of all
// processes. NaN where it is not known.
func kernelMemory() float64 {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return math.NaN()
	}
	for line := range bytes.Lines(b) {
		if fields := bytes.Fields(line); len(fields) == 3 && string(fields[0]) == "Slab:" {
			if n, err := strconv.ParseFloat(string(fields[1]), 64); err == nil {
				return n * 1024
			}
		}
	}
	return math.NaN()
}

// finish ends all sessions and adds what must not be.
func (t *trial) finish(ctx context.Context) {
	t.crowd.end()
	if err := t.files.wait(); err != nil {
		t.wrong = append(t.wrong, err.Error())
	}
	r := t.crowd.fleet.stats.report("", 1)
	if t.down.count.Load() > 0 {
		t.add("bytes of a frame to the client", "B", t.down.mean())
	}
	t.add("messages lost", "", float64(r.Lost))
	t.wrong = append(t.wrong, r.Violations...)
	if err := ctx.Err(); err != nil {
		t.wrong = append(t.wrong, "interrupted: "+err.Error())
	}
}
