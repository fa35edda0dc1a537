package main

import (
	"fmt"
	"math/bits"
	"sync/atomic"
	"time"
)

// A histogram counts durations in buckets of 1/16 of a power of two: quantiles are exact to 6 %. Safe for concurrent use;
// the zero value is empty.
type histogram struct {
	buckets [64 * 16]atomic.Uint64
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

// quantile returns the duration that the share q of all do not exceed; 0 if there are none.
func (h *histogram) quantile(q float64) time.Duration {
	total := h.total.Load()
	if total == 0 {
		return 0
	}
	rank := uint64(q * float64(total))
	var seen uint64
	for i := range h.buckets {
		if seen += h.buckets[i].Load(); seen > rank {
			return min(bound(i), time.Duration(h.largest.Load()))
		}
	}
	return time.Duration(h.largest.Load())
}

// quantiles is a histogram in a report, in milliseconds.
type quantiles struct {
	Count         uint64
	P50, P90, P99 float64
	Max           float64
}

func (h *histogram) report() quantiles {
	ms := func(d time.Duration) float64 { return float64(d.Round(10*time.Microsecond)) / 1e6 }
	return quantiles{
		Count: h.total.Load(), P50: ms(h.quantile(.5)), P90: ms(h.quantile(.9)), P99: ms(h.quantile(.99)),
		Max: ms(time.Duration(h.largest.Load())),
	}
}

func (q quantiles) String() string {
	return fmt.Sprintf("p50 %.4g ms   p90 %.4g ms   p99 %.4g ms   max %.4g ms   (%d)", q.P50, q.P90, q.P99, q.Max, q.Count)
}
