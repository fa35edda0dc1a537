package localnet

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// maxUpdateReply bounds the reply of an update, as the IC does.
const maxUpdateReply = 2 << 20

// requestMemory is how long a request is known after it was accepted: longer
// than any envelope lives, so that none can be executed twice.
const requestMemory = maxIngressLife + 30*time.Second

// ingress is an accepted update call.
type ingress struct {
	id       [32]byte
	slot     *slot
	caller   verify.Principal
	method   string
	arg      []byte
	accepted time.Time
	due      time.Time

	status string // received, processing, replied, rejected
	reply  []byte
	reject *Reject
	done   chan struct{} // closed with the final status

	later    bool // the answer is not what the method returns
	answered bool // reply and reject are the answer
	open     int  // continuations that belong to this update and have not run
}

// canisterTimer is a message that a canister sends itself later.
type canisterTimer struct {
	due     time.Time
	slot    *slot
	install int
	run     func(*Env)
}

// submit accepts an update call, or finds it among the ones accepted before. A
// *Reject says that it was refused before consensus.
func (s *subnet) submit(req *request) (in *ingress, fresh bool, refused *Reject) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.requests[req.id]; old != nil {
		return old, false, nil
	}
	slot := s.slots[req.canister]
	if slot == nil {
		return nil, false, notFound(req.canister)
	}
	if refused := slot.refusal(); refused != nil {
		return nil, false, refused
	}
	now := s.net.Now()
	in = &ingress{
		id: req.id, slot: slot, caller: req.sender, method: req.method, arg: req.arg,
		accepted: now, status: "received", done: make(chan struct{}),
	}
	s.requests[in.id] = in
	s.expiring = append(s.expiring, in)
	s.recordLocked(in)
	if s.net.opts.Latency == 0 {
		s.executeLocked(in, now)
		s.continueLocked(now)
	} else {
		in.due = blockBefore(now.Add(s.net.opts.Latency), s.net.opts.Block)
		s.due = append(s.due, in)
	}
	s.armLocked()
	return in, true, nil
}

// blockBefore is the last block boundary at or before t.
func blockBefore(t time.Time, block time.Duration) time.Time {
	return t.Add(-time.Duration(t.UnixNano() % int64(block)))
}

// recordLocked enters the status of a request into the state tree.
func (s *subnet) recordLocked(in *ingress) {
	var m *node
	m = m.with([]byte("status"), leafOf([]byte(in.status)))
	switch in.status {
	case "replied":
		m = m.with([]byte("reply"), leafOf(in.reply))
	case "rejected":
		m = m.with([]byte("reject_code"), leafOf(appendLEB(nil, in.reject.Code)))
		m = m.with([]byte("reject_message"), leafOf([]byte(in.reject.Message)))
		m = m.with([]byte("error_code"), leafOf([]byte(in.reject.code())))
	}
	s.requestTree = s.requestTree.with(in.id[:], mapOf(m))
	s.dirty = true
}

// forgetLocked drops requests whose envelopes have expired.
func (s *subnet) forgetLocked(now time.Time) {
	n := 0
	for n < len(s.expiring) && now.Sub(s.expiring[n].accepted) > requestMemory {
		in := s.expiring[n]
		s.expiring[n] = nil
		delete(s.requests, in.id)
		s.requestTree = s.requestTree.without(in.id[:])
		n++
	}
	s.expiring = s.expiring[n:]
}

// executeLocked runs an update.
func (s *subnet) executeLocked(in *ingress, now time.Time) {
	if refused := in.slot.refusal(); refused != nil {
		s.finishLocked(in, nil, refused)
		return
	}
	env := s.envLocked(in.slot, in.caller, now)
	env.in = in
	reply, reject := in.slot.run("update", in.method, func() ([]byte, error) {
		return in.slot.canister.Update(env, in.method, in.arg)
	})
	s.applyLocked(in.slot, env, reject == nil)
	if reject != nil || !in.later {
		s.finishLocked(in, reply, reject)
		return
	}
	in.status = "processing"
	s.recordLocked(in)
	s.concludeLocked(in, nil)
}

// concludeLocked finishes an update that is answered later if it has been, or
// if nothing of it is left that could answer it. failure is that of the message
// which has just run.
func (s *subnet) concludeLocked(in *ingress, failure *Reject) {
	switch {
	case in.status != "processing":
	case failure == nil && in.answered:
		s.finishLocked(in, in.reply, in.reject)
	case in.open > 0:
		in.answered = false // a trap takes its answer back
	case failure != nil:
		s.finishLocked(in, nil, failure)
	default:
		s.finishLocked(in, nil, &Reject{CanisterError, "IC0506", fmt.Sprintf("Error from Canister %s: Canister did not reply to the call", in.slot.id)})
	}
}

func replyTooLarge(id verify.Principal, size, limit int) *Reject {
	return &Reject{CanisterError, "IC0504", fmt.Sprintf("Error from Canister %s: Canister violated contract: ic0.msg_reply_data_append: application payload size (%d) cannot be larger than %d.", id, size, limit)}
}

func (s *subnet) finishLocked(in *ingress, reply []byte, reject *Reject) {
	if reject == nil && len(reply) > maxUpdateReply {
		reply, reject = nil, replyTooLarge(in.slot.id, len(reply), maxUpdateReply)
	}
	in.status, in.reply, in.reject = "replied", reply, reject
	if reject != nil {
		in.status = "rejected"
	}
	in.arg = nil
	s.recordLocked(in)
	close(in.done)
}

func (s *subnet) envLocked(slot *slot, caller verify.Principal, now time.Time) *Env {
	return &Env{
		Caller: caller, Self: slot.id, Time: s.blockTimeLocked(now), Replicated: true,
		subnet: s, slot: slot,
	}
}

// applyLocked takes over what a message did to the state of its canister.
func (s *subnet) applyLocked(slot *slot, env *Env, ok bool) {
	slot.changed = true
	if ok {
		s.conts = append(s.conts, env.conts...)
		if env.in != nil {
			env.in.open += len(env.conts)
		}
	}
	if ok && env.setCertified {
		slot.certified = bytes.Clone(env.certified)
		s.canisterTree = s.canisterTree.with(slot.id.Bytes(), mapOf(s.canisterInfo(slot)))
	}
	s.dirty = true
}

// canisterInfo is what the state tree says of a canister.
func (s *subnet) canisterInfo(slot *slot) *node {
	info := (*node)(nil).with([]byte("certified_data"), leafOf(slot.certified))
	if slot.canister == nil {
		return info
	}
	info = info.with([]byte("module_hash"), leafOf(moduleHash(slot))).describe(slot.canister)
	if !s.net.opts.NoInstallTime && !s.net.opts.V2Only {
		stamp := appendLEB(nil, uint64(slot.installed.UnixNano()))
		info = info.with([]byte("last_install_timestamp"), leafOf(stamp))
	}
	return info
}

// moduleHash stands for the hash of a module that does not exist: that of the
// program's type name.
func moduleHash(slot *slot) []byte {
	h := hashOf([]byte(fmt.Sprintf("%T", slot.canister)))
	return h[:]
}

// wake runs what is due. It is the target of the subnet's one timer.
func (s *subnet) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return
	}
	now := s.net.Now()
	var batch []*ingress
	s.due = slices.DeleteFunc(s.due, func(in *ingress) bool {
		if in.due.After(now) {
			return false
		}
		batch = append(batch, in)
		return true
	})
	// Within a block the order is that of the request ids: none that a sender
	// could know beforehand.
	slices.SortFunc(batch, func(a, b *ingress) int {
		if c := a.due.Compare(b.due); c != 0 {
			return c
		}
		return bytes.Compare(a.id[:], b.id[:])
	})
	for _, in := range batch {
		s.executeLocked(in, now)
	}
	s.continueLocked(now)

	var ripe []*canisterTimer
	s.timers = slices.DeleteFunc(s.timers, func(t *canisterTimer) bool {
		switch {
		case t.install != t.slot.install:
			return true
		case t.due.After(now) || t.slot.refusal() != nil: // waits until the canister runs again
			return false
		}
		ripe = append(ripe, t)
		return true
	})
	slices.SortStableFunc(ripe, func(a, b *canisterTimer) int { return a.due.Compare(b.due) })
	for _, t := range ripe {
		env := s.envLocked(t.slot, t.slot.id, now)
		_, reject := t.slot.run("", "timer", func() ([]byte, error) { t.run(env); return nil, nil })
		s.applyLocked(t.slot, env, reject == nil)
	}
	s.continueLocked(now) // what the timers called
	s.armLocked()
}

// addTimer is called by canisters in the middle of a message, under the lock.
func (s *subnet) addTimer(slot *slot, due time.Time, run func(*Env)) {
	s.timers = append(s.timers, &canisterTimer{due, slot, slot.install, run})
}

func (s *subnet) nextDue() (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nextDueLocked()
}

func (s *subnet) nextDueLocked() (at time.Time, ok bool) {
	for _, in := range s.due {
		if !ok || in.due.Before(at) {
			at, ok = in.due, true
		}
	}
	for _, c := range s.conts {
		if c.ready() && (!ok || c.due.Before(at)) {
			at, ok = c.due, true
		}
	}
	for _, t := range s.timers {
		if t.install == t.slot.install && t.slot.refusal() == nil && (!ok || t.due.Before(at)) {
			at, ok = t.due, true
		}
	}
	return at, ok
}

// armLocked sets the subnet's timer to what is due next.
func (s *subnet) armLocked() {
	at, ok := s.nextDueLocked()
	if !ok || s.gone {
		if s.alarm != nil {
			s.alarm.Stop()
		}
		return
	}
	wait := max(at.Sub(s.net.Now()), 0)
	if s.alarm == nil {
		s.alarm = time.AfterFunc(wait, s.wake)
		return
	}
	s.alarm.Reset(wait)
}

func (s *subnet) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = true
	if s.alarm != nil {
		s.alarm.Stop()
	}
}

// message runs f as a message of the canister's own.
func (s *subnet) message(slot *slot, f func(*Env) ([]byte, error)) *Reject {
	s.mu.Lock()
	defer s.mu.Unlock()
	env := s.envLocked(slot, slot.id, s.net.Now())
	_, reject := slot.run("", "message", func() ([]byte, error) { return f(env) })
	s.applyLocked(slot, env, true)
	s.continueLocked(env.Time)
	s.armLocked()
	return reject
}
