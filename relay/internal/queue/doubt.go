package queue

import (
	"maps"
	"slices"
	"time"

	"github.com/icws-gateway/caddy-icws/relay/internal/quorum"
	"github.com/icws-gateway/caddy-icws/verify"
)

// pauseAfter is the pause after an answer that is not believed: none if another host can be asked.
func pauseAfter(v quorum.Vote) time.Duration {
	if v.Alone {
		return quorum.LonePause
	}
	return 0
}

// claims lists what is said without proof at present.
func (q *Queue) claims() []*quorum.Claim {
	all := []*quorum.Claim{&q.gap.claim, &q.absence.claim, &q.install.nothing, &q.failing.never, &q.failing.trapped}
	if q.past != nil {
		all = append(all, &q.past.claim)
	}
	return slices.AppendSeq(all, maps.Values(q.poison))
}

// gap is a gap that waits to be believed. The canister deletes what is older than its retention time; but a node can leave
// messages out as well, and then another shows them.
type gap struct {
	host  quorum.Host // showed it last
	first uint64      // nonce of the message behind it
	other uint64      // the same as another host showed it last; 0 = none did
	least uint64      // the smallest that was shown
	claim quorum.Claim
	said  bool
}

// gapBelieved counts the word of a host that shows a gap. Two hosts agree on the smaller of two gaps only: a page behind the
// larger one is not believed while the other host may still show what lies between. A canister that deletes all the time
// shows a larger one each time, so that does not go on for ever.
func (q *Queue) gapBelieved(now time.Time, a *Answer) bool {
	g, first := &q.gap, a.Page.Messages[0].Nonce
	if !g.claim.Made() || first < g.least {
		*g = gap{least: first, said: g.said}
	}
	if g.host != a.Vote.Host {
		g.host, g.other = a.Vote.Host, g.first
	}
	g.first = first
	return g.claim.Add(a.Vote, now) && (g.first <= g.other || now.Sub(g.claim.Since()) >= quorum.LonePatience)
}

// poison is a message that cannot be used, and the routing key that stands beside it. Two hosts that show it with different keys
// do not agree: what a canister says is the same at both.
type poison struct {
	nonce   uint64
	routing verify.ClientKey
}

// poisonBelieved counts the word of a host that shows messages which cannot be used, from index skip on: it returns those that
// nobody has shown like this before, and whether all are believed. What is certified stays as it is however often it is asked for;
// the routing key beside it is not certified, and may have been swapped or damaged on the way.
func (q *Queue) poisonBelieved(now time.Time, a *Answer, skip int) (fresh []int, believed bool) {
	believed = true
	var shown map[poison]*quorum.Claim
	for i := skip; i < len(a.Page.Messages); i++ {
		m := &a.Page.Messages[i]
		if m.Poison == nil {
			continue
		}
		said := poison{m.Nonce, m.Routing}
		claim := q.poison[said]
		if claim == nil {
			claim = &quorum.Claim{}
			fresh = append(fresh, i)
		}
		if shown == nil {
			shown = make(map[poison]*quorum.Claim)
		}
		shown[said] = claim
		if !claim.Add(a.Vote, now) && verify.CauseOf(m.Poison) == verify.CauseClientKey {
			believed = false
		}
	}
	if !believed {
		q.poison = shown // those that this host shows otherwise are forgotten
	}
	return fresh, believed
}

// moved forgets what was said of the page at the position: that is another one now. A search past it ends, and an answer to it
// that is still under way counts for no other search.
func (q *Queue) moved() {
	q.gap = gap{}
	clear(q.poison)
	q.failing.trapped = quorum.Claim{}
	q.past = nil
	q.asked++
}

// silentTries is how many empty answers in a row are taken from one host before another is asked. They prove nothing: the
// host may hide the messages, and the fastest one would otherwise be asked for ever.
const silentTries = 8

// silent is the host that gave the last empty answer, and how many in a row.
type silent struct {
	host  quorum.Host
	times int
}

func (s *silent) enough() bool { return s.times >= silentTries }

// noteEmpty notes an empty answer.
func (q *Queue) noteEmpty(h quorum.Host) {
	if h != q.silent.host || q.silent.enough() {
		q.silent = silent{host: h}
	}
	q.silent.times++
}
