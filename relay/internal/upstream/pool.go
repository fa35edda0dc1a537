package upstream

import (
	"slices"
	"sync/atomic"
)

// hostPool is the hosts that requests go to: those of the configuration, always, and those that were discovered. Requests
// that are under way keep the list they began with.
type hostPool struct {
	configured Hosts // never changes
	all        atomic.Pointer[Hosts]
}

// discover makes found the discovered hosts, instead of those before.
func (p *hostPool) discover(found Hosts) {
	all := slices.Concat(p.configured, found)
	p.all.Store(&all)
}

// discovered lists the discovered hosts.
func (p *hostPool) discovered() Hosts { return (*p.all.Load())[len(p.configured):] }

// configures reports whether a host of this name is configured.
func (p *hostPool) configures(name string) bool {
	return slices.ContainsFunc(p.configured, func(h *Host) bool { return h.name == name })
}

// Hosts lists the hosts there are now. The list does not change.
func (n *Network) Hosts() Hosts { return *n.pool.all.Load() }

// Named returns the host of this name, nil if there is none.
func (hs Hosts) Named(name string) *Host {
	for _, h := range hs {
		if h.name == name {
			return h
		}
	}
	return nil
}
