package main

import (
	"slices"
	"strings"
	"testing"
)

func TestSoakLooksAtTheTrend(t *testing.T) {
	checkSoak(t)(inFakeTime(t, "soak", "-clients", "10", "-rate", "2", "-opens", "0", "-duration", "20s", "-warm", "5s", "-latency", "10ms", "-progress", "1s"))
}

func checkSoak(t *testing.T) func(*report, int) {
	return func(r *report, code int) {
		t.Helper()
		if code != 0 || len(r.Violations) > 0 {
			t.Errorf("exit code %d, violations %q", code, r.Violations)
		}
		if !slices.ContainsFunc(r.Notes, func(n string) bool { return strings.HasPrefix(n, "warm  heap ") }) {
			t.Errorf("notes %q", r.Notes)
		}
	}
}

// A process that grows between the warm state and the end fails the run.
func TestTrend(t *testing.T) {
	warm := footprint{HeapBytes: 40 << 20, Goroutines: 100}
	for _, tt := range []struct {
		last footprint
		want string
	}{
		{footprint{HeapBytes: 66 << 20, Goroutines: 175}, ""},
		{footprint{HeapBytes: 67 << 20, Goroutines: 175}, "heap grew from 40.0 to 67.0 MiB"},
		{footprint{HeapBytes: 66 << 20, Goroutines: 176}, "goroutines grew from 100 to 176"},
	} {
		var r report
		trend{warm: warm, last: tt.last}.judge(&r)
		if got := strings.Join(r.Violations, "; "); got != tt.want {
			t.Errorf("%+v: violations %q, want %q", tt.last, got, tt.want)
		}
	}
	var r report
	if (trend{last: warm}).judge(&r); len(r.Violations) > 0 || len(r.Notes) != 1 {
		t.Errorf("never warm: violations %q, notes %q", r.Violations, r.Notes)
	}
}
