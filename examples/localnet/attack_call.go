package localnet

import (
	"net/http"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// callAttacks are answers to update calls: certificates that do not say what
// the answer claims, and refusals that nobody certified.
func callAttacks() []Attack {
	// certified replaces the certificate by one over a forged state.
	certified := func(name string, causes []verify.Cause, state func(f *forgery) *node) Attack {
		return onAnswer(name, "call", causes, func(f *forgery, a *answer, _ *answerMemo) {
			a.body = callBody(f.requestCertificate(f.subnet.key, state(f), f.subnet.delegation(f.layout, f.canister)))
		})
	}
	// status makes the request's state of these fields.
	status := func(fields ...string) func(*forgery) *node {
		return func(f *forgery) *node {
			var m *node
			for i := 0; i < len(fields); i += 2 {
				m = m.with([]byte(fields[i]), leafOf([]byte(fields[i+1])))
			}
			return f.round.root.with([]byte("request_status"), mapOf((*node)(nil).with(f.req.id[:], mapOf(m))))
		}
	}
	list := []Attack{
		onAnswer("call with unknown status", "call", malformed(), sendBody(selfDescribe+"\xa1\x66status\x65maybe")),
		onAnswer("call without certificate", "call", malformed(), sendBody(selfDescribe+"\xa1\x66status\x67replied")),
		onAnswer("call with an empty certificate", "call", malformed(), sendBody(selfDescribe+"\xa2\x66status\x67replied\x6bcertificate\x40")),
		onAnswer("call accepted for ever", "call", nil, func(_ *forgery, a *answer, _ *answerMemo) {
			*a = *cborAnswer(http.StatusAccepted, nil)
		}),
		onAnswer("call refused by one node", "call", nil, func(f *forgery, a *answer, _ *answerMemo) {
			a.body = callRejection("v4", &Reject{DestinationInvalid, "IC0301", "no such canister"})
		}),
		onAnswer("call refused with an odd code", "call", malformed(), sendBody(selfDescribe+"\xa3\x66status\x78\x18non_replicated_rejection\x6breject_code\x43\x00\x00\x05\x6ereject_message\x60")),
		onAnswer("call reply for another request", "call", causes(verify.CauseRequest), func(f *forgery, a *answer, _ *answerMemo) {
			other := hashOf(f.req.id[:])
			m := (*node)(nil).with([]byte("status"), leafOf([]byte("replied"))).with([]byte("reply"), leafOf(resultOk()))
			// The true request lies in a part that the certificate does not show.
			tree := (*node)(nil).with(f.req.id[:], mapOf(m)).with(other[:], mapOf(m))
			r := &round{key: f.subnet.key, root: f.round.root.with([]byte("request_status"), mapOf(tree))}
			a.body = callBody(r.certificate(f.subnet.delegation(f.layout, f.canister),
				[][]byte{[]byte("request_status"), other[:]}, [][]byte{[]byte("time")}))
		}),
		onAnswer("call signed by a stranger", "call", causes(verify.CauseSignature), func(f *forgery, a *answer, _ *answerMemo) {
			a.body = callBody(f.requestCertificate(newBLSKey(seedFor(f.net.opts.Seed, "stranger")), f.round.root, f.subnet.delegation(f.layout, f.canister)))
		}),
		certified("call from the future", causes(verify.CauseCertificateFuture), func(f *forgery) *node { return atTime(f.round, 10*time.Minute) }),
		certified("call of the past", causes(verify.CauseCertificateOld), func(f *forgery) *node { return atTime(f.round, -10*time.Minute) }),
		certified("call certified as nothing", malformed(), status("status", "nothing")),
		certified("call certified without status", causes(verify.CauseRequest, verify.CauseMalformed), status("reply", "x")),
		certified("call replied without reply", malformed(), status("status", "replied")),
		certified("call rejected without code", malformed(), status("status", "rejected")),
		certified("call rejected with a code of no bytes", malformed(), status("status", "rejected", "reject_code", "", "reject_message", "")),
		certified("call rejected with a code of three bytes", nil, status("status", "rejected", "reject_code", "\x85\x80\x00", "reject_message", "")),
		certified("call rejected with a code of eleven bytes", malformed(), status("status", "rejected", "reject_code", "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", "reject_message", "")),
		certified("call whose outcome is forgotten", nil, status("status", "done")),
		certified("call received for ever", nil, status("status", "received")),
		certified("call of a reply that is no candid", nil, status("status", "replied", "reply", "DIDL\x01\x6c\x01\x00\x00\x01\x00")),
		certified("call unknown to the network", nil, func(f *forgery) *node { return f.round.root.with([]byte("request_status"), mapOf(nil)) }),
	}
	delegated := []Attack{
		onAnswer("call delegated to another subnet", "call", causes(verify.CauseRange, verify.CauseSignature), func(f *forgery, a *answer, _ *answerMemo) {
			a.body = callBody(f.requestCertificate(f.subnet.key, f.round.root, f.stranger().vouched.flat))
		}),
		onAnswer("call certified by another subnet", "call", causes(verify.CauseRange), func(f *forgery, a *answer, _ *answerMemo) {
			s := f.stranger()
			a.body = callBody(f.requestCertificate(s.key, f.round.root, s.vouched.flat))
		}),
	}
	for i := range delegated {
		delegated[i].Delegated = true
	}
	return append(list, delegated...)
}

// requestCertificate certifies what a state says of the request.
func (f *forgery) requestCertificate(key *blsKey, root *node, delegation []byte) []byte {
	return (&round{key: key, root: root}).certificate(delegation,
		[][]byte{[]byte("request_status"), f.req.id[:]}, [][]byte{[]byte("time")})
}

// callBody is the answer of a synchronous call with a certificate.
func callBody(cert []byte) []byte {
	dst := appendMap([]byte(selfDescribe), 2)
	dst = appendText(appendText(dst, "status"), "replied")
	return appendBytes(appendText(dst, "certificate"), cert)
}
