package queue

import (
	"time"

	"github.com/icws-gateway/caddy-icws/relay/internal/quorum"
)

// maxSkip bounds the messages that are skipped at once.
const maxSkip = 1 << 20

// pastPause is the pause after a search that found nothing.
const pastPause = 20 * time.Second

// past is the search for the next page that can be had when the one at the position cannot: the canister's reply may be too
// large for the IC, and nothing makes it smaller from outside. The messages before that page are lost, and their clients are
// told at their next message; everybody else goes on.
//
// All pages have the same number of messages up to the end of the queue, so there may be one that can be had only just before that
// end. The search goes forward by doubling steps, and then by halving, and takes the word of one host for each step. A page that
// comes is proven. That those before it cannot be had is not: so in the end the last one before that page is asked for again, and
// the one at the position, until that is believed or a page comes after all. Then the page behind must come once more: a canister
// that rejects everything for a moment has lost nothing.
type past struct {
	from  uint64 // the position
	low   uint64 // cannot be had; this and what follows count from the position
	high  uint64 // can be had; 0 = not known
	end   uint64 // nothing is there; 0 = not known
	step  uint64
	stage stage
	back  bool // the position is asked for in between, after the first answer other than a rejection
	again bool // it was
	claim quorum.Claim
	looks int
}

// stage is what a search asks for once high is next to low.
type stage int

const (
	atLow      stage = iota // is low believed?
	atPosition              // and the position?
	atHigh                  // and is high still there?
)

// pageState is what there is at a nonce.
type pageState int

const (
	tooLarge  pageState = iota // a page that cannot be had
	available                  // a page
	empty                      // nothing: the queue ends before
)

func newPast(from uint64) *past { return &past{from: from, step: 1} }

// searching reports whether high is not known to be next to low yet.
func (p *past) searching() bool { return p.high == 0 || p.high-p.low > 1 }

// next returns what to ask for, counted from the position.
func (p *past) next() uint64 {
	switch {
	case p.back:
		return 0
	case p.high != 0 && p.searching():
		return p.low + (p.high-p.low)/2
	case p.high == 0 && p.end != 0:
		return p.low + (p.end-p.low)/2
	case p.high == 0:
		return p.step
	case p.stage == atPosition:
		return 0
	case p.stage == atHigh:
		return p.high
	}
	return p.low
}

// verdict is how a search stands.
type verdict int

const (
	goOn verdict = iota
	giveUp
	skipNow
)

// observe takes what an answer shows to be at next.
func (p *past) observe(st pageState, v quorum.Vote, now time.Time) verdict {
	at := p.next()
	if p.looks++; p.looks > maxLooks {
		return giveUp
	}
	if p.back {
		p.back = false
		if st != tooLarge {
			return giveUp // it works again
		}
		return goOn
	}
	if !p.searching() {
		return p.confirmed(at, st, v, now)
	}
	if st != tooLarge && !p.again {
		p.back, p.again = true, true
	}
	switch st {
	case available:
		p.high = at
	case empty:
		if p.high != 0 {
			return giveUp // a node that lags: skipping by its word would lose messages
		}
		p.end = at
	default:
		p.low = at
		p.step *= 2
	}
	if p.high == 0 && (p.end == 0 && p.step > maxSkip || p.end != 0 && p.end-p.low <= 1) {
		return giveUp
	}
	return goOn
}

// confirmed takes what there is at low, at the position once low is believed, and at high then.
func (p *past) confirmed(at uint64, st pageState, v quorum.Vote, now time.Time) verdict {
	switch {
	case p.stage == atHigh && st == available:
		return skipNow
	case st == empty, st == available && at == 0:
		return giveUp // a node lags; or it can be had after all
	case st == available: // somebody said otherwise: look before it
		p.high, p.low, p.claim = at, 0, quorum.Claim{}
		return goOn
	case !p.claim.Add(v, now):
		return goOn
	case p.stage == atHigh:
		return giveUp // nothing can be had at present
	}
	p.claim = quorum.Claim{}
	if p.stage = atPosition; at == 0 {
		p.stage = atHigh
	}
	return goOn
}

// pastAnswer takes an answer to the search.
func (q *Queue) pastAnswer(now time.Time, a *Answer) Decision {
	if q.past == nil || a.Question.id != q.asked {
		return Decision{} // of a search before
	}
	st := available
	if a.Page == nil {
		st = empty
	}
	return q.observePast(now, a, st)
}

// pastFailed takes a failure of the search. One that says nothing of the page ends it, and is a failure like others.
func (q *Queue) pastFailed(now time.Time, a *Answer) (d Decision, done bool) {
	switch {
	case q.past == nil || a.Question.id != q.asked:
		return Decision{}, true
	case a.Failure.Kind != Trapped:
		q.endPast(now)
		return Decision{}, false
	}
	return q.observePast(now, a, tooLarge), true
}

func (q *Queue) observePast(now time.Time, a *Answer, st pageState) Decision {
	p := q.past
	q.avoid = a.Vote.Host // another may say otherwise
	switch p.observe(st, a.Vote, now) {
	case giveUp:
		q.endPast(now)
		return Decision{Do: AskOther}
	case skipNow:
		q.at.next += p.high
		q.failing = failing{recovered: q.failing.recovered}
		q.moved()
		return Decision{Do: Skip, Skipped: p.high}
	}
	if p.claim.Made() && a.Vote.Alone {
		return Decision{Do: AskOther, Pause: quorum.LonePause}
	}
	return Decision{Do: AskOn}
}

// endPast ends a search that found nothing.
func (q *Queue) endPast(now time.Time) {
	q.past, q.failing.search = nil, now.Add(pastPause)
}
