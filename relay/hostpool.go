package relay

import (
	"slices"
	"sync/atomic"
)

// hostPool is the hosts that requests go to: those of the configuration, always, and those that were discovered. Requests
// that are under way keep the list they began with.
type hostPool struct {
	configured hosts // never changes
	all        atomic.Pointer[hosts]
}

// discover makes found the discovered hosts, instead of those before.
func (p *hostPool) discover(found hosts) {
	all := slices.Concat(p.configured, found)
	p.all.Store(&all)
}

// discovered lists the discovered hosts.
func (p *hostPool) discovered() hosts { return (*p.all.Load())[len(p.configured):] }

// configures reports whether a host of this name is configured.
func (p *hostPool) configures(name string) bool {
	return slices.ContainsFunc(p.configured, func(h *host) bool { return h.name == name })
}

// hosts lists the hosts there are now. The list does not change.
func (u *upstream) hosts() hosts { return *u.pool.all.Load() }
