package localnet

import (
	"crypto/ed25519"
	"net/http"
	"time"

	"github.com/aviate-labs/agent-go/certification"
)

// maxQueryReply bounds the reply of a query, as the IC does.
const maxQueryReply = 3 << 20

// query runs a query method on a certified state and signs the reply. The
// forgery is for attacks on the answer.
func (n *Network) query(s *subnet, rt route, req *request, lag int) (*answer, *forgery) {
	if err := n.validate(req, n.Now()); err != nil {
		return refusal(err), nil
	}
	r := s.behind(lag)
	l := flat
	if rt.version == "v3" || n.opts.ShardedOnly {
		l = sharded
	}
	r, arg, reject := s.answerQuery(r, l, req)
	f := &forgery{net: n, subnet: s, canister: rt.canister, layout: l, req: req, round: r}
	if attacks := n.attacks(&rt); len(attacks) > 0 {
		f.readPage()
		arg, reject = f.lieQuery(attacks, arg, reject)
	}
	if reject == nil && len(arg) > maxQueryReply {
		reject = replyTooLarge(req.canister, len(arg), maxQueryReply)
	}
	return cborAnswer(http.StatusOK, s.signedReply(req.id, arg, reject, r.time)), f
}

// answerQuery asks the canister as the round saw it. One that keeps no copies is asked as it lives, while nothing else runs, and
// answers from the newest round: its certified data in an older one are not of what it has now. The round returned is that of the
// answer.
func (s *subnet) answerQuery(r *round, l layout, req *request) (*round, []byte, *Reject) {
	f, ok := r.slots[req.canister]
	if !ok {
		return r, nil, notFound(req.canister)
	}
	if f.refusal != nil {
		return r, nil, f.refusal
	}
	c := f.canister
	if c == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if c = f.slot.canister; c == nil {
			return r, nil, f.slot.refusal()
		}
		r = s.currentLocked()
	}
	env := s.queryEnv(r, l, req)
	arg, reject := f.slot.run("query", req.method, func() ([]byte, error) { return c.Query(env, req.method, req.arg) })
	return r, arg, reject
}

func (s *subnet) queryEnv(r *round, l layout, req *request) *Env {
	env := &Env{Caller: req.sender, Self: req.canister, Time: r.time}
	env.certificate = func() []byte {
		if r.slots[req.canister].certified == nil {
			return nil
		}
		return r.dataCertificate(s.delegation(l, req.canister), req.canister)
	}
	return env
}

// signedReply encodes the answer to a query with the signature of one node, which is chosen by the random bytes of the request's
// id, as boundary nodes choose at random: in a fixed turn, questions that come at a fixed pace could always meet the same one.
// The time that it signs is that of the state it answers from.
func (s *subnet) signedReply(id [32]byte, arg []byte, reject *Reject, at time.Time) []byte {
	node := s.nodes[int(id[0])%len(s.nodes)]
	stamp := uint64(at.UnixNano())
	pairs := []certification.KeyValuePair{
		{Key: "request_id", Value: id[:]},
		{Key: "timestamp", Value: stamp},
	}
	if reject == nil {
		pairs = append(pairs,
			certification.KeyValuePair{Key: "status", Value: "replied"},
			certification.KeyValuePair{Key: "reply", Value: map[string]any{"arg": arg}})
	} else {
		pairs = append(pairs,
			certification.KeyValuePair{Key: "status", Value: "rejected"},
			certification.KeyValuePair{Key: "error_code", Value: reject.code()},
			certification.KeyValuePair{Key: "reject_code", Value: reject.Code},
			certification.KeyValuePair{Key: "reject_message", Value: reject.Message})
	}
	hash, err := certification.RepresentationIndependentHash(pairs)
	if err != nil { // all values are of supported types
		panic(err)
	}
	sig := appendMap(appendArray(nil, 1), 3)
	sig = appendUint(appendText(sig, "timestamp"), stamp)
	sig = appendBytes(appendText(sig, "signature"), ed25519.Sign(node.key, append([]byte("\x0bic-response"), hash[:]...)))
	sig = appendBytes(appendText(sig, "identity"), node.id.Bytes())
	if reject != nil {
		return s.net.queryRejection(reject, sig)
	}
	dst := append(make([]byte, 0, len(arg)+len(sig)+64), selfDescribe...)
	dst = s.net.openMap(dst, 3)
	dst = appendText(appendText(dst, "status"), "replied")
	dst = appendBytes(appendText(appendMap(appendText(dst, "reply"), 1), "arg"), arg)
	return s.net.closeMap(append(appendText(dst, "signatures"), sig...))
}

// queryRejection encodes the answer to a query that was rejected, with an
// encoded list of signatures.
func (n *Network) queryRejection(r *Reject, signatures []byte) []byte {
	dst := n.openMap([]byte(selfDescribe), 5)
	dst = appendText(appendText(dst, "status"), "rejected")
	dst = appendText(appendText(dst, "error_code"), r.code())
	dst = appendUint(appendText(dst, "reject_code"), r.Code)
	dst = appendText(appendText(dst, "reject_message"), r.Message)
	return n.closeMap(append(appendText(dst, "signatures"), signatures...))
}

// openMap begins the outer map of an answer to a query. Replicas write one of
// indefinite length, because their encoder does not count the fields of a
// struct that is flattened into another.
func (n *Network) openMap(dst []byte, pairs int) []byte {
	if n.opts.Definite {
		return appendMap(dst, pairs)
	}
	return append(dst, majorMap|indefinite)
}

func (n *Network) closeMap(dst []byte) []byte {
	if n.opts.Definite {
		return dst
	}
	return append(dst, breakCode)
}
