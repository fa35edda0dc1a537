package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// maxAnswer bounds what is read from a boundary node, in bytes: an answer of the IC is at most 3 MiB and comes with a
// certificate and signatures.
const maxAnswer = 5 << 20

// maxTries bounds the hosts that one request is tried on: where so many fail, it is not the hosts.
const maxTries = 8

// callHold is how long a replica keeps a synchronous call waiting before it answers 202; a call may take that much
// longer than other requests.
const callHold = 10 * time.Second

// upstream is the way to the network: the boundary nodes, the budget, and HTTP.
type upstream struct {
	pool    hostPool
	client  *http.Client
	budget  *budget
	timeout time.Duration
	metrics Metrics
}

func newUpstream(c *Config) *upstream {
	u := &upstream{budget: newBudget(c.UpstreamRate), timeout: c.UpstreamTimeout, metrics: c.Metrics}
	for _, base := range c.Hosts {
		u.pool.configured = append(u.pool.configured, newHost(base))
	}
	u.pool.discover(nil)
	transport := c.Transport
	if transport == nil {
		transport = newTransport(c)
	}
	u.client = &http.Client{
		Transport: transport,
		// An answer from elsewhere than the host that was asked is not expected, and would go around its health.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return u
}

// newTransport makes a transport for many requests to few hosts. HTTP/1.1 costs two thirds of the CPU time of HTTP/2
// here, and its requests do not share one connection's fate.
func newTransport(c *Config) *http.Transport {
	t := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: min(5*time.Second, c.UpstreamTimeout), KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:    min(5*time.Second, c.UpstreamTimeout),
		MaxIdleConnsPerHost:    64,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
		Protocols:              new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	return t
}

func (u *upstream) close() { u.client.CloseIdleConnections() }

// upstreamError is a request that brought no usable answer.
type upstreamError struct {
	outcome    Outcome
	host       *host
	status     int // HTTP status, 0 if there was none
	refusal        // what the answer says, if there was one, and what this means
	retryAfter time.Duration
	taken      bool // one of the hosts that were tried may have passed the request on
	err        error
}

func (e *upstreamError) Error() string {
	var b strings.Builder
	b.WriteString(e.host.name)
	if e.status != 0 {
		fmt.Fprintf(&b, ": HTTP %d", e.status)
	}
	for _, s := range []string{e.cause, e.text} {
		if s != "" {
			b.WriteString(": " + s)
		}
	}
	if e.err != nil {
		b.WriteString(": " + e.err.Error())
	}
	return b.String()
}

func (e *upstreamError) Unwrap() error { return e.err }

// transient reports whether the same request may do better later or elsewhere.
func (e *upstreamError) transient() bool { return e.means.passing }

// mayBeTaken reports whether the host may have passed the request on before it failed. It has not where no connection
// came about, or where the answer says so.
func (e *upstreamError) mayBeTaken() bool {
	var oe *net.OpError
	dialing := errors.As(e.err, &oe) && oe.Op == "dial"
	refused := e.status >= 400 && e.status < 500
	return !dialing && !refused && !e.means.busy && e.transient()
}

// isTransient reports whether err, from upstream, may pass.
func isTransient(err error) bool {
	var ue *upstreamError
	return !errors.As(err, &ue) || ue.transient()
}

// servedNowhere reports whether err, from upstream, says that no host that was asked serves the endpoint.
func servedNowhere(err error) bool {
	var ue *upstreamError
	return errors.As(err, &ue) && ue.means == noEndpoint
}

// request is one request to the network; it may be tried on several hosts.
type request struct {
	endpoint Endpoint
	canister verify.Principal
	class    class
	versions []int // of the endpoint, where not all will do; see host.order
	body     []byte
	timeout  time.Duration
	stages   stages
	avoid    *host // not this one, if there is another; may be nil
	only     *host // this one and no other; nil = any
	admitted bool  // the token of the first attempt has been taken, see admit
}

// answer is the response to a request. Its body comes from a pool: release it when nothing refers to it any more.
type answer struct {
	host    *host
	version int // of the endpoint
	status  int
	body    []byte
	buf     *bytes.Buffer
}

func (a *answer) release() {
	if a != nil && a.buf != nil {
		if a.buf.Cap() <= 1<<20 {
			bodies.Put(a.buf)
		}
		a.buf, a.body = nil, nil
	}
}

var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// do sends r to the best host, and to the others in turn while they fail for reasons of their own. A host that does not
// serve one version of the endpoint is asked for the others first. Each attempt takes its own token from the budget. The
// error is an *upstreamError, or that of ctx where nothing was sent; it says that no host serves the endpoint only if all
// that were asked say so.
func (u *upstream) do(ctx context.Context, r *request) (*answer, error) {
	all := u.hosts()
	if r.only != nil {
		all = hosts{r.only}
	}
	var tried []*host
	if len(all) > 1 && slices.Contains(all, r.avoid) { // it may have been a discovered one that has gone
		tried = append(tried, r.avoid)
	}
	var h *host
	var left []int   // versions of the endpoint to try at h
	var lacking bool // h does not serve one of them
	var failure *upstreamError
	for admitted := r.admitted; len(left) > 0 || len(tried) < min(len(all), maxTries); admitted = false {
		var err error
		if !admitted {
			err = u.admit(ctx, r.canister, r.class)
		}
		switch {
		case err != nil && failure != nil:
			return nil, failure
		case err != nil:
			return nil, err
		case r.stages.going != nil && !r.stages.going():
			return nil, context.Canceled
		}
		if len(left) == 0 {
			h = all.pick(tried) // now: their health may have changed while the request waited
			tried = append(tried, h)
			left, lacking = r.versions, false
			if left == nil {
				left = h.order(r.endpoint, time.Now())
			}
		}
		version := left[0]
		left = left[1:]
		a, ue := u.try(ctx, h, version, r, len(left) > 0)
		if ue == nil || !ue.transient() {
			h.serves(r.endpoint, version, lacking, time.Now())
		}
		if ue == nil {
			return a, nil
		}
		ue.taken = ue.mayBeTaken() || failure != nil && failure.taken
		if ctx.Err() != nil || !ue.transient() {
			return nil, ue
		}
		if lacking = ue.means == noEndpoint; !lacking {
			left = nil
		}
		if failure == nil || failure.means == noEndpoint || !lacking {
			failure = ue // what fails for another reason than that the endpoint is not there may come back
		}
	}
	return nil, failure
}

// admit takes a token from the budget for one request, and waits until there is one. The error is that of ctx.
func (u *upstream) admit(ctx context.Context, canister verify.Principal, cl class) error {
	waited, err := u.budget.wait(ctx, canister, cl)
	u.metrics.BudgetWait(waited)
	return err
}

// try sends r to h once, to a version of its endpoint, and keeps the books of h. more says that other versions are left to
// try.
func (u *upstream) try(ctx context.Context, h *host, version int, r *request, more bool) (*answer, *upstreamError) {
	h.begin()
	began := time.Now()
	a, ue := u.exchange(ctx, h, version, r)
	took := time.Since(began)
	outcome := OutcomeOK
	switch {
	case ue == nil && r.endpoint == EndpointCall:
		h.succeeded(0) // a synchronous call takes as long as its canister does
	case ue == nil:
		h.succeeded(took)
	case ctx.Err() != nil:
		h.abandoned()
		return nil, ue // given up by the caller: no outcome to count
	case !ue.transient():
		h.succeeded(0) // the host works, it is the request that it does not like
		outcome = ue.outcome
	case ue.means == noEndpoint && (more || r.versions != nil || r.endpoint == EndpointCall):
		h.abandoned() // it may serve what is left, or what is asked for next, see call
		outcome = ue.outcome
	default:
		h.failed(ue.Error(), began, ue.retryAfter)
		outcome = ue.outcome
	}
	u.metrics.Upstream(h.name, r.endpoint, outcome, took)
	return a, ue
}

// exchange is one HTTP exchange.
func (u *upstream) exchange(ctx context.Context, h *host, version int, r *request) (*answer, *upstreamError) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	if r.stages.sent != nil {
		ctx = withSent(ctx, r.stages.sent)
	}
	fail := func(outcome Outcome, status int, err error) *upstreamError {
		return &upstreamError{outcome: outcome, host: h, status: status, refusal: refusal{means: troubled}, err: err}
	}
	method := http.MethodPost
	if r.endpoint == EndpointStatus {
		method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(ctx, method, h.base+r.path(version), bytes.NewReader(r.body))
	if err != nil {
		return nil, fail(OutcomeBadRequest, 0, err)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/cbor")
	}
	res, err := u.client.Do(req)
	if err != nil {
		return nil, fail(networkOutcome(err), 0, withoutURL(err))
	}
	defer res.Body.Close()
	buf := bodies.Get().(*bytes.Buffer)
	buf.Reset()
	a := &answer{host: h, version: version, status: res.StatusCode, buf: buf}
	n, err := buf.ReadFrom(io.LimitReader(res.Body, maxAnswer+1))
	if err == nil && n > maxAnswer {
		err = fmt.Errorf("answer is larger than %d bytes", maxAnswer)
	}
	if err != nil {
		a.release()
		return nil, fail(networkOutcome(err), res.StatusCode, err)
	}
	a.body = buf.Bytes()
	if res.StatusCode == http.StatusOK || res.StatusCode == http.StatusAccepted {
		return a, nil
	}
	ue := &upstreamError{
		outcome:    statusOutcome(res.StatusCode),
		host:       h,
		status:     res.StatusCode,
		refusal:    readRefusal(res.StatusCode, res.Header, a.body),
		retryAfter: retryAfter(res.Header.Get("Retry-After")),
	}
	a.release()
	return nil, ue
}

// withoutURL drops the method and URL that http.Client puts around errors; the host is named already.
func withoutURL(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil || !strings.HasPrefix(err.Error(), "Post ") && !strings.HasPrefix(err.Error(), "Get ") {
			return err
		}
		err = inner
	}
}

func networkOutcome(err error) Outcome {
	var ne net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &ne) && ne.Timeout() {
		return OutcomeTimeout
	}
	return OutcomeNetwork
}

func statusOutcome(status int) Outcome {
	switch {
	case status == http.StatusTooManyRequests:
		return OutcomeRateLimited
	case status >= 500 || status < 400: // a redirect is no answer either
		return OutcomeUnavailable
	}
	return OutcomeBadRequest
}

// retryAfter reads the header in its form in seconds; the network sends no dates.
func retryAfter(header string) time.Duration {
	n, err := strconv.Atoi(strings.TrimSpace(header))
	if err != nil || n < 0 {
		return 0
	}
	return time.Duration(min(n, 3600)) * time.Second
}

// printable makes a text of strangers fit for logs and close frames: printable ASCII, at most limit bytes.
func printable(s string, limit int) string {
	var b strings.Builder
	for _, r := range s {
		if b.Len() >= limit {
			break
		}
		switch {
		case r >= 0x20 && r < 0x7f:
			b.WriteRune(r)
		case r == '\n' || r == '\t' || r == '\r':
			b.WriteByte(' ')
		default:
			b.WriteByte('?')
		}
	}
	return strings.TrimSpace(b.String())
}
