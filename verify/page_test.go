package verify

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aviate-labs/agent-go/certification/hashtree"
	"github.com/fxamacker/cbor/v2"
)

// goldenReply is the reply with the message of PROTOCOL.md 2.4, its witness (4.6) and the certificate of that (4.4).
func goldenReply(t testing.TB) (*Reply, Want) {
	return &Reply{
			Messages: []Message{{
				Client:  ClientKey{parsed(t, vectorClient), 0x0102030405060708},
				Key:     []byte(vectorGateway + "_00000000000000000001"),
				Content: vector(t, "content"),
			}},
			Cert: vector(t, "flat_certificate"), Tree: vector(t, "witness"), EndOfQueue: true,
		}, Want{
			Canister: parsed(t, vectorCanister), Gateway: parsed(t, vectorGateway), Nonce: 1,
		}
}

func TestPageGolden(t *testing.T) {
	r, w := goldenReply(t)
	p, err := authorityOf(t, vector(t, "flat_root")).Page(r, w, flatTime.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Messages) != 1 || !p.Time.Equal(flatTime) || !p.Flat {
		t.Fatalf("got %d messages, time %v, flat %v", len(p.Messages), p.Time, p.Flat)
	}
	m := p.Messages[0]
	if m.Poison != nil || m.Nonce != 1 || m.Client != r.Messages[0].Client || m.Routing != m.Client ||
		m.Sequence != 2 || m.Timestamp != uint64(flatTime.UnixNano()) || m.Service ||
		!bytes.Equal(m.Payload, unhex(t, "4449444c016c01ad99e7e704710100026869")) {
		t.Errorf("message: %+v", m)
	}
	// Written out from PROTOCOL.md 2.3.
	want := unhex(t, "a4 636b6579 7854")
	want = append(want, r.Messages[0].Key...)
	want = append(want, unhex(t, "67 636f6e74656e74 58a6")...)
	want = append(want, r.Messages[0].Content...)
	want = append(want, unhex(t, fmt.Sprintf("64 63657274 58%02x", len(r.Cert)))...)
	want = append(want, r.Cert...)
	want = append(want, unhex(t, "64 74726565 58d7")...) // 215 bytes
	want = append(want, r.Tree...)
	if got := p.AppendFrame(nil, 0); !bytes.Equal(got, want) || p.FrameSize(0) != len(want) {
		t.Errorf("frame: got (%d)\n%x\nwant (%d)\n%x", p.FrameSize(0), got, len(want), want)
	}
	r.Messages = nil
	if p, err := authorityOf(t, vector(t, "flat_root")).Page(r, w, flatTime); err != nil || len(p.Messages) != 0 || !p.Time.IsZero() {
		t.Errorf("empty reply: %+v, %v", p, err)
	}
}

// content encodes a message as the Rust kit does.
func (n *testNet) content(client ClientKey, seq uint64, payload []byte) []byte {
	type key struct {
		Principal []byte `cbor:"client_principal"`
		Nonce     uint64 `cbor:"client_nonce"`
	}
	return append([]byte{0xd9, 0xd9, 0xf7}, n.marshal(struct {
		Key     key    `cbor:"client_key"`
		Seq     uint64 `cbor:"sequence_num"`
		Time    uint64 `cbor:"timestamp"`
		Service bool   `cbor:"is_service_message"`
		Content []byte `cbor:"content"`
	}{key{client.Principal.Bytes(), client.Nonce}, seq, uint64(n.now.UnixNano()), false, payload})...)
}

// testQueue is a canister's queue.
type testQueue struct {
	*testNet
	canister, gateway Principal
	messages          []Message
	leaves            []hashtree.Node
}

// newTestQueue fills a queue with count messages of the given size, from nonce first on, for two clients in turn.
func newTestQueue(t testing.TB, count, size int, first uint64) *testQueue {
	q := &testQueue{testNet: newTestNet(t), canister: parsed(t, vectorCanister), gateway: parsed(t, vectorGateway)}
	clients := [2]ClientKey{{parsed(t, vectorClient), 7}, {SelfAuthenticating([]byte("another")), 1 << 63}}
	for i := range count {
		payload := bytes.Repeat([]byte{byte(i)}, size)
		q.add(first+uint64(i), clients[i%2], q.content(clients[i%2], uint64(i/2+1), payload))
	}
	return q
}

// add puts one message into the queue.
func (q *testQueue) add(nonce uint64, client ClientKey, content []byte) {
	key := fmt.Appendf(nil, "%s_%020d", q.gateway, nonce)
	hash := sha256.Sum256(content)
	q.messages = append(q.messages, Message{Client: client, Key: key, Content: content})
	q.leaves = append(q.leaves, labeled(string(key), hashtree.Leaf(hash[:])))
}

// reply answers with all messages of the queue.
func (q *testQueue) reply() *Reply { return q.replyTree(labeled("websocket", testLabels(q.leaves...))) }

// replyTree answers with all messages of the queue and the given tree, whatever it is.
func (q *testQueue) replyTree(tree hashtree.Node) *Reply {
	root := tree.Reconstruct()
	return &Reply{
		Messages: bytesCloneMessages(q.messages),
		Tree:     append([]byte{0xd9, 0xd9, 0xf7}, encodeTree(q.t, tree)...),
		Cert:     q.certificate(q.canister, root[:]),
	}
}

func bytesCloneMessages(in []Message) (out []Message) {
	for _, m := range in {
		out = append(out, Message{m.Client, bytes.Clone(m.Key), bytes.Clone(m.Content)})
	}
	return out
}

func (q *testQueue) want(nonce uint64) Want { return Want{q.canister, q.gateway, nonce} }

// clientFrame is what a client reads.
type clientFrame struct {
	Key     string `cbor:"key"`
	Content []byte `cbor:"content"`
	Cert    []byte `cbor:"cert"`
	Tree    []byte `cbor:"tree"`
}

// checkFrame does what a client does with a frame, by the code of others.
func (q *testQueue) checkFrame(frame []byte, m Message) error {
	var f clientFrame
	if err := cbor.Unmarshal(frame, &f); err != nil {
		return err
	}
	if f.Key != string(m.Key) || !bytes.Equal(f.Content, m.Content) {
		return errors.New("key or content differ")
	}
	if err := agentVerify(f.Cert, q.canister, q.der(q.root)); err != nil {
		return err
	}
	tree, err := hashtree.Deserialize(f.Tree)
	if err != nil {
		return err
	}
	parts, err := parseCertificate(f.Cert)
	if err != nil {
		return err
	}
	state, err := hashtree.Deserialize(parts.tree)
	if err != nil {
		return err
	}
	certified, err := hashtree.Lookup(state, hashtree.Label("canister"), q.canister.Bytes(), hashtree.Label("certified_data"))
	if root := tree.Reconstruct(); err != nil || !bytes.Equal(certified, root[:]) {
		return fmt.Errorf("certified data: %v", err)
	}
	value, err := hashtree.Lookup(tree, hashtree.Label("websocket"), m.Key)
	if hash := sha256.Sum256(m.Content); err != nil || !bytes.Equal(value, hash[:]) {
		return fmt.Errorf("leaf: %v", err)
	}
	return nil
}

func TestPageFrames(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		count, size int
		first, from uint64
	}{
		{1, 0, 0, 0}, {2, 1, 0, 0}, {50, 1024, 0, 0}, {50, 300, 1000, 1000},
		{20, 20, 500, 3},           // older ones are deleted
		{3, 70000, 1<<64 - 3, 100}, // up to the last nonce there is
	} {
		q := newTestQueue(t, tt.count, tt.size, tt.first)
		r := q.reply()
		p, err := q.authority().Page(r, q.want(tt.from), q.now)
		if err != nil {
			t.Fatalf("%+v: %v", tt, err)
		}
		for i, m := range p.Messages {
			if m.Poison != nil || m.Nonce != tt.first+uint64(i) || m.Sequence != uint64(i/2+1) || m.Client != q.messages[i].Client ||
				len(m.Payload) != tt.size {
				t.Fatalf("%+v: message %d: %+v", tt, i, m)
			}
			frame := p.AppendFrame([]byte("head"), i)
			if err := q.checkFrame(frame[4:], q.messages[i]); err != nil {
				t.Errorf("%+v: frame %d: %v", tt, i, err)
			}
			if len(frame) != 4+p.FrameSize(i) {
				t.Errorf("%+v: frame %d has %d bytes, not %d", tt, i, len(frame)-4, p.FrameSize(i))
			}
		}
	}
}

// A queue of 100,000 messages gives witnesses of 34 levels, deeper than agent-go reads.
func TestPageOfLongQueue(t *testing.T) {
	q := newTestQueue(t, 3, 10, 0)
	tree := testLabels(q.leaves...)
	for range 64 {
		tree = hashtree.Fork{LeftTree: tree, RightTree: hashtree.Pruned(sha256.Sum256(nil))}
	}
	p, err := q.authority().Page(q.replyTree(labeled("websocket", tree)), q.want(0), q.now)
	if err != nil || len(p.Messages) != 3 {
		t.Fatal(err)
	}
	for i := range p.Messages {
		var again Tree
		var f clientFrame
		if err := cbor.Unmarshal(p.AppendFrame(nil, i), &f); err != nil {
			t.Fatal(err)
		}
		if err := again.Parse(f.Tree); err != nil || again.Digest() != p.tree.Digest() {
			t.Errorf("frame %d: %v", i, err)
		}
	}
}

func TestPageRefused(t *testing.T) {
	type change func(q *testQueue, r *Reply, w *Want)
	certify := func(tree func(q *testQueue) hashtree.Node) change {
		return func(q *testQueue, r *Reply, _ *Want) { *r = *q.replyTree(tree(q)) }
	}
	for _, tt := range []struct {
		name   string
		want   Cause
		change change
	}{
		{"nothing changed", "", func(*testQueue, *Reply, *Want) {}},
		{"certificate missing", CauseMalformed, func(_ *testQueue, r *Reply, _ *Want) { r.Cert = nil }},
		{"witness missing", CauseMalformed, func(_ *testQueue, r *Reply, _ *Want) { r.Tree = nil }},
		{"witness cut", CauseMalformed, func(_ *testQueue, r *Reply, _ *Want) { r.Tree = r.Tree[:200] }},
		{"witness ten thousand deep", CauseMalformed, func(_ *testQueue, r *Reply, _ *Want) { r.Tree = bytes.Repeat([]byte{0x81}, 10000) }},
		{"another canister", CauseCertifiedData, func(q *testQueue, _ *Reply, w *Want) {
			w.Canister, _ = PrincipalFromBytes([]byte{0x80, 0, 0, 0, 0, 0x10, 0, 2, 1, 1})
		}},
		{"another canister's certificate", CauseCertifiedData, func(q *testQueue, r *Reply, _ *Want) {
			other, _ := PrincipalFromBytes([]byte{0x80, 0, 0, 0, 0, 0x10, 0, 2, 1, 1})
			tree := labeled("websocket", testLabels(q.leaves...))
			root := tree.Reconstruct()
			r.Cert = q.certificate(other, root[:])
		}},
		{"canister of another subnet", CauseRange, func(_ *testQueue, _ *Reply, w *Want) { w.Canister = Principal{n: 10} }},
		{"certificate of another network", CauseSignature, func(q *testQueue, r *Reply, _ *Want) {
			r.Cert = newTestQueue(q.t, 1, 1, 0).reply().Cert
		}},
		{"certified data of another tree", CauseCertifiedData, func(q *testQueue, r *Reply, _ *Want) {
			r.Cert = q.certificate(q.canister, make([]byte, 32))
		}},
		{"certified data too long", CauseCertifiedData, func(q *testQueue, r *Reply, _ *Want) {
			root := parseTree(q.t, r.Tree).Digest()
			r.Cert = q.certificate(q.canister, append(root[:], 0))
		}},
		{"an old certificate", CauseCertificateOld, func(q *testQueue, r *Reply, _ *Want) {
			root := parseTree(q.t, r.Tree).Digest()
			state := q.stateTree(q.canister, root[:], q.now.Add(-6*time.Minute))
			r.Cert = q.sign(q.subnet, state, q.delegation(q.flatTree(q.canisterRangeOf())))
		}},
		{"a certificate that will be too old for clients", CauseCertificateOld, func(q *testQueue, r *Reply, _ *Want) {
			root := parseTree(q.t, r.Tree).Digest()
			state := q.stateTree(q.canister, root[:], q.now.Add(-MaxPageAge-1))
			r.Cert = q.sign(q.subnet, state, q.delegation(q.flatTree(q.canisterRangeOf())))
		}},
		{"a certificate just young enough", "", func(q *testQueue, r *Reply, _ *Want) {
			root := parseTree(q.t, r.Tree).Digest()
			state := q.stateTree(q.canister, root[:], q.now.Add(-MaxPageAge))
			r.Cert = q.sign(q.subnet, state, q.delegation(q.flatTree(q.canisterRangeOf())))
		}},
		{"a certificate of the future", CauseCertificateFuture, func(q *testQueue, r *Reply, _ *Want) {
			root := parseTree(q.t, r.Tree).Digest()
			state := q.stateTree(q.canister, root[:], q.now.Add(6*time.Minute))
			r.Cert = q.sign(q.subnet, state, q.delegation(q.flatTree(q.canisterRangeOf())))
		}},
		{"content changed", CauseWitness, func(_ *testQueue, r *Reply, _ *Want) { r.Messages[1].Content[40] ^= 1 }},
		{"contents swapped", CauseWitness, func(_ *testQueue, r *Reply, _ *Want) {
			r.Messages[0].Content, r.Messages[1].Content = r.Messages[1].Content, r.Messages[0].Content
		}},
		{"message the witness does not show", CauseWitness, func(q *testQueue, r *Reply, _ *Want) {
			q.add(uint64(len(q.messages)), q.messages[0].Client, q.messages[0].Content)
			r.Messages = bytesCloneMessages(q.messages)
		}},
		{"leaf at the queue itself", CauseWitness, certify(func(q *testQueue) hashtree.Node {
			hash := sha256.Sum256(q.messages[0].Content)
			return labeled("websocket", hashtree.Leaf(hash[:]))
		})},
		{"leaf below the key", CauseWitness, certify(func(q *testQueue) hashtree.Node {
			hash := sha256.Sum256(q.messages[0].Content)
			return labeled("websocket", labeled(string(q.messages[0].Key), labeled("more", hashtree.Leaf(hash[:]))))
		})},
		{"queue pruned", CauseWitness, certify(func(q *testQueue) hashtree.Node {
			return labeled("websocket", hashtree.Pruned(testLabels(q.leaves...).Reconstruct()))
		})},
		{"leaf pruned", CauseWitness, certify(func(q *testQueue) hashtree.Node {
			return labeled("websocket", labeled(string(q.messages[0].Key), hashtree.Pruned(leaf("x").Reconstruct())))
		})},
		{"another label", CauseWitness, certify(func(q *testQueue) hashtree.Node {
			return labeled("http_assets", testLabels(q.leaves...))
		})},
		{"empty tree", CauseWitness, certify(func(*testQueue) hashtree.Node { return hashtree.Empty{} })},
		{"key of another gateway", CauseKey, func(_ *testQueue, _ *Reply, w *Want) { w.Gateway = Anonymous }},
		{"key cut", CauseKey, func(_ *testQueue, r *Reply, _ *Want) { r.Messages[0].Key = r.Messages[0].Key[:83] }},
		{"key longer", CauseKey, func(_ *testQueue, r *Reply, _ *Want) { r.Messages[0].Key = append(r.Messages[0].Key, '0') }},
		{"key with a sign", CauseKey, func(_ *testQueue, r *Reply, _ *Want) { r.Messages[0].Key[64] = '+' }},
		{"key with letters", CauseKey, func(_ *testQueue, r *Reply, _ *Want) { r.Messages[0].Key[70] = 'x' }},
		{"key over 64 bits", CauseKey, func(_ *testQueue, r *Reply, _ *Want) { r.Messages[0].Key[64] = '9' }},
		{"key without separator", CauseKey, func(_ *testQueue, r *Reply, _ *Want) { r.Messages[0].Key[63] = '-' }},
		{"empty key", CauseKey, func(_ *testQueue, r *Reply, _ *Want) { r.Messages[2].Key = nil }},
		{"older than asked for", CauseNonce, func(_ *testQueue, _ *Reply, w *Want) { w.Nonce = 1 }},
		{"message twice", CauseNonce, func(_ *testQueue, r *Reply, _ *Want) { r.Messages[1] = r.Messages[0] }},
		{"message left out", CauseNonce, func(_ *testQueue, r *Reply, _ *Want) { r.Messages = append(r.Messages[:1], r.Messages[2]) }},
		{"messages in another order", CauseNonce, func(_ *testQueue, r *Reply, _ *Want) {
			r.Messages[0], r.Messages[1] = r.Messages[1], r.Messages[0]
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := newTestQueue(t, 3, 10, 0)
			r, w := q.reply(), q.want(0)
			tt.change(q, r, &w)
			p, err := q.authority().Page(r, w, q.now)
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantCause(t, err, tt.want)
			if p != nil {
				t.Error("a page is returned beside the error")
			}
			if err != nil && strings.Contains(err.Error(), vectorGateway) {
				t.Errorf("error text holds a key: %v", err)
			}
		})
	}
}

func TestPageWrapsAround(t *testing.T) {
	q := newTestQueue(t, 1, 1, 1<<64-1)
	q.add(0, q.messages[0].Client, q.messages[0].Content)
	_, err := q.authority().Page(&Reply{Messages: q.messages}, q.want(0), q.now)
	wantCause(t, err, CauseNonce)
}

func TestPagePoison(t *testing.T) {
	q := newTestQueue(t, 2, 10, 0)
	client := q.messages[0].Client
	q.add(2, client, []byte("no cbor"))
	q.add(3, client, []byte{})
	q.add(4, client, q.content(ClientKey{client.Principal, client.Nonce + 1}, 5, []byte("x")))
	q.add(5, ClientKey{Anonymous, client.Nonce}, q.content(client, 6, []byte("x")))
	q.add(6, client, q.content(client, 7, []byte("x")))
	p, err := q.authority().Page(q.reply(), q.want(0), q.now)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []Cause{"", "", CauseMalformed, CauseMalformed, CauseClientKey, CauseClientKey, ""} {
		m := p.Messages[i]
		if CauseOf(m.Poison) != want {
			t.Errorf("message %d: got %v, want %q", i, m.Poison, want)
		}
		if m.Routing != q.messages[i].Client {
			t.Errorf("message %d: routing key differs", i)
		}
		if want == CauseMalformed && (m.Client != ClientKey{} || m.Payload != nil) {
			t.Errorf("message %d: undecoded, yet filled in", i)
		}
	}
	if p.Messages[5].Client != client {
		t.Error("the certified client is not the one inside")
	}
}

func TestPageShardedThenReplaced(t *testing.T) {
	q := newTestQueue(t, 5, 10, 0)
	r := q.reply()
	root := parseTree(t, r.Tree).Digest()
	flat := r.Cert
	r.Cert = q.sign(q.subnet, q.stateTree(q.canister, root[:], q.now), q.delegation(q.shardedTree(q.canisterRangeOf())))
	p, err := q.authority().Page(r, q.want(0), q.now)
	if err != nil || p.Flat {
		t.Fatalf("sharded: %v", err)
	}
	cert, err := ReplaceDelegation(p.Certificate(), flat)
	if err != nil {
		t.Fatal(err)
	}
	p.SetCertificate(cert)
	if !p.Flat || !bytes.Contains(p.AppendFrame(nil, 3), cert) {
		t.Error("certificate not replaced")
	}
	if err := q.checkFrame(p.AppendFrame(nil, 3), q.messages[3]); err != nil {
		t.Error(err)
	}
}

func TestFramesAllocateNothing(t *testing.T) {
	q := newTestQueue(t, 50, 1024, 0)
	p, err := q.authority().Page(q.reply(), q.want(0), q.now)
	if err != nil {
		t.Fatal(err)
	}
	dst := make([]byte, 0, 8192)
	if n := testing.AllocsPerRun(10, func() {
		for i := range p.Messages {
			dst = p.AppendFrame(dst[:0], i)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
