package upstream

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// Class is the kind and the urgency of a request to the network.
type Class int

// The classes. Calls have a budget of their own; the others share one.
const (
	ClassCall Class = iota // what clients and the gateway itself submit
	ClassRead              // what the gateway must read before it can go on
	ClassBusy              // polls of canisters with traffic
	ClassIdle              // polls of silent canisters
	classCount
)

// shares is how many requests of each class go out in turn while all of a budget's classes wait: busy ones first, none starved.
var shares = [classCount]int{ClassCall: 8, ClassRead: 8, ClassBusy: 6, ClassIdle: 1}

// overdueAfter is how long a request waits before it goes ahead of others, whatever its class. So the polls of a silent canister
// come at least every 15 s: this and the time in which as many as there is capacity for have had their turns. Clients wait 30 s
// for an ack that is due, and 60 s for a session to open.
const overdueAfter = 10 * time.Second

// capacity is how many canisters can each have one request in overdueAfter, out of half of a rate. The other half is for those
// that have traffic.
func capacity(rate float64) int { return max(1, int(rate*overdueAfter.Seconds()/2)) }

// budget is a token bucket, behind upstream_rate or upstream_call_rate. Within a class the canisters take turns, so that one
// with ten thousand chatty clients does not delay the others.
type budget struct {
	rate, burst float64

	mu      sync.Mutex
	tokens  float64
	filled  time.Time // when tokens was last brought up to date
	queues  [classCount]fairQueue
	credits [classCount]int
	timer   *time.Timer // set while requests wait
	asked   demand
}

func newBudget(rate float64) *budget {
	// A tenth of a second's worth may go out at once.
	burst := max(1, rate/10)
	return &budget{rate: rate, burst: burst, tokens: burst, filled: time.Now()}
}

// wait takes a token for canister, waiting until there is one or ctx ends, and returns how long that took.
func (b *budget) wait(ctx context.Context, canister verify.Principal, cl Class) (time.Duration, error) {
	b.mu.Lock()
	b.refill()
	b.asked.add(b.filled)
	if b.timer == nil && b.tokens >= 1 {
		b.tokens--
		b.mu.Unlock()
		return 0, ctx.Err()
	}
	began := time.Now()
	w := &waiter{ready: make(chan struct{}), since: began}
	b.queues[cl].push(canister, w)
	b.schedule()
	b.mu.Unlock()

	select {
	case <-w.ready:
		return time.Since(began), nil
	case <-ctx.Done():
		b.mu.Lock()
		w.canceled = true
		b.mu.Unlock()
		return time.Since(began), ctx.Err()
	}
}

// spare takes a token if there is one that nobody waits for, and reports whether it did.
func (b *budget) spare() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill()
	if b.timer != nil || b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// refill brings tokens up to date. The caller holds mu.
func (b *budget) refill() {
	now := time.Now()
	b.tokens = min(b.burst, b.tokens+now.Sub(b.filled).Seconds()*b.rate)
	b.filled = now
}

// schedule sets the timer for the next token if somebody waits. The caller holds mu.
func (b *budget) schedule() {
	if b.timer != nil {
		return
	}
	missing := max(0, 1-b.tokens)
	b.timer = time.AfterFunc(time.Duration(missing/b.rate*float64(time.Second))+time.Microsecond, b.dispatch)
}

// dispatch hands out the tokens there are.
func (b *budget) dispatch() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.timer = nil
	b.refill()
	for b.tokens >= 1 {
		w := b.overdue()
		if w == nil {
			w = b.next()
		}
		if w == nil {
			return
		}
		b.tokens--
		close(w.ready)
	}
	b.schedule()
}

// overdue takes the waiter that has waited for longest of those at the front of a queue, if that is overdueAfter or more. The
// caller holds mu.
func (b *budget) overdue() *waiter {
	var late *fairQueue
	before := b.filled.Add(-overdueAfter)
	for cl := range b.queues {
		if since, waits := b.queues[cl].front(); waits && !since.After(before) {
			late, before = &b.queues[cl], since
		}
	}
	if late == nil {
		return nil
	}
	return late.pop()
}

// next takes the waiter whose turn it is, nil if nobody waits. The caller holds mu.
func (b *budget) next() *waiter {
	for range 2 {
		for cl := range b.queues {
			if b.credits[cl] == 0 {
				continue
			}
			if w := b.queues[cl].pop(); w != nil {
				b.credits[cl]--
				return w
			}
		}
		b.credits = shares // a new round: everybody who waits has had a share
	}
	return nil
}

// waiter is one request that waits for a token.
type waiter struct {
	ready    chan struct{}
	since    time.Time
	canceled bool // its context ended; guarded by budget.mu
}

// fairQueue is first in, first out for each canister, and takes turns among canisters.
type fairQueue struct {
	flows map[verify.Principal]*flow
	turn  []*flow // those with waiters, the next one first
}

type flow struct {
	canister verify.Principal
	waiters  []*waiter
}

func (q *fairQueue) push(canister verify.Principal, w *waiter) {
	f := q.flows[canister]
	if f == nil {
		if q.flows == nil {
			q.flows = make(map[verify.Principal]*flow)
		}
		f = &flow{canister: canister}
		q.flows[canister] = f
		q.turn = append(q.turn, f)
	}
	f.waiters = append(f.waiters, w)
}

// front returns since when the next one waits, if there is one. It may be canceled.
func (q *fairQueue) front() (since time.Time, waits bool) {
	if len(q.turn) == 0 {
		return time.Time{}, false
	}
	return q.turn[0].waiters[0].since, true
}

// pop returns the next waiter that still wants its token, nil if there is none.
func (q *fairQueue) pop() *waiter {
	for len(q.turn) > 0 {
		f := q.turn[0]
		q.turn = q.turn[1:]
		f.waiters = slices.DeleteFunc(f.waiters, func(w *waiter) bool { return w.canceled })
		if len(f.waiters) == 0 {
			delete(q.flows, f.canister)
			continue
		}
		w := f.waiters[0]
		f.waiters = f.waiters[1:]
		if len(f.waiters) == 0 {
			delete(q.flows, f.canister)
		} else {
			q.turn = append(q.turn, f)
		}
		return w
	}
	return nil
}
