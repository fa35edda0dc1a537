package relay

import (
	"time"

	"go.uber.org/zap"

	"github.com/icws-gateway/caddy-icws/relay/internal/upstream"
	"github.com/icws-gateway/caddy-icws/verify"
)

// A queue starts again at nonce 0 when its canister is upgraded or reinstalled, and when it had no clients for long.
// Polled with the old nonce it looks empty for ever after. Two checks find that out.

const (
	// probeAfter is how long a client that the canister accepted waits for its first message before the queue is
	// probed from nonce 0, and the pause between probes.
	probeAfter = 2 * time.Second
	// openPatience is how long such a client waits before it is closed.
	openPatience = 30 * time.Second
	// confirmEvery is the pause between polls that ask again for the newest message seen. A queue keeps it until a
	// newer one is sent, so it is there unless the queue began anew, or the node lags: hence lagLimit.
	confirmEvery = 20 * time.Second
	// confirmAgain is the pause until an answer that lacks it is confirmed.
	confirmAgain = time.Second
	// lagLimit is how far behind a node may be that boundary nodes still ask: 50 blocks, at one a second. What nodes sign
	// proves nothing before, where the network does not tell when the canister was installed.
	lagLimit = 50 * time.Second
	// absences is how many answers in a row must lack it, from two nodes where the subnet has two.
	absences = 3
	// loneAbsences is how many it must be when they come through one boundary node only.
	loneAbsences = 12
)

// presence is what is known of the newest message seen.
type presence struct {
	checked time.Time                     // when it was last asked for
	again   bool                          // that brought nothing to go by
	times   int                           // answers in a row that lack it
	nodes   map[verify.Principal]struct{} // that signed them
	hosts   denials                       // that passed them on
	last    *upstream.Host                // that gave the last answer, whatever it was
	lacking time.Time                     // when the newest of them was signed
	since   time.Time                     // when the first answer that lacks it came, signed or not
}

// check starts a look at the queue if one is due and none is under way.
func (p *poller) check(now time.Time) {
	if !p.mayCheck() {
		return
	}
	if since, due := p.probeDue(now); due {
		p.probed = now
		p.mu.Lock()
		p.suspect = time.Time{}
		p.mu.Unlock()
		avoid := p.avoid
		if avoid == nil && p.prober != nil && p.g.up.Hosts().Besides(p.prober, p.id) {
			avoid = p.prober // it may lag, or hide what is there
		}
		p.fly(p.wonders(&flight{purpose: forProbe}, since, now), upstream.ClassBusy, avoid)
		return
	}
	if p.confirmDue(now) {
		p.present.checked, p.present.again = now, true
		avoid := p.avoid
		if p.present.last != nil {
			avoid = p.present.last
		}
		since := p.present.since
		if since.IsZero() {
			since = now
		}
		p.fly(p.wonders(&flight{purpose: forProof}, since, now), upstream.ClassIdle, avoid)
	}
}

// probeDue reports whether there is a reason to look for a reset from nonce 0, and since when.
func (p *poller) probeDue(now time.Time) (since time.Time, due bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.at.next == 0 || now.Sub(p.probed) < probeAfter || p.poll.failures > 0 {
		return time.Time{}, false
	}
	since = p.suspect
	for _, accepted := range p.awaiting {
		if late := accepted.Add(probeAfter); !late.After(now) && (since.IsZero() || late.Before(since)) {
			since = late
		}
	}
	return since, !since.IsZero()
}

// probeBack deals with the beginning of the queue.
func (p *poller) probeBack(r *pollResult) {
	p.prober = r.answer.Host
	if len(r.reply.Messages) == 0 {
		p.works(r, OutcomeEmpty, 0, time.Time{})
		_, when, _ := p.signedBy(r)
		p.replaced(r, nil, when)
		return
	}
	page, err := p.verify(r)
	if err != nil {
		p.failed(err, r.took)
		return
	}
	p.works(r, OutcomeOK, 0, page.Time)
	if p.replaced(r, page, page.Time) {
		return
	}
	at := p.here()
	if floor, restarted := at.restarted(page); restarted {
		p.restart(reset{why: "a message is younger than one that came after it", floor: floor, before: stampTime(floor)})
		return
	}
	if nonce, missed := p.missed(page); missed {
		p.logger().Warn("the first message of a session was missed, reading the queue again from there")
		p.rewind(nonce)
	}
}

// missed returns the nonce of the first message in page that a session waits for and that has been passed, if there is
// one.
func (p *poller) missed(page *verify.Page) (nonce uint64, missed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range page.Messages {
		m := &page.Messages[i]
		if s := p.routes[m.Client]; s != nil && m.Nonce < p.at.next && m.Poison == nil {
			if _, waits := p.awaiting[s]; waits {
				return m.Nonce, true
			}
		}
	}
	return 0, false
}

// rewind polls again from nonce on. What clients have had already is told by its sequence number.
func (p *poller) rewind(nonce uint64) {
	p.mu.Lock()
	p.at.rewind(nonce)
	p.mu.Unlock()
	p.settled()
	p.due = time.Now()
}

// restart follows the queue to its new beginning. Sessions that were opened in the old one are not known to the canister
// any more; those that wait for their first message may be. Nodes that lag go on showing the old queue for a while.
func (p *poller) restart(r reset) {
	p.g.cfg.Metrics.QueueReset(p.id)
	var forgotten []*session
	p.mu.Lock()
	for _, s := range p.sessions {
		if s.openedBy(r.floor) {
			forgotten = append(forgotten, s)
		}
	}
	told := r.closing(&p.install.newest, p.at.since)
	p.at = position{floor: r.floor, passed: r.floor}
	p.suspect = time.Time{}
	p.mu.Unlock()
	p.settled()
	p.present = presence{}
	p.due = time.Now()
	fields := []zap.Field{zap.String("because", r.why), zap.Int("sessions", len(forgotten)), zap.String("told", told.text)}
	if !r.installed.IsZero() {
		fields = append(fields, zap.Time("upgraded_at", r.installed))
	}
	p.logger().Warn("the canister's queue began anew; its earlier sessions are closed", fields...)
	for _, s := range forgotten {
		s.endRemoved(told)
	}
}

// confirmDue reports whether it is time to ask for the newest message again: only in silence, because each message
// that arrives confirms as much.
func (p *poller) confirmDue(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.at.seen || p.at.next == 0 || p.poll.failures > 0 || len(p.routes) == 0 || p.g.up.KnownAuthority() == nil {
		return false
	}
	pause := confirmEvery
	last := p.present.checked
	if p.present.times > 0 || p.present.again {
		pause = confirmAgain
	} else if p.active.After(last) {
		last = p.active
	}
	return now.Sub(last) >= pause
}

// proofBack deals with an answer that should hold the newest message seen.
func (p *poller) proofBack(r *pollResult) {
	p.present.last = r.answer.Host
	if len(r.reply.Messages) > 0 {
		if page, err := p.verify(r); err == nil && page.Time.After(p.present.lacking) {
			p.present = presence{checked: p.present.checked} // else it comes from a node that lags
		}
		p.page(r)
		return
	}
	p.works(r, OutcomeEmpty, 0, time.Time{})
	at := p.here()
	if at.next != r.nonce+1 {
		return // it is not the newest any more
	}
	if p.present.since.IsZero() {
		p.present.since = time.Now()
	}
	node, when, ok := p.signedBy(r)
	if p.replaced(r, nil, when) {
		return
	}
	p.mu.Lock()
	newer := when.After(p.poll.certified) && when.Sub(stampTime(at.newest.stamp)) >= lagLimit
	p.mu.Unlock()
	if !ok || !newer { // unsigned, or perhaps of a node that lags: proves nothing
		return
	}
	if p.present.nodes == nil {
		p.present.nodes = make(map[verify.Principal]struct{})
	}
	p.present.nodes[node], p.present.again = struct{}{}, false
	p.present.times++
	p.present.lacking = when
	// A boundary node cannot sign for the nodes behind it, it can only choose them. So in the end one will do, where the
	// others give no answer.
	believed := p.present.hosts.add(r.answer.Host, p.g.up.Hosts()) || p.present.times >= loneAbsences
	if believed && p.present.times >= absences && len(p.present.nodes) >= min(2, p.g.up.NodeCount(p.id)) {
		p.restart(reset{why: "nodes of the subnet sign that the newest message is gone", floor: at.newest.stamp, before: when})
	}
}

// signedBy returns who signed a reply without messages, and when, if its signature was checked and holds.
func (p *poller) signedBy(r *pollResult) (node verify.Principal, when time.Time, ok bool) {
	if r.nodeErr != nil {
		p.logger().Debug("node signature of an empty reply does not hold", zap.Error(r.nodeErr))
		return verify.Principal{}, time.Time{}, false
	}
	sig := r.answer.Reply.Signatures[0]
	return sig.Node, stampTime(sig.Timestamp), true
}
