package queue

import "github.com/icws-gateway/caddy-icws/verify"

// pageSize is how many messages a canister returns at most, by the CDK's default. It only shapes the search.
const pageSize = 50

// maxLooks bounds a search. The longest queue there can be takes fewer; a canister that contradicts itself might keep the
// search going for ever.
const maxLooks = 96

// Search looks for the youngest of the old messages of a queue: first by steps that grow, then by halving. Only messages that
// are certified move its lower end, so a node that lags or lies can make it slower and not wrong.
type Search struct {
	low, high, step uint64 // known to be old; known not to be, 0 = nothing is
	looks           int
}

// NewSearch begins a search. The message low is known to be old, and high is known not to be; 0 = that is not known of any.
func NewSearch(low, high uint64) *Search { return &Search{low: low, high: high, step: pageSize} }

// Next returns the nonce to ask from, and false once the search is over.
func (s *Search) Next() (nonce uint64, more bool) {
	nonce = s.low + s.step
	if s.high != 0 {
		nonce = s.low + (s.high-s.low)/2
	}
	if s.looks >= maxLooks || s.high != 0 && (s.high <= s.low || s.high-s.low <= pageSize) || nonce < s.low {
		return 0, false
	}
	return nonce, true
}

// Found takes the answer: whether there is an old message at nonce, as returned by Next, or behind it, and the nonce of the
// last such one on the page.
func (s *Search) Found(nonce, last uint64, old bool) {
	s.looks++
	if !old {
		s.high = nonce
		return
	}
	s.low = max(s.low, last)
	s.step *= 4
}

// Low returns the nonce of an old message that has at most about a page of such behind it, once the search is over, and
// before that what is known so far.
func (s *Search) Low() uint64 { return s.low }

// LastBefore returns the nonce of the last message of page that was made before stamp.
func LastBefore(page *verify.Page, stamp uint64) (nonce uint64, found bool) {
	for i := range page.Messages {
		m := &page.Messages[i]
		if m.Poison == nil && m.Timestamp >= stamp {
			break
		}
		nonce, found = m.Nonce, true
	}
	return nonce, found
}

// head is the search for where to begin. The queue may hold thousands of messages of an earlier run: they are for clients
// that are gone.
//
// The first page tells the time at the canister. A client whose ws_open is submitted after that gets only messages made after
// that, so everything older can be passed over.
type head struct {
	found  bool
	start  uint64 // the time of the first page
	oldest uint64 // nonce of its first message
	search *Search
}

// headAnswer takes an answer to the search for the head.
func (q *Queue) headAnswer(a *Answer) Decision {
	h := &q.head
	if a.Question.id != q.asked {
		return Decision{} // of a search before
	}
	if h.search == nil {
		if a.Page == nil {
			return q.begin(q.at.next)
		}
		h.start, h.oldest = uint64(a.Page.Time.UnixNano()), a.Page.Messages[0].Nonce
		low, old := LastBefore(a.Page, h.start)
		if !old {
			return q.begin(h.oldest)
		}
		if !a.More || low != a.Page.Messages[len(a.Page.Messages)-1].Nonce {
			return q.begin(low + 1)
		}
		h.search = NewSearch(low, 0)
	} else {
		last, old := uint64(0), false
		if a.Page != nil {
			last, old = LastBefore(a.Page, h.start)
		}
		h.search.Found(a.Question.at, last, old)
	}
	if _, more := h.search.Next(); !more {
		return q.begin(h.search.Low() + 1)
	}
	return Decision{Do: AskOn}
}

// begin ends the search for the head.
func (q *Queue) begin(next uint64) Decision {
	q.head.found = true
	q.at.next, q.at.since = max(q.at.next, next), q.head.start
	return Decision{Do: Begin, Oldest: q.head.oldest, Next: q.at.next, Start: q.head.start}
}
