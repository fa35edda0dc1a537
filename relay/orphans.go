package relay

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/icws-gateway/caddy-icws/relay/internal/pause"
	"github.com/icws-gateway/caddy-icws/relay/internal/upstream"
	"github.com/icws-gateway/caddy-icws/verify"
)

const (
	// orphanAge is how recent a message must be for its client to count as still listed: by default a canister sends
	// each client an ack every 5 minutes.
	orphanAge = 6 * time.Minute
	// orphanPause spaces the ws_close calls for orphans.
	orphanPause = 200 * time.Millisecond
	// maxOrphans bounds the orphans of one canister that are remembered.
	maxOrphans = 20_000
	// scanPages bounds the search for orphans in what was queued before this run.
	scanPages = 400
)

// peers are the gateways of this process by their principal. Gateways with other settings may share an identity, for a
// while after a reload or always: the clients of one are not the orphans of another.
var peers = struct {
	sync.Mutex
	gateways map[verify.Principal]map[*Gateway]struct{}
}{gateways: make(map[verify.Principal]map[*Gateway]struct{})}

// meetPeers lists g among the gateways of its principal.
func (g *Gateway) meetPeers() {
	peers.Lock()
	defer peers.Unlock()
	if peers.gateways[g.Principal()] == nil {
		peers.gateways[g.Principal()] = make(map[*Gateway]struct{})
	}
	peers.gateways[g.Principal()][g] = struct{}{}
}

func (g *Gateway) leavePeers() {
	peers.Lock()
	defer peers.Unlock()
	delete(peers.gateways[g.Principal()], g)
	if len(peers.gateways[g.Principal()]) == 0 {
		delete(peers.gateways, g.Principal())
	}
}

// heldByPeers reports whether another gateway of this process has a session for key.
func (g *Gateway) heldByPeers(canister verify.Principal, key verify.ClientKey) bool {
	peers.Lock()
	all := slices.Collect(maps.Keys(peers.gateways[g.Principal()]))
	peers.Unlock()
	for _, peer := range all {
		if peer == g {
			continue
		}
		peer.mu.Lock()
		c := peer.canisters[canister]
		peer.mu.Unlock()
		if c != nil && c.holds(key) {
			return true
		}
	}
	return false
}

// holds reports whether c has, or had a moment ago, a session for key.
func (c *canister) holds(key verify.ClientKey) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, departed := c.departed[key]
	return departed || c.sessions[key] != nil
}

// noteOrphan notes a message for a client that is not here. The canister still lists the client for this gateway, so a
// crash left it behind, and would keep it until its keep-alive check; unless orphans are kept, it is closed there.
func (c *canister) noteOrphan(m *verify.PageMessage, certified time.Time) {
	if c.g.cfg.KeepOrphans || m.Poison != nil || time.Unix(0, int64(min(m.Timestamp, 1<<63-1))).Before(certified.Add(-orphanAge)) {
		return
	}
	closed := false
	if m.Service {
		s, err := verify.DecodeServiceMessage(m.Payload)
		closed = err == nil && s.Kind == verify.ServiceClose
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, departed := c.departed[m.Client]
	switch {
	case departed || c.sessions[m.Client] != nil:
	case closed:
		delete(c.orphans, m.Client)
		c.depart(m.Client)
	case len(c.orphans) < maxOrphans:
		if _, known := c.orphans[m.Client]; !known {
			c.orphans[m.Client] = time.Now()
		}
		if !c.adopting {
			c.adopting = true
			c.g.spawn("orphans", c.closeOrphans, nil)
		}
	}
}

// depart remembers a client key that needs no ws_close from here any more. The caller holds mu.
func (c *canister) depart(key verify.ClientKey) {
	now := time.Now()
	if len(c.departed) >= maxOrphans {
		for k, at := range c.departed {
			if now.Sub(at) > orphanAge {
				delete(c.departed, k)
			}
		}
		if len(c.departed) >= maxOrphans {
			clear(c.departed)
		}
	}
	c.departed[key] = now
}

// closeOrphans tells the canister, one at a time, that the orphans have gone. Each waits first for as long as a
// gateway may take to drain that is being replaced by this one.
func (c *canister) closeOrphans() {
	grace := c.g.cfg.DrainTimeout + 5*time.Second
	told := 0
	for {
		key, found, wait := c.nextOrphan(grace)
		if !found {
			if told > 0 {
				c.logger().Info("closed sessions that an earlier run left at the canister", zap.Int("sessions", told))
			}
			return
		}
		if wait <= 0 {
			wait = orphanPause
			if !c.g.heldByPeers(c.id, key) {
				c.g.closer.add(c.id, key)
				told++
			}
		}
		if pause.Sleep(c.g.ctx, wait) != nil {
			return
		}
	}
}

// nextOrphan takes the next orphan whose grace is over; with none it returns how long to wait for one. Without any it
// ends the search.
func (c *canister) nextOrphan(grace time.Duration) (key verify.ClientKey, found bool, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for k, since := range c.orphans {
		left := since.Add(grace).Sub(now)
		if left <= 0 {
			delete(c.orphans, k)
			c.depart(k)
			return k, true, 0
		}
		if !found || left < wait {
			key, found, wait = k, true, left
		}
	}
	if !found {
		c.adopting = false
	}
	return key, found, wait
}

// scanOrphans looks for orphans in what was queued before this run and was skipped: nonces from to end, as far as they
// are recent at start, a time by the canister's clock. It runs beside the polling, at the lowest urgency.
func (c *canister) scanOrphans(ctx context.Context, from, end, start uint64) {
	p := &poller{canister: c} // for its verification; it has no loop
	recent := start - min(start, uint64(orphanAge))
	if at, older, err := p.lookAt(from, recent); err == nil && older {
		from = search(at, end, func(nonce uint64) (uint64, bool, error) { return p.lookAt(nonce, recent) }) + 1
	}
	for range scanPages {
		if from >= end {
			return
		}
		r := c.ask(ctx, from, upstream.ClassIdle, nil)
		if r.err != nil || r.reply.Failed || len(r.reply.Messages) == 0 {
			r.release()
			return
		}
		page, err := p.verify(r)
		if err != nil {
			r.release()
			return
		}
		for i := range page.Messages {
			if m := &page.Messages[i]; m.Nonce < end {
				c.noteOrphan(m, page.Time)
			}
			from = page.Messages[i].Nonce + 1
		}
		r.release()
	}
}
