package upstream

import (
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/icws-gateway/caddy-icws/relay/internal/pause"
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

// Host is one boundary node: where it is and how it does.
type Host struct {
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

func newHost(u *url.URL) *Host {
	base := url.URL{Scheme: u.Scheme, Host: u.Host, Path: strings.TrimRight(u.Path, "/")}
	return &Host{name: u.Host, base: base.String()}
}

// measureAge is how long its latency is good to go by.
func (h *Host) measureAge() time.Duration {
	if h.discovered {
		return discoveredAge
	}
	return measureAge
}

// backoffMax bounds how long it is left alone after failures.
func (h *Host) backoffMax() time.Duration {
	if h.discovered {
		return discoveredBackoffMax
	}
	return hostBackoffMax
}

// healthy reports whether its last request went well.
func (h *Host) healthy() bool {
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
func (h *Host) stands(now time.Time) (s standing, latency time.Duration, retryAt time.Time) {
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
func (h *Host) begin() {
	h.mu.Lock()
	h.trying = h.trying || h.failures > 0 || time.Since(h.measured) >= h.measureAge()
	h.mu.Unlock()
}

// succeeded notes an answer that took d; 0 if the time depended on others than the host. Whether it is any good is often found
// out later: see blame.
func (h *Host) succeeded(d time.Duration) {
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
func (h *Host) failed(text string, began time.Time, retryAfter time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.trying = false
	h.lastErr = text
	now := time.Now()
	if h.failures == 0 || !began.Before(h.failedAt) {
		h.failures++
		h.failedAt = now
		h.retryAt = now.Add(pause.Backoff(h.failures, hostBackoffMin, h.backoffMax()))
	}
	if asked := now.Add(retryAfter); asked.After(h.retryAt) {
		h.retryAt = asked
	}
}

// Blame notes an answer that came well and does not hold. More such answers do not help the host, however well they come, until
// it is vouched for.
func (h *Host) Blame(text string) {
	h.failed(text, time.Now(), 0)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.blamed++
	h.failures = max(h.failures, 1)
	if retryAt := time.Now().Add(pause.Backoff(h.blamed, hostBackoffMin, h.backoffMax())); retryAt.After(h.retryAt) {
		h.retryAt = retryAt
	}
}

// Vouch notes that an answer held.
func (h *Host) Vouch() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.blamed > 0 {
		h.blamed, h.failures, h.lastErr = 0, 0, ""
	}
}

// abandoned notes that a request was given up by its caller, which says nothing about h.
func (h *Host) abandoned() {
	h.mu.Lock()
	h.trying = false
	h.mu.Unlock()
}

// Name returns host and port, for logs and metrics.
func (h *Host) Name() string { return h.name }

// HostState is the health of a host at one moment.
type HostState struct {
	Name       string
	Discovered bool          // listed by the network, not by the configuration
	Latency    time.Duration // moving average
	Failures   int           // in a row
	LastError  string
}

// State returns the present health.
func (h *Host) State() HostState {
	h.mu.Lock()
	defer h.mu.Unlock()
	return HostState{Name: h.name, Discovered: h.discovered, Latency: h.latency, Failures: h.failures, LastError: h.lastErr}
}
