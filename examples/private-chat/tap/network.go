package tap

import (
	"bytes"
	"io"
	"net/http"
	"time"
)

// maxRequest is the longest request to the network in bytes. The network's own
// limit is below it.
const maxRequest = 8 << 20

// Network is a network with the tap before it. What the gateway asks and what it
// is told, headers and bodies, goes to the function that was given to New; the
// pages do not get it.
func (t *Tap) Network(network http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		t.see(ToNetwork, r.Method+" "+r.URL.String(), r.Header, request)
		r.Body = io.NopCloser(bytes.NewReader(request))
		answer := &answer{ResponseWriter: w}
		network.ServeHTTP(answer, r)
		t.see(FromNetwork, r.URL.String(), w.Header(), answer.body.Bytes())
	})
}

// see passes on one direction of a request: its header and its body.
func (t *Tap) see(from Side, what string, header http.Header, body []byte) {
	if t.seen == nil {
		return
	}
	var b bytes.Buffer
	b.WriteString(what + "\n")
	_ = header.Write(&b) // a buffer takes everything
	b.Write(body)
	t.seen(Frame{At: time.Now(), From: from, What: what, Bytes: b.Bytes()})
}

// answer keeps what a handler answers.
type answer struct {
	http.ResponseWriter
	body bytes.Buffer
}

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	a.body.Write(p)
	return a.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController find what is below.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
