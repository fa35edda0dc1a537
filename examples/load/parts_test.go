package main

import (
	"bytes"
	"slices"
	"testing"
	"time"
)

func TestHistogram(t *testing.T) {
	var h histogram
	if h.quantile(.5) != 0 {
		t.Error("quantile of nothing")
	}
	for i := 1; i <= 1000; i++ {
		h.add(time.Duration(i) * time.Millisecond)
	}
	for q, want := range map[float64]time.Duration{.5: 500 * time.Millisecond, .9: 900 * time.Millisecond, .99: 990 * time.Millisecond, .999: time.Second} {
		if got := h.quantile(q); got < want || float64(got) > 1.07*float64(want) {
			t.Errorf("quantile %v: got %s, want %s to 7 %% more", q, got, want)
		}
	}
	if h.largest.Load() != int64(time.Second) {
		t.Errorf("largest %d", h.largest.Load())
	}
	for _, d := range []time.Duration{-1, 0, 1, 2, 7, 15, 16, 17, time.Hour, 1<<63 - 1} {
		i := bucket(d)
		if i < 0 || i >= len(h.buckets) {
			t.Fatalf("%d is in bucket %d", d, i)
		}
		if d > 16 && d < time.Hour && (bound(i) < d || float64(bound(i)) > 1.07*float64(d)) {
			t.Errorf("%d is in a bucket up to %d", d, bound(i))
		}
	}
}

// What came since is what was added in between, and together it is all.
func TestHistogramSince(t *testing.T) {
	var h histogram
	var last [buckets]uint64
	var all tally
	for round := range 3 {
		for i := range 10 {
			h.add(time.Duration(i+round) * time.Second)
		}
		t1 := h.since(&last)
		var n uint64
		for _, heap := range t1 {
			n += heap.n
		}
		if n != 10 {
			t.Errorf("round %d: %d since the last one", round, n)
		}
		all = all.plus(t1)
	}
	if got := h.since(&last); got != nil {
		t.Errorf("nothing came: %v", got)
	}
	if whole := h.since(new([buckets]uint64)); !slices.Equal(all, whole) {
		t.Errorf("together %v, all at once %v", all, whole)
	}
}

func TestPayload(t *testing.T) {
	p := payload{session: 3, number: 1 << 40, sent: time.Minute}
	for _, size := range []int{0, payloadHead, payloadHead + 1, 1000} {
		b := p.encode(size)
		if len(b) != max(size, payloadHead) {
			t.Errorf("size %d: %d bytes", size, len(b))
		}
		if got, ok := decodePayload(b); !ok || got != p {
			t.Errorf("size %d: %+v, %v", size, got, ok)
		}
		if len(b) > payloadHead {
			b[len(b)-1] ^= 1
			if _, ok := decodePayload(b); ok {
				t.Errorf("size %d: an altered message passed", size)
			}
		}
	}
	if _, ok := decodePayload(bytes.Repeat([]byte{1}, payloadHead-1)); ok {
		t.Error("a short message passed")
	}
}

func TestLedger(t *testing.T) {
	var l ledger
	for range 6 {
		l.next()
	}
	for _, step := range []struct {
		number uint64
		want   verdict
	}{{1, inOrder}, {1, repeated}, {4, inOrder}, {2, outOfOrder}, {2, repeated}, {7, unknown}, {0, unknown}, {5, inOrder}} {
		if got := l.got(step.number); got != step.want {
			t.Errorf("%d: got %d, want %d", step.number, got, step.want)
		}
	}
	if passed, pending := l.open(); passed != 1 || pending != 1 {
		t.Errorf("passed over %d, pending %d", passed, pending)
	}
}
