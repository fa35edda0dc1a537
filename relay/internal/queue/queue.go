package queue

import (
	"time"

	"github.com/icws-gateway/caddy-icws/relay/internal/quorum"
	"github.com/icws-gateway/caddy-icws/verify"
)

// Purpose is what a question is for.
type Purpose uint8

// The questions.
const (
	// News asks for the messages from the position on.
	News Purpose = iota
	// Beginning asks for the beginning of the queue: has it begun anew?
	Beginning
	// Newest asks for the newest message seen again: is it still there?
	Newest
	// Head looks for where to begin, before there is a position.
	Head
	// Past looks for the next page that can be had, past one that cannot.
	Past
)

// Question is a poll to make. [Queue.Nonce] says from where, once the poll may go out.
type Question struct {
	Purpose Purpose
	// Lightly says that Avoid is only for a change: not if the others are in bad health.
	Lightly bool
	// Signed asks to check who signed the answer, should it be empty.
	Signed bool
	// Install asks to read when the canister's program was put in place: for Newest only if the answer is empty.
	Install bool
	// Avoid is a host not to ask, if there is another that answers. Empty = none.
	Avoid quorum.Host
	// InstallAvoid is a host not to read the install time from, if there is another that answers. Empty = none.
	InstallAvoid quorum.Host

	since time.Time // what the question is about has been suspected since
	id    uint64    // of a search
	at    uint64    // nonce to ask for in a search
}

// Answer is what came back. It is not changed, and nothing of it is kept.
type Answer struct {
	// Question was asked. It is required.
	Question *Question
	// Nonce is what was asked for.
	Nonce uint64
	// Vote says who answered. Of a failure without an answer it may name the host that failed, or none.
	Vote quorum.Vote
	// Page is the verified page. nil = the answer has no messages, or is a failure.
	Page *verify.Page
	// More says that the canister has more behind the page.
	More bool
	// Repeated says that the answer was not verified, because all in it has been passed already.
	Repeated bool
	// Signature is who signed an empty answer, where that was asked for. nil = none that holds.
	Signature *Signature
	// Install is the reading that was asked for, or nil.
	Install *InstallReading
	// Failure is why there is no answer to go by.
	Failure Failure
}

// Signature is a node's on an answer without messages, after it was checked.
type Signature struct {
	Node verify.Principal
	Time time.Time
	// Nodes is how many nodes the subnet has.
	Nodes int
}

// Do is what to do with an answer.
type Do uint8

// What there is to do.
const (
	// Nothing: it brings nothing new.
	Nothing Do = iota
	// Deliver: hand out the messages of the page from Decision.From on. The position is behind them already.
	Deliver
	// AskOther: what it shows is not believed. Ask again after Decision.Pause; the next question avoids its host.
	AskOther
	// AskOn: a search goes on. Ask the next question now.
	AskOn
	// Begin: the head of the queue is found. Messages of an earlier run, from Decision.Oldest to before Decision.Next, are
	// passed over.
	Begin
	// Rewind: the first message of a session was passed. Read again from Decision.Next on.
	Rewind
	// Restart: the queue began anew, see Decision.Reset.
	Restart
	// Skip: Decision.Skipped messages cannot be had. Ask again now.
	Skip
	// TryAgain: the poll brought nothing. Ask again after a pause that grows with [Queue.Failing].
	TryAgain
	// GiveUp: as TryAgain, and nobody can be served any more for now. The last failure says why.
	GiveUp
)

// Decision is what to do with an answer.
type Decision struct {
	Do       Do
	From     int           // Deliver
	Pause    time.Duration // AskOther; and at least this long for TryAgain and GiveUp
	Oldest   uint64        // Begin
	Next     uint64        // Begin, Rewind
	Start    uint64        // Begin: the time at the canister, in nanoseconds
	Reset    Reset         // Restart
	Skipped  uint64        // Skip
	Missing  uint64        // AskOther: so many messages are missing before the page, said for the first time
	Poisoned []int         // messages of the page that cannot be used, said for the first time
	// Stale says that the page is of a queue that has ended.
	Stale bool
	// Good says that the answer holds and its host is fit, and Recovered that it is the first such one after failures.
	Good, Recovered bool
}

// Queue is what is known of one canister's queue. Make one with [New]. It is not safe for concurrent use.
type Queue struct {
	outageTimeout time.Duration

	at     position
	resets int // times that the queue began anew
	head   head
	past   *past  // the search past what cannot be had; nil = there is none
	asked  uint64 // id of the last question of a search
	avoid  quorum.Host
	silent silent
	gap    gap
	poison map[poison]*quorum.Claim
	stale  time.Time // since when all pages have been of a queue that has ended; zero = the last was not

	failing  failing
	worked   bool      // there was a good answer
	verified time.Time // when the last page came
	newest   time.Time // time of the newest certificate

	awaited map[verify.ClientKey]wait // clients whose first message is due
	suspect time.Time                 // since when there is reason to think that the queue began anew; zero = there is none
	probe   probe
	absence absence
	install install
}

// New returns the state before the first poll. outageTimeout is how long polls may fail before it gives up.
func New(outageTimeout time.Duration) *Queue {
	return &Queue{
		outageTimeout: outageTimeout,
		poison:        make(map[poison]*quorum.Claim),
		awaited:       make(map[verify.ClientKey]wait),
	}
}

// Position returns the nonce of the next message.
func (q *Queue) Position() uint64 { return q.at.next }

// Searching reports whether Next asks the questions of a search, of which there is one at a time.
func (q *Queue) Searching() bool { return !q.head.found || q.past != nil }

// Certified returns the time of the newest certificate that came, zero before the first one.
func (q *Queue) Certified() time.Time { return q.newest }

// Bookmark is a position to come back to.
type Bookmark struct {
	resets int // of the queue, before it
	nonce  uint64
}

// Bookmark returns the present position.
func (q *Queue) Bookmark() Bookmark { return Bookmark{q.resets, q.at.next} }

// Rewind moves the position back to b, if it is behind it: messages that were passed are read again. If the queue began anew
// since, that is all of it.
func (q *Queue) Rewind(b Bookmark) {
	if b.resets != q.resets {
		b.nonce = 0
	}
	q.rewind(b.nonce)
}

// rewind moves the position back to nonce, if it is behind it.
func (q *Queue) rewind(nonce uint64) {
	if nonce < q.at.next {
		q.at.rewind(nonce)
		q.moved()
	}
}

// Next returns what to poll for next.
func (q *Queue) Next() Question {
	ask := Question{Purpose: News, Avoid: q.avoid, Lightly: q.silent.enough()}
	switch {
	case q.past != nil:
		ask.Purpose, ask.at = Past, q.past.from+q.past.next()
	case !q.head.found:
		ask.Purpose, ask.at = Head, q.at.next
		if q.head.search != nil {
			ask.at, _ = q.head.search.Next()
		}
	default:
		return ask
	}
	q.asked++
	ask.id = q.asked
	return ask
}

// Nonce returns where a question asks from, as things are now: what was news before a poll waited for its turn may have been
// delivered by then.
func (q *Queue) Nonce(ask *Question) uint64 {
	switch ask.Purpose {
	case Beginning:
		return 0
	case Newest:
		if q.at.seen() {
			return q.at.newest().nonce
		}
	case Head, Past:
		return ask.at
	}
	return q.at.next
}

// Step takes an answer that came at now and says what to do with it.
func (q *Queue) Step(now time.Time, a *Answer) Decision {
	q.noteInstall(now, a)
	if a.Failure.Kind != None {
		return q.failure(now, a)
	}
	d := q.answer(now, a)
	d.Good = d.Do != AskOther
	if d.Good && a.Question.Purpose != Past {
		d.Recovered = q.works(now, a)
	}
	if d.Do == AskOther || d.Stale {
		q.avoid = a.Vote.Host
	}
	return d
}

// answer deals with an answer that holds.
func (q *Queue) answer(now time.Time, a *Answer) Decision {
	if a.Page != nil {
		q.verified, q.silent = now, silent{}
		if a.Page.Time.After(q.newest) {
			q.newest = a.Page.Time
		}
	}
	switch {
	case a.Repeated:
		return Decision{}
	case a.Question.Purpose == Head:
		return q.headAnswer(a)
	case a.Question.Purpose == Past:
		return q.pastAnswer(now, a)
	case a.Question.Purpose == Beginning:
		return q.beginningAnswer(now, a)
	case a.Question.Purpose == Newest:
		return q.newestAnswer(now, a)
	case a.Page == nil:
		q.stale = time.Time{}
		q.noteEmpty(a.Vote.Host)
		return Decision{}
	}
	return q.page(now, a)
}

// page deals with messages at the position.
func (q *Queue) page(now time.Time, a *Answer) Decision {
	if disordered(a.Page) {
		return q.noteStale(now) // read again, it would look like a new queue for ever
	}
	if floor, restarted := q.at.restarted(a.Page); restarted {
		return q.restart(Reset{Why: Younger, Floor: floor, before: StampTime(floor)})
	}
	at, skip := q.at.place(a.Page)
	switch {
	case q.at.stale(a.Page):
		return q.noteStale(now)
	case at == placeOld, a.Nonce > q.at.next: // or the position has moved back since this was asked for
		return Decision{}
	}
	q.stale = time.Time{}
	if at == placeGap && !q.gapBelieved(now, a) {
		missing := uint64(0)
		if !q.gap.said {
			q.gap.said, missing = true, q.gap.first-q.at.next
		}
		return Decision{Do: AskOther, Pause: pauseAfter(a.Vote), Missing: missing}
	}
	poisoned, believed := q.poisonBelieved(now, a, skip)
	if !believed {
		return Decision{Do: AskOther, Pause: pauseAfter(a.Vote), Poisoned: poisoned}
	}
	q.moved()
	q.at.advance(a.Page)
	return Decision{Do: Deliver, From: skip, Poisoned: poisoned}
}

// noteStale deals with a page of a queue that has ended. It is never taken. Nodes that lag show such pages for a while; if
// nothing else comes for long, the canister's times do not grow with its nonces, and nobody can be served.
func (q *Queue) noteStale(now time.Time) Decision {
	if q.stale.IsZero() {
		q.stale = now
	}
	if now.Sub(q.stale) >= q.outageTimeout {
		q.stale = time.Time{}
		return Decision{Do: GiveUp, Stale: true}
	}
	return Decision{Stale: true}
}

// StampTime is a canister's timestamp, in nanoseconds, as a time.
func StampTime(stamp uint64) time.Time { return time.Unix(0, int64(min(stamp, 1<<63-1))) }
