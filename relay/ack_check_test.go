package relay

import (
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/relay/internal/queue"
	"github.com/icws-gateway/caddy-icws/verify"
)

// A session is checked while a round of acks is being handed out. What counts is whether it has its ack once the round is over.
func TestAckThatComesDuringACheck(t *testing.T) {
	g := &Gateway{}
	g.cfg.SetDefaults()
	const opened, round, after = 1e9, 2e9, 3e9
	for range 20 {
		c := &canister{g: g, queue: queue.New(time.Minute)}
		s := &session{g: g, canister: c, state: stateOpen, started: time.Now(), lastProof: lastProof{opened, time.Now()}}
		s.out.writing = true // nothing is to be written here
		c.mu.Lock()
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer func() { recover() }() // the end of a session that has no connection
			s.check(time.Now(), time.Second)
		}()
		time.Sleep(time.Millisecond) // most of the time, the check has begun then
		c.acks.note(round, true, time.Now())
		s.noteService(verify.ServiceAck, round)
		c.acks.note(after, false, time.Now())
		c.mu.Unlock()
		if <-done; s.ended() {
			t.Fatal("a session was taken for removed although its ack had come")
		}
	}
}

// A round has been read when the next one begins, also where nothing else comes between.
func TestRoundsThatFollowEachOther(t *testing.T) {
	c := &canister{queue: queue.New(time.Minute)}
	s := &session{canister: c, lastProof: lastProof{50, time.Now()}}
	now := time.Now()
	for _, round := range []struct {
		stamp uint64
		over  bool
	}{{100, false}, {200, true}} {
		c.acks.note(round.stamp, true, now)
		if over, proven := c.passedOver(s); over != round.over || proven != round.over {
			t.Errorf("after the round of %d: passed over %t, proven %t, want %t", round.stamp, over, proven, round.over)
		}
	}
}
