package relay

import "github.com/icws-gateway/caddy-icws/verify"

// position is where the poller stands in a queue. The rules of order are here, without any I/O. In one queue nonces and
// times grow together, and both are certified.
type position struct {
	next   uint64 // nonce of the next message
	passed uint64 // what comes next was made then or later, by the canister's clock in nanoseconds
	floor  uint64 // everything in this queue is younger; what earlier queues had is not
	since  uint64 // this queue was there then, and is followed since; 0 = not known
	seen   bool   // a message of this queue was seen, so first and newest are set
	first  mark   // the first message seen
	newest mark   // the newest one
}

// mark is one message of a queue: its nonce and when it was made.
type mark struct{ nonce, stamp uint64 }

// denies reports whether m cannot be in the same queue: it has an earlier nonce and is younger, or the same and differs.
func (k mark) denies(m *verify.PageMessage) bool {
	return m.Poison == nil && m.Nonce <= k.nonce && m.Timestamp > k.stamp
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
		p.next = max(p.next, m.Nonce+1)
		if m.Poison != nil {
			continue
		}
		p.passed = max(p.passed, m.Timestamp)
		at := mark{m.Nonce, m.Timestamp}
		if !p.seen {
			p.first, p.newest, p.seen = at, at, true
			if p.since == 0 {
				p.since = m.Timestamp
			}
		}
		if m.Timestamp > p.newest.stamp {
			p.newest = at
		}
	}
}

// rewind moves back to nonce.
func (p *position) rewind(nonce uint64) {
	if nonce < p.next {
		p.next, p.passed = nonce, p.floor
	}
}

// outlived reports whether page, from index skip on, cannot follow the position because it is older: it shows a queue
// that has ended since.
func (p *position) outlived(page *verify.Page, skip int) bool {
	for i := skip; i < len(page.Messages); i++ {
		if m := &page.Messages[i]; m.Poison == nil {
			return m.Timestamp <= p.floor || m.Timestamp < p.passed
		}
	}
	return false
}

// restarted reports whether page, which was asked for from nonce 0, shows that the queue began anew: a message is
// younger than one that was seen and comes after it. A node that lags, or that leaves messages out, cannot make it look
// so. Against the first message seen it shows even when the new queue has grown past the position, so that the newest
// one is of the new queue already. floor is for the position in the new queue.
func (p *position) restarted(page *verify.Page) (floor uint64, restarted bool) {
	if !p.seen {
		return 0, false
	}
	for i := range page.Messages {
		m := &page.Messages[i]
		if floor == 0 && m.Poison == nil {
			floor = max(m.Timestamp, 1) - 1
		}
		if p.first.denies(m) || p.newest.denies(m) {
			return floor, true
		}
	}
	return 0, false
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
