package relay

import (
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds of how long a host that failed is left alone.
const (
	hostBackoffMin = 250 * time.Millisecond
	hostBackoffMax = 30 * time.Second
)

// host is one boundary node: where it is and how it does.
type host struct {
	name string // host and port, for logs and metrics
	base string // scheme, host and path prefix, without a slash at the end

	mu       sync.Mutex
	latency  time.Duration // moving average of successful requests; 0 = none yet
	failures int           // in a row
	retryAt  time.Time     // while failures > 0: when it may be tried again
	probing  bool          // one request is finding out whether it recovered
	lastErr  string
	call     int       // call endpoint version that works here: 4, 3 or 2
	callAt   time.Time // when that was found out
}

func newHost(u *url.URL) *host {
	base := url.URL{Scheme: u.Scheme, Host: u.Host, Path: strings.TrimRight(u.Path, "/")}
	return &host{name: u.Host, base: base.String(), call: newestCall}
}

// score says how h stands at now: ready (and how fast), or when it may be tried.
func (h *host) score(now time.Time) (ready bool, latency time.Duration, retryAt time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failures == 0 {
		return true, h.latency, time.Time{}
	}
	return !h.probing && !now.Before(h.retryAt), h.latency, h.retryAt
}

// begin marks that a request goes to h. Of a host that failed, one request at a time finds out whether it recovered.
func (h *host) begin() {
	h.mu.Lock()
	h.probing = h.failures > 0
	h.mu.Unlock()
}

// succeeded notes a good answer that took d.
func (h *host) succeeded(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failures, h.probing, h.lastErr = 0, false, ""
	if h.latency == 0 {
		h.latency = d
	} else {
		h.latency += (d - h.latency) / 8
	}
}

// failed notes a failure; retryAfter is what the host asked for, if it did.
func (h *host) failed(text string, retryAfter time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failures++
	h.probing = false
	h.lastErr = text
	pause := max(backoff(h.failures, hostBackoffMin, hostBackoffMax), min(retryAfter, hostBackoffMax))
	h.retryAt = time.Now().Add(pause)
}

// abandoned notes that a request was given up by its caller, which says nothing about h.
func (h *host) abandoned() {
	h.mu.Lock()
	h.probing = false
	h.mu.Unlock()
}

// hosts are the boundary nodes of one network.
type hosts []*host

// pick chooses the host for the next attempt of a request that has already tried those in tried; nil when all have
// been tried. Healthy hosts that are not much slower than the fastest share the load at random. A host that failed is
// chosen again when its time has come, and before that only if nothing else is left.
func (hs hosts) pick(tried []*host) *host {
	now := time.Now()
	var ready []*host
	var latencies []time.Duration
	var last *host
	var lastAt time.Time
	fastest := time.Duration(-1)
	for _, h := range hs {
		if slices.Contains(tried, h) {
			continue
		}
		ok, latency, retryAt := h.score(now)
		if !ok {
			if last == nil || retryAt.Before(lastAt) {
				last, lastAt = h, retryAt
			}
			continue
		}
		ready = append(ready, h)
		latencies = append(latencies, latency)
		if fastest < 0 || latency < fastest {
			fastest = latency
		}
	}
	if len(ready) == 0 {
		return last
	}
	n := 0
	for i, h := range ready {
		if latencies[i] <= 2*fastest+10*time.Millisecond {
			ready[n] = h
			n++
		}
	}
	return ready[rand.N(n)]
}

// callVersion returns the version of the call endpoint to use: the newest, or an older one for a while after the host
// turned out not to have it.
func (h *host) callVersion(now time.Time) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.call != newestCall && now.Sub(h.callAt) > callVersionAge {
		h.call = newestCall
	}
	return h.call
}

// olderCall notes that the host does not have version v, and returns the next older one, 0 if there is none.
func (h *host) olderCall(v int, now time.Time) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if v <= oldestCall {
		return 0
	}
	h.call, h.callAt = v-1, now
	return v - 1
}

// denials counts who says no without proof. What is not certified is one host's word, so it takes a second one, where
// there is a second, to believe it.
type denials struct{ by []*host }

// add counts the word of h and reports whether it is to be believed now.
func (d *denials) add(h *host, hs hosts) bool {
	if len(d.by) < 2 || !slices.Contains(d.by, h) {
		d.by = append(d.by, h)
	}
	if len(d.by) < 2 {
		return false
	}
	return len(hs) == 1 || slices.ContainsFunc(d.by, func(other *host) bool { return other != d.by[0] })
}
