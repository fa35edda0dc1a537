package localnet

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// answer is a finished HTTP response, independent of how it travels.
type answer struct {
	status int
	header http.Header
	body   []byte
	cause  string // of a boundary node; noCause if it had none
	bare   bool   // answered before any boundary node's own code: no cause at all

	drop      bool // close the connection instead of answering
	truncate  int  // close it after this many body bytes, if positive
	drip      time.Duration
	dripBytes int
}

const (
	cborType = "application/cbor"
	noCause  = "none"
)

// textAnswer is what a replica answers in text.
func textAnswer(status int, text string) *answer {
	return &answer{status: status, header: http.Header{"Content-Type": {textType}}, body: []byte(text), cause: noCause}
}

// emptyAnswer is that of a path or a method that no program looks at.
func emptyAnswer(status int) *answer {
	return &answer{status: status, header: http.Header{}, bare: true}
}

// cborAnswer is a success. Boundary nodes label all of them as CBOR, the texts
// of a 202 as well.
func cborAnswer(status int, body []byte) *answer {
	return &answer{status: status, header: http.Header{"Content-Type": {cborType}}, body: body, cause: noCause}
}

func refusal(err error) *answer {
	if bad := badRequest(""); errors.As(err, &bad) {
		return textAnswer(http.StatusBadRequest, string(bad))
	}
	return textAnswer(http.StatusInternalServerError, err.Error())
}

// route is a parsed request path.
type route struct {
	version, endpoint string
	canister          verify.Principal
	subnet            bool   // canister is the id of a subnet
	boundary          string // URL of the boundary node that was asked
}

// parsePath reads /api/v2/status, /api/<v>/canister/<id>/<endpoint> and
// /api/<v>/subnet/<id>/read_state.
func (n *Network) parsePath(path string) (route, *answer) {
	unknown := emptyAnswer(http.StatusNotFound)
	rest, ok := strings.CutPrefix(path, "/api/")
	if !ok {
		return route{}, unknown
	}
	if rest == "v2/status" {
		return route{version: "v2", endpoint: "status"}, nil
	}
	part := strings.Split(rest, "/")
	if len(part) != 4 || part[1] != "canister" && part[1] != "subnet" {
		return route{}, unknown
	}
	r := route{version: part[0], endpoint: part[3], subnet: part[1] == "subnet"}
	switch r.version + " " + r.endpoint {
	case "v2 call", "v3 call", "v4 call", "v2 query", "v3 query":
		if r.subnet {
			return route{}, unknown
		}
	case "v2 read_state", "v3 read_state":
	default:
		return route{}, unknown
	}
	var err error
	if r.canister, err = verify.ParsePrincipal(part[2]); err != nil {
		if n.opts.Direct {
			return route{}, refuseAs("malformed_request", fmt.Sprintf("Unable to decode %s_id from URL: %v", part[1], err))
		}
		f := GatewayError("client_incorrect_principal")
		return route{}, f.answer()
	}
	return r, nil
}

// serve answers one request. boundary is the URL of the boundary node, body is
// kept by nothing. A nil answer means that ctx ended first.
func (n *Network) serve(ctx context.Context, boundary, method, path, contentType string, body []byte) *answer {
	a := n.answer(ctx, boundary, method, path, contentType, body)
	if a != nil && !a.drop {
		n.addHeaders(a, method)
	}
	return a
}

func (n *Network) answer(ctx context.Context, boundary, method, path, contentType string, body []byte) *answer {
	rt, bad := n.parsePath(path)
	if bad != nil {
		return bad
	}
	rt.boundary = boundary
	if refused := n.refuseMethod(&rt, method); refused != nil {
		return refused
	}
	info := Request{Boundary: boundary, Version: rt.version, Endpoint: rt.endpoint, Canister: rt.canister, Count: n.served.Add(1)}
	var req *request
	var parseErr error
	if rt.endpoint != "status" {
		if len(body) <= maxBody {
			req, parseErr = parseEnvelope(body)
		}
		if req != nil {
			info.Method, info.Sender, info.ID = req.method, req.sender, req.id
		}
	}

	f := n.fault(&info)
	if !pause(ctx, f.Delay) {
		return nil
	}
	if f.Drop {
		return &answer{drop: true}
	}
	if f.Status != 0 {
		a := f.answer()
		f.shape(a)
		return a
	}
	var a *answer
	switch {
	case rt.endpoint == "status":
		a = n.status()
		(&forgery{net: n}).lieAnswer(n.attacks(&rt), a)
	case n.gone(&rt):
		a = emptyAnswer(n.opts.GoneStatus)
	default:
		a = n.pass(ctx, rt, req, parseErr, contentType, len(body), f.Lag)
	}
	if a == nil || !pause(ctx, f.ReplyDelay) {
		return nil
	}
	if a.drop || f.DropReply {
		return &answer{drop: true}
	}
	f.shape(a)
	return a
}

// refuseMethod answers what is not the one method of an endpoint.
func (n *Network) refuseMethod(rt *route, method string) *answer {
	get := rt.endpoint == "status"
	switch {
	case method == http.MethodOptions && !n.opts.Direct:
		return emptyAnswer(http.StatusOK)
	case get && (method == http.MethodGet || method == http.MethodHead), !get && method == http.MethodPost:
		return nil
	}
	a := emptyAnswer(http.StatusMethodNotAllowed)
	a.header.Set("Allow", "POST")
	if get {
		a.header.Set("Allow", "GET,HEAD")
	}
	return a
}

// gone tells whether the network does not have this endpoint, or not any more.
func (n *Network) gone(rt *route) bool {
	switch {
	case rt.endpoint == "status":
		return false
	case n.opts.V2Only && rt.version != "v2":
		return true
	}
	return n.opts.V3Only && (rt.version == "v2" || rt.version == "v3" && rt.endpoint == "call")
}

// pass is what a boundary node does with a request: it looks at its size and
// form and finds a replica for it.
func (n *Network) pass(ctx context.Context, rt route, req *request, parseErr error, contentType string, size, lag int) *answer {
	var unreadable unreadableError
	switch {
	case size > maxBody:
		return refuseAs("payload_too_large", "")
	case errors.As(parseErr, &unreadable):
		return refuseAs("unable_to_parse_cbor", "Failed to parse the CBOR request body: "+string(unreadable))
	}
	var s *subnet
	if !rt.subnet {
		if s = n.subnetOf(rt.canister); s == nil {
			return refuseAs("canister_not_found", "")
		}
	} else if i := slices.IndexFunc(n.everySubnet(), func(s *subnet) bool { return s.id == rt.canister }); i >= 0 {
		s = n.everySubnet()[i]
	} else {
		return refuseAs("subnet_not_found", "")
	}
	switch {
	case contentType != cborType:
		return textAnswer(http.StatusBadRequest, fmt.Sprintf("Unexpected content-type, expected %s.", cborType))
	case parseErr != nil:
		return refusal(parseErr)
	case req.kind != rt.endpoint:
		return textAnswer(http.StatusBadRequest, fmt.Sprintf("Failed to deserialize cbor request: unknown variant `%s`, expected `%s`", req.kind, rt.endpoint))
	case req.kind != "read_state" && req.canister != rt.canister:
		return textAnswer(http.StatusBadRequest, fmt.Sprintf("Specified CanisterId %s does not match effective canister id in URL %s", req.canister, rt.canister))
	}
	return n.replica(ctx, s, rt, req, size, lag)
}

// replica answers a request as a node of the subnet does, or as an attack on it
// wants.
func (n *Network) replica(ctx context.Context, s *subnet, rt route, req *request, size, lag int) *answer {
	switch rt.endpoint {
	case "call":
		if size > maxIngress {
			return textAnswer(http.StatusRequestEntityTooLarge, fmt.Sprintf("Request 0x%x is too large. Message byte size %d is larger than the max allowed %d.", req.id, size, maxIngress))
		}
		a := n.call(ctx, s, rt, req)
		if attacks := n.attacks(&rt); len(attacks) > 0 && a != nil {
			l := flat
			if rt.version == "v4" {
				l = sharded
			}
			f := &forgery{net: n, subnet: s, canister: rt.canister, layout: l, req: req, round: s.current()}
			f.lieAnswer(attacks, a)
		}
		return a
	case "query":
		a, f := n.query(s, rt, req, lag)
		if f != nil {
			f.lieAnswer(n.attacks(&rt), a)
		}
		return a
	default:
		return n.readState(s, rt, req)
	}
}

// pause waits for d; false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// status is the answer of /api/v2/status as boundary nodes give it.
func (n *Network) status() *answer {
	dst := appendMap([]byte(selfDescribe), 2)
	dst = appendBytes(appendText(dst, "root_key"), n.root.key.der)
	dst = appendText(appendText(dst, "replica_health_status"), "healthy")
	a := cborAnswer(http.StatusOK, dst)
	a.bare = true
	return a
}
