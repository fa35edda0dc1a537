package caddymodule

import (
	"context"
	"net/http"
	"net/url"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// TestNoOpening makes sure that openings are told from other requests in every version of HTTP.
func TestNoOpening(t *testing.T) {
	upgrade := http.Header{"Connection": {"keep-alive, Upgrade"}, "Upgrade": {"WebSocket"}}
	m := &noOpening{caddyhttp.MatcherSets{{caddyhttp.MatchPath{"/ws"}}}}
	for _, test := range []struct {
		name string
		r    http.Request
		path string
		want bool
	}{
		{"HTTP/1.1", http.Request{Method: "GET", ProtoMajor: 1, Header: upgrade}, "/ws", false},
		{"HTTP/2", http.Request{Method: "CONNECT", ProtoMajor: 2, Header: http.Header{":protocol": {"websocket"}}}, "/ws", false},
		{"HTTP/3", http.Request{Method: "CONNECT", ProtoMajor: 3, Proto: "websocket"}, "/ws", false},
		{"malformed", http.Request{Method: "POST", ProtoMajor: 1, Header: upgrade}, "/ws", false},
		{"another path", http.Request{Method: "GET", ProtoMajor: 1, Header: upgrade}, "/", true},
		{"another path over HTTP/3", http.Request{Method: "CONNECT", ProtoMajor: 3, Proto: "websocket"}, "/app.js", true},
		{"no opening", http.Request{Method: "GET", ProtoMajor: 1}, "/ws", true},
		{"another protocol", http.Request{Method: "CONNECT", ProtoMajor: 2, Header: http.Header{":protocol": {"connect-udp"}}}, "/ws", true},
	} {
		test.r.URL = &url.URL{Path: test.path}
		r := test.r.WithContext(context.WithValue(t.Context(), caddy.ReplacerCtxKey, caddy.NewReplacer()))
		if got, err := m.MatchWithError(r); got != test.want || err != nil {
			t.Errorf("%s: %v, %v", test.name, got, err)
		}
	}
	// A route without matchers takes them all.
	if got, err := new(noOpening).MatchWithError(&http.Request{Method: "GET", ProtoMajor: 1, Header: upgrade}); got || err != nil {
		t.Errorf("a route without matchers: %v, %v", got, err)
	}
}
