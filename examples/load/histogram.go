package main

import (
	"fmt"
	"math/bits"
	"slices"
	"sync/atomic"
	"time"
)

// buckets is how many a histogram has: 16 for each power of two.
const buckets = 64 * 16

// A histogram counts durations in buckets of 1/16 of a power of two: quantiles are exact to 6 %. Safe for concurrent use;
// the zero value is empty.
type histogram struct {
	buckets [buckets]atomic.Uint64
	total   atomic.Uint64
	largest atomic.Int64
}

// bucket is the index for d, and bound the upper bound of the bucket with an index.
func bucket(d time.Duration) int {
	v := uint64(max(d, 1))
	exponent := bits.Len64(v) - 1
	var fraction uint64
	if exponent >= 4 {
		fraction = v >> (exponent - 4) & 15
	} else {
		fraction = v << (4 - exponent) & 15
	}
	return exponent<<4 | int(fraction)
}

func bound(index int) time.Duration {
	exponent, fraction := index>>4, index&15
	return time.Duration((uint64(17+fraction) << exponent) >> 4)
}

func (h *histogram) add(d time.Duration) {
	h.buckets[bucket(d)].Add(1)
	h.total.Add(1)
	for {
		old := h.largest.Load()
		if int64(d) <= old || h.largest.CompareAndSwap(old, int64(d)) {
			return
		}
	}
}

// since returns what was added since the histogram had the counts last, and moves last on.
func (h *histogram) since(last *[buckets]uint64) tally {
	var t tally
	for i := range h.buckets {
		if n := h.buckets[i].Load(); n > last[i] {
			t = append(t, heap{bucket: i, n: n - last[i]})
			last[i] = n
		}
	}
	return t
}

// quantile returns the duration that the share q of all do not exceed; 0 if there are none.
func (h *histogram) quantile(q float64) time.Duration {
	return min(h.since(new([buckets]uint64)).quantile(q), time.Duration(h.largest.Load()))
}

// A tally is the buckets of a histogram that hold anything, in order.
type tally []heap

// A heap is n durations of one bucket.
type heap struct {
	bucket int
	n      uint64
}

// quantile returns the duration that the share q of all do not exceed, at most 6 % too long; 0 if there are none.
func (t tally) quantile(q float64) time.Duration {
	var total, seen uint64
	for _, h := range t {
		total += h.n
	}
	rank := uint64(q * float64(total))
	for i, h := range t {
		if seen += h.n; seen > rank || i == len(t)-1 {
			return bound(h.bucket)
		}
	}
	return 0
}

// plus is both together.
func (t tally) plus(u tally) tally {
	all := slices.Concat(t, u)
	slices.SortFunc(all, func(a, b heap) int { return a.bucket - b.bucket })
	var sum tally
	for _, h := range all {
		if last := len(sum) - 1; last >= 0 && sum[last].bucket == h.bucket {
			sum[last].n += h.n
		} else {
			sum = append(sum, h)
		}
	}
	return slices.Clip(sum)
}

// quantiles is a histogram in a report, in milliseconds.
type quantiles struct {
	Count         uint64
	P50, P90, P99 float64
	Max           float64
}

func (h *histogram) report() quantiles {
	return quantiles{
		Count: h.total.Load(), P50: millis(h.quantile(.5)), P90: millis(h.quantile(.9)), P99: millis(h.quantile(.99)),
		Max: millis(time.Duration(h.largest.Load())),
	}
}

// millis is d in milliseconds with two digits.
func millis(d time.Duration) float64 { return float64(d.Round(10*time.Microsecond)) / 1e6 }

func (q quantiles) String() string {
	return fmt.Sprintf("p50 %.4g ms   p90 %.4g ms   p99 %.4g ms   max %.4g ms   (%d)", q.P50, q.P90, q.P99, q.Max, q.Count)
}
