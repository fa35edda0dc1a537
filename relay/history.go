package relay

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// lastCloses is how many ends of sessions a gateway remembers, some 500 bytes each.
const lastCloses = 50

// CloseSnapshot is how one session ended. It says what the line in the log says, and holds no secrets.
type CloseSnapshot struct {
	At         time.Time        `json:"at"`
	ID         uint64           `json:"id"`                        // of the session
	Canister   verify.Principal `json:"canister_id,omitzero"`      // of the client's first ws_open, allowed or not
	Principal  verify.Principal `json:"client_principal,omitzero"` // once a ws_open was accepted
	ClientIP   netip.Addr       `json:"client_ip"`                 // empty if the client has none
	Reason     string           `json:"reason"`                    // [CloseReason.Label]
	Code       int              `json:"code"`                      // of RFC 6455; 1006 was never sent
	Text       string           `json:"text"`                      // what the client was told; at most 123 bytes
	ClientText string           `json:"client_text,omitempty"`     // what the client gave as its reason; at most 123 bytes
	Lasted     time.Duration    `json:"duration_ns"`
}

// history is what a gateway remembers of sessions that are over. The zero value is ready for use, and safe for concurrent use.
type history struct {
	mu     sync.Mutex
	last   []CloseSnapshot // a ring once it is full
	next   int             // where the oldest of a full ring is
	counts [closeReasonEnd]uint64
}

// add notes the end of a session.
func (h *history) add(reason CloseReason, c CloseSnapshot) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts[reason]++
	if len(h.last) < lastCloses {
		h.last = append(h.last, c)
		return
	}
	h.last[h.next] = c
	h.next = (h.next + 1) % lastCloses
}

// newestFirst returns the last ends.
func (h *history) newestFirst() []CloseSnapshot {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := slices.Concat(h.last[h.next:], h.last[:h.next])
	slices.Reverse(all)
	return all
}

// byReason returns how many sessions have ended for each reason, without those for which none has.
func (h *history) byReason() map[string]uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	counts := make(map[string]uint64)
	for _, r := range CloseReasons() {
		if n := h.counts[r]; n > 0 {
			counts[r.Label()] = n
		}
	}
	return counts
}

// Closes returns how the last 50 sessions ended, the newest first.
func (g *Gateway) Closes() []CloseSnapshot { return g.history.newestFirst() }

// TrafficSnapshot counts since the gateway began, as Snapshot and the metrics do. Frames and bytes are those of
// [SessionSnapshot], of all sessions.
type TrafficSnapshot struct {
	Opened    uint64            `json:"opened"` // sessions whose first canister message was relayed
	Closes    map[string]uint64 `json:"closes"` // ended sessions by [CloseReason.Label], those that opened and others
	FramesIn  uint64            `json:"frames_in"`
	BytesIn   uint64            `json:"bytes_in"`
	FramesOut uint64            `json:"frames_out"`
	BytesOut  uint64            `json:"bytes_out"`
}

// traffic counts what all sessions of a gateway do.
type traffic struct{ opened, framesIn, bytesIn, framesOut, bytesOut atomic.Uint64 }

func (g *Gateway) trafficSnapshot() TrafficSnapshot {
	t := &g.traffic
	return TrafficSnapshot{
		Opened: t.opened.Load(), Closes: g.history.byReason(),
		FramesIn: t.framesIn.Load(), BytesIn: t.bytesIn.Load(), FramesOut: t.framesOut.Load(), BytesOut: t.bytesOut.Load(),
	}
}

// received counts a frame of the client that has passed all checks.
func (s *session) received(bytes int) {
	s.framesIn.Add(1)
	s.bytesIn.Add(int64(bytes))
	s.g.traffic.framesIn.Add(1)
	s.g.traffic.bytesIn.Add(uint64(bytes))
	s.g.cfg.Metrics.Received(s.canister.id, bytes)
}

// delivered counts a frame that was written to the client, age after the canister made it.
func (s *session) delivered(bytes int, age time.Duration) {
	s.framesOut.Add(1)
	s.bytesOut.Add(int64(bytes))
	s.g.traffic.framesOut.Add(1)
	s.g.traffic.bytesOut.Add(uint64(bytes))
	s.g.cfg.Metrics.Delivered(s.canister.id, bytes, age)
}
