package upstream

import (
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/icws-gateway/caddy-icws/relay/internal/pause"
	"github.com/icws-gateway/caddy-icws/verify"
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
//
// Its health is a count of failures in a row; the more there are, the longer it is left alone. These things move it:
//
//   - failed: a request brought no answer.
//   - outrun: another host answered first. That makes it slow, see [Host.measure], and is no failure.
//   - answered: it brought one. That ends failures to answer. Whether the answer is any good is not known yet.
//   - bad and good: somebody verified the answer. Failures that began with a bad answer end with a good one only. An answer
//     that can be neither, such as an empty page without a signature, ends none of them.
//
// What a canister answers can be bad by the canister's own doing. So a bad answer counts for the requests of that canister
// only, until one for another canister is bad as well, with no good one between them. A canister whose every answer is
// garbage then takes no host from the other canisters, and a host whose every answer is garbage is soon left alone by all.
type Host struct {
	name string // host and port, for logs and metrics
	base string // scheme, host and path prefix, without a slash at the end

	discovered bool // listed by the network, not by the configuration

	mu       sync.Mutex
	latency  time.Duration    // moving average of answers; 0 = none yet
	measured time.Time        // when the last one of them came
	failures int              // in a row
	failedAt time.Time        // when the last one was noted
	retryAt  time.Time        // while failures > 0: when it may be tried again
	trying   bool             // one request is finding out whether it recovered, or how fast it is
	unproven bool             // an answer did not hold, and none has held since
	badFor   verify.Principal // while failures > 0: they concern this canister only; zero = all
	lastErr  string
	heard    time.Time // when it last answered
	missed   time.Time // when it last failed to, or was outrun
	noCalls  time.Time // when a call to it last hung, and none was answered since; zero = it answers calls
	recent   map[Endpoint]*recent
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

// healthy reports whether nothing failed of late.
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

// stands says how h stands at now for requests of canister, how fast it is as far as is known, and while it is down when it
// may be tried.
func (h *Host) stands(canister verify.Principal, now time.Time) (s standing, latency time.Duration, retryAt time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	fails, fresh := h.fails(canister), now.Sub(h.measured) < h.measureAge()
	switch {
	case fails && (h.trying || now.Before(h.retryAt)):
		s = down
	case !h.trying && (fails || !fresh):
		s = onTrial
	case h.latency == 0:
		s = unknown
	}
	return s, h.latency, h.retryAt
}

// fails reports whether h fails as far as canister is concerned. The caller holds mu.
func (h *Host) fails(canister verify.Principal) bool {
	return h.failures > 0 && (h.badFor == verify.Principal{} || h.badFor == canister)
}

// begin marks that a request of canister goes to h. If h is on trial, this is the one request.
func (h *Host) begin(canister verify.Principal) {
	h.mu.Lock()
	h.trying = h.trying || h.fails(canister) || time.Since(h.measured) >= h.measureAge()
	h.mu.Unlock()
}

// answered notes an answer of e that took d; 0 if that is not to be counted. How long a call takes is up to its canister.
func (h *Host) answered(e Endpoint, d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.trying = false
	now := time.Now()
	if h.unproven {
		h.putOff(now) // until somebody knows whether this one holds
	} else {
		h.failures, h.lastErr = 0, ""
	}
	h.heard = now
	switch {
	case e == EndpointCall:
		h.noCalls = time.Time{}
		return
	case d == 0:
		return
	}
	h.measure(d, 8, now)
	if h.recent == nil {
		h.recent = make(map[Endpoint]*recent)
	}
	if h.recent[e] == nil {
		h.recent[e] = new(recent)
	}
	h.recent[e].add(d)
}

// outrun notes that another host answered a request to e which h had for d. That is no failure, but who is outrun again and
// again is slow; and who failed before has not recovered.
func (h *Host) outrun(e Endpoint, d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.trying = false
	h.missed = time.Now()
	if h.failures > 0 {
		h.count(h.lastErr, h.missed)
	}
	if e == EndpointCall {
		h.noCalls = h.missed
		return
	}
	h.measure(max(d, h.latency), 2, h.missed) // it would have taken longer still, so it weighs more
}

// failed notes that a request which began at that time brought no answer; retryAfter is what the host asked for, if it did.
func (h *Host) failed(text string, began time.Time, retryAfter time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.trying = false
	h.missed = time.Now()
	h.badFor = verify.Principal{}
	h.count(text, began)
	if asked := time.Now().Add(retryAfter); asked.After(h.retryAt) {
		h.retryAt = asked
	}
}

// bad notes that the answer to a request of canister, which began at that time, does not hold.
func (h *Host) bad(canister verify.Principal, text string, began time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.unproven = true
	switch {
	case h.failures == 0:
		h.badFor = canister
	case h.badFor != canister:
		h.badFor = verify.Principal{}
	}
	h.count(text, began)
}

// good notes that an answer held.
func (h *Host) good() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.unproven {
		h.unproven, h.failures, h.lastErr = false, 0, ""
	}
}

// abandoned notes that a request was given up by its caller, which says nothing about h.
func (h *Host) abandoned() {
	h.mu.Lock()
	h.trying = false
	h.mu.Unlock()
}

// count counts a failure of a request that began at that time. Requests that were under way together fail together: that is
// one failure. The caller holds mu.
func (h *Host) count(text string, began time.Time) {
	h.lastErr = text
	if h.failures > 0 && began.Before(h.failedAt) {
		return
	}
	h.failures++
	h.failedAt = time.Now()
	h.putOff(h.failedAt)
}

// putOff leaves h alone for as long as its failures demand. The caller holds mu.
func (h *Host) putOff(now time.Time) {
	if retryAt := now.Add(pause.Backoff(h.failures, hostBackoffMin, h.backoffMax())); retryAt.After(h.retryAt) {
		h.retryAt = retryAt
	}
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
