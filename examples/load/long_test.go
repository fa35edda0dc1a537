//go:build long

package main

import (
	"strings"
	"testing"
)

// The tests below are those of fake time once more over sockets and in real time, which is what the program does for those
// who run it.

func TestRunOverSockets(t *testing.T) {
	checkRun(t)(execute(t, false, "", "-clients", "8", "-rate", "5", "-churn", "16", "-opens", "0", "-duration", "6s", "-latency", "20ms", "-progress", "1s"))
}

func TestSoakOverSockets(t *testing.T) {
	checkSoak(t)(execute(t, false, "", "soak", "-clients", "10", "-rate", "2", "-opens", "0", "-duration", "5s", "-warm", "1s", "-latency", "10ms", "-progress", "500ms"))
}

func TestChaosOverSockets(t *testing.T) {
	checkChaos(t)(execute(t, false, "", "chaos", "-clients", "30", "-rate", "2", "-opens", "0", "-duration", "1m", "-latency", "50ms", "-progress", "5s"))
}

func TestHeadOfLineOverSockets(t *testing.T) {
	r, _ := execute(t, false, "", "headofline", "-clients", "40", "-stalled", "4", "-rate", "20", "-opens", "0", "-duration", "9s", "-latency", "10ms", "-progress", "0")
	for _, v := range r.Violations {
		// A quarter of a second of another process shows in the times of a run this short; TestHeadOfLine looks at them.
		if !strings.HasPrefix(v, "p99 is ") {
			t.Error(v)
		}
	}
	if r.Delivered == 0 || r.Delivered != r.Sent*36 {
		t.Errorf("sent %d, delivered %d to 36 listeners", r.Sent, r.Delivered)
	}
}
