package localnet

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"syscall"
	"time"
)

// Handler serves the network over HTTP. The boundary node that a Faults hook
// sees is the Host of the request, prefixed with its scheme.
func (n *Network) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
		if err != nil {
			http.Error(w, "reading the body: "+err.Error(), http.StatusBadRequest)
			return
		}
		a := n.serve(r.Context(), "http://"+r.Host, r.Method, r.URL.Path, r.Header.Get("Content-Type"), body)
		if a == nil || a.drop {
			panic(http.ErrAbortHandler) // closes the connection without an answer
		}
		for k, v := range a.header {
			w.Header()[k] = v
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
		w.WriteHeader(a.status)
		if r.Method != http.MethodHead {
			a.write(r.Context(), w)
		}
	})
}

// The lists of the HTTP gateway for pages of other origins.
const (
	corsAllow  = "user-agent,dnt,if-none-match,if-modified-since,cache-control,content-type,range,cookie,x-requested-with,x-ic-canister-id"
	corsExpose = "accept-ranges,content-length,content-range,x-request-id,x-ic-canister-id"
	corsVary   = "origin, access-control-request-method, access-control-request-headers"
)

// addHeaders adds what every answer has. The HTTP gateway lets pages of any
// origin read its answers and tells no cause; a boundary node that is asked
// itself tells the cause and leaves other origins to the replica.
func (n *Network) addHeaders(a *answer, method string) {
	if a.status >= 200 && a.status < 300 && method != http.MethodOptions {
		a.header.Set("X-Content-Type-Options", "nosniff")
		a.header.Set("X-Frame-Options", "DENY")
	}
	if n.opts.Direct {
		if !a.bare {
			a.header.Set("X-Ic-Error-Cause", a.cause)
			if a.cause == noCause {
				a.header.Set("Access-Control-Allow-Origin", "*")
			}
		}
		return
	}
	a.header.Set("Access-Control-Allow-Origin", "*")
	a.header.Set("Vary", corsVary)
	if method != http.MethodOptions {
		a.header.Set("Access-Control-Expose-Headers", corsExpose)
		return
	}
	a.header.Set("Access-Control-Allow-Methods", "POST")
	a.header.Set("Access-Control-Allow-Headers", corsAllow)
	a.header.Set("Access-Control-Max-Age", "7200")
}

// write sends the body at the pace and to the length that the fault wants.
func (a *answer) write(ctx context.Context, w http.ResponseWriter) {
	rest := a.body
	if a.truncate > 0 && a.truncate < len(rest) {
		rest = rest[:a.truncate]
	}
	if a.drip <= 0 {
		w.Write(rest) // an error means that the client is gone
		rest = nil
	}
	for len(rest) > 0 {
		n := min(a.dripBytes, len(rest))
		if _, err := w.Write(rest[:n]); err != nil {
			return
		}
		http.NewResponseController(w).Flush()
		rest = rest[n:]
		if !pause(ctx, a.drip) {
			break
		}
	}
	if len(rest) > 0 || a.truncate > 0 && a.truncate < len(a.body) {
		panic(http.ErrAbortHandler) // the announced length was not reached
	}
}

// RoundTripper is a transport that answers every request from the network,
// whatever host it names, in the goroutine of the caller and without sockets.
// It works inside testing/synctest bubbles and leaves nothing behind. The
// boundary node that a Faults hook sees is the scheme and host of the request.
func (n *Network) RoundTripper() http.RoundTripper { return roundTripper{n} }

type roundTripper struct{ n *Network }

// errReset is what a client sees of a connection that the network closed.
var errReset = &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}

func (rt roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		body, err = io.ReadAll(io.LimitReader(r.Body, maxBody+1))
		r.Body.Close()
		if err != nil {
			return nil, err
		}
	}
	ctx := r.Context()
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if trace := httptrace.ContextClientTrace(ctx); trace != nil && trace.WroteRequest != nil {
		trace.WroteRequest(httptrace.WroteRequestInfo{}) // as a transport over a socket reports it
	}
	a := rt.n.serve(ctx, r.URL.Scheme+"://"+r.URL.Host, r.Method, r.URL.Path, r.Header.Get("Content-Type"), body)
	switch {
	case a == nil:
		return nil, ctx.Err()
	case a.drop:
		return nil, errReset
	}
	reader := &answerBody{ctx: ctx, a: a, rest: a.body}
	if a.truncate > 0 && a.truncate < len(a.body) {
		reader.rest, reader.cut = a.body[:a.truncate], true
	}
	return &http.Response{
		Status: strconv.Itoa(a.status) + " " + http.StatusText(a.status), StatusCode: a.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: a.header, Body: reader, ContentLength: int64(len(a.body)), Request: r,
	}, nil
}

// answerBody is the body of an in-process response.
type answerBody struct {
	ctx    context.Context
	a      *answer
	rest   []byte
	cut    bool // ends with an error instead of EOF
	waited bool
	closed bool
}

var errBodyClosed = errors.New("http: read on closed response body")

func (b *answerBody) Read(p []byte) (int, error) {
	switch {
	case b.closed:
		return 0, errBodyClosed
	case b.ctx.Err() != nil:
		return 0, b.ctx.Err()
	case len(b.rest) == 0 && b.cut:
		return 0, io.ErrUnexpectedEOF
	case len(b.rest) == 0:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	}
	if b.a.drip > 0 {
		if b.waited && !pause(b.ctx, b.a.drip) {
			return 0, b.ctx.Err()
		}
		b.waited = true
		p = p[:min(len(p), b.a.dripBytes)]
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (b *answerBody) Close() error {
	b.closed = true
	return nil
}

// Start serves the network on a TCP address such as "127.0.0.1:0" until Close
// and returns the URL. Each call adds a boundary node of the same network with
// an URL of its own.
func (n *Network) Start(addr string) (url string, err error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", err
	}
	srv := &http.Server{Handler: n.Handler(), ReadHeaderTimeout: 10 * time.Second, ErrorLog: silent()}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed.Err() != nil {
		l.Close()
		return "", errors.New("the network is closed: make a new one")
	}
	n.servers = append(n.servers, srv)
	n.serving.Go(func() { srv.Serve(l) }) // ends with ErrServerClosed
	return "http://" + l.Addr().String(), nil
}
