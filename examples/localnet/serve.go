package localnet

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// answer is a finished HTTP response, independent of how it travels.
type answer struct {
	status int
	header http.Header
	body   []byte

	drop      bool // close the connection instead of answering
	truncate  int  // close it after this many body bytes, if positive
	drip      time.Duration
	dripBytes int
}

const cborType = "application/cbor"

func textAnswer(status int, cause, text string) *answer {
	a := &answer{status: status, header: http.Header{"Content-Type": {"text/plain; charset=utf-8"}}, body: []byte(text)}
	if cause != "" {
		a.header.Set("X-Ic-Error-Cause", cause)
	}
	return a
}

func cborAnswer(body []byte) *answer {
	return &answer{status: http.StatusOK, header: http.Header{"Content-Type": {cborType}}, body: body}
}

func refusal(err error) *answer {
	if bad := badRequest(""); errors.As(err, &bad) {
		return textAnswer(http.StatusBadRequest, "", string(bad))
	}
	return textAnswer(http.StatusInternalServerError, "", err.Error())
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
func parsePath(path string) (route, *answer) {
	unknown := textAnswer(http.StatusNotFound, "", "Not Found")
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
		return route{}, textAnswer(http.StatusBadRequest, "malformed_request", fmt.Sprintf("malformed_request: %.80q is not a principal", part[2]))
	}
	return r, nil
}

// serve answers one request. boundary is the URL of the boundary node, body is
// kept by nothing. A nil answer means that ctx ended first.
func (n *Network) serve(ctx context.Context, boundary, method, path, contentType string, body []byte) *answer {
	rt, bad := parsePath(path)
	if bad != nil {
		return bad
	}
	rt.boundary = boundary
	get := rt.endpoint == "status"
	if method == http.MethodOptions {
		return &answer{status: http.StatusNoContent, header: http.Header{}}
	}
	if get != (method == http.MethodGet || method == http.MethodHead) || !get && method != http.MethodPost {
		return textAnswer(http.StatusMethodNotAllowed, "", "Method Not Allowed")
	}
	info := Request{Boundary: boundary, Version: rt.version, Endpoint: rt.endpoint, Canister: rt.canister, Count: n.served.Add(1)}
	var req *request
	var parseErr error
	if !get {
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
		a := textAnswer(f.Status, f.Cause, string(f.Body))
		if f.RetryAfter > 0 {
			a.header.Set("Retry-After", fmt.Sprint(int64((f.RetryAfter+time.Second-1)/time.Second)))
		}
		f.shape(a)
		return a
	}
	var a *answer
	switch {
	case get:
		a = n.status()
		(&forgery{net: n}).lieAnswer(n.attacks(&rt), a)
	case n.gone(&rt):
		a = textAnswer(n.opts.GoneStatus, "", http.StatusText(n.opts.GoneStatus))
	case len(body) > maxBody:
		a = textAnswer(http.StatusRequestEntityTooLarge, "payload_too_large", fmt.Sprintf("payload_too_large: the body exceeds %d bytes", maxBody))
	case contentType != cborType:
		a = textAnswer(http.StatusBadRequest, "", fmt.Sprintf("Unexpected content-type, expected %s.", cborType))
	case parseErr != nil:
		a = refusal(parseErr)
	default:
		a = n.dispatch(ctx, rt, req, len(body), f.Lag)
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

func (n *Network) dispatch(ctx context.Context, rt route, req *request, size, lag int) *answer {
	if req.kind != rt.endpoint {
		return textAnswer(http.StatusBadRequest, "", fmt.Sprintf("Unexpected request type `%s` at endpoint `%s`", req.kind, rt.endpoint))
	}
	if rt.subnet {
		for _, s := range n.everySubnet() {
			if s.id == rt.canister {
				return n.readState(s, rt, req)
			}
		}
		return textAnswer(http.StatusBadRequest, "subnet_not_found", "subnet_not_found: "+rt.canister.String())
	}
	if req.kind != "read_state" && req.canister != rt.canister {
		return textAnswer(http.StatusBadRequest, "", fmt.Sprintf("Specified CanisterId %s does not match effective canister id %s in the URL", req.canister, rt.canister))
	}
	s := n.subnetOf(rt.canister)
	if s == nil {
		return textAnswer(http.StatusBadRequest, "canister_not_found", fmt.Sprintf("canister_not_found: no subnet holds canister %s", rt.canister))
	}
	switch rt.endpoint {
	case "call":
		if size > maxIngress {
			return textAnswer(http.StatusRequestEntityTooLarge, "", fmt.Sprintf("Request 0x%x is too large. Message byte size %d is larger than the max allowed %d.", req.id, size, maxIngress))
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

// status is the answer of /api/v2/status.
func (n *Network) status() *answer {
	dst := appendMap([]byte(selfDescribe), 4)
	dst = appendText(appendText(dst, "ic_api_version"), "0.18.0")
	dst = appendText(appendText(dst, "impl_version"), "localnet")
	dst = appendText(appendText(dst, "replica_health_status"), "healthy")
	dst = appendBytes(appendText(dst, "root_key"), n.root.key.der)
	return cborAnswer(dst)
}
