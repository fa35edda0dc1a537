package relay

import (
	"testing"
	"time"
)

const testInterval = 100 * time.Millisecond

// learned is what is known after calls that took so long, where a poll takes poll.
func learned(poll time.Duration, calls ...time.Duration) *foresight {
	f := &foresight{poll: poll}
	for _, took := range calls {
		f.noteCall(took, testInterval)
	}
	return f
}

// repeat returns the pattern so many times.
func repeat(times int, pattern ...time.Duration) (all []time.Duration) {
	for range times {
		all = append(all, pattern...)
	}
	return all
}

// A poll leaves ahead where calls take about the same time, so that it finds the answer of most of them, and nowhere else.
func TestForesight(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		name  string
		poll  time.Duration
		calls []time.Duration
		after time.Duration
		pays  bool
	}{
		{"always the same", 100 * ms, repeat(16, 1000*ms), 912*ms + 500*time.Microsecond, true},
		{"faster than a poll", 100 * ms, repeat(16, 80*ms), 0, true},
		{"a little different", 100 * ms, repeat(4, 1000*ms, 1030*ms, 1015*ms, 985*ms), 942*ms + 500*time.Microsecond, true},
		{"one in four is slow", 100 * ms, repeat(4, 1000*ms, 1000*ms, 1000*ms, 3000*ms), 912*ms + 500*time.Microsecond, true},
		{"the latest ones count", 100 * ms, append(repeat(16, 5000*ms), repeat(16, 1000*ms)...), 912*ms + 500*time.Microsecond, true},
		{"too few", 100 * ms, repeat(7, 1000*ms), 0, false},
		{"never the same", 100 * ms, repeat(2, 1000*ms, 1300*ms, 1700*ms, 1150*ms, 1450*ms, 1600*ms, 1850*ms, 900*ms), 0, false},
		{"the network is near", 5 * ms, repeat(16, 40*ms), 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			after, pays := learned(tt.poll, tt.calls...).lead()
			if pays != tt.pays || pays && after != tt.after {
				t.Errorf("a poll leaves after %s: %t, want %s: %t", after, pays, tt.after, tt.pays)
			}
		})
	}
}

// Where polls that leave ahead find nothing, whatever the calls look like, there are few of them.
func TestForesightThatIsWrong(t *testing.T) {
	f := learned(100*time.Millisecond, repeat(16, time.Second)...)
	ahead := 0
	for range 1000 {
		if _, ok := f.lead(); ok {
			ahead++
			f.noteAhead(false)
		}
	}
	if ahead < 10 || ahead > 40 {
		t.Errorf("%d of 1000 calls had a poll ahead, want about 32", ahead)
	}
	f.rest = 0
	for i := range 1000 {
		if _, ok := f.lead(); !ok {
			t.Fatalf("no poll ahead at call %d, though three of four find something", i)
		}
		f.noteAhead(i%4 != 0)
	}
}
