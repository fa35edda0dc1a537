package main

import "sync"

// A ledger holds what one session is due, which is what it sent or what another says to all, against what came.
type ledger struct {
	mu      sync.Mutex
	sent    uint64              // numbers 1 to sent went out
	highest uint64              // of the numbers that came back
	missing map[uint64]struct{} // below highest and not back
}

// verdict is what one message that came back means.
type verdict int

const (
	inOrder verdict = iota
	repeated
	outOfOrder
	unknown // never sent
)

// next takes the next number to send.
func (l *ledger) next() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent++
	return l.sent
}

// expect takes it that the numbers up to n went out, to a listener of what another session sends.
func (l *ledger) expect(n uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent = max(l.sent, n)
}

// last is the last number that went out.
func (l *ledger) last() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sent
}

// got books a number that came back.
func (l *ledger) got(n uint64) verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n == 0 || n > l.sent {
		return unknown
	}
	if n > l.highest {
		for m := l.highest + 1; m < n; m++ {
			if l.missing == nil {
				l.missing = make(map[uint64]struct{})
			}
			l.missing[m] = struct{}{}
		}
		l.highest = n
		return inOrder
	}
	if _, ok := l.missing[n]; ok {
		delete(l.missing, n)
		return outOfOrder
	}
	return repeated
}

// open is how many messages have not come back: those passed over by a later one, and those that may still come.
func (l *ledger) open() (passed, pending uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return uint64(len(l.missing)), l.sent - l.highest
}
