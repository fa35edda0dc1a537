package relay

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

const (
	// departedFor is how long Peers remember a client that has left, at least: as long as a page may hold messages for
	// it that are young enough to make it an orphan.
	departedFor = orphanAge + verify.MaxCertificateAge
	// maxDeparted bounds that memory: twice as many clients, some 100 bytes each.
	maxDeparted = 20_000
)

// Peers are the gateways of one process. Gateways with different settings may share an identity, for a while after a
// reload or always: the clients of one are not the orphans of another. The zero value is ready for use. All gateways
// of a process should be given the same one, see [Config.Peers]. It is safe for concurrent use.
type Peers struct {
	mu       sync.Mutex
	gateways map[*Gateway]struct{}
	departed map[departure]struct{} // since rotated
	earlier  map[departure]struct{} // before rotated
	rotated  time.Time
}

// departure is a client that has left, or that was closed at its canister.
type departure struct {
	gateway  verify.Principal
	canister verify.Principal
	key      verify.ClientKey
}

// join lists g until leave.
func (p *Peers) join(g *Gateway) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gateways == nil {
		p.gateways = make(map[*Gateway]struct{})
	}
	p.gateways[g] = struct{}{}
}

func (p *Peers) leave(g *Gateway) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.gateways, g)
}

// depart remembers a client that needs no ws_close any more.
func (p *Peers) depart(d departure) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); now.Sub(p.rotated) > departedFor || len(p.departed) >= maxDeparted {
		p.departed, p.earlier, p.rotated = make(map[departure]struct{}), p.departed, now
	}
	p.departed[d] = struct{}{}
}

// know reports whether a gateway of this process has a session for the client, or had one a moment ago, or has closed
// the client at its canister. The caller holds no lock of a gateway or a canister.
func (p *Peers) know(d departure) bool {
	p.mu.Lock()
	all := slices.Collect(maps.Keys(p.gateways))
	p.mu.Unlock()
	for _, g := range all {
		if g.Principal() == d.gateway && g.holds(d.canister, d.key) {
			return true
		}
	}
	// After the sessions: one that ends is noted here before others can see that it is not there any more.
	return p.hasLeft(d)
}

// hasLeft reports whether the client was here, not too long ago, and is not any more.
func (p *Peers) hasLeft(d departure) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, departed := p.departed[d]
	_, earlier := p.earlier[d]
	return departed || earlier
}

// holds reports whether g has a session for the client.
func (g *Gateway) holds(canister verify.Principal, key verify.ClientKey) bool {
	g.mu.Lock()
	c := g.canisters[canister]
	g.mu.Unlock()
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sessions[key] != nil
}
