package queue

import (
	"time"

	"github.com/icws-gateway/caddy-icws/relay/internal/quorum"
)

const (
	// AbsencePatience is how long it must be said of a canister that did answer before that it does not exist, or can never be
	// polled: boundary nodes that are late with the routing table say so for a moment.
	AbsencePatience = 10 * time.Second
	// verifiedLately is how long a verified page proves that the canister exists and speaks the protocol. A canister with
	// sessions gives one at least every confirmEvery, and every ack interval of its CDK (5 minutes).
	verifiedLately = 10 * time.Minute
)

// Kind is what a failure is.
type Kind uint8

// The kinds.
const (
	None Kind = iota
	// Unreachable: no answer, or one that says that the network has trouble.
	Unreachable
	// Unverified: an answer that does not hold.
	Unverified
	// Refused: the canister, or the IC for it, cannot answer at present.
	Refused
	// Trapped: the canister trapped or rejected. Its answer may be too large for the IC.
	Trapped
	// NotFound: no such canister where the request went.
	NotFound
	// Never: no waiting cures it. The canister does not speak the protocol, or is not served.
	Never
)

// Failure is why there is no answer to go by. The zero value is none.
type Failure struct {
	Kind Kind
	// Stopped says that the canister is not running, as it is during an upgrade.
	Stopped bool
	// RetryAfter is how long the host wants to be left alone, where no other can be asked. 0 = it does not say.
	RetryAfter time.Duration
}

// failing is how the polls fail.
type failing struct {
	times     int // in a row
	since     time.Time
	recovered time.Time // when the last ones ended
	stopped   bool      // the last one says that the canister is not running
	never     quorum.Claim
	trapped   quorum.Claim // what is at the position cannot be had
	search    time.Time    // no search past it before
}

// Failing returns how many polls have failed in a row, since when, and when the last failures ended.
func (q *Queue) Failing() (times int, since, recovered time.Time) {
	return q.failing.times, q.failing.since, q.failing.recovered
}

// works notes an answer that holds, and reports whether it is the first such one after failures.
func (q *Queue) works(now time.Time, a *Answer) (recovered bool) {
	f := &q.failing
	recovered = f.times > 0
	if recovered {
		f.recovered = now
		if f.stopped || now.Sub(f.since) >= probeAfter {
			q.Suspect(now) // it was stopped as for an upgrade, or a new queue may have grown past the position unseen
		}
	}
	q.failing = failing{recovered: f.recovered, search: f.search}
	q.worked = true
	q.avoid = ""
	if q.silent.enough() {
		q.avoid = q.silent.host
	}
	return recovered
}

// failure deals with an answer that is none to go by. A search of which it is may end with that.
func (q *Queue) failure(now time.Time, a *Answer) Decision {
	for _, c := range q.claims() {
		c.Unanswered(a.Question.Avoid, a.Vote.Host)
	}
	switch a.Question.Purpose {
	case Beginning:
		q.probe.host = "" // whoever else was asked gives no answer
		q.lookAgain(now, a)
	case Newest:
		q.absence.host = ""
	case Past:
		if d, done := q.pastFailed(now, a); done {
			return d
		}
	case Head:
		if q.head.search != nil && a.Question.id == q.asked {
			return q.begin(q.head.search.Low() + 1) // searching is a favour: go on from here
		}
	}
	return q.failed(now, a)
}

// failed notes a poll that brought nothing, and says whether to go on.
func (q *Queue) failed(now time.Time, a *Answer) Decision {
	f := &q.failing
	if f.times == 0 {
		f.since = now
	}
	f.times++
	f.stopped = a.Failure.Stopped
	if a.Vote.Host != "" {
		q.avoid, q.silent = a.Vote.Host, silent{}
	}
	d := Decision{Do: TryAgain, Pause: a.Failure.RetryAfter}
	final := false
	switch a.Failure.Kind {
	case Trapped:
		// Of a page before the position it says nothing that matters any more.
		if a.Nonce == q.at.next && f.trapped.Add(a.Vote, now) && !now.Before(f.search) && q.past == nil {
			q.past = newPast(q.at.next)
			d.Do, d.Pause = AskOn, 0
			return d
		}
	case NotFound:
		final = q.neverBelieved(now, a) && !q.VerifiedLately(now)
	case Never:
		final = q.neverBelieved(now, a)
	}
	if final || now.Sub(f.since) >= q.outageTimeout {
		d.Do = GiveUp
	}
	return d
}

// neverBelieved counts the word of a host that says that the canister can never be polled. Of one that did answer before it must
// have been said for a while.
func (q *Queue) neverBelieved(now time.Time, a *Answer) bool {
	f := &q.failing
	return f.never.Add(a.Vote, now) && (!q.worked || now.Sub(f.never.Since()) >= AbsencePatience)
}

// VerifiedLately reports whether a page was verified not long before now. What a host then says of the canister without proof
// is an outage.
func (q *Queue) VerifiedLately(now time.Time) bool {
	return !q.verified.IsZero() && now.Sub(q.verified) < verifiedLately
}
