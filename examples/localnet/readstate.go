package localnet

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"

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
	r := s.current()
	l, paths := flat, append(slices.Clip(req.paths), [][]byte{[]byte("time")})
	if rt.version == "v3" {
		l, paths = sharded, r.withoutFlatRanges(paths, s.net.root.id)
	}
	var delegation []byte
	switch {
	case !rt.subnet:
		delegation = s.delegation(l, rt.canister)
	case l == flat:
		delegation = s.vouched.flat
	default: // about a subnet, not about a canister: no ranges
		delegation = s.vouched.bare
	}
	cert := r.certificate(delegation, paths...)
	return cborAnswer(http.StatusOK, appendBytes(appendText(appendMap([]byte(selfDescribe), 1), "certificate"), cert))
}

// withoutFlatRanges keeps /subnet/<id>/canister_ranges of all subnets but the
// root out of what version 3 reveals, also where a longer list is asked for.
func (r *round) withoutFlatRanges(paths [][][]byte, root verify.Principal) [][][]byte {
	all, _ := r.root.get([]byte("subnet"))
	out := make([][][]byte, 0, len(paths))
	for _, path := range paths {
		if string(path[0]) != "subnet" || len(path) > 2 {
			out = append(out, path)
			continue
		}
		known := false
		all.kids.each(func(id []byte, info item) bool {
			if len(path) == 2 && !bytes.Equal(path[1], id) {
				return true
			}
			known = true
			info.kids.each(func(label []byte, _ item) bool {
				if string(label) != "canister_ranges" || bytes.Equal(id, root.Bytes()) {
					out = append(out, [][]byte{path[0], id, label})
				}
				return true
			})
			return true
		})
		if !known {
			out = append(out, path) // to prove that it is absent
		}
	}
	return out
}

// mayRead refuses paths that nobody, or not this sender, may read. It knows the
// paths of the interface specification, section "Paths", and answers others as
// replicas do.
func (s *subnet) mayRead(rt route, req *request) *answer {
	var asked *[32]byte // a certificate tells of one request at most
	for _, path := range req.paths {
		if denied := s.mayReadPath(rt, path); denied != nil {
			return denied
		}
		if string(path[0]) != "request_status" {
			continue
		}
		if len(path[1]) != 32 {
			return textAnswer(http.StatusBadRequest, "Invalid request id in paths. Maybe the request ID is not of 32 bytes in length?!")
		}
		id := [32]byte(path[1])
		if asked != nil && *asked != id {
			return textAnswer(http.StatusBadRequest, fmt.Sprintf("More than one non-unique request ID exists in request_status paths: 0x%x and 0x%x.", *asked, id))
		}
		asked = &id
		if denied := s.maySee(id, rt, req); denied != nil {
			return denied
		}
	}
	return nil
}

// mayReadPath refuses a path that nobody may read at this endpoint.
func (s *subnet) mayReadPath(rt route, path [][]byte) *answer {
	invalid := textAnswer(http.StatusNotFound, "Invalid path requested.")
	part := func(i int) string { // no label of the specification is empty
		if i >= len(path) {
			return ""
		}
		return string(path[i])
	}
	known := false
	switch part(0) {
	case "time":
		known = len(path) == 1
	case "subnet":
		switch part(2) {
		case "":
			known = len(path) <= 2
		case "public_key", "type":
			known = len(path) == 3
		case "node":
			known = len(path) <= 4 || len(path) == 5 && part(4) == "public_key"
		case "canister_ranges": // the flat layout is on its way out
			known = len(path) == 3 && (rt.version == "v2" || part(1) == string(s.net.root.id.Bytes()))
		}
	case "api_boundary_nodes":
		switch part(2) {
		case "":
			known = len(path) <= 2
		case "domain", "ipv4_address", "ipv6_address":
			known = len(path) == 3
		}
	case "canister_ranges":
		known = rt.subnet && len(path) == 2
	case "canister":
		switch part(2) {
		case "controllers", "module_hash":
			known = !rt.subnet && len(path) == 3
		case "last_install_timestamp": // specification 0.66
			known = !rt.subnet && len(path) == 3 && !s.net.opts.V2Only
		case "metadata":
			known = !rt.subnet && len(path) == 4
		}
		if known && part(1) != string(rt.canister.Bytes()) {
			other, err := verify.PrincipalFromBytes(path[1])
			if err != nil {
				return textAnswer(http.StatusBadRequest, fmt.Sprintf("Could not parse principal ID: %v.", err))
			}
			return textAnswer(http.StatusBadRequest, fmt.Sprintf("Effective principal id in URL %s does not match requested principal id: %s.", rt.canister, other))
		}
	case "request_status":
		switch part(2) {
		case "":
			known = !rt.subnet && len(path) == 2
		case "status", "reply", "reject_code", "reject_message", "error_code":
			known = !rt.subnet && len(path) == 3
		}
	}
	if !known {
		return invalid
	}
	return nil
}

// maySee tells whether the sender may learn about a request: only who sent it
// may, by delegations that reach as far as the request went.
func (s *subnet) maySee(id [32]byte, rt route, req *request) *answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	in := s.requests[id]
	switch {
	case in == nil:
		return nil
	case in.caller != req.sender:
		return textAnswer(http.StatusForbidden, "The user tries to access Request ID not signed by the caller.")
	case !req.targets(in.slot.id):
		return textAnswer(http.StatusForbidden, "The user tries to access request IDs for canisters not belonging to sender delegation targets.")
	case in.slot.id != rt.canister:
		return textAnswer(http.StatusForbidden, "The user tries to access Request ID not belonging to the effective canister id.")
	}
	return nil
}
