package localnet

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"github.com/aviate-labs/agent-go/certification"
	"github.com/aviate-labs/agent-go/certification/hashtree"

	"github.com/icws-gateway/caddy-icws/verify"
)

// agent-go's agent opens a connection, polls its queue and reads the certified
// message: calls with certificates, queries with node signatures, read_state.
func TestAgentGo(t *testing.T) {
	for _, tt := range []struct {
		name string
		o    Options
	}{
		{"delegation", Options{Nodes: 4}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNetwork(t, tt.o)
			id := n.Install(NewCDK(CDKOptions{}))
			if id.String() != "bkyz2-fmaaa-aaaaa-qaaaq-cai" {
				t.Fatalf("first canister is %s", id)
			}
			client, gateway := newIdentity(t), newIdentity(t)
			a := newAgent(t, n, client)
			reply, err := a.CallRaw(raw(id), "ws_open", verify.AppendOpenArg(nil, 7, principalOf(gateway)))
			if err != nil {
				t.Fatal(err)
			}
			if text, ok, err := verify.DecodeResult(reply); !ok || err != nil {
				t.Fatalf("ws_open: %q, %v", text, err)
			}
			g := newAgent(t, n, gateway)
			got, err := g.QueryRaw(raw(id), "ws_get_messages", verify.AppendPollArg(nil, 0))
			if err != nil {
				t.Fatal(err)
			}
			var r verify.Reply
			if err := r.Decode(got); err != nil {
				t.Fatal(err)
			}
			if len(r.Messages) != 1 || !r.EndOfQueue || r.Messages[0].Client != (verify.ClientKey{Principal: principalOf(client), Nonce: 7}) {
				t.Fatalf("reply %+v", r)
			}
			// The certificate and the witness, by agent-go's eyes.
			c := parseCertificate(t, r.Cert)
			tree, err := hashtree.Deserialize(r.Tree)
			if err != nil {
				t.Fatal(err)
			}
			root := tree.Reconstruct()
			if err := certification.VerifyCertifiedData(c, raw(id), n.RootKey(), root[:]); err != nil {
				t.Fatal(err)
			}
			leaf, err := hashtree.Lookup(tree, label("websocket"), hashtree.Label(r.Messages[0].Key))
			if err != nil {
				t.Fatal(err)
			}
			if want := sha256.Sum256(r.Messages[0].Content); !bytes.Equal(leaf, want[:]) {
				t.Fatalf("leaf %x, want %x", leaf, want)
			}
		})
	}
}
