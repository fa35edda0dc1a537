package relay

import (
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// A canister can remove a session without a message: when the same principal opens another one at another gateway. But both
// published CDKs send an ack to every client that they have, whether it has sent anything or not, all in one execution, once in
// an ack interval. So who gets none in such a round, though the session is older, is not known to the canister any more.

const (
	// roundPatience is how long the queue must have been polled after the last ack of a round before the round counts as read,
	// where no later message shows that it has been: it can fill many pages, and nodes may be up to 50 seconds behind.
	roundPatience = time.Minute
	// ackSlack is how late a round may be, as clients see it, too.
	ackSlack = 30 * time.Second
	// ackOverdue is how long a session that has sent something may be without an ack before its canister is suspected of
	// sending none: the CDK's default interval is 5 minutes, and clients give up 30 seconds later.
	ackOverdue = 5*time.Minute + 15*time.Second
)

// ackRounds is what is known of a canister's acks. It belongs to the canister, whose lock guards it.
type ackRounds struct {
	stamp   uint64    // when the newest round was made, by the canister's clock in nanoseconds; 0 = none was seen
	at      time.Time // when the last ack of it came
	read    uint64    // the stamp of the newest round that a later message came after
	polled  time.Time // when the last good answer had been handed out
	gaps    int       // between rounds that were seen
	longest uint64    // of them, in nanoseconds
}

// note notes a message made at stamp that came at now; ack says that it is an ack, to anybody. Messages come in the order in which
// the canister made them.
func (r *ackRounds) note(stamp uint64, ack bool, now time.Time) {
	if stamp > r.stamp {
		r.read = r.stamp
	}
	switch {
	case !ack || stamp < r.stamp:
	case stamp == r.stamp:
		r.at = now
	default:
		if r.stamp != 0 {
			r.gaps, r.longest = r.gaps+1, max(r.longest, stamp-r.stamp)
		}
		r.stamp, r.at = stamp, now
	}
}

// interval is the time between rounds, zero if it is not known. A round that is late, because the canister was stopped, makes one
// gap longer and the next one shorter, so it takes two gaps, and the longer one counts. One that was missed, for want of clients,
// makes it too long, which does no harm.
func (r *ackRounds) interval() time.Duration {
	if r.gaps < 2 {
		return 0
	}
	return time.Duration(min(r.longest, 1<<62))
}

// lastProof is the newest message that shows that the canister had a session: the first one, or an ack.
type lastProof struct {
	stamp uint64    // by the canister's clock
	at    time.Time // when it came
}

// passedOver reports whether the canister does not know s any more, as its acks show; proven says that others got an ack in a round
// that s would have been in. Else no round came in time, although rounds came before.
func (c *canister) passedOver(s *session) (over, proven bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := s.proof() // not before: while a round is handed out, the ack of s may come between
	r := &c.acks
	if r.stamp > last.stamp {
		over = r.read > last.stamp || r.polled.Sub(r.at) >= roundPatience
		return over, over
	}
	interval := r.interval()
	_, _, recovered := c.queue.Failing()
	return interval > 0 && r.polled.Sub(later(last.at, recovered)) >= interval+ackSlack, false
}

// noteMissingAcks notes that a session has had no ack for too long, and blames the canister once, unless it sends acks to others.
func (c *canister) noteMissingAcks() {
	c.mu.Lock()
	blame := !c.acksMissing && c.acks.stamp == 0
	c.acksMissing = c.acksMissing || blame
	c.mu.Unlock()
	if blame {
		c.logger().Warn("canister has sent no ack for longer than 5 minutes, so its clients will close: " +
			"is the CDK's init() called, also after an upgrade?")
	}
}

// serviceKind returns the kind of a service message, and nothing for other messages.
func serviceKind(m *verify.PageMessage) verify.ServiceKind {
	if !m.Service {
		return ""
	}
	s, err := verify.DecodeServiceMessage(m.Payload)
	if err != nil {
		return "" // the client judges it
	}
	return s.Kind
}
