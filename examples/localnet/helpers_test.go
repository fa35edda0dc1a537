package localnet

import (
	"bytes"
	"encoding/hex"
	"io"
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
	opts = append([]agent.ClientOption{agent.WithHostURL(mustURL(t, "http://boundary.example")), agent.WithHttpClient(&http.Client{Transport: n.RoundTripper()})}, opts...)
	a, err := agent.New(agent.Config{
		Identity: id, IngressExpiry: 4 * time.Minute, ClientConfig: opts, FetchRootKey: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func mustURL(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
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

// envelope signs content with id, by agent-go's hash and fxamacker's encoder;
// a nil identity leaves it unsigned.
func envelope(t testing.TB, content map[string]any, id identity.Identity, extra map[string]any) []byte {
	t.Helper()
	m := map[string]any{"content": content}
	if id != nil {
		m["sender_pubkey"] = id.PublicKey()
		h := requestID(t, content)
		sig, err := id.Sign(append([]byte("\x0aic-request"), h[:]...))
		if err != nil {
			t.Fatal(err)
		}
		m["sender_sig"] = sig
	}
	for k, v := range extra {
		if v == nil {
			delete(m, k)
			continue
		}
		m[k] = v
	}
	return mustCBOR(t, m)
}

func requestID(t testing.TB, content map[string]any) [32]byte {
	t.Helper()
	h, err := certification.HashAny(content)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func mustCBOR(t testing.TB, v any) []byte {
	t.Helper()
	b, err := cbor.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte("\xd9\xd9\xf7"), b...)
}

// content is the content of a call or query by id, valid for four minutes.
func content(n *Network, id identity.Identity, kind string, canister verify.Principal, method string, arg []byte) map[string]any {
	sender := principal.AnonymousID.Raw
	if id != nil {
		sender = id.Sender().Raw
	}
	return map[string]any{
		"request_type": kind, "canister_id": canister.Bytes(), "method_name": method, "arg": append([]byte{}, arg...),
		"sender": sender, "ingress_expiry": uint64(n.Now().Add(4 * time.Minute).UnixNano()),
	}
}

// readStateContent is the content of a read_state by id; nil: anonymous.
func readStateContent(n *Network, id identity.Identity, paths ...[][]byte) map[string]any {
	list := []any{}
	for _, path := range paths {
		labels := []any{}
		for _, l := range path {
			labels = append(labels, l)
		}
		list = append(list, labels)
	}
	sender := principal.AnonymousID.Raw
	if id != nil {
		sender = id.Sender().Raw
	}
	return map[string]any{"request_type": "read_state", "sender": sender, "paths": list, "ingress_expiry": uint64(n.Now().Add(time.Minute).UnixNano())}
}

type response struct {
	status int
	header http.Header
	body   []byte
}

// post sends a body to a path of the network, in process.
func post(t testing.TB, n *Network, path string, body []byte) response {
	t.Helper()
	r, err := postTo(n, "http://boundary.example"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func postTo(n *Network, url string, body []byte) (response, error) {
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return response{}, err
	}
	req.Header.Set("Content-Type", "application/cbor")
	resp, err := n.RoundTripper().RoundTrip(req)
	if err != nil {
		return response{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return response{resp.StatusCode, resp.Header, b}, err
}

func canisterPath(version string, id verify.Principal, endpoint string) string {
	return "/api/" + version + "/canister/" + id.String() + "/" + endpoint
}

// reply is a decoded CBOR answer.
type reply struct {
	Status        string `cbor:"status"`
	Certificate   []byte `cbor:"certificate"`
	RejectCode    uint64 `cbor:"reject_code"`
	RejectMessage string `cbor:"reject_message"`
	ErrorCode     string `cbor:"error_code"`
	Reply         struct {
		Arg []byte `cbor:"arg"`
	} `cbor:"reply"`
}

func (r response) decode(t testing.TB) reply {
	t.Helper()
	if r.status != http.StatusOK {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	var out reply
	if err := cbor.Unmarshal(r.body, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// outcome reads the status and the reply of a request from a certificate that
// agent-go verifies.
func outcome(t testing.TB, n *Network, cert []byte, canister verify.Principal, id [32]byte) (status string, arg []byte) {
	t.Helper()
	c := parseCertificate(t, cert)
	if err := certification.VerifyCertificate(c, raw(canister), n.RootKey()); err != nil {
		t.Fatal(err)
	}
	s, err := c.Tree.Lookup(label("request_status"), id[:], label("status"))
	if err != nil {
		t.Fatal(err)
	}
	if string(s) == "replied" {
		if arg, err = c.Tree.Lookup(label("request_status"), id[:], label("reply")); err != nil {
			t.Fatal(err)
		}
	}
	return string(s), arg
}

// call submits an update at v4 and returns the certified reply.
func call(t testing.TB, n *Network, id identity.Identity, canister verify.Principal, method string, arg []byte) []byte {
	t.Helper()
	c := content(n, id, "call", canister, method, arg)
	r := post(t, n, canisterPath("v4", canister, "call"), envelope(t, c, id, nil)).decode(t)
	if r.Status != "replied" {
		t.Fatalf("%s: %+v", method, r)
	}
	status, out := outcome(t, n, r.Certificate, canister, requestID(t, c))
	if status != "replied" {
		t.Fatalf("%s is %s", method, status)
	}
	return out
}

// ws calls a method of a CDK canister and returns the text of its Err, empty
// for Ok.
func ws(t testing.TB, n *Network, id identity.Identity, canister verify.Principal, method string, arg []byte) string {
	t.Helper()
	text, ok, err := verify.DecodeResult(call(t, n, id, canister, method, arg))
	if err != nil {
		t.Fatal(err)
	}
	if ok {
		return ""
	}
	return text
}

// poll asks a CDK canister for a page, as gateway.
func poll(t testing.TB, n *Network, gateway identity.Identity, canister verify.Principal, nonce uint64) *verify.Reply {
	t.Helper()
	c := content(n, gateway, "query", canister, "ws_get_messages", verify.AppendPollArg(nil, nonce))
	r := post(t, n, canisterPath("v2", canister, "query"), envelope(t, c, gateway, nil)).decode(t)
	if r.Status != "replied" {
		t.Fatalf("poll: %+v", r)
	}
	var page verify.Reply
	if err := page.Decode(r.Reply.Arg); err != nil {
		t.Fatal(err)
	}
	return &page
}

// message is what a page holds, decoded.
func message(t testing.TB, m verify.Message) verify.WebsocketMessage {
	t.Helper()
	w, err := verify.ParseContent(m.Content)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func service(t testing.TB, m verify.Message) verify.ServiceMessage {
	t.Helper()
	w := message(t, m)
	if !w.Service {
		t.Fatal("not a service message")
	}
	s, err := verify.DecodeServiceMessage(w.Content)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// rejected makes a call and returns the certified reject code, 0 for a reply.
func rejected(t testing.TB, n *Network, canister verify.Principal, method string, arg []byte) (code uint64, text string) {
	t.Helper()
	c := content(n, nil, "call", canister, method, arg)
	r := post(t, n, canisterPath("v4", canister, "call"), envelope(t, c, nil, nil)).decode(t)
	if r.Status != "replied" {
		t.Fatalf("%+v", r)
	}
	id := requestID(t, c)
	status, _ := outcome(t, n, r.Certificate, canister, id)
	if status == "replied" {
		return 0, ""
	}
	tree := parseCertificate(t, r.Certificate).Tree
	b, err := tree.Lookup(label("request_status"), id[:], label("reject_code"))
	if err != nil || len(b) != 1 {
		t.Fatalf("%s: %x, %v", status, b, err)
	}
	message, err := tree.Lookup(label("request_status"), id[:], label("reject_message"))
	if err != nil {
		t.Fatal(err)
	}
	return uint64(b[0]), string(message)
}
