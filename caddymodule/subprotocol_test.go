package caddymodule

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func TestChooseSubprotocol(t *testing.T) {
	long := strings.Repeat("a", maxSubprotocol)
	for _, test := range []struct {
		name   string
		header []string
		want   string
		status int
	}{
		{"none", nil, "", 0},
		{"one", []string{"token"}, "token", 0},
		{"the first of a list", []string{"b, a"}, "b", 0},
		{"the first of several headers", []string{"b", "a"}, "b", 0},
		{"without spaces", []string{"b,a"}, "b", 0},
		{"tabs", []string{"\tb\t,\ta"}, "b", 0},
		{"every sign of a token", []string{"!#$%&'*+-.^_`|~09AZaz"}, "!#$%&'*+-.^_`|~09AZaz", 0},
		{"as it is written", []string{"ToKeN"}, "ToKeN", 0},
		{"a base64 token", []string{"bearer, eyJhbGciOiJIUzI1NiJ9.e30"}, "bearer", 0},
		{"empty", []string{""}, "", 0},
		{"empty elements", []string{", ,\t,", ""}, "", 0},
		{"behind empty elements", []string{",, ,a"}, "a", 0},
		{"behind invalid ones", []string{"a b, a=b, \"a\", (a), a/b, a\x00, \xc3\xa4, c"}, "c", 0},
		{"behind an invalid header", []string{"a b", "c"}, "c", 0},
		{"invalid ones alone", []string{"a b, a=b"}, "", 400},
		{"a response in a name", []string{"a\r\nX-Evil: yes"}, "", 400},
		{"the longest", []string{long}, long, 0},
		{"longer", []string{long + "a"}, "", 400},
		{"behind a longer one", []string{long + "a, b"}, "b", 0},
		{"a long list", []string{strings.Repeat("a b,", 100_000) + "c"}, "c", 0},
		{"a long list of nothing", []string{strings.Repeat(",", 500_000)}, "", 0},
	} {
		got, err := chooseSubprotocol(&http.Request{Header: http.Header{"Sec-Websocket-Protocol": test.header}})
		var refused caddyhttp.HandlerError
		errors.As(err, &refused)
		if got != test.want || refused.StatusCode != test.status {
			t.Errorf("%s: %.40q and %v, want %.40q and status %d", test.name, got, err, test.want, test.status)
		}
	}
}

// TestSubprotocol opens sessions with a subprotocol, behind handlers that wrap responses, and is refused with a text.
func TestSubprotocol(t *testing.T) {
	s := serve(t, "header Sec-WebSocket-Protocol theirs\n\tencode\n\troute {\n\t\ticws "+testCanister+" {\n\t\t"+deadNetwork()+
		"\n\t\t}\n\t}\n\thandle_errors {\n\t\trespond \"{err.message}\" {err.status_code}\n\t}")
	for _, test := range []struct {
		offered, want []string
	}{
		{nil, nil},
		{[]string{"token"}, []string{"token"}},
		{[]string{"b@d", "token, other", "more"}, []string{"token"}},
		{[]string{" ,"}, nil},
	} {
		ws, resp, body := s.open(t, "/", http.Header{"Sec-Websocket-Protocol": test.offered})
		if ws == nil {
			t.Fatalf("%q: %s %s", test.offered, resp.Status, body)
		}
		if got := resp.Header["Sec-Websocket-Protocol"]; strings.Join(got, "|") != strings.Join(test.want, "|") {
			t.Errorf("%q: answered %q", test.offered, got)
		}
		if ws.Subprotocol() != strings.Join(test.want, "") {
			t.Errorf("%q: %q", test.offered, ws.Subprotocol())
		}
		greeted(t, ws)
	}
	ws, resp, body := s.open(t, "/", http.Header{"Sec-Websocket-Protocol": {"b@d"}})
	if ws != nil || resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, "none of the offered subprotocols has a valid name") {
		t.Errorf("%s %q", resp.Status, body)
	}
}
