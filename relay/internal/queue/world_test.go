package queue

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/relay/internal/quorum"
	"github.com/icws-gateway/caddy-icws/verify"
)

// message is one of the canister's.
type message struct {
	stamp   time.Time
	deleted time.Time // zero = it is still there
	to      verify.ClientKey
	number  int // among those to this client, from 1
}

// epoch is the queue between two upgrades.
type epoch struct {
	began    time.Time
	messages []message // by nonce
	oldest   int       // not deleted
}

// member is a client of the canister, and its session at the gateway if it has one.
type member struct {
	key     verify.ClientKey
	epoch   *epoch
	sent    int       // messages that the canister has sent it
	session bool      // at this gateway
	late    time.Time // when the gateway lets it in, if that is not at once
	from    Bookmark  // the position before that
	got     int       // messages that came
	born    uint64
	ended   bool
}

// pendingAnswer is an answer under way.
type pendingAnswer struct {
	answer  *Answer
	arrives time.Time
}

// world is a canister, its hosts, and what is under way.
type world struct {
	t   *testing.T
	rnd *rand.Rand
	q   *Queue
	now time.Time
	counts

	began  time.Time
	steps  int     // so far
	events []event // the last ones

	epochs  []*epoch
	members []*member
	nextKey uint64
	active  time.Time // last delivery
	pending []*pendingAnswer

	hosts    int
	liar     int // which host lies, -1 = none
	installs bool
	executed bool // openings are certified
	dead     []bool
	lag      time.Duration // at most
	latency  time.Duration // at most
	due      time.Time
	trapped  time.Time // until then the canister rejects all polls
}

func newWorld(t *testing.T, rnd *rand.Rand, run int) *world {
	w := &world{t: t, rnd: rnd, q: New(2 * time.Minute), now: time.Unix(1_800_000_000, 0), hosts: 1 + run%4, liar: -1,
		installs: run%2 == 0, executed: run%3 == 0, latency: time.Duration(1+rnd.IntN(1500)) * time.Millisecond}
	w.began, w.dead = w.now, make([]bool, w.hosts)
	if w.hosts > 1 && run%5 != 0 {
		w.liar = 0
	}
	w.epochs = []*epoch{{began: w.now.Add(-time.Hour)}}
	if rnd.IntN(2) == 0 { // messages of an earlier run
		gone := w.join(false)
		for range rnd.IntN(400) {
			w.send(gone)
		}
		w.now = w.now.Add(time.Second)
	}
	return w
}

// epoch is the present queue.
func (w *world) epoch() *epoch { return w.epochs[len(w.epochs)-1] }

// block is the canister's time: blocks are made every 300 ms.
func (w *world) block() time.Time { return w.now.Truncate(300 * time.Millisecond) }

// join has a client open a session at the canister.
func (w *world) join(session bool) *member {
	w.nextKey++
	p, _ := verify.PrincipalFromBytes(fmt.Appendf(nil, "%d", w.nextKey))
	m := &member{key: verify.ClientKey{Principal: p, Nonce: w.nextKey}, epoch: w.epoch(), session: session}
	w.members = append(w.members, m)
	w.send(m)
	if session {
		w.admit(m)
	}
	return m
}

// admit lets a client's messages through to it.
func (w *world) admit(m *member) {
	m.session = true
	w.sessions++
	executed := time.Time{}
	if w.executed {
		executed = w.block()
	}
	w.q.Await(m.key, w.now, executed)
}

// send has the canister send a client a message, and delete old ones.
func (w *world) send(m *member) {
	e := w.epoch()
	if m.epoch != e {
		return
	}
	for range 5 {
		if e.oldest < len(e.messages) && w.now.Sub(e.messages[e.oldest].stamp) > 5*time.Minute {
			e.messages[e.oldest].deleted = w.now
			e.oldest++
		}
	}
	m.sent++
	e.messages = append(e.messages, message{stamp: w.block(), to: m.key, number: m.sent})
}

// answer has a host answer, from what it knows.
func (w *world) answer(a *Answer) {
	var up []int
	for i := range w.hosts {
		if !w.dead[i] {
			up = append(up, i)
		}
	}
	host := up[w.rnd.IntN(len(up))]
	if name(host) == a.Question.Avoid && len(up) > 1 {
		for name(host) == a.Question.Avoid {
			host = up[w.rnd.IntN(len(up))]
		}
	}
	// That the others give no answer is known only where they were asked.
	a.Vote = quorum.Vote{Host: name(host), Alone: w.hosts == 1 || len(up) == 1 && a.Question.Avoid == name(host)}
	if a.Vote.Alone && w.hosts > 1 {
		w.lone++
	}
	view := w.now
	if w.lag > 0 {
		view = view.Add(-time.Duration(w.rnd.Int64N(int64(w.lag))))
	}
	view = view.Truncate(300 * time.Millisecond)
	e := w.epochAt(view)
	if a.Question.Install && w.installs {
		a.Install = &InstallReading{At: e.began, AsOf: view, Host: a.Vote.Host}
	} else if a.Question.Install {
		a.Install = &InstallReading{Unheard: true}
	}
	from := int(a.Nonce)
	lie := -1
	if host == w.liar {
		lie = w.rnd.IntN(9)
		w.lies++
	}
	if lie == 0 {
		from += 1 + w.rnd.IntN(3) // leaves messages out
	}
	if w.now.Before(w.trapped) {
		a.Failure.Kind = Trapped
		return
	}
	w.fill(a, e, view, from)
	switch lie {
	case 1:
		a.Page, a.Signature = nil, nil // hides everything
	case 2:
		*a = Answer{Question: a.Question, Nonce: a.Nonce, Vote: a.Vote, Failure: Failure{Kind: Trapped}}
	case 3:
		*a = Answer{Question: a.Question, Nonce: a.Nonce, Vote: a.Vote, Failure: Failure{Kind: NotFound}}
	case 4:
		*a = Answer{Question: a.Question, Nonce: a.Nonce, Vote: a.Vote, Failure: Failure{Kind: Unverified}}
	case 5:
		*a = Answer{Question: a.Question, Nonce: a.Nonce, Vote: a.Vote, Failure: Failure{Kind: Unreachable}}
	case 6:
		if a.Page != nil { // swaps a routing key
			a.Page.Messages[w.rnd.IntN(len(a.Page.Messages))].Poison = &verify.Error{Cause: verify.CauseClientKey}
		}
	}
}

// name is the name of a host.
func name(host int) quorum.Host { return quorum.Host(rune('a' + host)) }

// epochAt returns the queue there was at a time.
func (w *world) epochAt(view time.Time) *epoch {
	for i := len(w.epochs) - 1; i > 0; i-- {
		if !w.epochs[i].began.After(view) {
			return w.epochs[i]
		}
	}
	return w.epochs[0]
}

// fill answers with what e showed at view from nonce on.
func (w *world) fill(a *Answer, e *epoch, view time.Time, from int) {
	page := &verify.Page{Time: view}
	for n := from; n < len(e.messages); n++ {
		m := &e.messages[n]
		if m.stamp.After(view) {
			break
		}
		if !m.deleted.IsZero() && !m.deleted.After(view) {
			continue
		}
		if len(page.Messages) == 50 {
			a.More = true
			break
		}
		page.Messages = append(page.Messages, verify.PageMessage{Nonce: uint64(n), Client: m.to, Sequence: uint64(m.number),
			Timestamp: uint64(m.stamp.UnixNano())})
	}
	if len(page.Messages) > 0 {
		a.Page = page
	} else if a.Question.Signed {
		a.Signature = &Signature{Time: view, Nodes: 4}
		a.Signature.Node, _ = verify.PrincipalFromBytes([]byte{byte(w.rnd.IntN(4))})
	}
}
