package queue

import (
	"time"

	"github.com/icws-gateway/caddy-icws/relay/internal/quorum"
	"github.com/icws-gateway/caddy-icws/verify"
)

// An upgrade drops everything that a canister keeps for its clients. The network certifies when it was (interface
// specification 0.66), and anybody may read that: proof, where the signs of a queue that began anew are inference.

const (
	// installPause is the pause after a reading that failed, installUnheard after one of which the network does not know
	// the path: it is of an older version.
	installPause   = 10 * time.Second
	installUnheard = 10 * time.Minute
)

// InstallReading is what was read of when a canister's program was put in place.
type InstallReading struct {
	At   time.Time   // zero if the network does not know
	AsOf time.Time   // the certified time of the reading
	Host quorum.Host // that answered
	// Failed says that it brought nothing, and Unheard that the network does not know what it was asked for.
	Failed, Unheard bool
}

// install is what is known of it.
type install struct {
	newest  InstallReading // by its certified time
	due     time.Time      // no reading before
	lagging quorum.Host    // gave a reading from before the suspicion
	nothing quorum.Claim   // nothing is left of the queue since
}

// noteInstall notes a reading that came with the answer to a look at the queue.
func (q *Queue) noteInstall(now time.Time, a *Answer) {
	in := a.Install
	switch {
	case in == nil:
		return
	case in.Unheard:
		q.install.due = now.Add(installUnheard)
		return
	case in.Failed:
		q.install.due = now.Add(installPause)
		return
	}
	if in.AsOf.After(q.install.newest.AsOf) {
		if !in.At.Equal(q.install.newest.At) {
			q.install.nothing.Contradict()
		}
		q.install.newest = *in
	}
	q.install.lagging = ""
	if !in.AsOf.After(a.Question.since) {
		q.install.lagging = in.Host // or it lies: what it says is from before the suspicion
		q.lookAgain(now, a)
	}
}

// lookAgain has the beginning of the queue looked at once more for the same suspicion, if a is a look at it and too old; but
// not for longer than nodes can lag.
func (q *Queue) lookAgain(now time.Time, a *Answer) {
	if a.Question.Purpose == Beginning && now.Sub(a.Question.since) < lagLimit {
		q.Suspect(a.Question.since)
	}
}

// replaced reports whether the canister's program is known to have been put in place since the queue is followed, which
// dropped it. a is a look at the queue.
func (q *Queue) replaced(now time.Time, a *Answer) (Reset, bool) {
	at, since := q.install.newest.At, q.followed()
	if at.IsZero() || since == 0 || stampOf(at) <= since {
		return Reset{}, false
	}
	switch {
	case a.when().Before(at): // who lags or hides messages does not know what became of the queue
		q.lookAgain(now, a)
		return Reset{}, false
	case a.Page == nil && !q.install.nothing.Add(a.Vote, now): // a node signs it, but another may show what is left
		q.probe.due = now.Add(pauseAfter(a.Vote))
		q.lookAgain(now, a)
		return Reset{}, false
	case a.Page != nil && outlives(a.Page, stampOf(at)):
		q.at.since = stampOf(at) // this canister keeps its queue in stable memory
		q.install.nothing.Contradict()
		return Reset{}, false
	}
	// The time is that of a block, and the new program may have opened sessions in the same one.
	return Reset{Why: Installed, Floor: stampOf(at) - 1, Installed: at}, true
}

// when is the time of what an answer shows, as far as that is certified or signed, and zero if it is not.
func (a *Answer) when() time.Time {
	switch {
	case a.Page != nil:
		return a.Page.Time
	case a.Signature != nil:
		return a.Signature.Time
	}
	return time.Time{}
}

// followed returns since when the queue is known to have been there; 0 = it is not. Before its first message that is since a
// client was accepted.
func (q *Queue) followed() uint64 {
	since := q.at.since
	if since != 0 {
		return since
	}
	for _, w := range q.awaited {
		if !w.executed.IsZero() && (since == 0 || stampOf(w.executed) < since) {
			since = stampOf(w.executed)
		}
	}
	return since
}

// outlives reports whether page, which is of the block of that time or a later one, shows messages from before.
func outlives(page *verify.Page, stamp uint64) bool {
	for i := range page.Messages {
		if m := &page.Messages[i]; m.Poison == nil {
			return m.Timestamp < stamp
		}
	}
	return false
}
