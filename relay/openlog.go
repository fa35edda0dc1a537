package relay

import (
	"sync"
	"time"
)

// maxOpens bounds the memory of openLog, some 100 bytes an entry. Each entry took its sender a valid signature.
const maxOpens = 1 << 20

// openLog remembers the ws_open requests that were accepted until they expire. The IC executes a request once, so a
// captured ws_open changes nothing there when it is sent again; a gateway that took it for a new session would hand
// the victim's messages to whoever captured it.
type openLog struct {
	mu     sync.Mutex
	seen   map[[32]byte]time.Time // request ID to ingress expiry
	pruned time.Time
}

func newOpenLog() *openLog { return &openLog{seen: make(map[[32]byte]time.Time)} }

// add notes a request and reports whether it is new, and whether there is room for it.
func (l *openLog) add(id [32]byte, expiry, now time.Time) (fresh, room bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.pruned) > time.Minute {
		l.pruned = now
		for id, expiry := range l.seen {
			if expiry.Before(now) {
				delete(l.seen, id)
			}
		}
	}
	if _, ok := l.seen[id]; ok {
		return false, true
	}
	if len(l.seen) >= maxOpens {
		return true, false
	}
	l.seen[id] = expiry
	return true, true
}
