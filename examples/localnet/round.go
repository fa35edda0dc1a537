package localnet

import (
	"sync"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// round is one certified state of a subnet. It never changes; its signature is
// made once, when somebody first asks for a certificate, so that polling costs
// nothing while the state stands still.
type round struct {
	key   *blsKey
	time  time.Time
	root  *node
	slots map[verify.Principal]frozen

	once      sync.Once
	signature []byte
}

// frozen is a canister as a round saw it.
type frozen struct {
	slot      *slot
	canister  Canister // nil: the canister keeps no copies, ask the living one
	refusal   *Reject  // why it does not answer, nil if it does
	certified []byte
}

// current returns the newest round, made now if the state has changed or the
// certified time has grown old.
func (s *subnet) current() *round {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.currentLocked()
}

func (s *subnet) currentLocked() *round {
	now := s.net.Now()
	if len(s.rounds) > 0 && !s.dirty && now.Sub(s.rounds[len(s.rounds)-1].time) < s.net.opts.RoundInterval {
		return s.rounds[len(s.rounds)-1]
	}
	s.forgetLocked(now)
	r := &round{key: s.key, time: s.blockTimeLocked(now)}
	if n := len(s.rounds); n > 0 && !s.dirty {
		r.slots = s.rounds[n-1].slots
	} else {
		r.slots = s.freezeLocked()
	}
	root := (*node)(nil).
		with([]byte("time"), leafOf(appendLEB(nil, uint64(r.time.UnixNano())))).
		with([]byte("api_boundary_nodes"), mapOf(s.net.boundaries.Load())).
		with([]byte("subnet"), mapOf(s.subnetTree)).
		with([]byte("canister_ranges"), mapOf(s.rangeTree)).
		with([]byte("canister"), mapOf(s.canisterTree)).
		with([]byte("request_status"), mapOf(s.requestTree))
	r.root = root
	if len(s.rounds) >= s.net.opts.History {
		s.rounds = append(s.rounds[:0:0], s.rounds[len(s.rounds)-s.net.opts.History+1:]...)
	}
	s.rounds = append(s.rounds, r)
	s.dirty = false
	return r
}

// blockTimeLocked is the time of a block made now: block times only grow.
func (s *subnet) blockTimeLocked(now time.Time) time.Time {
	if n := len(s.rounds); n > 0 && !now.After(s.rounds[n-1].time) {
		return s.rounds[n-1].time.Add(1)
	}
	return now
}

// behind returns the round that lies back rounds before the newest, as a
// replica that is late has it; at most as far back as the history reaches.
func (s *subnet) behind(back int) *round {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.currentLocked()
	return s.rounds[max(0, len(s.rounds)-1-back)]
}

func (s *subnet) freezeLocked() map[verify.Principal]frozen {
	out := make(map[verify.Principal]frozen, len(s.slots))
	for id, slot := range s.slots {
		if slot.changed {
			slot.changed = false
			slot.copy = nil
			if c, ok := slot.canister.(Snapshotter); ok {
				slot.copy = c.Snapshot()
			}
		}
		out[id] = frozen{slot, slot.copy, slot.refusal(), slot.certified}
	}
	return out
}

func (r *round) sign() []byte {
	r.once.Do(func() { r.signature = r.key.sign(r.root.digest) })
	return r.signature
}

// certificate encodes a certificate that reveals the given paths. delegation is
// the encoded value of that field, nil for none.
func (r *round) certificate(delegation []byte, paths ...[][]byte) []byte {
	return appendCertificate(nil, mapOf(r.root).appendWitness(nil, pickPaths(paths...)), r.sign(), delegation)
}

func appendCertificate(dst, tree, signature, delegation []byte) []byte {
	fields := 2
	if delegation != nil {
		fields = 3
	}
	dst = appendMap(append(dst, selfDescribe...), fields)
	dst = append(appendText(dst, "tree"), tree...)
	dst = appendBytes(appendText(dst, "signature"), signature)
	if delegation != nil {
		dst = append(appendText(dst, "delegation"), delegation...)
	}
	return dst
}

// dataCertificate is the certificate that a query of canister id is given.
func (r *round) dataCertificate(delegation []byte, id verify.Principal) []byte {
	return r.certificate(delegation, [][]byte{[]byte("canister"), id.Bytes(), []byte("certified_data")}, [][]byte{[]byte("time")})
}
