package localnet

import (
	"net/http"
	"strconv"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// Faults decides what goes wrong with a request. It is called once for each
// request, possibly concurrently, before the request is looked at; the zero
// Fault lets it pass. It must not keep the Request.
type Faults func(*Request) Fault

// Request describes a request to a Faults hook. Nothing in it is verified.
type Request struct {
	// Boundary is the URL that the request was sent to, without path: which of
	// several boundary nodes.
	Boundary string
	// Version is v2, v3 or v4, Endpoint is status, call, query or read_state.
	Version, Endpoint string
	// Canister is the one in the path; zero for status.
	Canister verify.Principal
	// Method is the method name, empty if there is none.
	Method string
	// Sender signed, or claims to have signed, the request.
	Sender verify.Principal
	// ID is the request id.
	ID [32]byte
	// Count numbers the requests to the network from 1.
	Count uint64
}

// Fault is what goes wrong with one request. Fields combine; they take effect
// in the order in which they stand here.
type Fault struct {
	// Delay holds the request back before it is looked at.
	Delay time.Duration
	// Drop closes the connection before the request is looked at.
	Drop bool
	// Status, if not zero, answers with this status instead, RetryAfter
	// (rounded up to seconds) in the header Retry-After if positive, and Body,
	// of the given type (default plain text). With a Cause it is a boundary
	// node that answers: without Body in its words, and with the cause in the
	// header x-ic-error-cause if it is asked itself, see Options.Direct. See
	// also BoundaryError and GatewayError.
	Status      int
	Cause       string
	RetryAfter  time.Duration
	ContentType string
	Body        []byte
	// Lag answers a query from the state this many rounds before the newest,
	// as a replica does that is late.
	Lag int
	// ReplyDelay holds the answer back after the request took effect: answers
	// with different delays arrive out of order.
	ReplyDelay time.Duration
	// DropReply closes the connection after the request took effect.
	DropReply bool
	// Edit replaces the body of a 200 answer. It owns its argument.
	Edit func(body []byte) []byte
	// CorruptAt flips the bits of the body byte at this index, counted from the
	// end if negative and wrapped to the length of the body. Nil: none.
	CorruptAt *int
	// Truncate, if positive, cuts the connection after this many body bytes.
	Truncate int
	// Drip, if positive, sends the body in pieces of DripBytes (default 1),
	// this far apart.
	Drip      time.Duration
	DripBytes int
}

// SetFaults makes f decide about all further requests; nil ends all faults.
func (n *Network) SetFaults(f Faults) {
	if f == nil {
		n.faults.Store(nil)
		return
	}
	n.faults.Store(&f)
}

func (n *Network) fault(r *Request) Fault {
	if f := n.faults.Load(); f != nil {
		return (*f)(r)
	}
	return Fault{}
}

// answer is what the fault answers with.
func (f *Fault) answer() *answer {
	body := string(f.Body)
	if f.Body == nil && f.Cause != "" {
		body = boundaryBody(f.Cause, "")
	}
	a := textAnswer(f.Status, body)
	if f.ContentType != "" {
		a.header.Set("Content-Type", f.ContentType)
	}
	if a.cause = f.Cause; a.cause == "" {
		a.cause = noCause
	}
	a.bare = f.ContentType == jsonType // by the HTTP gateway
	if f.RetryAfter > 0 {
		a.header.Set("Retry-After", strconv.FormatInt(int64((f.RetryAfter+time.Second-1)/time.Second), 10))
	}
	return a
}

// shape applies what the fault does to a finished answer.
func (f *Fault) shape(a *answer) {
	if f.Edit != nil && a.status == http.StatusOK {
		a.body = f.Edit(a.body)
	}
	if f.CorruptAt != nil && len(a.body) > 0 {
		at := *f.CorruptAt % len(a.body)
		if at < 0 {
			at += len(a.body)
		}
		body := append([]byte(nil), a.body...)
		body[at] ^= 0xff
		a.body = body
	}
	if f.Truncate > 0 {
		a.truncate = f.Truncate
	}
	if f.Drip > 0 {
		a.drip, a.dripBytes = f.Drip, max(f.DripBytes, 1)
	}
}
