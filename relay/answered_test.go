package relay

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/aviate-labs/agent-go/identity"

	"github.com/icws-gateway/caddy-icws/verify"
)

// gatewayAnswered is a gateway on a network that gives the same answer to everything; cause is its header, if not empty.
func gatewayAnswered(t testing.TB, status int, cause, body string) *Gateway {
	t.Helper()
	id, err := identity.NewRandomEd25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	g, err := New(Config{
		Hosts:     []*url.URL{{Scheme: "https", Host: "a"}},
		RootKey:   verify.MainnetRootKey(),
		Identity:  id,
		Transport: answers{status, cause, body},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g
}

// answers is a network that gives one answer.
type answers struct {
	status      int
	cause, body string
}

func (a answers) RoundTrip(*http.Request) (*http.Response, error) {
	header := make(http.Header)
	if a.cause != "" {
		header.Set("X-Ic-Error-Cause", a.cause)
	}
	return &http.Response{StatusCode: a.status, Header: header, Body: io.NopCloser(strings.NewReader(a.body))}, nil
}

func testPrincipal(n byte) verify.Principal {
	p, err := verify.PrincipalFromBytes([]byte{n, 1})
	if err != nil {
		panic(err)
	}
	return p
}
