package queue

import (
	"time"

	"github.com/icws-gateway/caddy-icws/relay/internal/quorum"
	"github.com/icws-gateway/caddy-icws/verify"
)

// A queue starts again at nonce 0 when its canister is upgraded or reinstalled, and when it had no clients for long. Polled
// with the old nonce it looks empty for ever after. Two looks find that out: at its beginning when there is a reason, and at
// the newest message seen when there is silence.

const (
	// probeAfter is how long a client that the canister accepted waits for its first message before the beginning of the
	// queue is looked at, and the pause between such looks.
	probeAfter = 2 * time.Second
	// confirmEvery is the pause between looks at the newest message. A queue keeps it until a newer one is sent, so it is
	// there unless the queue began anew, or the node lags: hence lagLimit.
	confirmEvery = 20 * time.Second
	// confirmAgain is the pause until an answer that lacks it is confirmed.
	confirmAgain = time.Second
	// lagLimit is how far behind a node may be that boundary nodes still ask: 50 blocks, at one a second. What nodes sign
	// proves nothing before, where the network does not tell when the canister was installed.
	lagLimit = 50 * time.Second
	// absences is how many answers in a row must lack it, from two nodes where the subnet has two.
	absences = 3
)

// Why is how it is known that a queue began anew.
type Why uint8

// How it is known.
const (
	// Younger: a message is younger than one that came after it. Certified.
	Younger Why = iota
	// Installed: the canister's program was put in place since. Certified.
	Installed
	// Absent: nodes of the subnet sign that the newest message is gone.
	Absent
)

// Cause is what made a queue begin anew.
type Cause uint8

// The causes.
const (
	// Unknown: an upgrade, most likely.
	Unknown Cause = iota
	// Upgrade: an upgrade, at Reset.Installed.
	Upgrade
	// Eviction: no upgrade; the canister dropped the queue.
	Eviction
)

// Reset is a queue that began anew. Sessions whose first message was made at Floor or earlier are not known to the canister
// any more.
type Reset struct {
	Why       Why
	Cause     Cause
	Floor     uint64             // by the canister's clock, in nanoseconds
	Installed time.Time          // zero if it is not known that the program was put in place
	Forgotten []verify.ClientKey // clients that still waited for their first message, and it will not come

	before time.Time // it was over by then
}

// Await notes that the canister accepted a client at now, so that its first message is due. executed is a certified time by
// which the canister had done so; zero = not known. It notes nothing and returns false if the queue began anew since then: the
// canister does not know the client any more.
func (q *Queue) Await(c verify.ClientKey, now, executed time.Time) bool {
	w := wait{now, executed}
	if w.over(q.at.floor) {
		return false
	}
	if _, waits := q.awaited[c]; !waits {
		q.awaited[c] = w
	}
	return true
}

// wait is a client that waits for its first message.
type wait struct{ since, executed time.Time }

// over reports whether the client was accepted in a queue that is over, where everything in the next one is younger than floor.
func (w *wait) over(floor uint64) bool { return !w.executed.IsZero() && stampOf(w.executed) <= floor }

// Forget notes that a client waits no more: its first message came, or it has gone.
func (q *Queue) Forget(c verify.ClientKey) { delete(q.awaited, c) }

// Suspect notes a reason at then to think that the queue began anew.
func (q *Queue) Suspect(then time.Time) {
	if q.suspect.IsZero() {
		q.suspect = then
	}
}

// probe is what is known of the looks at the beginning.
type probe struct {
	due  time.Time   // not before
	host quorum.Host // gave the last answer: it may lag, or hide what is there
}

// absence is what is known of the newest message after answers that lack it.
type absence struct {
	checked time.Time // when it was last asked for
	again   bool      // that brought nothing to go by
	times   int       // answers in a row that lack it
	node    verify.Principal
	others  bool // not all of them were signed by node
	claim   quorum.Claim
	host    quorum.Host // gave the last answer, whatever it was
	lacking time.Time   // when the newest of them was signed
	since   time.Time   // when the first answer that lacks it came, signed or not
}

// Check returns a look at the queue if one is due. There should be one at a time. active is when there was last traffic, and
// watched says that there are sessions and that what comes can be verified.
func (q *Queue) Check(now, active time.Time, watched bool) (Question, bool) {
	if q.failing.times > 0 || q.Searching() {
		return Question{}, false
	}
	if since, due := q.probeDue(now); due {
		q.probe.due = now.Add(probeAfter)
		q.suspect = time.Time{}
		return q.look(Question{Purpose: Beginning, Avoid: q.probe.host, Lightly: !q.install.nothing.Made()}, since, now), true
	}
	if !watched || !q.at.seen() {
		return Question{}, false
	}
	last, pause := q.absence.checked, confirmEvery
	if q.absence.times > 0 || q.absence.again {
		pause = confirmAgain
	} else if active.After(last) {
		last = active
	}
	if now.Sub(last) < pause {
		return Question{}, false
	}
	q.absence.checked, q.absence.again = now, true
	since := q.absence.since
	if since.IsZero() {
		since = now
	}
	return q.look(Question{Purpose: Newest, Avoid: q.absence.host}, since, now), true
}

// look completes a look at the queue for what has been suspected since then.
func (q *Queue) look(ask Question, since, now time.Time) Question {
	if q.avoid != "" && ask.Avoid == "" {
		ask.Avoid = q.avoid
	}
	ask.Signed, ask.since = true, since
	ask.Install = !now.Before(q.install.due) && !q.install.newest.AsOf.After(since)
	ask.InstallAvoid = q.install.lagging
	return ask
}

// probeDue reports whether there is a reason to look at the beginning of the queue, and since when.
func (q *Queue) probeDue(now time.Time) (since time.Time, due bool) {
	if now.Before(q.probe.due) {
		return time.Time{}, false
	}
	since = q.suspect
	for _, w := range q.awaited {
		late := w.since.Add(probeAfter)
		// With nothing passed, news are asked for from the beginning anyhow. What they do not tell is an upgrade.
		if q.at.next == 0 && w.executed.IsZero() {
			continue
		}
		if !late.After(now) && (since.IsZero() || late.Before(since)) {
			since = late
		}
	}
	return since, !since.IsZero()
}

// beginningAnswer deals with the beginning of the queue.
func (q *Queue) beginningAnswer(now time.Time, a *Answer) Decision {
	q.probe.host = a.Vote.Host
	if r, replaced := q.replaced(now, a); replaced {
		return q.restart(r)
	}
	if a.Page == nil {
		return Decision{}
	}
	if disordered(a.Page) {
		return Decision{Stale: true}
	}
	if floor, restarted := q.at.restarted(a.Page); restarted {
		return q.restart(Reset{Why: Younger, Floor: floor, before: StampTime(floor)})
	}
	if q.at.stale(a.Page) {
		return Decision{Stale: true}
	}
	for i := range a.Page.Messages {
		m := &a.Page.Messages[i]
		if m.Poison != nil || m.Sequence != 1 || m.Nonce >= q.at.next {
			continue
		}
		if _, waits := q.awaited[m.Client]; waits {
			q.rewind(m.Nonce)
			return Decision{Do: Rewind, Next: m.Nonce}
		}
	}
	return Decision{}
}

// newestAnswer deals with an answer that should hold the newest message.
func (q *Queue) newestAnswer(now time.Time, a *Answer) Decision {
	q.absence.host = a.Vote.Host
	if a.Page == nil {
		return q.absent(now, a)
	}
	if a.Page.Time.After(q.absence.lacking) {
		q.absence = absence{checked: q.absence.checked, host: a.Vote.Host} // else it comes from a node that lags
	}
	return q.page(now, a)
}

// absent deals with an answer without the newest message.
func (q *Queue) absent(now time.Time, a *Answer) Decision {
	if !q.at.seen() || q.at.newest().nonce != a.Nonce {
		return Decision{} // it is not the newest any more
	}
	if q.absence.since.IsZero() {
		q.absence.since = now
	}
	if r, replaced := q.replaced(now, a); replaced {
		return q.restart(r)
	}
	newest, when := q.at.newest().stamp, a.when()
	if !when.After(q.newest) || when.Sub(StampTime(newest)) < lagLimit {
		return Decision{} // unsigned, or perhaps of a node that lags: proves nothing
	}
	b := &q.absence
	if b.times == 0 {
		b.node = a.Signature.Node
	}
	b.others = b.others || a.Signature.Node != b.node
	b.times++
	b.again, b.lacking = false, when
	// A boundary node cannot sign for the nodes behind it, it can only choose them.
	if b.claim.Add(a.Vote, now) && b.times >= absences && (b.others || a.Signature.Nodes < 2) {
		return q.restart(Reset{Why: Absent, Floor: newest, before: when})
	}
	return Decision{}
}

// restart follows the queue to its new beginning. Nodes that lag go on showing the old one for a while.
func (q *Queue) restart(r Reset) Decision {
	known := &q.install.newest
	switch {
	case !r.Installed.IsZero():
		r.Cause = Upgrade
	case !known.At.IsZero() && stampOf(known.At) <= q.at.since && known.AsOf.After(r.before):
		r.Cause = Eviction
	}
	for c, w := range q.awaited {
		if w.over(r.Floor) {
			r.Forgotten = append(r.Forgotten, c)
			delete(q.awaited, c)
		}
	}
	q.at.restart(r.Floor)
	q.resets++
	q.suspect, q.stale = time.Time{}, time.Time{}
	q.absence = absence{}
	q.moved()
	return Decision{Do: Restart, Reset: r}
}

// stampOf is a time by the canister's clock, in nanoseconds.
func stampOf(t time.Time) uint64 { return uint64(max(t.UnixNano(), 0)) }
