package localnet

import (
	"context"
	"fmt"
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
		return cborAnswer(appendRejection([]byte(selfDescribe), "non_replicated_rejection", refused, nil))
	}
	if rt.version == "v2" {
		return textAnswer(http.StatusAccepted, "", "")
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
		return textAnswer(http.StatusAccepted, "", fmt.Sprintf("Message did not complete execution and certification within the replica defined timeout of %s.", n.opts.SyncWait))
	case <-ctx.Done():
		return nil
	case <-n.closed.Done():
		return textAnswer(http.StatusServiceUnavailable, "no_healthy_nodes", "no_healthy_nodes: the network is closed")
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
			return textAnswer(http.StatusAccepted, "", "Duplicate request. Message is already in flight.")
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
	return cborAnswer(callBody(cert))
}

// appendRejection writes the map of a rejection with its status (none if
// empty) and, for queries, the encoded signatures.
func appendRejection(dst []byte, status string, r *Reject, signatures []byte) []byte {
	count := 2
	for _, present := range []bool{status != "", r.ErrorCode != "", signatures != nil} {
		if present {
			count++
		}
	}
	dst = appendMap(dst, count)
	if status != "" {
		dst = appendText(appendText(dst, "status"), status)
	}
	dst = appendUint(appendText(dst, "reject_code"), r.Code)
	dst = appendText(appendText(dst, "reject_message"), r.Message)
	if r.ErrorCode != "" {
		dst = appendText(appendText(dst, "error_code"), r.ErrorCode)
	}
	if signatures != nil {
		dst = append(appendText(dst, "signatures"), signatures...)
	}
	return dst
}
