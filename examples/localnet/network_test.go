package localnet

import (
	"bytes"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/aviate-labs/agent-go"
	"github.com/aviate-labs/agent-go/certification"
	"github.com/aviate-labs/agent-go/certification/hashtree"
	"github.com/fxamacker/cbor/v2"

	"github.com/icws-gateway/caddy-icws/verify"
)

// Without a delegation the root key itself signs; agent-go's agent verifies
// calls there (its queries know the root subnet of mainnet only).
func TestAgentGoWithoutDelegation(t *testing.T) {
	n := newNetwork(t, Options{NoDelegation: true})
	id := n.Install(NewCDK(CDKOptions{}))
	gateway := newIdentity(t)
	for _, opts := range [][]agent.ClientOption{nil, {agent.WithLegacyAPI()}} {
		a := newAgent(t, n, newIdentity(t), opts...)
		if _, err := a.CallRaw(raw(id), "ws_open", verify.AppendOpenArg(nil, 7, principalOf(gateway))); err != nil {
			t.Fatal(err)
		}
		if _, err := a.GetTime(raw(id)); err != nil {
			t.Fatal(err)
		}
	}
	r := poll(t, n, gateway, id, 0)
	tree, err := hashtree.Deserialize(r.Tree)
	if err != nil {
		t.Fatal(err)
	}
	root := tree.Reconstruct()
	if err := certification.VerifyCertifiedData(parseCertificate(t, r.Cert), raw(id), n.RootKey(), root[:]); err != nil {
		t.Fatal(err)
	}
}

// agent-go's agent opens a connection, polls its queue and reads the certified
// message: calls with certificates, queries with node signatures, read_state.
func TestAgentGo(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		o    Options
		c    CDKOptions
		a    []agent.ClientOption
	}{
		{"newest endpoints", Options{Nodes: 4}, CDKOptions{}, nil},
		{"older endpoints", Options{}, CDKOptions{Motoko: true}, []agent.ClientOption{agent.WithLegacyAPI()}},
		{"with latency", Options{Latency: 10 * time.Millisecond}, CDKOptions{}, nil},
		{"outcome by read_state", Options{Latency: 100 * time.Millisecond, SyncWait: time.Millisecond}, CDKOptions{}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNetwork(t, tt.o)
			id := n.Install(NewCDK(tt.c))
			if id.String() != "bkyz2-fmaaa-aaaaa-qaaaq-cai" {
				t.Fatalf("first canister is %s", id)
			}
			client, gateway := newIdentity(t), newIdentity(t)
			a := newAgent(t, n, client, tt.a...)
			reply, err := a.CallRaw(raw(id), "ws_open", verify.AppendOpenArg(nil, 7, principalOf(gateway)))
			if err != nil {
				t.Fatal(err)
			}
			if text, ok, err := verify.DecodeResult(reply); !ok || err != nil {
				t.Fatalf("ws_open: %q, %v", text, err)
			}
			g := newAgent(t, n, gateway, tt.a...)
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

func BenchmarkPoll(b *testing.B) {
	n := newNetwork(b, Options{RoundInterval: time.Hour})
	cdk := NewCDK(CDKOptions{})
	id := n.Install(cdk)
	who, gateway := newIdentity(b), newIdentity(b)
	ws(b, n, who, id, "ws_open", verify.AppendOpenArg(nil, 1, principalOf(gateway)))
	cdk.Do(func(ctx *AppContext) {
		for range 49 {
			if err := ctx.Send(principalOf(who), make([]byte, 1024)); err != nil {
				b.Error(err)
			}
		}
	})
	body := envelope(b, content(n, gateway, "query", id, "ws_get_messages", verify.AppendPollArg(nil, 0)), gateway, nil)
	for b.Loop() {
		if r := post(b, n, canisterPath("v2", id, "query"), body); r.status != 200 {
			b.Fatal(r.status)
		}
	}
}

func BenchmarkCall(b *testing.B) {
	n := newNetwork(b, Options{})
	id := n.Install(NewCDK(CDKOptions{}))
	who := newIdentity(b)
	i := uint64(0)
	for b.Loop() {
		i++
		c := content(n, who, "call", id, "ws_open", verify.AppendOpenArg(nil, i, canisterID(1)))
		if r := post(b, n, canisterPath("v4", id, "call"), envelope(b, c, who, nil)); r.status != 200 {
			b.Fatal(r.status)
		}
	}
}

// A node signs the time of the state it answers from, not that of its clock:
// a subnet that stands still signs the past.
func TestQuerySignatureTime(t *testing.T) {
	n := newNetwork(t, Options{RoundInterval: time.Hour, Nodes: 3})
	d := &desk{T: t, net: n, canister: n.Install(NewCDK(CDKOptions{})), gateway: newIdentity(t)}
	d.wantText(d.open(newIdentity(t), 1), "")
	for _, wait := range []time.Duration{0, time.Minute, 3 * time.Minute} {
		n.Advance(wait)
		c := content(n, d.gateway, "query", d.canister, "ws_get_messages", verify.AppendPollArg(nil, 0))
		r := post(t, n, canisterPath("v2", d.canister, "query"), envelope(t, c, d.gateway, nil))
		var signed struct {
			Signatures []struct {
				Timestamp uint64 `cbor:"timestamp"`
			} `cbor:"signatures"`
		}
		if err := cbor.Unmarshal(r.body, &signed); err != nil {
			t.Fatal(err)
		}
		var page verify.Reply
		if err := page.Decode(r.decode(t).Reply.Arg); err != nil {
			t.Fatal(err)
		}
		certified, err := parseCertificate(t, page.Cert).Tree.Lookup(label("time"))
		if err != nil {
			t.Fatal(err)
		}
		if stamp := appendLEB(nil, signed.Signatures[0].Timestamp); !bytes.Equal(stamp, certified) {
			t.Errorf("after %s the node signs %x, the state is of %x", wait, stamp, certified)
		}
	}
}
