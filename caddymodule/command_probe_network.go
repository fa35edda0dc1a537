package caddymodule

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aviate-labs/agent-go/identity"

	"github.com/icws-gateway/caddy-icws/verify"
)

// asker asks the network itself, with the key of the probe's session, what a gateway asks it.
type asker struct {
	hosts     []*url.URL // in the order in which they are tried
	authority *verify.Authority
	canister  verify.Principal
	id        *identity.Ed25519Identity
}

// Bounds of what is read from a boundary node, in bytes, as in relay: an answer of the Internet Computer is at most 3 MiB
// and comes with a certificate and signatures.
const (
	maxAsked       = 5 << 20
	maxRefusalText = 300
)

// asked is an answer with status 200.
type asked struct {
	from string // endpoint version and host
	id   [32]byte
	body []byte
	took time.Duration
}

// refusedError is an answer with another status.
type refusedError struct {
	from   string
	status int
	text   string
}

func (e *refusedError) Error() string {
	return fmt.Sprintf("%s: HTTP %d: %s", e.from, e.status, e.text)
}

// ask signs r and sends it to the endpoint, query or read_state, of the first host that answers. A host that lacks the
// older version of the endpoint is asked for the newer one. The error is a *refusedError where a host did answer.
func (a *asker) ask(ctx context.Context, endpoint string, r verify.Request) (*asked, error) {
	r.IngressExpiry = time.Now().Add(4 * time.Minute)
	envelope, id, err := r.Sign(a.id)
	if err != nil {
		return nil, err
	}
	for _, host := range a.hosts {
		for _, version := range []string{"v2", "v3"} {
			var got *asked
			if got, err = a.post(ctx, host, version, endpoint, envelope); err == nil {
				got.id = id
				return got, nil
			}
			var refused *refusedError
			if !errors.As(err, &refused) {
				break
			}
			if s := refused.status; s != http.StatusNotFound && s != http.StatusMethodNotAllowed && s != http.StatusGone {
				if s != http.StatusTooManyRequests && s < http.StatusInternalServerError {
					return nil, err // about the request: the others will say the same
				}
				break
			}
		}
	}
	return nil, err
}

// post is one exchange.
func (a *asker) post(ctx context.Context, host *url.URL, version, endpoint string, envelope []byte) (*asked, error) {
	began := time.Now()
	path := fmt.Sprintf("%s/api/%s/canister/%s/%s", host, version, a.canister, endpoint)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, path, bytes.NewReader(envelope))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/cbor")
	// An answer from elsewhere than the host that was asked would say nothing about it.
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAsked+1))
	from := version + " of " + host.Host
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", from, err)
	case resp.StatusCode != http.StatusOK:
		text := strings.Join(strings.Fields(string(body[:min(len(body), maxRefusalText)])), " ")
		return nil, &refusedError{from: from, status: resp.StatusCode, text: text}
	case len(body) > maxAsked:
		return nil, fmt.Errorf("%s: answer is larger than %d bytes", from, maxAsked)
	}
	return &asked{from: from, body: body, took: time.Since(began)}, nil
}

// readState reads paths of the certified state. The certificate holds for the canister.
func (a *asker) readState(ctx context.Context, paths ...[][]byte) (*verify.Certificate, *asked, error) {
	got, err := a.ask(ctx, "read_state", verify.Request{Type: verify.RequestReadState, Canister: a.canister, Paths: paths})
	if err != nil {
		return nil, nil, err
	}
	raw, err := verify.ParseReadStateReply(got.body)
	if err != nil {
		return nil, got, err
	}
	cert, err := a.authority.Certificate(raw, a.canister, time.Now())
	return cert, got, err
}

// poll asks for messages, as a gateway that the canister does not know: it has none for us. The answer is nil if there was
// none. The error says what is wrong with what came back, and what does not concern the canister is a *refusedError or
// comes from the connection.
func (a *asker) poll(ctx context.Context) (*asked, *verify.QueryReply, error) {
	got, err := a.ask(ctx, "query", verify.Request{Type: verify.RequestQuery, Canister: a.canister,
		Method: "ws_get_messages", Arg: verify.AppendPollArg(nil, 0)})
	if err != nil {
		return nil, nil, err
	}
	q, err := verify.ParseQueryReply(got.body)
	if err != nil {
		return got, nil, err
	}
	if !q.Replied {
		return got, q, fmt.Errorf("rejected with code %d %s: %s", q.RejectCode, q.ErrorCode, strings.Join(strings.Fields(q.RejectMessage), " "))
	}
	var page verify.Reply
	switch err := page.Decode(q.Arg); {
	case err != nil:
		return got, q, fmt.Errorf("not an answer of the IC WebSocket CDK: %w", err)
	case page.Failed:
		return got, q, fmt.Errorf("the canister answers %q: CDK 0.3.0 and older serve only the gateways they list", page.Err)
	}
	return got, q, nil
}

// outcome says what became of the call with the given id, in words that do not change while it does not.
func (a *asker) outcome(ctx context.Context, id [32]byte) string {
	cert, _, err := a.readState(ctx, [][]byte{[]byte("request_status"), id[:]})
	if err != nil {
		return "its outcome cannot be read: " + err.Error()
	}
	o, err := cert.Outcome(id)
	if err != nil {
		return "its outcome cannot be read: " + err.Error()
	}
	switch o.Status {
	case verify.CallUnknown:
		return "the network does not know it: it has not taken it from the gateway"
	case verify.CallReceived, verify.CallProcessing:
		return "the network has it and the canister has not executed it yet"
	case verify.CallRejected:
		return fmt.Sprintf("rejected with code %d %s: %s", o.RejectCode, o.ErrorCode, strings.Join(strings.Fields(o.RejectMessage), " "))
	case verify.CallReplied:
		text, ok, err := verify.DecodeResult(o.Reply)
		switch {
		case err != nil:
			return "the canister's answer is not {Ok; Err}: it does not use the IC WebSocket CDK"
		case !ok:
			return fmt.Sprintf("the canister refused it: %q", text)
		}
		return "the canister accepted it: its first message waits for a poll of the gateway"
	}
	return "its outcome is forgotten"
}

// mapForm tells how the outermost map of an answer in CBOR is encoded. Replicas write query answers without a length.
func mapForm(body []byte) string {
	body = bytes.TrimPrefix(body, []byte{0xd9, 0xd9, 0xf7})
	switch {
	case len(body) > 0 && body[0] == 0xbf:
		return "map of indefinite length"
	case len(body) > 0 && body[0]>>5 == 5:
		return "map of definite length"
	}
	return "no map"
}

// askNetwork reports on the network without the gateway: a poll, the certificates, the node that answered, and the
// canister's interface. Nothing of it decides: the gateway may see another part of the network than this machine.
func (p *prober) askNetwork(ctx context.Context) {
	got, q, err := p.asker.poll(ctx)
	switch {
	case got == nil && errors.As(err, new(*refusedError)):
		p.bad("query", "refused by %v", err)
	case got == nil:
		p.note("query", "no answer here, the gateway may get one: %v", err)
		return // nor will there be others
	default:
		form := fmt.Sprintf("%s in %s: %d bytes, %s", got.from, got.took.Round(time.Millisecond/10), len(got.body), mapForm(got.body))
		if err != nil {
			p.bad("query", "%s, %v", form, err)
		} else {
			p.ok("query", "%s, replied", form)
		}
	}
	cert, from, err := p.asker.readState(ctx, [][]byte{[]byte("time")}, [][]byte{[]byte("subnet")})
	if err != nil {
		p.bad("state", "the certified state cannot be read: %v", err)
	} else {
		p.reportState(cert, from)
		if q != nil {
			p.reportNode(cert, q, got.id)
		}
	}
	p.reportInterface(ctx)
}

// reportState describes a certificate.
func (p *prober) reportState(cert *verify.Certificate, from *asked) {
	ranges := "flat ranges"
	if !cert.Flat() {
		ranges = "sharded ranges, which SDKs up to 0.5.0 do NOT read"
	}
	subnet, delegated := cert.Subnet()
	by := fmt.Sprintf("subnet %s, delegated by the root key", subnet)
	if !delegated {
		ranges, by = "no ranges", "the root key itself"
	}
	p.ok("state", "read_state of the time, as an answer without messages has no certificate: %s, %s old, %s, signed by %s",
		from.from, time.Since(cert.Time()).Round(time.Millisecond), ranges, by)
}

// reportNode checks who signed the answer to the poll.
func (p *prober) reportNode(cert *verify.Certificate, q *verify.QueryReply, id [32]byte) {
	keys, err := verify.NodeKeys(cert)
	if err == nil {
		err = q.VerifyNode(id, func(n verify.Principal) ([]byte, bool) {
			key, ok := keys[n]
			return key, ok
		}, time.Now())
	}
	if err != nil {
		p.bad("node", "the answer to the query is not proven: %v", err)
		return
	}
	signed := time.Unix(0, int64(q.Signatures[0].Timestamp))
	p.ok("node", "%s, one of %d, signed the query's answer at %s, %s ago", q.Signatures[0].Node, len(keys),
		signed.UTC().Format(time.RFC3339Nano), time.Since(signed).Round(time.Millisecond))
}

// reportInterface looks for the methods in the interface that the canister publishes. An interface may hold less than the
// canister does, so what is missing is kept for the advice, should the session fail.
func (p *prober) reportInterface(ctx context.Context) {
	const section = "candid:service"
	path := [][]byte{[]byte("canister"), p.asker.canister.Bytes(), []byte("metadata"), []byte(section)}
	cert, _, err := p.asker.readState(ctx, path)
	var refused *refusedError
	switch {
	case errors.As(err, &refused) && refused.status == http.StatusForbidden:
		p.note("interface", "not checked: %s is private", section)
		return
	case err != nil:
		p.note("interface", "not checked: %v", err)
		return
	}
	did, found := cert.Lookup(path...)
	if found != verify.Found {
		p.note("interface", "not checked: the canister publishes no %s", section)
		return
	}
	switch s := readInterface(did); {
	case len(s.missing) > 0 && s.unknown:
		p.note("interface", "not checked: %s refers to other files or has no service", section)
	case s.old:
		p.lacks = "the canister has " + oldMethod + ", as the proof of concept of 2023: move to CDK 0.3.1 or newer"
		p.note("interface", "%s", p.lacks)
	case len(s.missing) > 0:
		p.lacks = "the canister's interface lacks " + strings.Join(s.missing, ", ") + ": it needs the four methods of the IC WebSocket CDK"
		p.note("interface", "%s", p.lacks)
	default:
		p.ok("interface", "%s has %s", section, strings.Join(socketMethods, ", "))
	}
}
