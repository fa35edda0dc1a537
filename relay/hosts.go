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

// measureAge is how long the latency of a host is good to go by; then one request finds it out again, so that a host that
// was slow once is not left out for good.
const measureAge = 30 * time.Second

// Of discovered hosts there are many, and most are far away or may be of no use: each is given a request to find out less
// often, so that few requests meet one that is slow or fails.
const (
	discoveredAge        = 10 * time.Minute // instead of measureAge
	discoveredBackoffMax = 10 * time.Minute // instead of hostBackoffMax
)

// host is one boundary node: where it is and how it does.
type host struct {
	name string // host and port, for logs and metrics
	base string // scheme, host and path prefix, without a slash at the end

	discovered bool // listed by the network, not by the configuration

	mu       sync.Mutex
	latency  time.Duration // moving average of successful requests; 0 = none yet
	measured time.Time     // when the last one of them ended
	failures int           // in a row
	failedAt time.Time     // when the last one was noted
	retryAt  time.Time     // while failures > 0: when it may be tried again
	trying   bool          // one request is finding out whether it recovered, or how fast it is
	blamed   int           // answers that did not hold, in a row; see blame
	lastErr  string
	detours  map[Endpoint]detour
}

func newHost(u *url.URL) *host {
	base := url.URL{Scheme: u.Scheme, Host: u.Host, Path: strings.TrimRight(u.Path, "/")}
	return &host{name: u.Host, base: base.String()}
}

// measureAge is how long its latency is good to go by.
func (h *host) measureAge() time.Duration {
	if h.discovered {
		return discoveredAge
	}
	return measureAge
}

// backoffMax bounds how long it is left alone after failures.
func (h *host) backoffMax() time.Duration {
	if h.discovered {
		return discoveredBackoffMax
	}
	return hostBackoffMax
}

// healthy reports whether its last request went well.
func (h *host) healthy() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failures == 0
}

// standing is what may be asked of a host.
type standing int

const (
	up      standing = iota // any request
	onTrial                 // one request: nothing is known of it, or nothing recent
	unknown                 // that request is under way, and it never answered one before
	down                    // nothing that another host could answer
)

// stands says how h stands at now, how fast it is as far as is known, and while it is down when it may be tried.
func (h *host) stands(now time.Time) (s standing, latency time.Duration, retryAt time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	fresh := now.Sub(h.measured) < h.measureAge()
	switch {
	case h.failures > 0 && (h.trying || now.Before(h.retryAt)):
		s = down
	case !h.trying && (h.failures > 0 || !fresh):
		s = onTrial
	case h.latency == 0:
		s = unknown
	}
	return s, h.latency, h.retryAt
}

// begin marks that a request goes to h. If h is on trial, this is the one request.
func (h *host) begin() {
	h.mu.Lock()
	h.trying = h.trying || h.failures > 0 || time.Since(h.measured) >= h.measureAge()
	h.mu.Unlock()
}

// succeeded notes an answer that took d; 0 if the time depended on others than the host. Whether it is any good is often found
// out later: see blame.
func (h *host) succeeded(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.trying = false
	if h.blamed == 0 {
		h.failures, h.lastErr = 0, ""
	}
	if d == 0 {
		return
	}
	now := time.Now()
	if h.latency == 0 || now.Sub(h.measured) >= h.measureAge() {
		h.latency = d
	} else {
		h.latency += (d - h.latency) / 8
	}
	h.measured = now
}

// failed notes a failure of a request that began at that time; retryAfter is what the host asked for, if it did. Requests
// that were under way together fail together: that is one failure.
func (h *host) failed(text string, began time.Time, retryAfter time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.trying = false
	h.lastErr = text
	now := time.Now()
	if h.failures == 0 || !began.Before(h.failedAt) {
		h.failures++
		h.failedAt = now
		h.retryAt = now.Add(backoff(h.failures, hostBackoffMin, h.backoffMax()))
	}
	if asked := now.Add(min(retryAfter, hostBackoffMax)); asked.After(h.retryAt) {
		h.retryAt = asked
	}
}

// blame notes an answer that came well and does not hold. More such answers do not help the host, however well they come, until
// it is vouched for.
func (h *host) blame(text string) {
	h.failed(text, time.Now(), 0)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.blamed++
	h.failures = max(h.failures, 1)
	if retryAt := time.Now().Add(backoff(h.blamed, hostBackoffMin, h.backoffMax())); retryAt.After(h.retryAt) {
		h.retryAt = retryAt
	}
}

// vouch notes that an answer held.
func (h *host) vouch() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.blamed > 0 {
		h.blamed, h.failures, h.lastErr = 0, 0, ""
	}
}

// abandoned notes that a request was given up by its caller, which says nothing about h.
func (h *host) abandoned() {
	h.mu.Lock()
	h.trying = false
	h.mu.Unlock()
}

// hosts are the boundary nodes of one network.
type hosts []*host

// pick chooses the host for the next attempt of a request that has already tried those in tried; nil when all have
// been tried. Healthy hosts that are not much slower than the fastest share the load at random. A host of which nothing
// is known, because it failed and its time has come or because it was not measured lately, gets one request to find out.
// Others are chosen only if nothing else is left.
func (hs hosts) pick(tried []*host) *host {
	now := time.Now()
	var ready, fallback []*host
	var latencies []time.Duration
	var last *host
	var lastAt time.Time
	fastest := time.Duration(-1)
	for _, h := range hs {
		if slices.Contains(tried, h) {
			continue
		}
		s, latency, retryAt := h.stands(now)
		switch s {
		case down:
			if last == nil || retryAt.Before(lastAt) {
				last, lastAt = h, retryAt
			}
			continue
		case unknown:
			fallback = append(fallback, h)
			continue
		case onTrial:
			latency = 0 // not left out for being slow
		case up:
			if fastest < 0 || latency < fastest {
				fastest = latency
			}
		}
		ready = append(ready, h)
		latencies = append(latencies, latency)
	}
	switch {
	case len(ready) == 0 && len(fallback) > 0:
		return fallback[rand.N(len(fallback))]
	case len(ready) == 0:
		return last
	}
	n := 0
	for i, h := range ready {
		if latencies[i] <= 2*max(0, fastest)+10*time.Millisecond {
			ready[n] = h
			n++
		}
	}
	return ready[rand.N(n)]
}

// besides reports whether there is a host to ask other than h, in good health.
func (hs hosts) besides(h *host) bool {
	now := time.Now()
	return slices.ContainsFunc(hs, func(other *host) bool {
		s, _, _ := other.stands(now)
		return other != h && s != down
	})
}

// denials counts who says no without proof. What is not certified is one host's word, so it takes a second one, where
// there is a second, to believe it.
type denials struct {
	by    []*host
	since time.Time // when the first said so
}

// add counts the word of h and reports whether it is to be believed now.
func (d *denials) add(h *host, hs hosts) bool {
	if len(d.by) == 0 {
		d.since = time.Now()
	}
	if len(d.by) < 2 || !slices.Contains(d.by, h) {
		d.by = append(d.by, h)
	}
	if len(d.by) < 2 {
		return false
	}
	return len(hs) == 1 || slices.ContainsFunc(d.by, func(other *host) bool { return other != d.by[0] })
}

// lasted reports whether they have been saying so for t.
func (d *denials) lasted(t time.Duration) bool { return time.Since(d.since) >= t }
