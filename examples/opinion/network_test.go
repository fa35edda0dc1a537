//go:build e2e

package opinion

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/aviate-labs/agent-go/identity"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/verify"
)

// user is an Ed25519 key of the local network's users.
func user(name string) (seed []byte, id *identity.Ed25519Identity) {
	digest := sha256.Sum256([]byte(name))
	key := ed25519.NewKeyFromSeed(digest[:])
	id, err := identity.NewEd25519Identity(key.Public().(ed25519.PublicKey), key)
	must(err)
	return digest[:], id
}

// send posts a request to the local network and returns the body of the answer.
func send(t *testing.T, n *localnet.Network, path string, q verify.Request, by verify.Signer) []byte {
	t.Helper()
	q.IngressExpiry = n.Now().Add(4 * time.Minute)
	envelope, _, err := q.Sign(by)
	must(err)
	url := fmt.Sprintf("http://node.example/api/%s/canister/%s/%s", path, q.Canister, q.Type)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(envelope))
	must(err)
	req.Header.Set("Content-Type", "application/cbor")
	resp, err := n.RoundTripper().RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s %v", url, resp.Status, body, err)
	}
	return body
}

// localCases makes cases of what the local network writes: the messages of a page, and a call under Internet Identity.
func localCases(t *testing.T, name string, o localnet.Options, cdk localnet.CDKOptions) []*testCase {
	t.Helper()
	w := newWorld()
	o.Now = func() time.Time { return w.now }
	n, err := localnet.New(o)
	must(err)
	t.Cleanup(func() { must(n.Close()) })
	cdk.App = localnet.PingPong{Quiet: true}
	w.root = &blsKey{der: n.RootKey()}
	w.canister = n.Install(localnet.NewCDK(cdk))
	_, gateway := user("gateway")
	w.gateway = principal(gateway.Sender().Raw)
	w.handshake = verify.AppendHandshake(nil, w.gateway)
	const clients = 5
	var cases []*testCase
	for i := range clients {
		client := *w
		seed, id := user(fmt.Sprintf("client %d", i))
		client.seed = seed
		client.client = verify.ClientKey{Principal: principal(id.Sender().Raw), Nonce: uint64(i) << 60}
		send(t, n, "v4", verify.Request{
			Type: verify.RequestCall, Canister: w.canister, Method: "ws_open", Arg: verify.AppendOpenArg(nil, client.client.Nonce, w.gateway),
		}, id)
		cases = append(cases, &testCase{world: &client, message: i})
	}
	body := send(t, n, "v2", verify.Request{
		Type: verify.RequestQuery, Canister: w.canister, Method: "ws_get_messages", Arg: verify.AppendPollArg(nil, 0),
	}, gateway)
	answer, err := verify.ParseQueryReply(body)
	if err != nil {
		t.Fatal(err)
	}
	reply := new(verify.Reply)
	if err := reply.Decode(answer.Arg); err != nil || len(reply.Messages) != clients {
		t.Fatalf("%d messages, want %d: %v", len(reply.Messages), clients, err)
	}
	for _, c := range cases {
		c.reply = reply
	}
	if !o.NoDelegation {
		cases = append(cases, underII(n, w))
	}
	for _, c := range cases {
		c.kind, c.layout, c.now = "good", name, n.Now()
	}
	return cases
}

// underII is a call by a user of Internet Identity.
func underII(n *localnet.Network, w *world) *testCase {
	ii := n.InstallII(localnet.OnSubnet(1))
	_, session := user("session")
	root, d := ii.Delegate("somebody", session.PublicKey(), n.Now().Add(time.Hour), w.canister)
	q := verify.Request{
		Type: verify.RequestCall, Canister: w.canister, Method: "ws_message", IngressExpiry: n.Now().Add(time.Minute),
		RootKey: root, Delegations: []verify.SignedDelegation{d},
	}
	envelope, _, err := q.Sign(session)
	must(err)
	return &testCase{world: w, envelope: envelope}
}

// TestLocalNetwork has everybody judge what the local network writes: its word is what most other tests rest on.
func TestLocalNetwork(t *testing.T) {
	prepare(t)
	var cases []*testCase
	cases = append(cases, localCases(t, "rust", localnet.Options{}, localnet.CDKOptions{})...)
	cases = append(cases, localCases(t, "motoko", localnet.Options{}, localnet.CDKOptions{Motoko: true})...)
	cases = append(cases, localCases(t, "no delegation", localnet.Options{NoDelegation: true}, localnet.CDKOptions{})...)
	for i, c := range cases {
		a, err := verify.NewAuthority(c.world.root.der)
		must(err)
		c.number = i
		c.judge(a)
	}
	tally(t, 0, cases, ask(t, cases))
}
