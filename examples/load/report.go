package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"time"
)

// footprint is what the process holds.
type footprint struct {
	HeapBytes  uint64
	RSSBytes   uint64 // 0 where it is not known
	Goroutines int
}

// measure collects garbage and looks. What pools and finalizers hold is gone only after several collections.
func measure() footprint {
	runtime.GC()
	runtime.GC()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return footprint{HeapBytes: m.HeapAlloc, RSSBytes: thisProcess.use().rss, Goroutines: runtime.NumGoroutine()}
}

func (f footprint) String() string {
	return fmt.Sprintf("heap %.1f MiB   rss %.1f MiB   goroutines %d", mib(f.HeapBytes), mib(f.RSSBytes), f.Goroutines)
}

func mib(b uint64) float64 { return float64(b) / (1 << 20) }

// report is the outcome of a run. Of what is due, all is delivered, lost or unresolved.
type report struct {
	Mode           string
	Seed           uint64
	Clients        int
	Seconds        float64
	Opens          uint64
	OpensPerSecond float64
	Closed         uint64
	Refused        uint64
	Sent           uint64
	Due            uint64 // deliveries that the messages sent call for: one each, or one to each listener
	Delivered      uint64
	Lost           uint64
	Unresolved     uint64 // on their way when their session ended for another reason
	Duplicated     uint64
	Reordered      uint64
	Foreign        uint64
	Held           uint64
	OpenTime       quantiles
	RoundTrip      quantiles
	Push           quantiles
	Before, During footprint
	After          footprint
	Closes         map[string]uint64 `json:",omitempty"` // ends that were not the session's own doing
	OwnCloses      map[string]uint64 `json:",omitempty"` // the others
	Refusals       map[string]uint64 `json:",omitempty"`
	Notes          []string          `json:",omitempty"`
	Violations     []string          `json:",omitempty"`
}

// report takes what s has counted over the given time.
func (s *stats) report(mode string, took time.Duration) *report {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &report{
		Mode: mode, Seconds: took.Seconds(), OpensPerSecond: float64(s.opens.Load()) / max(took, 1).Seconds(),
		Opens: s.opens.Load(), Closed: s.closed.Load(), Refused: s.refused.Load(),
		Sent: s.sent.Load(), Due: s.due.Load(), Delivered: s.delivered.Load(), Lost: s.lost.Load(), Unresolved: s.unresolved.Load(),
		Duplicated: s.duplicated.Load(), Reordered: s.reordered.Load(), Foreign: s.foreign.Load(), Held: s.held.Load(),
		OpenTime: s.openTime.report(), RoundTrip: s.roundTrip.report(), Push: s.push.report(),
		Closes: maps.Clone(s.closes), OwnCloses: maps.Clone(s.own), Refusals: maps.Clone(s.refusals),
	}
	for _, text := range slices.Sorted(maps.Keys(s.violations)) {
		r.Violations = append(r.Violations, fmt.Sprintf("%d x %s", s.violations[text], text))
	}
	for name, n := range map[string]uint64{"lost": r.Lost, "duplicated": r.Duplicated, "reordered": r.Reordered, "foreign or altered": r.Foreign} {
		if n > 0 {
			r.violate("%d messages %s", n, name)
		}
	}
	return r
}

// judge adds what can be said of every mode: whether the run proves anything, and whether all is gone that it began.
func (r *report) judge(s *settings) {
	r.Seed, r.Clients = s.seed, s.clients
	switch resolved := r.Due - r.Unresolved; {
	case r.Opens == 0:
		r.violate("no session could be opened")
	case r.Due == 0 && s.rate > 0:
		r.violate("no message was sent: the run proves nothing")
	case float64(resolved) < s.resolved/100*float64(r.Due):
		r.violate("what became of the messages is known of only %s, -resolved asks for %g %%: the run proves too little",
			percent(resolved, r.Due), s.resolved)
	}
	if r.After.Goroutines > r.Before.Goroutines {
		r.violate("%d goroutines before, %d after", r.Before.Goroutines, r.After.Goroutines)
	}
}

// percent is the share of n in all. It says 100 or 0 only where that is exact.
func percent(n, all uint64) string {
	switch share := 100 * float64(n) / float64(all); {
	case all == 0:
		return ""
	case n == 0:
		return "0 %"
	case n == all:
		return "100 %"
	case share < .01:
		return "<0.01 %"
	case share > 99.99 && n < all:
		return ">99.99 %"
	default:
		return fmt.Sprintf("%.2f %%", share)
	}
}

// A share is one line of what became of the messages.
type share struct {
	Name    string
	Count   uint64
	Percent string // of what was due; "" if nothing was
}

// shares is what became of the messages.
func (r *report) shares() []share {
	var all []share
	for _, s := range []share{
		{Name: "due", Count: r.Due}, {Name: "delivered", Count: r.Delivered}, {Name: "lost", Count: r.Lost}, {Name: "unresolved", Count: r.Unresolved},
		{Name: "duplicated", Count: r.Duplicated}, {Name: "out of order", Count: r.Reordered}, {Name: "foreign", Count: r.Foreign},
	} {
		all = append(all, share{s.Name, s.Count, percent(s.Count, r.Due)})
	}
	return all
}

// ends are why sessions ended or did not open, most frequent first.
type ends struct {
	Title, Word string
	Counts      []reasonCount
}

type reasonCount struct {
	Text  string
	Count uint64
}

func (r *report) ends() []ends {
	all := []ends{
		{Title: "Sessions that the gateway or an error ended", Word: "closed"},
		{Title: "Sessions that the clients ended", Word: "left"},
		{Title: "Openings refused", Word: "refused"},
	}
	for i, m := range []map[string]uint64{r.Closes, r.OwnCloses, r.Refusals} {
		for _, text := range slices.Sorted(maps.Keys(m)) {
			all[i].Counts = append(all[i].Counts, reasonCount{text, m[text]})
		}
		slices.SortStableFunc(all[i].Counts, func(a, b reasonCount) int { return cmp.Compare(b.Count, a.Count) })
	}
	return all
}

// violate adds a line to the violations.
func (r *report) violate(format string, args ...any) {
	r.Violations = append(r.Violations, fmt.Sprintf(format, args...))
}

// note adds a line to the notes.
func (r *report) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// write prints the report and returns the exit code: 1 if there are violations.
func (r *report) write(w io.Writer, asJSON bool) int {
	slices.Sort(r.Violations)
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		_ = e.Encode(r)
	} else {
		r.text(w)
	}
	if len(r.Violations) > 0 {
		return 1
	}
	return 0
}

func (r *report) text(w io.Writer) {
	fmt.Fprintf(w, "%s: %d clients, %.1f s, seed %d\n", r.Mode, r.Clients, r.Seconds, r.Seed)
	fmt.Fprintf(w, "  sessions    opened %d (%.1f/s)   closed %d   refused %d\n", r.Opens, r.OpensPerSecond, r.Closed, r.Refused)
	fmt.Fprintf(w, "  messages    sent %d   held back by the window %d\n", r.Sent, r.Held)
	for _, s := range r.shares() {
		fmt.Fprintf(w, "    %-14s%10d%10s\n", s.Name, s.Count, s.Percent)
	}
	fmt.Fprintf(w, "  open        %s\n", r.OpenTime)
	fmt.Fprintf(w, "  round trip  %s\n", r.RoundTrip)
	fmt.Fprintf(w, "  push        %s\n", r.Push)
	fmt.Fprintf(w, "  before      %s\n  during      %s\n  after       %s\n", r.Before, r.During, r.After)
	for _, e := range r.ends() {
		for _, c := range e.Counts {
			fmt.Fprintf(w, "  %-10s  %d x %s\n", e.Word, c.Count, c.Text)
		}
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "  note        %s\n", n)
	}
	for _, v := range r.Violations {
		fmt.Fprintf(w, "  VIOLATION   %s\n", v)
	}
	if len(r.Violations) == 0 {
		fmt.Fprintln(w, "  no violation")
	}
}

// peek is a footprint without a collection, for lines of progress.
func peek() footprint {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return footprint{HeapBytes: m.HeapAlloc, RSSBytes: thisProcess.use().rss, Goroutines: runtime.NumGoroutine()}
}
