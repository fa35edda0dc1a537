package upstream

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// Hosts are the boundary nodes of one network.
type Hosts []*Host

// pick chooses the host for the next attempt of a request of canister that has already tried those in tried; nil when all have
// been tried. Healthy hosts that are not much slower than the fastest share the load at random. A host of which nothing
// is known, because it failed and its time has come or because it was not measured lately, gets one request to find out.
// Others are chosen only if nothing else is left. For a call so are those of which nothing is known: no host is tried
// out with what clients send.
func (hs Hosts) pick(canister verify.Principal, tried []*Host, call bool) *Host {
	now := time.Now()
	var ready, fallback []*Host
	var latencies []time.Duration
	var last *Host
	var lastAt time.Time
	fastest := time.Duration(-1)
	for _, h := range hs {
		if slices.Contains(tried, h) {
			continue
		}
		s, latency, retryAt := h.stands(canister, now)
		switch s {
		case down:
			if last == nil || retryAt.Before(lastAt) {
				last, lastAt = h, retryAt
			}
			continue
		case onTrial:
			latency = 0 // not left out for being slow
		}
		if s == unknown || call && (s == onTrial || !h.answersCalls()) {
			fallback = append(fallback, h)
			continue
		}
		if s == up && (fastest < 0 || latency < fastest) {
			fastest = latency // of those that may be chosen
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

// second chooses the host that a request of canister goes to as well, which those in tried let wait; nil if there is none that
// is likely to answer.
func (hs Hosts) second(canister verify.Principal, tried []*Host, call bool) *Host {
	h := hs.pick(canister, tried, call)
	if h == nil {
		return nil
	}
	if s, _, _ := h.stands(canister, time.Now()); s == unknown || s == down {
		return nil
	}
	return h
}

// Besides reports whether there is a host other than h to send a request of canister to e, that is in good health as far as canister
// is concerned, and answers.
func (hs Hosts) Besides(h *Host, canister verify.Principal, e Endpoint) bool {
	now := time.Now()
	return slices.ContainsFunc(hs, func(other *Host) bool {
		s, _, _ := other.stands(canister, now)
		return other != h && s != down && !other.silentFor(0) && (e != EndpointCall || other.answersCalls())
	})
}
