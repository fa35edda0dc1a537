package relay

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/icws-gateway/caddy-icws/verify"
)

const (
	// freeMessage is the size of the one message of a client that is not counted: the usual ones are far smaller. A client that
	// has not proven who it is may send no larger one.
	freeMessage = 16 << 10
	// messageMemory bounds the memory of all other messages together, from their arrival to their outcome.
	messageMemory = 256 << 20
	// memoryPatience is how long a message waits for memory before its client is told to come back later.
	memoryPatience = 20 * time.Second
	// messagePatience is how long a client may take to send one message.
	messagePatience = 2 * time.Minute
	// scarcePatience is how long it may take while others wait for memory.
	scarcePatience = 5 * time.Second
	// outcomePatience is how long a client's messages may be without an outcome while others wait for memory, and those of its
	// canister, or of its address, hold more than messageShare of it.
	outcomePatience = 10 * time.Second
	messageShare    = messageMemory / 4
)

var errNoMemory = errors.New("too many large messages under way")

// memory hands out what messages may occupy. Without it, clients that all send the largest message at once, or stop in
// the middle of one, would decide how much memory the gateway takes.
type memory struct{ left *semaphore.Weighted }

func newMemory() *memory { return &memory{semaphore.NewWeighted(messageMemory)} }

// lease is the memory of one message. The zero value holds none.
type lease struct {
	m    *memory
	held int64
}

// count makes the lease good for all size bytes, however few, and reports whether there was room. It does not wait.
func (l *lease) count(m *memory, size int64) bool {
	if size > l.held {
		if !m.left.TryAcquire(size - l.held) {
			return false
		}
		l.m, l.held = m, size
	}
	return true
}

// shrink gives back what the lease holds above size.
func (l *lease) shrink(size int64) {
	if l.held > size {
		l.m.left.Release(l.held - size)
		l.held = size
	}
}

// release gives the memory back. A lease can be released more than once.
func (l *lease) release() { l.shrink(0) }

// relieve ends sessions for the memory that others wait for: those whose unfinished messages have occupied the most of it for the
// longest. Such a client is slow, or means to keep the memory from the others: that looks the same from here.
func (g *Gateway) relieve(all []*session, now time.Time) {
	if !slices.ContainsFunc(all, func(s *session) bool { return s.wanted.Load() > 0 }) {
		return
	}
	type hold struct {
		s     *session
		bytes int64
		cost  float64 // bytes times seconds
	}
	var holds []hold
	wanted := -g.relieveShares(all, now)
	for _, s := range all {
		if s.ended() { // it holds nothing any more
			continue
		}
		bytes, lasted := s.arriving(), s.messageAge(now)
		if bytes > 0 && lasted >= scarcePatience {
			holds = append(holds, hold{s, bytes, float64(bytes) * lasted.Seconds()})
		}
		wanted += s.wanted.Load()
	}
	slices.SortFunc(holds, func(a, b hold) int { return cmp.Compare(b.cost, a.cost) })
	for _, h := range holds {
		own := h.s.wanted.Load()
		if wanted <= own { // nobody else waits any more
			continue
		}
		h.s.end(newClosing(OverCapacity, "message arrived too slowly while others waited for memory, try again later"))
		wanted -= h.bytes + own
	}
}

// relieveShares gives up messages for the memory that others wait for: those for a canister, or from an address, that hold more
// than a share of it while no outcome comes. Those of clients that have gone are given up, too. It returns how much that frees.
func (g *Gateway) relieveShares(all []*session, now time.Time) (freed int64) {
	g.mu.Lock()
	for e := g.departing.Front(); e != nil; e = e.Next() {
		all = append(all, e.Value.(*session))
	}
	g.mu.Unlock()
	wanted := int64(0)
	for _, s := range all {
		wanted += s.wanted.Load()
	}
	freed = relieveShare(all, wanted, now, func(s *session) (verify.Principal, bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.canister.principal(), s.canister != nil
	})
	return freed + relieveShare(all, wanted-freed, now, func(s *session) (netip.Addr, bool) { return limitAddr(s.ip), s.ip.IsValid() })
}

// relieveShare is relieveShares for what sessions hold by one kind of owner, canisters or addresses. wanted is what all wait for.
func relieveShare[K comparable](all []*session, wanted int64, now time.Time, owner func(*session) (K, bool)) (freed int64) {
	type share struct {
		held    int64 // by messages that have arrived
		wanted  int64
		stalled []*session
	}
	shares := make(map[K]*share)
	for _, s := range all {
		k, owned := owner(s)
		if !owned {
			continue
		}
		sh := shares[k]
		if sh == nil {
			sh = new(share)
			shares[k] = sh
		}
		held, since := s.messagesHeld()
		sh.held += held
		sh.wanted += s.wanted.Load()
		if held > 0 && now.Sub(since) >= outcomePatience {
			sh.stalled = append(sh.stalled, s)
		}
	}
	for _, sh := range shares {
		missing := wanted - sh.wanted - freed
		for _, s := range sh.stalled {
			if missing <= 0 || sh.held <= messageShare {
				break
			}
			held, _ := s.messagesHeld()
			s.end(newClosing(OverCapacity, "messages had no outcome for too long while others waited for memory, try again later"))
			s.dropSent()
			sh.held -= held
			missing -= held
			freed += held
		}
	}
	return freed
}

// messagesHeld returns the memory of the messages of s that have arrived, and since when none of them has had an outcome.
func (s *session) messagesHeld() (bytes int64, since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.in.memory, s.in.outcome
}
