package localnet

import (
	"net/http"

	"github.com/icws-gateway/caddy-icws/verify"
)

// readState answers with a certificate that reveals the requested paths.
func (n *Network) readState(s *subnet, rt route, req *request) *answer {
	if err := n.validate(req, n.Now()); err != nil {
		return refusal(err)
	}
	if denied := s.mayRead(rt, req); denied != nil {
		return denied
	}
	l := flat
	if rt.version == "v3" {
		l = sharded
	}
	paths := append(req.paths[:len(req.paths):len(req.paths)], [][]byte{[]byte("time")})
	var delegation []byte
	if rt.subnet {
		delegation = s.delegation(l, firstOf(s))
	} else {
		delegation = s.delegation(l, rt.canister)
	}
	cert := s.current().certificate(delegation, paths...)
	return cborAnswer(appendBytes(appendText(appendMap([]byte(selfDescribe), 1), "certificate"), cert))
}

func firstOf(s *subnet) verify.Principal { return s.ranges[0].from }

// mayRead refuses paths that nobody, or not this sender, may read.
func (s *subnet) mayRead(rt route, req *request) *answer {
	invalid := textAnswer(http.StatusNotFound, "", "Invalid path requested.")
	var asked *[32]byte // a certificate tells of one request at most
	for _, path := range req.paths {
		if len(path) == 0 {
			return invalid
		}
		switch string(path[0]) {
		case "time":
			if len(path) != 1 {
				return invalid
			}
		case "subnet", "canister_ranges":
		case "canister":
			if rt.subnet || len(path) < 3 || string(path[1]) != string(rt.canister.AppendBytes(nil)) ||
				string(path[2]) != "module_hash" && string(path[2]) != "controllers" && string(path[2]) != "metadata" {
				return invalid
			}
		case "request_status":
			if rt.subnet || len(path) < 2 || len(path[1]) != 32 {
				return invalid
			}
			id := [32]byte(path[1])
			if asked != nil && *asked != id {
				return textAnswer(http.StatusBadRequest, "", "Can only request a single request ID in request_status paths.")
			}
			asked = &id
			if denied := s.maySee(id, rt, req.sender); denied != nil {
				return denied
			}
		default:
			return invalid
		}
	}
	return nil
}

// maySee tells whether sender may learn about a request: only who sent it may.
func (s *subnet) maySee(id [32]byte, rt route, sender verify.Principal) *answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	in := s.requests[id]
	switch {
	case in == nil:
		return nil
	case in.caller != sender:
		return textAnswer(http.StatusForbidden, "", "The user tries to access Request ID not signed by the caller.")
	case in.slot.id != rt.canister:
		return textAnswer(http.StatusForbidden, "", "The user tries to access Request ID not belonging to the effective canister id.")
	}
	return nil
}
