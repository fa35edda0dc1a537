package relay

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// A canister keeps one session of a principal: a ws_open removes the one before without a message. The network executes calls that
// are under way together in any order. The Motoko CDK also executes a call in several parts, between which others come: there a
// ws_close of the older session, executed together with the ws_open of the newer one, makes the newer one unusable. So the ws_open
// and ws_close calls of one principal at one canister go out one after the other.

// turnPatience is how long a ws_open waits for the outcome of an earlier call. Outcomes come after 2 to 5 seconds. After 10 a
// person turns away, a request times out by default, and 40 of the 50 seconds that a session may be opening are left.
const turnPatience = 10 * time.Second

// turns are the lines in which calls wait for earlier ones. Callers hold no lock of a session, a canister or the closer;
// closeBegins, closeRests and closeEnds may be called with the closer's.
type turns struct {
	send func(verify.Principal, verify.ClientKey) bool // queues a ws_close

	mu    sync.Mutex
	lines map[lineKey]*line // those with calls under way or due
	last  uint64            // place of the newest ws_open
}

// lineKey is a principal at a canister.
type lineKey struct{ canister, principal verify.Principal }

// line is what is under way and due for one principal at one canister.
type line struct {
	opening *turn // its ws_open is under way, or about to be
	next    *turn // waits
	closing *lineClose
	due     []verify.ClientKey // for each a ws_close is due
}

// lineClose is a ws_close that has been handed to the closer.
type lineClose struct {
	key   verify.ClientKey
	begun bool
}

// turn is the place of a session's ws_open in its line. The lock of turns guards it.
type turn struct {
	s        *session
	granted  chan struct{}      // closed when the turn has come
	overlaps bool               // it went out before the outcome of an earlier call was known
	replaces []verify.ClientKey // for each a ws_close is due, unless the canister accepts this ws_open
}

// newTurn is a place for the ws_open of s, whose canister and key are known.
func newTurn(s *session) *turn { return &turn{s: s, granted: make(chan struct{})} }

func newTurns(send func(verify.Principal, verify.ClientKey) bool) *turns {
	return &turns{send: send, lines: make(map[lineKey]*line)}
}

// place returns the place of a ws_open that comes now: of two, the one with the higher place is the newer.
func (t *turns) place() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last++
	return t.last
}

// join puts mine in its line, and ends sessions that are before it there and have not sent their ws_open.
func (t *turns) join(mine *turn) {
	t.mu.Lock()
	k := mine.lineKey()
	l := t.line(k)
	var older []*session
	if l.opening != nil {
		older = append(older, l.opening.s)
	}
	if l.next != nil {
		older = append(older, l.next.s)
	}
	l.next = mine
	if l.closing != nil && !l.closing.begun {
		l.withdraw()
	}
	key, due := t.advance(k, l)
	t.mu.Unlock()
	t.queue(k.canister, key, due)
	for _, o := range older {
		o.endUnsent(newClosing(Superseded, ""))
	}
}

// await waits until the ws_open of mine may go out, or ctx ends.
func (t *turns) await(ctx context.Context, mine *turn) {
	patience := time.NewTimer(turnPatience)
	defer patience.Stop()
	select {
	case <-mine.granted:
	case <-ctx.Done():
	case <-patience.C:
		t.overtake(mine)
	}
}

// overtake gives mine its turn although an earlier call is under way. What is due of that stays due.
func (t *turns) overtake(mine *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.lines[mine.lineKey()]
	if l == nil || l.next != mine {
		return
	}
	if o := l.opening; o != nil {
		l.due = append(o.replaces, l.due...)
	}
	l.withdraw()
	mine.overlaps = true
	l.grant()
}

// finish notes that the ws_open of mine is not under way any more; accepted says that the canister has the session. It may be
// called again. nil is a session that takes no turns.
func (t *turns) finish(mine *turn, accepted bool) {
	if mine == nil {
		return
	}
	t.mu.Lock()
	k := mine.lineKey()
	l := t.lines[k]
	switch {
	case l == nil || l.opening != mine && l.next != mine:
		t.mu.Unlock()
		return
	case l.next == mine:
		l.next = nil
	default:
		l.opening = nil
		if !accepted || mine.overlaps {
			l.due = append(mine.replaces, l.due...)
		}
	}
	key, due := t.advance(k, l)
	t.mu.Unlock()
	t.queue(k.canister, key, due)
}

// overlapped reports whether mine went out before the outcome of an earlier call was known.
func (t *turns) overlapped(mine *turn) bool {
	if mine == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return mine.overlaps
}

// leave notes that a ws_close is due. It goes out when nothing else is under way, and not at all if a newer ws_open goes out
// before and is accepted: that removes the client, too.
func (t *turns) leave(canister verify.Principal, key verify.ClientKey) {
	t.mu.Lock()
	k := lineKey{canister, key.Principal}
	l := t.line(k)
	switch o := l.opening; {
	case l.closing != nil && l.closing.key == key || slices.Contains(l.due, key):
		// It is due already.
	case o != nil && !o.overlaps:
		o.replaces = append(o.replaces, key)
	default:
		l.due = append(l.due, key)
	}
	key, due := t.advance(k, l)
	t.mu.Unlock()
	t.queue(k.canister, key, due)
}

// closeBegins notes that the closer takes up a ws_close, and reports whether it may still go out. If not, it is queued again when
// its turn comes.
func (t *turns) closeBegins(canister verify.Principal, key verify.ClientKey) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.lines[lineKey{canister, key.Principal}]
	if l == nil || l.closing == nil || l.closing.key != key {
		return false
	}
	l.closing.begun = true
	return true
}

// closeRests notes that a ws_close which the closer has taken up failed and is not under way. A ws_open that waits goes out first;
// closeBegins says so when the closer takes the ws_close up again.
func (t *turns) closeRests(canister verify.Principal, key verify.ClientKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := lineKey{canister, key.Principal}
	l := t.lines[k]
	if l == nil || l.closing == nil || l.closing.key != key {
		return
	}
	l.closing.begun = false
	if l.next != nil {
		l.withdraw()
		l.grant()
	}
}

// closeEnds notes that the closer is done with a ws_close, whatever came of it, and returns the client of the next one that has to
// be queued.
func (t *turns) closeEnds(canister verify.Principal, key verify.ClientKey) (next verify.ClientKey, due bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := lineKey{canister, key.Principal}
	l := t.lines[k]
	if l == nil || l.closing == nil || l.closing.key != key {
		return verify.ClientKey{}, false
	}
	l.closing = nil
	return t.advance(k, l)
}

// queue queues a ws_close for key if one is due. Those that there is no room for are given up.
func (t *turns) queue(canister verify.Principal, key verify.ClientKey, due bool) {
	for due && !t.send(canister, key) {
		key, due = t.closeEnds(canister, key)
	}
}

// line returns the line of k, made if needed. The caller holds mu.
func (t *turns) line(k lineKey) *line {
	l := t.lines[k]
	if l == nil {
		l = new(line)
		t.lines[k] = l
	}
	return l
}

// advance lets the next call of l go out if none is under way: the ws_open that waits, or else a ws_close that is due, whose client
// it returns, to be queued. A line with nothing left is dropped. The caller holds mu.
func (t *turns) advance(k lineKey, l *line) (key verify.ClientKey, due bool) {
	switch {
	case l.opening != nil || l.closing != nil:
	case l.next != nil:
		l.grant()
	case len(l.due) > 0:
		key, l.due = l.due[0], l.due[1:]
		l.closing = &lineClose{key: key}
		return key, true
	default:
		delete(t.lines, k)
	}
	return verify.ClientKey{}, false
}

// withdraw makes the ws_close that the closer has due again.
func (l *line) withdraw() {
	if l.closing != nil {
		l.due, l.closing = append(l.due, l.closing.key), nil
	}
}

// grant gives the ws_open that waits its turn. What is due is its to replace.
func (l *line) grant() {
	l.opening, l.next = l.next, nil
	l.opening.replaces, l.due = l.due, nil
	close(l.opening.granted)
}

func (t *turn) lineKey() lineKey { return lineKey{t.s.canister.id, t.s.key.Principal} }
