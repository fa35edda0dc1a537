package localnet

import (
	"encoding/hex"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/aviate-labs/agent-go"
	"github.com/aviate-labs/agent-go/certification"
	"github.com/aviate-labs/agent-go/certification/hashtree"
	"github.com/aviate-labs/agent-go/identity"
	"github.com/aviate-labs/agent-go/principal"
	"github.com/fxamacker/cbor/v2"
	"go.uber.org/goleak"

	"github.com/icws-gateway/caddy-icws/verify"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newNetwork(t testing.TB, o Options) *Network {
	t.Helper()
	n, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func newIdentity(t testing.TB) *identity.Ed25519Identity {
	t.Helper()
	id, err := identity.NewRandomEd25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// principalOf is the principal of an identity in the project's type.
func principalOf(id identity.Identity) verify.Principal {
	p, err := verify.PrincipalFromBytes(id.Sender().Raw)
	if err != nil {
		panic(err)
	}
	return p
}

func raw(p verify.Principal) principal.Principal { return principal.Principal{Raw: p.Bytes()} }

// newAgent is agent-go's agent, an implementation of the interface that shares
// nothing with this package, over the in-process transport.
func newAgent(t testing.TB, n *Network, id identity.Identity, opts ...agent.ClientOption) *agent.Agent {
	t.Helper()
	host, err := url.Parse("http://boundary.example")
	if err != nil {
		t.Fatal(err)
	}
	opts = append([]agent.ClientOption{agent.WithHostURL(host), agent.WithHttpClient(&http.Client{Transport: n.RoundTripper()})}, opts...)
	a, err := agent.New(agent.Config{
		Identity: id, IngressExpiry: 4 * time.Minute, ClientConfig: opts, FetchRootKey: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// parseCertificate decodes a certificate with agent-go.
func parseCertificate(t testing.TB, b []byte) certification.Certificate {
	t.Helper()
	var c certification.Certificate
	if err := cbor.Unmarshal(b, &c); err != nil {
		t.Fatalf("agent-go does not decode the certificate: %v", err)
	}
	return c
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func label(s string) hashtree.Label { return hashtree.Label(s) }
