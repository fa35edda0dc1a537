package localnet

import (
	"fmt"
	"slices"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// continuation is a message with which a canister goes on after it has waited.
type continuation struct {
	due     time.Time // zero: in this block
	slot    *slot
	install int
	in      *ingress // the update that it belongs to, nil for messages of the canister's own
	run     func(*Env) error
}

// ready tells whether only time is missing: a canister that is stopped or
// stopping goes on when it runs again.
func (c *continuation) ready() bool {
	return c.install != c.slot.install || c.slot.refusal() == nil
}

// AnswerLater keeps the caller of the update method waiting: what the method
// returns is ignored unless it fails, and the caller gets what answer is given
// in this message or in one that continues it, once that message has succeeded.
// A caller that nothing is left to answer gets a reject. Outside of updates
// there is nobody to answer, and answer does nothing.
func (e *Env) AnswerLater() (answer func(reply []byte, reject *Reject)) {
	in := e.in
	if in == nil {
		return func([]byte, *Reject) {}
	}
	in.later = true
	return func(reply []byte, reject *Reject) {
		if in.status == "received" || in.status == "processing" {
			in.reply, in.reject, in.answered = reply, reject, true
		}
	}
}

// Await ends the update method here: its result is ignored, and the message
// goes on with f as a message of its own, behind those of the same block. That
// is how a Motoko method continues after it awaited something.
func (e *Env) Await(f func(*Env) ([]byte, error)) {
	answer := e.AnswerLater()
	e.awaits = true
	e.goOn(time.Time{}, func(env *Env) error {
		reply, err := f(env)
		if !env.awaits { // else the answer comes from what it awaits
			answer(reply, nil)
		}
		return err
	})
}

// Call is a call from a canister.
type Call struct {
	// Canister is who is called: the management canister, which is the zero
	// value. Calls to others are rejected.
	Canister verify.Principal
	Method   string
	Arg      []byte // kept until the answer is there
	// Cycles is what is paid with the call. Here they come from nowhere, and
	// what is not charged goes back there.
	Cycles uint64
}

// Call makes a call if this message succeeds. The answer comes after the time
// that an update takes: then is run with the reply or the reject as a message
// of its own, whose Caller is that of this message. An error of then is a trap.
// A call that is under way when the canister is installed anew is forgotten.
// Queries cannot call: it panics, which is a trap.
func (e *Env) Call(c Call, then func(env *Env, reply []byte, reject *Reject) error) {
	if !e.Replicated {
		panic("ic0.call_new cannot be executed in non replicated query mode")
	}
	var due time.Time
	n := e.subnet.net
	if n.opts.Latency > 0 {
		due = blockBefore(n.Now().Add(n.opts.Latency), n.opts.Block)
	}
	caller := e.Self
	e.goOn(due, func(env *Env) error {
		reply, reject := n.answerCall(caller, &c)
		return then(env, reply, reject)
	})
}

func (e *Env) goOn(due time.Time, run func(*Env) error) {
	e.conts = append(e.conts, &continuation{due: due, slot: e.slot, install: e.slot.install, in: e.in, run: run})
}

// continueLocked runs what is due, until nothing is.
func (s *subnet) continueLocked(now time.Time) {
	for {
		i := slices.IndexFunc(s.conts, func(c *continuation) bool { return !c.due.After(now) && c.ready() })
		if i < 0 {
			return
		}
		c := s.conts[i]
		s.conts = slices.Delete(s.conts, i, i+1)
		s.resumeLocked(c, now)
	}
}

func (s *subnet) resumeLocked(c *continuation, now time.Time) {
	caller := c.slot.id
	if c.in != nil {
		c.in.open--
		caller = c.in.caller
	}
	var failure *Reject
	if c.install != c.slot.install {
		failure = &Reject{CanisterError, "IC0503", fmt.Sprintf("Canister %s was installed anew during the call", c.slot.id)}
	} else {
		env := s.envLocked(c.slot, caller, now)
		env.in = c.in
		_, failure = c.slot.run("", "callback", func() ([]byte, error) { return nil, c.run(env) })
		s.applyLocked(c.slot, env, failure == nil)
	}
	if c.in != nil {
		s.concludeLocked(c.in, failure)
	}
}
