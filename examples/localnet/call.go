package localnet

import (
	"context"
	"net/http"
	"time"
)

// call submits an update and, at the synchronous endpoints, waits for it.
func (n *Network) call(ctx context.Context, s *subnet, rt route, req *request) *answer {
	if err := n.validate(req, n.Now()); err != nil {
		return refusal(err)
	}
	in, fresh, refused := s.submit(req)
	if refused != nil {
		return cborAnswer(http.StatusOK, callRejection(rt.version, refused))
	}
	if rt.version == "v2" {
		return cborAnswer(http.StatusAccepted, nil)
	}
	if !fresh {
		return n.repeated(s, rt, in)
	}
	timer := time.NewTimer(n.opts.SyncWait)
	defer timer.Stop()
	select {
	case <-in.done:
		return n.replied(s, rt, in)
	case <-timer.C:
		return cborAnswer(http.StatusAccepted, []byte("Message did not complete execution and certification within the replica defined timeout."))
	case <-ctx.Done():
		return nil
	case <-n.closed.Done():
		return refuseAs("no_healthy_nodes", "")
	}
}

// repeated answers an envelope that was accepted before: with what the
// certified state says of it, which may be that it is still on its way, or
// with 202 while no state says anything.
func (n *Network) repeated(s *subnet, rt route, in *ingress) *answer {
	select {
	case <-in.done:
	default:
		if n.Now().Sub(in.accepted) < n.opts.Block {
			return cborAnswer(http.StatusAccepted, []byte("Duplicate request. Message is already being tracked and executed."))
		}
	}
	return n.replied(s, rt, in)
}

// replied is the answer with the certificate of what became of a request.
func (n *Network) replied(s *subnet, rt route, in *ingress) *answer {
	l := flat
	if rt.version == "v4" {
		l = sharded
	}
	cert := s.current().certificate(s.delegation(l, rt.canister),
		[][]byte{[]byte("request_status"), in.id[:]}, [][]byte{[]byte("time")})
	return cborAnswer(http.StatusOK, callBody(cert))
}

// callRejection is the answer to a call that was refused before consensus. The
// keys are in the order of a sorted map; version 2 has no status.
func callRejection(version string, r *Reject) []byte {
	dst := []byte(selfDescribe)
	if version == "v2" {
		dst = appendMap(dst, 3)
	} else {
		dst = appendText(appendText(appendMap(dst, 4), "status"), "non_replicated_rejection")
	}
	dst = appendText(appendText(dst, "error_code"), r.code())
	dst = appendUint(appendText(dst, "reject_code"), r.Code)
	return appendText(appendText(dst, "reject_message"), r.Message)
}
