package caddymodule

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"

	"github.com/icws-gateway/caddy-icws/relay/client"
)

func TestHTTP2(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	// Deadlines shorter than what the sessions are idle in between: on HTTP/2 a deadline left behind ends the stream.
	caddy, port, trust := secureServer(t, w, "http2xconnect=1", "origin https://app.example.com", "write_timeout 2s")
	transport := overHTTP2(trust)
	defer transport.CloseIdleConnections()

	var sessions []*client.Client
	for range 3 {
		conn, resp := dialH2(t, transport, port, "https://app.example.com")
		if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
			t.Fatalf("status %s over %s", resp.Status, resp.Proto)
		}
		sessions = append(sessions, sessionOver(t, w, conn))
	}
	for i, c := range sessions {
		echo(t, c, fmt.Sprint("over one connection ", i))
		echo(t, c, strings.Repeat("large ", 20000))
	}
	var list []sessionStatus
	if call(t, "GET", caddy.admin+"/icws/sessions", &list); len(list) != 3 || !list[0].ClientIP.IsLoopback() {
		t.Errorf("sessions %+v", list)
	}

	time.Sleep(2500 * time.Millisecond)
	for i, c := range sessions {
		echo(t, c, fmt.Sprint("after a silence ", i))
	}

	// A reload leaves them alone, although their handlers belong to the configuration before.
	reloadUnrelated(t, caddy)
	for i, c := range sessions {
		echo(t, c, fmt.Sprint("after the reload ", i))
	}

	// The client's close, the loss of a stream, and the operator's close each end one session.
	sessions[0].Close()
	sessions[1].Abort()
	eventually(t, "the end of two sessions", func() bool {
		call(t, "GET", caddy.admin+"/icws/sessions", &list)
		return len(list) == 1
	})
	call(t, "DELETE", fmt.Sprintf("%s/icws/sessions/%s/%d", caddy.admin, list[0].Gateway, list[0].ID), nil)
	<-sessions[2].Done()
	var closed *client.CloseError
	if !errors.As(sessions[2].Err(), &closed) || closed.Code != 1001 {
		t.Errorf("closed with %v", sessions[2].Err())
	}

	// A subprotocol is chosen here, too.
	if _, resp := dialH2(t, transport, port, "", "b@d", "token, other"); resp.StatusCode != http.StatusOK || resp.Header.Get("Sec-Websocket-Protocol") != "token" {
		t.Errorf("subprotocol: %s %v", resp.Status, resp.Header)
	}
	if _, resp := dialH2(t, transport, port, "", "b@d"); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("no valid subprotocol: %s", resp.Status)
	}

	// Refusals are answers.
	if _, resp := dialH2(t, transport, port, "https://evil.example"); resp.StatusCode != http.StatusForbidden {
		t.Errorf("another origin: %s", resp.Status)
	}

	// A plain request over the same protocol passes on.
	resp, err := (&http.Client{Transport: transport}).Get(fmt.Sprintf("https://localhost:%d/ws", port))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("plain request: %s", resp.Status)
	}

	// Exit: the drain ends the sessions that the HTTP server waits for.
	conn, _ := dialH2(t, transport, port, "https://app.example.com")
	last := sessionOver(t, w, conn)
	echo(t, last, "before the end")
	caddy.terminate(t)
	<-last.Done()
	if !errors.As(last.Err(), &closed) || closed.Code != 1001 {
		t.Errorf("closed with %v", last.Err())
	}
}

func TestHTTP3(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	caddy, port, trust := secureServer(t, w, "http2xconnect=1", "write_timeout 2s")
	transport := &http3.Transport{TLSClientConfig: trust}
	defer transport.Close()
	r, err := connectRequest(t.Context(), port, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	r.Proto = "websocket"
	r.Header["Sec-Websocket-Protocol"] = []string{"token, other"}
	conn, resp, err := dialH3(t, transport, port, r)
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.Header.Get("Sec-Websocket-Protocol"); got != "token" {
		t.Errorf("subprotocol %q", got)
	}
	c := sessionOver(t, w, conn)
	echo(t, c, "over QUIC")
	time.Sleep(2500 * time.Millisecond)
	echo(t, c, "after a silence")
	reloadUnrelated(t, caddy)
	echo(t, c, "after the reload")
	echo(t, c, strings.Repeat("large ", 20000))
	var list []sessionStatus
	if call(t, "GET", caddy.admin+"/icws/sessions", &list); len(list) != 1 {
		t.Fatalf("sessions %+v", list)
	}
	call(t, "DELETE", fmt.Sprintf("%s/icws/sessions/%s/%d", caddy.admin, list[0].Gateway, list[0].ID), nil)
	<-c.Done()
	var closed *client.CloseError
	if !errors.As(c.Err(), &closed) || closed.Code != 1001 {
		t.Errorf("closed with %v", c.Err())
	}
}

// TestNoExtendedConnect makes sure that a server which does not offer extended CONNECT still serves HTTP/1.1 to the same
// clients: that is what browsers fall back to.
func TestNoExtendedConnect(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	caddy, port, trust := secureServer(t, w, "http2xconnect=0")
	transport := overHTTP2(trust)
	defer transport.CloseIdleConnections()
	r, err := connectRequest(t.Context(), port, http.NoBody, "")
	if err != nil {
		t.Fatal(err)
	}
	r.Header[":protocol"] = []string{"websocket"}
	if resp, err := transport.RoundTrip(r); err == nil {
		t.Errorf("extended CONNECT although it is not offered: %s", resp.Status)
	}
	c := w.open(t, fmt.Sprintf("wss://localhost:%d/ws", port), 0, func(o *client.Options) { o.TLS = trust.Clone() })
	echo(t, c, "over HTTP/1.1")

	// The probe command over TLS, with and without what to trust.
	args := []string{"icws", "probe", fmt.Sprintf("wss://localhost:%d/ws", port), "--canister", w.canisters[0].String(), "--network", w.url, "--timeout", hung.String()}
	if out, errs, code := command(t, t.TempDir(), nil, args...); code != 1 || !strings.Contains(errs, "--ca") {
		t.Errorf("probe without the authority: code %d\n%s%s", code, out, errs)
	}
	root := filepath.Join(caddy.dir, "data", "caddy", "pki", "authorities", "local", "root.crt")
	if out, errs, code := command(t, t.TempDir(), nil, append(args, "--ca", root)...); code != 0 || !strings.Contains(out, "ok    certificate") || !strings.Contains(out, "TLS 1.3") {
		t.Errorf("probe with the authority: code %d\n%s%s", code, out, errs)
	}
}
