package upstream

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"time"
)

// maxAnswer bounds what is read from a host, in bytes: an answer of the IC is at most 3 MiB and comes with a certificate
// and signatures.
const maxAnswer = 5 << 20

var contentType = []string{"application/cbor"}

// exchange is one HTTP exchange. It goes to the transport and not through an [http.Client], which would follow redirects: an answer from
// elsewhere than the host that was asked is not expected, and would go around its health.
func (n *Network) exchange(ctx context.Context, h *Host, version int, r *request, on terms) (*Answer, *Error) {
	ctx, cancel := context.WithTimeout(ctx, on.patience)
	defer cancel()
	on.race.begins(cancel)
	if r.stages.Sent != nil {
		ctx = withSent(ctx, r.stages.Sent)
	}
	fail := func(outcome Outcome, status int, err error) *Error {
		return &Error{Outcome: outcome, Host: h, Refusal: Refusal{Status: status, Means: Failing}, Err: err}
	}
	method := http.MethodPost
	if r.endpoint == EndpointStatus {
		method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(ctx, method, r.url(h.base, version), bytes.NewReader(r.body))
	if err != nil {
		return nil, fail(OutcomeBadRequest, 0, err)
	}
	if method == http.MethodPost {
		req.Header["Content-Type"] = contentType
	}
	res, err := n.transport.RoundTrip(req)
	if err != nil {
		return nil, fail(networkOutcome(err), 0, plainly(err))
	}
	defer res.Body.Close()
	buf := bodies.Get().(*bytes.Buffer)
	buf.Reset()
	a := &Answer{Host: h, Status: res.StatusCode, version: version, buf: buf}
	size, err := buf.ReadFrom(io.LimitReader(res.Body, maxAnswer+1))
	if err == nil && size > maxAnswer {
		err = fmt.Errorf("answer is larger than %d bytes", maxAnswer)
	}
	if err != nil {
		a.Release()
		return nil, fail(networkOutcome(err), res.StatusCode, err)
	}
	a.Body = buf.Bytes()
	if res.StatusCode == http.StatusOK || res.StatusCode == http.StatusAccepted {
		return a, nil
	}
	ue := &Error{
		Outcome:    statusOutcome(res.StatusCode),
		Host:       h,
		Refusal:    readRefusal(res.StatusCode, res.Header, a.Body),
		RetryAfter: min(retryAfter(res.Header.Get("Retry-After")), hostBackoffMax),
	}
	a.Release()
	return nil, ue
}

// plainly says what is wrong where a host that speaks HTTP is configured as https, as [http.Client] would.
func plainly(err error) error {
	if tlsErr, ok := errors.AsType[tls.RecordHeaderError](err); ok && string(tlsErr.RecordHeader[:]) == "HTTP/" {
		return http.ErrSchemeMismatch
	}
	return err
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

// withSent arranges for sent to be called as soon as the request has been written to its connection.
func withSent(ctx context.Context, sent func()) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteRequest: func(info httptrace.WroteRequestInfo) {
			if info.Err == nil {
				sent()
			}
		},
	})
}
