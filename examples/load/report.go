package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// footprint is what the process holds.
type footprint struct {
	HeapBytes  uint64
	RSSBytes   uint64 // 0 where /proc does not tell
	Goroutines int
}

// measure collects garbage and looks. What pools and finalizers hold is gone only after several collections.
func measure() footprint {
	runtime.GC()
	runtime.GC()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return footprint{HeapBytes: m.HeapAlloc, RSSBytes: residentBytes(), Goroutines: runtime.NumGoroutine()}
}

// residentBytes reads the resident set size of this process on Linux.
func residentBytes() uint64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseUint(fields[1], 10, 64)
	return pages * uint64(os.Getpagesize())
}

func (f footprint) String() string {
	return fmt.Sprintf("heap %.1f MiB   rss %.1f MiB   goroutines %d", mib(f.HeapBytes), mib(f.RSSBytes), f.Goroutines)
}

func mib(b uint64) float64 { return float64(b) / (1 << 20) }

// report is the outcome of a run.
type report struct {
	Mode           string
	Seed           uint64
	Clients        int
	Seconds        float64
	Opens          uint64
	OpensPerSecond float64
	Refused        uint64
	Sent           uint64
	Delivered      uint64
	Lost           uint64
	Unresolved     uint64 // on their way when their session was closed for another reason
	Duplicated     uint64
	Reordered      uint64
	Foreign        uint64
	Held           uint64
	OpenTime       quantiles
	RoundTrip      quantiles
	Push           quantiles
	Before, During footprint
	After          footprint
	Closes         map[string]uint64 `json:",omitempty"`
	Refusals       map[string]uint64 `json:",omitempty"`
	Notes          []string          `json:",omitempty"`
	Violations     []string          `json:",omitempty"`
}

// report takes what s has counted over the given time.
func (s *stats) report(mode string, took time.Duration) *report {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &report{
		Mode: mode, Seconds: took.Seconds(),
		Opens: s.opens.Load(), OpensPerSecond: float64(s.opens.Load()) / took.Seconds(), Refused: s.refused.Load(),
		Sent: s.sent.Load(), Delivered: s.delivered.Load(), Lost: s.lost.Load(), Unresolved: s.unresolved.Load(),
		Duplicated: s.duplicated.Load(), Reordered: s.reordered.Load(), Foreign: s.foreign.Load(), Held: s.held.Load(),
		OpenTime: s.openTime.report(), RoundTrip: s.roundTrip.report(), Push: s.push.report(),
		Closes: maps.Clone(s.closes), Refusals: maps.Clone(s.refusals),
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
	fmt.Fprintf(w, "  sessions    opened %d (%.1f/s)   refused %d\n", r.Opens, r.OpensPerSecond, r.Refused)
	fmt.Fprintf(w, "  messages    sent %d   delivered %d   lost %d   duplicated %d   reordered %d   foreign %d\n",
		r.Sent, r.Delivered, r.Lost, r.Duplicated, r.Reordered, r.Foreign)
	fmt.Fprintf(w, "              unresolved at a close %d   held back by the window %d\n", r.Unresolved, r.Held)
	fmt.Fprintf(w, "  open        %s\n", r.OpenTime)
	fmt.Fprintf(w, "  round trip  %s\n", r.RoundTrip)
	fmt.Fprintf(w, "  push        %s\n", r.Push)
	fmt.Fprintf(w, "  before      %s\n  during      %s\n  after       %s\n", r.Before, r.During, r.After)
	for title, m := range map[string]map[string]uint64{"closed": r.Closes, "refused": r.Refusals} {
		for _, text := range slices.Sorted(maps.Keys(m)) {
			fmt.Fprintf(w, "  %-10s  %d x %s\n", title, m[text], text)
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
	return footprint{HeapBytes: m.HeapAlloc, RSSBytes: residentBytes(), Goroutines: runtime.NumGoroutine()}
}

// shared lets several goroutines write lines.
type shared struct {
	mu sync.Mutex
	w  io.Writer
}

// Write implements io.Writer.
func (s *shared) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(b)
}
