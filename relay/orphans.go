package relay

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/icws-gateway/caddy-icws/relay/internal/pause"
	"github.com/icws-gateway/caddy-icws/relay/internal/queue"
	"github.com/icws-gateway/caddy-icws/relay/internal/upstream"
	"github.com/icws-gateway/caddy-icws/verify"
)

const (
	// orphanAge is how recent a message must be for its client to count as still listed: by default a canister sends
	// each client an ack every 5 minutes.
	orphanAge = 6 * time.Minute
	// sharedFresh is how long a proof holds that another live instance has this identity. It may be long: the canister's own
	// keep-alive check ends what a crash leaves behind meanwhile.
	sharedFresh = time.Hour
	// orphanPause spaces the ws_close calls for orphans.
	orphanPause = 200 * time.Millisecond
	// maxOrphans bounds the orphans of one canister that are remembered.
	maxOrphans = 20_000
	// scanPages bounds the search for orphans in what was queued before this run.
	scanPages = 400
)

// noteOrphan notes a message, of kind if it is a service message, for a client that is not here. A CloseMessage says that no
// ws_close is needed for it any more. After any other the canister still lists the client for this gateway: a crash left it behind,
// and the canister would keep it until its keep-alive check. Unless orphans are kept, it is closed there.
//
// The client may also be one of another live instance with the same identity. An OpenMessage that is younger than this
// gateway, for a client that was never here, proves that there is one. While that proof is fresh no orphan is noted or
// closed.
func (c *canister) noteOrphan(m *verify.PageMessage, kind verify.ServiceKind, certified time.Time) {
	made := queue.StampTime(m.Timestamp)
	if m.Poison != nil || made.Before(certified.Add(-orphanAge)) {
		return
	}
	if kind == verify.ServiceClose {
		c.g.closer.forget(c.id, m.Client)
	}
	if c.g.cfg.KeepOrphans || c.g.peers.know(c.departure(m.Client)) {
		return
	}
	if kind == verify.ServiceOpen && made.After(c.g.started.Add(c.g.orphanGrace())) {
		c.g.noteSharedIdentity(c.id)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case kind == verify.ServiceClose:
		delete(c.orphans, m.Client)
		c.g.peers.depart(c.departure(m.Client))
	case c.g.identityShared():
	case len(c.orphans) < maxOrphans:
		if _, known := c.orphans[m.Client]; !known {
			c.orphans[m.Client] = time.Now()
		}
		if !c.closingOrphans {
			c.closingOrphans = true
			c.g.spawn("orphans", c.closeOrphans, nil)
		}
	}
}

// departure is the client key at this canister, as Peers know it.
func (c *canister) departure(key verify.ClientKey) departure {
	return departure{gateway: c.g.Principal(), canister: c.id, key: key}
}

// orphanGrace is how long a gateway that this one replaces may go on: its drain, and the ws_open calls that were under
// way when it ended.
func (g *Gateway) orphanGrace() time.Duration { return g.cfg.DrainTimeout + 5*time.Second }

// noteSharedIdentity notes proof, found in the queue of canister, that another instance with this identity is alive.
func (g *Gateway) noteSharedIdentity(canister verify.Principal) {
	now := time.Now()
	if before := g.sharedSeen.Swap(&now); before == nil || now.Sub(*before) >= sharedFresh {
		g.log().Warn("another instance with this identity is alive: no session is closed as left behind; set `orphans keep` on every instance, or give each an identity of its own",
			zap.Stringer("canister_id", canister), zap.Stringer("gateway_principal", g.Principal()), zap.Duration("for", sharedFresh))
	}
}

// identityShared reports whether there is fresh proof of another live instance with this identity.
func (g *Gateway) identityShared() bool {
	seen := g.sharedSeen.Load()
	return seen != nil && time.Since(*seen) < sharedFresh
}

// closeOrphans tells the canister, one at a time, that the orphans have gone. Each waits first for as long as a
// gateway may take to drain that is being replaced by this one.
func (c *canister) closeOrphans() {
	closed := 0
	for {
		key, found, wait := c.nextOrphan(c.g.orphanGrace())
		if !found {
			if closed > 0 {
				c.logger().Info("asked the canister to close what an earlier run may have left there", zap.Int("sessions", closed))
			}
			return
		}
		if wait <= 0 {
			wait = orphanPause
			c.g.turns.leave(c.id, key)
			closed++
		}
		if pause.Sleep(c.g.ctx, wait) != nil {
			return
		}
	}
}

// orphansLeft reports whether the canister may still list clients that a crash left behind.
func (c *canister) orphansLeft() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.orphans) > 0
}

// nextOrphan takes the next orphan whose grace is over; with none it returns how long to wait for one. Without any,
// closeOrphans ends.
func (c *canister) nextOrphan(grace time.Duration) (key verify.ClientKey, found bool, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.g.identityShared() {
		clear(c.orphans)
	}
	now := time.Now()
	for k, since := range c.orphans {
		left := since.Add(grace).Sub(now)
		if left <= 0 {
			delete(c.orphans, k)
			c.g.peers.depart(c.departure(k))
			return k, true, 0
		}
		if !found || left < wait {
			key, found, wait = k, true, left
		}
	}
	if !found {
		c.closingOrphans = false
	}
	return key, found, wait
}

// scanOrphans looks for orphans in what was queued before this run and was skipped: nonces from to end, as far as they
// are recent at start, a time by the canister's clock. It runs beside the polling, at the lowest urgency.
func (c *canister) scanOrphans(ctx context.Context, from, end, start uint64) {
	recent := start - min(start, uint64(orphanAge))
	if last, old, err := c.lastBefore(ctx, from, recent); err == nil && old {
		search := queue.NewSearch(last, end)
		for nonce, more := search.Next(); more; nonce, more = search.Next() {
			if last, old, err = c.lastBefore(ctx, nonce, recent); err != nil {
				break
			}
			search.Found(nonce, last, old)
		}
		from = search.Low() + 1
	}
	for range scanPages {
		if from >= end {
			return
		}
		r := c.fetch(ctx, &queue.Question{Purpose: queue.Head}, from, upstream.ClassIdle, false)
		if r.said.Page == nil {
			r.release()
			return
		}
		for i := range r.said.Page.Messages {
			m := &r.said.Page.Messages[i]
			if m.Nonce < end {
				c.noteOrphan(m, serviceKind(m), r.said.Page.Time)
			}
			from = m.Nonce + 1
		}
		r.release()
	}
}

// lastBefore polls from nonce and reports whether there is a message older than stamp on the page, and the nonce of the last
// such one.
func (c *canister) lastBefore(ctx context.Context, nonce, stamp uint64) (last uint64, old bool, err error) {
	r := c.fetch(ctx, &queue.Question{Purpose: queue.Head}, nonce, upstream.ClassIdle, false)
	defer r.release()
	if r.said.Page != nil {
		last, old = queue.LastBefore(r.said.Page, stamp)
	}
	return last, old, r.err
}
