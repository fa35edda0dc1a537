package relay

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/icws-gateway/caddy-icws/relay/internal/upstream"
	"github.com/icws-gateway/caddy-icws/verify"
)

// An upgrade drops everything that a canister keeps for its clients. The network certifies when it was (interface
// specification 0.66), and anybody may read that: proof, where all other signs of a queue that began anew are inference.

const (
	// installPatience bounds one reading, so that the look at the queue that it goes with is not held up.
	installPatience = 3 * time.Second
	// installPause is the pause after a reading that failed, installUnheard after one of which the network does not know
	// the path: it is of an older version.
	installPause   = 10 * time.Second
	installUnheard = 10 * time.Minute
)

// installReading is what was read of when a canister's program was put in place.
type installReading struct {
	upstream.InstallTime
	err error
}

// installWatch is what the poller knows of it.
type installWatch struct {
	newest  installReading // by its certified time
	due     time.Time      // no reading before
	lagging *upstream.Host // gave a reading from before the suspicion
	empty   denials        // who showed that nothing is left of the queue since
	times   int            // how often
}

// readInstall reads when the canister's program was put in place, if possible not from avoid.
func (c *canister) readInstall(ctx context.Context, avoid *upstream.Host) *installReading {
	ctx, cancel := context.WithTimeout(ctx, installPatience)
	defer cancel()
	in, err := c.g.up.ReadInstallTime(ctx, c.id, avoid)
	return &installReading{InstallTime: in, err: err}
}

// wonders prepares a look at the queue for a suspicion that has existed since then: whether it reads the install time as
// well. A reading certified later settles that.
func (p *poller) wonders(f *flight, since, now time.Time) *flight {
	f.suspected = since
	f.install = !now.Before(p.install.due) && !p.install.newest.AsOf.After(since)
	f.lagging = p.install.lagging
	return f
}

// noteInstall notes a reading that came with the answer to a look at the queue.
func (p *poller) noteInstall(r *pollResult) {
	in := r.install
	if in == nil {
		return
	}
	now := time.Now()
	if in.err != nil {
		pause := installPause
		var bad *upstream.BadAnswer
		switch {
		case errors.As(in.err, &bad):
			p.logBad(bad)
		case !upstream.IsTransient(in.err):
			pause = installUnheard
		}
		p.install.due = now.Add(pause)
		p.logger().Debug("reading when the canister was installed failed", zap.Error(in.err))
		return
	}
	if in.AsOf.After(p.install.newest.AsOf) {
		if !in.At.Equal(p.install.newest.At) {
			p.install.empty, p.install.times = denials{}, 0
		}
		p.install.newest = *in
	}
	p.install.lagging = nil
	if in.AsOf.After(r.flight.suspected) {
		return
	}
	p.install.lagging = in.Host // or it lies: what it says is from before the suspicion
	p.lookAgain(r.flight)
}

// lookAgain has the beginning of the queue looked at once more for the suspicion of f, if f did that and had an answer that is
// too old; but not for longer than nodes can lag.
func (p *poller) lookAgain(f *flight) {
	if f.purpose == forProbe && time.Since(f.suspected) < lagLimit {
		p.mu.Lock()
		p.suspectSince(f.suspected)
		p.mu.Unlock()
	}
}

// replaced reports whether the canister's program is known to have been put in place since the queue at the position is
// followed, which dropped it, and then follows the new one. r is a look at the queue, and page what it shows, nil if that is
// nothing; when is the time of what it shows, as far as that is certified or signed, and zero if it is not.
func (p *poller) replaced(r *pollResult, page *verify.Page, when time.Time) bool {
	in := &p.install.newest
	at := p.here()
	if in.At.IsZero() || at.since == 0 || at.next == 0 {
		return false
	}
	stamp := uint64(in.At.UnixNano())
	switch {
	case stamp <= at.since:
		return false
	case when.Before(in.At): // who lags or hides messages does not know what became of the queue
		p.lookAgain(r.flight)
		return false
	case page == nil && !p.nothingLeft(r.answer.Host):
		p.probed = time.Time{} // at once
		p.lookAgain(r.flight)
		return false
	case page != nil && outlives(page, stamp):
		p.mu.Lock()
		p.at.since = stamp // this canister keeps its queue in stable memory
		p.mu.Unlock()
		return false
	}
	// The time is that of a block, and the new program may have opened sessions in the same one.
	p.restart(reset{why: "its program was put in place since", floor: stamp - 1, installed: in.At})
	return true
}

// nothingLeft reports whether to believe that nothing is left of the queue, now that h says so as well. A node signs it, but no more
// than that: another shows what is left, if there is something.
func (p *poller) nothingLeft(h *upstream.Host) bool {
	p.install.times++
	return p.install.empty.add(h, p.g.up.Hosts()) || p.install.times >= absences
}

// outlives reports whether page, which is of the block of that time or a later one, shows messages from before.
func outlives(page *verify.Page, stamp uint64) bool {
	for i := range page.Messages {
		if m := &page.Messages[i]; m.Poison == nil {
			return m.Timestamp < stamp
		}
	}
	return false
}

// reset is a queue that began anew.
type reset struct {
	why       string
	floor     uint64    // everything in the new queue is younger
	before    time.Time // it was over by then
	installed time.Time // zero if it is not known that the canister's program was put in place
}

// closing is what the sessions of the old queue are told; known is the newest reading of when the canister's program was put
// in place, and since when the old queue was followed.
func (r *reset) closing(known *installReading, since uint64) *closing {
	text := "the canister was restarted or upgraded and forgot this session, reconnect"
	switch {
	case !r.installed.IsZero():
		text = "canister was upgraded at " + r.installed.UTC().Format(time.RFC3339) + " and forgot this session, reconnect"
	case !known.At.IsZero() && uint64(known.At.UnixNano()) <= since && known.AsOf.After(r.before):
		text = "the canister dropped its queue and forgot this session, reconnect"
	}
	return newClosing(Forgotten, text)
}
