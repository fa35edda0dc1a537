package relay

import "github.com/icws-gateway/caddy-icws/verify"

// position is where the poller stands in a queue. The rules of order are here, without any I/O.
type position struct {
	next  uint64 // nonce of the next message
	stamp uint64 // when the newest message seen was made, by the canister's clock in nanoseconds
	seen  bool   // a message was seen, so stamp is set
}

// verdict is what a page means at a position.
type verdict int

const (
	// verdictNext: the page continues the queue; what lies before the position is skipped.
	verdictNext verdict = iota
	// verdictOld: the page holds nothing new. A node that lags gives such answers.
	verdictOld
	// verdictGap: the page begins after the position. The canister has deleted what lies between, or a node left it out.
	verdictGap
)

// place says what a page from nonce first to last means, and how many of its messages lie before the position.
func (p *position) place(first, last uint64) (v verdict, skip int) {
	switch {
	case last < p.next:
		return verdictOld, 0
	case first > p.next:
		return verdictGap, 0
	}
	return verdictNext, int(p.next - first)
}

// advance moves behind the messages of page.
func (p *position) advance(page *verify.Page) {
	for i := range page.Messages {
		m := &page.Messages[i]
		if m.Poison == nil && m.Timestamp > p.stamp {
			p.stamp, p.seen = m.Timestamp, true
		}
		p.next = max(p.next, m.Nonce+1)
	}
}

// restarted reports whether page, which was asked for from nonce 0, shows that the queue began anew: a message before
// the position is younger than the newest message that was seen. In one queue, nonces and times grow together, and both
// are certified; so a node that lags, or that leaves messages out, cannot make it look so.
func (p *position) restarted(page *verify.Page) bool {
	if !p.seen {
		return false
	}
	for i := range page.Messages {
		m := &page.Messages[i]
		if m.Poison == nil && m.Nonce < p.next && m.Timestamp > p.stamp {
			return true
		}
	}
	return false
}

// keyNonce reads the nonce at the end of a message key, before the key is verified.
func keyNonce(key []byte) (nonce uint64, ok bool) {
	const digits = 20
	if len(key) < digits {
		return 0, false
	}
	for _, d := range key[len(key)-digits:] {
		if d < '0' || d > '9' || nonce > (1<<64-1-uint64(d-'0'))/10 {
			return 0, false
		}
		nonce = nonce*10 + uint64(d-'0')
	}
	return nonce, true
}
