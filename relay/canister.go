package relay

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/icws-gateway/caddy-icws/relay/internal/queue"
	"github.com/icws-gateway/caddy-icws/relay/internal/upstream"
	"github.com/icws-gateway/caddy-icws/verify"
)

// canister is what the gateway keeps for one canister while it has sessions there: who gets which messages, and the
// poller, whose goroutine is run.
type canister struct {
	g  *Gateway
	id verify.Principal

	ctx  context.Context // of its polls; ends with the poller
	stop func()          // ends ctx

	wake   chan struct{} // tells the poller of demand; holds one
	primed chan struct{} // closed once the head of the queue is known

	mu        sync.Mutex
	retired   bool                          // the poller has ended; take another entry
	sessions  map[verify.ClientKey]*session // live client keys, routed or not
	routes    map[verify.ClientKey]*session // who gets messages
	latest    map[verify.Principal]*session // of each principal the session that the canister opened last
	queue     *queue.Queue                  // what the canister has for us, and how polling it goes
	active    time.Time                     // last traffic either way
	emptied   time.Time                     // when the last session left
	lastPoll  time.Time                     // last good answer
	caughtUp  time.Time                     // when the newest poll began that has brought the end of the queue
	complete  time.Time                     // certified time of the newest page that has, by the network's clock
	demand    demand
	foresight foresight
	// lastError and failure are of the last poll if it failed: why it did, and what clients are told if it stays like this.
	lastError string
	failure   *closing
	callError string // of the last call of a client, if it failed and has no outcome yet
	acks      ackRounds
	// acksMissing says that the canister sends no acks, which has been logged.
	acksMissing bool

	delegation *upstream.Delegation

	orphans        map[verify.ClientKey]time.Time // listed by the canister and not here; since when that is known
	closingOrphans bool                           // closeOrphans runs
}

func newCanister(g *Gateway, id verify.Principal) *canister {
	now := time.Now()
	ctx, stop := context.WithCancel(g.ctx)
	return &canister{
		g:          g,
		id:         id,
		ctx:        ctx,
		stop:       stop,
		wake:       make(chan struct{}, 1),
		primed:     make(chan struct{}),
		sessions:   make(map[verify.ClientKey]*session),
		routes:     make(map[verify.ClientKey]*session),
		latest:     make(map[verify.Principal]*session),
		queue:      queue.New(g.cfg.OutageTimeout),
		orphans:    make(map[verify.ClientKey]time.Time),
		delegation: g.up.NewDelegation(id),
		active:     now,
		emptied:    now,
	}
}

// principal is the canister's id, zero for nil.
func (c *canister) principal() verify.Principal {
	if c == nil {
		return verify.Principal{}
	}
	return c.id
}

// logger is the gateway's present one, with the canister's id.
func (c *canister) logger() *zap.Logger {
	return c.g.log().Named("poller").With(zap.Stringer("canister_id", c.id))
}

// add registers s under its client key, or says why not, or that the entry is retired. A late session gets messages
// only once route is called.
func (c *canister) add(s *session, limit int, late bool) (refused *closing, retired bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.retired:
		return nil, true
	case c.sessions[s.key] != nil:
		return newClosing(Replayed, "ws_open: this client key has a live session, open with a new nonce"), false
	case limit > 0 && len(c.sessions) >= limit:
		return newClosing(OverCapacity, "canister has as many sessions as it may on this gateway, try again later"), false
	}
	c.sessions[s.key] = s
	if !late {
		c.routes[s.key] = s
	}
	c.active = time.Now()
	return nil, false
}

// route lets a late session have its messages, from the position on that the poller had before its ws_open.
func (c *canister) route(s *session, before queue.Bookmark) {
	c.mu.Lock()
	if c.sessions[s.key] == s {
		c.routes[s.key] = s
		c.queue.Rewind(before) // expect recognizes what others have had already by its sequence number
	}
	c.mu.Unlock()
	c.nudge(time.Time{})
}

// remove takes s out, if it is in.
func (c *canister) remove(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sessions[s.key] != s {
		return
	}
	delete(c.sessions, s.key)
	delete(c.routes, s.key)
	c.queue.Forget(s.key)
	c.g.peers.depart(c.departure(s.key))
	if c.latest[s.key.Principal] == s {
		delete(c.latest, s.key.Principal)
	}
	if len(c.sessions) == 0 {
		c.emptied = time.Now()
	}
}

// retire marks the entry as ended if it has no sessions, and reports whether it did.
func (c *canister) retire() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retired = len(c.sessions) == 0
	return c.retired
}

// lingering reports whether there are no sessions, and since when.
func (c *canister) lingering() (since time.Time, lingers bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.emptied, len(c.sessions) == 0
}

// all lists the sessions.
func (c *canister) all() []*session {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]*session, 0, len(c.sessions))
	for _, s := range c.sessions {
		list = append(list, s)
	}
	return list
}

// endAll ends every session with cl.
func (c *canister) endAll(cl *closing) {
	for _, s := range c.all() {
		s.end(cl)
	}
}

// crashed ends what depends on a poller that has panicked.
func (c *canister) crashed() {
	c.g.mu.Lock()
	if c.g.canisters[c.id] == c {
		delete(c.g.canisters, c.id)
	}
	c.mu.Lock()
	c.retired = true
	c.mu.Unlock()
	c.g.mu.Unlock()
	c.endAll(newClosing(InternalError, ""))
}

// noteCaughtUp notes that a poll which began then has brought the end of the queue, and that what it brought is handed out.
func (c *canister) noteCaughtUp(began time.Time) {
	c.mu.Lock()
	c.caughtUp = later(c.caughtUp, began)
	c.mu.Unlock()
}

// caughtUpSince reports whether a poll that began after then has brought the end of the queue.
func (c *canister) caughtUpSince(then time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.caughtUp.After(then)
}

// accepted notes that the canister accepted the ws_open of s, so that its first message is due. executed is a certified time by
// which it had; zero = not known.
func (c *canister) accepted(s *session, executed time.Time) {
	c.mu.Lock()
	known := true
	if c.sessions[s.key] == s && !s.hasOpened() {
		known = c.queue.Await(s.key, time.Now(), executed)
	}
	c.mu.Unlock()
	if !known {
		s.endRemoved(resetClosing(&queue.Reset{}))
	}
}

// missedFirst notes that a later message of s came and its first did not. Most likely the queue began anew and has grown
// past the position, so that the first is behind it.
func (c *canister) missedFirst(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.queue.Suspect(now)
	if c.sessions[s.key] == s {
		c.queue.Await(s.key, now, time.Time{})
	}
}

// suspect notes that the canister does not know a session that we hold.
func (c *canister) suspect() {
	c.mu.Lock()
	c.queue.Suspect(time.Now())
	c.mu.Unlock()
	c.nudge(time.Time{})
}

// verifiedLately reports whether a page of the canister was verified not long before now.
func (c *canister) verifiedLately(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.queue.VerifiedLately(now)
}

// position returns the nonce that is polled for next.
func (c *canister) position() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.queue.Position()
}

// bookmark returns the position, to come back to.
func (c *canister) bookmark() queue.Bookmark {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.queue.Bookmark()
}

// ready waits until the poller knows the head of the queue, ctx ends or expiry has passed, and reports whether it
// does. A ws_open goes out only then: what is queued before it is not for its client, what comes after it is.
func (c *canister) ready(ctx context.Context, expiry time.Time) bool {
	select {
	case <-c.primed:
		return true
	default:
	}
	ctx, cancel := context.WithDeadline(ctx, expiry)
	defer cancel()
	select {
	case <-c.primed:
		return true
	case <-ctx.Done():
		return false
	}
}

// failing returns when the canister could be polled again after it could not, zero if that never was, and why it cannot be polled
// now, nil if it can. Polls must have failed for failingAfter: until then it may be the word of one boundary node.
func (c *canister) failing() (recovered time.Time, failure *closing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, since, recovered := c.queue.Failing()
	if c.failure == nil || time.Since(since) < failingAfter {
		return recovered, nil
	}
	return recovered, c.failure
}

const failingAfter = 3 * time.Second

// unreadyBecause is what to tell a client whose canister could not be polled once.
func (c *canister) unreadyBecause() *closing {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failure != nil {
		return c.failure
	}
	return noTurn(methodOpen) // no poll has failed: the first one still waits
}

// receive hands message i of a verified page to the session it is for, and returns that if its frames are to be written by the caller.
func (c *canister) receive(page *verify.Page, i int) (mine *session) {
	m := &page.Messages[i]
	kind := serviceKind(m)
	ack := kind == verify.ServiceAck
	c.mu.Lock()
	s := c.routes[m.Client]
	c.acks.note(m.Timestamp, ack, time.Now())
	c.acksMissing = c.acksMissing && !ack
	c.mu.Unlock()
	if s == nil {
		if kind == verify.ServiceOpen {
			c.openedByOther(m)
		}
		c.noteOrphan(m, kind, page.Time)
		return nil
	}
	if m.Poison != nil {
		s.end(newClosing(MessageLost, "a message of the canister names two recipients, reconnect"))
		return nil
	}
	first, ok := s.expect(m.Sequence, m.Timestamp)
	if !ok {
		return nil
	}
	if !page.Flat && !s.sharded {
		s.end(newClosing(ClientOutdated, ""))
		return nil
	}
	if first {
		c.opened(s, m.Timestamp)
	}
	s.noteService(kind, m.Timestamp)
	f := outFrame{newFrame(page, i), queue.StampTime(m.Timestamp).UnixNano(), page.Time.Add(maxFrameAge).UnixNano()}
	if !s.send(f) {
		return nil
	}
	return s
}

// maxFrameAge is how old the certificate of a frame may be when it is sent. Clients refuse one that is older than 5
// minutes when it arrives.
const maxFrameAge = verify.MaxCertificateAge - 30*time.Second
