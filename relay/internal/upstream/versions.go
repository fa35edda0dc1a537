package upstream

import (
	"strconv"
	"time"
)

// versions are those that can be used of each endpoint, the best first (IC interface specification, HTTPS interface).
// Versions 4 and 3 of call wait for the outcome and certify it. Version 2 of query and read_state certifies the routing
// table in the layout that deployed clients understand, version 3 in a newer one.
var versions = map[Endpoint][]int{
	EndpointCall:      {4, 3},
	EndpointQuery:     {2, 3},
	EndpointReadState: {2, 3},
	EndpointStatus:    {2},
}

// unansweredCall is the version of call that only accepts it and brings no outcome. A host could accept calls there and drop
// them, so it is for networks in which no host has a better one.
var unansweredCall = []int{2}

// flatReadState is the version of read_state that has the older layout.
var flatReadState = []int{2}

// detourAge is how long a host that lacks the best version of an endpoint is not asked for it again.
const detourAge = 10 * time.Minute

// detour is a version that works at a host where better ones do not.
type detour struct {
	version int
	found   time.Time
}

// order returns the versions of e in the order in which to try them at h: first the one that is known to work there, then
// the others.
func (h *Host) order(e Endpoint, now time.Time) []int {
	h.mu.Lock()
	d, known := h.detours[e]
	h.mu.Unlock()
	all := versions[e]
	if !known || now.Sub(d.found) > detourAge {
		return all
	}
	order := []int{d.version}
	for _, v := range all {
		if v != d.version {
			order = append(order, v)
		}
	}
	return order
}

// serves notes that a version of e works at h; lacking says that a better one was tried before and is not served.
func (h *Host) serves(e Endpoint, version int, lacking bool, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case version == versions[e][0]:
		delete(h.detours, e)
	case lacking:
		if h.detours == nil {
			h.detours = make(map[Endpoint]detour)
		}
		h.detours[e] = detour{version, now}
	}
}

// url is where r goes at a host, whose own URL is base.
func (r *request) url(base string, version int) string {
	buf := make([]byte, 0, 160)
	buf = append(append(buf, base...), "/api/v"...)
	buf = append(strconv.AppendInt(buf, int64(version), 10), '/')
	if r.endpoint != EndpointStatus {
		buf = append(r.canister.AppendText(append(buf, "canister/"...)), '/')
	}
	return string(append(buf, r.endpoint...))
}
