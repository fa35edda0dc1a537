package verify

import (
	"bytes"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/aviate-labs/agent-go/certification"
	"github.com/fxamacker/cbor/v2"
)

// mustBeTyped fails the test if err is of a kind that a check of bytes may not return.
func mustBeTyped(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if _, ok := errors.AsType[*Error](err); !ok {
		t.Fatalf("error without cause: %v", err)
	}
	if len(err.Error()) > 300 {
		t.Fatalf("error text of %d bytes", len(err.Error()))
	}
}

// FuzzCertificate looks for certificates that verify although nobody signed them: those that mean something else than the
// known ones. What verifies must also verify by agent-go.
func FuzzCertificate(f *testing.F) {
	known := knownCertificates(f)
	for _, k := range known {
		f.Add(k.raw)
		f.Add(k.raw[3:])
	}
	for _, raw := range recordedSeeds(f, "certificate") {
		f.Add(raw)
	}
	for _, raw := range recordedSeeds(f, "readstate") {
		f.Add(must(ParseReadStateReply(raw)))
	}
	canisters := make([]Principal, len(known))
	authorities := make([]*Authority, len(known))
	for i, k := range known {
		canisters[i], authorities[i] = parsed(f, k.canister), authorityOf(f, k.root)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for i, k := range known {
			c, err := authorities[i].Certificate(raw, canisters[i], k.now)
			if mustBeTyped(t, err); err != nil {
				continue
			}
			parts, err := parseCertificate(raw)
			if err != nil {
				t.Fatal(err)
			}
			// agent-go cannot read all that we can: it stops at 32 levels and wants no unknown keys in a delegation.
			if theirs, err := agentTree(parts.tree); err == nil && theirs.Reconstruct() != c.tree.Digest() {
				t.Fatalf("digest differs from agent-go's")
			}
			original, err := parseCertificate(k.raw)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(parts.signature, original.signature) || parts.subnet != original.subnet {
				t.Fatalf("%s: a forged certificate verifies: %x", k.name, raw)
			}
		}
		if out, err := ReplaceDelegation(raw, raw); err == nil && !bytes.Equal(out, raw) {
			t.Fatal("replacing a delegation by itself changes the certificate")
		}
	})
}

// FuzzWitnessPage feeds witness, key and content to a page whose certificate is good: only the known triple may pass, and
// with it whatever has the same root hash.
func FuzzWitnessPage(f *testing.F) {
	r, w := goldenReply(f)
	f.Add(r.Tree, r.Messages[0].Key, r.Messages[0].Content, uint64(1))
	f.Add(r.Tree[3:], r.Messages[0].Key, r.Messages[0].Content, uint64(0))
	f.Add(r.Tree, []byte(vectorGateway+"_00000000000000000000"), r.Messages[0].Content, uint64(0))
	for _, frame := range recordedFrames(f) {
		f.Add(frame.Tree, frame.Key, frame.Content, uint64(0))
	}
	q := newTestQueue(f, 3, 10, 0)
	f.Add(q.reply().Tree, q.messages[2].Key, q.messages[2].Content, uint64(0))
	a := authorityOf(f, vector(f, "flat_root"))
	f.Fuzz(func(t *testing.T, witness, key, content []byte, nonce uint64) {
		reply := &Reply{Messages: []Message{{Client: r.Messages[0].Client, Key: key, Content: content}}, Cert: r.Cert, Tree: witness}
		want := w
		want.Nonce = nonce
		p, err := a.Page(reply, want, flatTime)
		if mustBeTyped(t, err); err != nil {
			return
		}
		if !bytes.Equal(key, r.Messages[0].Key) || !bytes.Equal(content, r.Messages[0].Content) || nonce > 1 {
			t.Fatalf("forged message: key %q, content %x", key, content)
		}
		frame := p.AppendFrame(nil, 0)
		var got clientFrame
		if err := cbor.Unmarshal(frame, &got); err != nil || len(frame) != p.FrameSize(0) {
			t.Fatalf("frame: %v", err)
		}
		if !bytes.Equal(got.Tree, r.Tree) { // the known witness is pruned as far as it goes
			t.Fatalf("pruned to %x", got.Tree)
		}
	})
}

// FuzzPageContents puts whatever comes under a witness of its own, so that the fuzzer gets past the hashes to the content.
// The certificate, which would be most of the work, is left out.
func FuzzPageContents(f *testing.F) {
	f.Add(vector(f, "content"), []byte(nil))
	f.Add(vector(f, "content")[3:], []byte{0xa0})
	for _, frame := range recordedFrames(f) {
		f.Add(frame.Content, vector(f, "content"))
	}
	q := newTestQueue(f, 0, 0, 0)
	client := ClientKey{parsed(f, vectorClient), 0x0102030405060708}
	f.Fuzz(func(t *testing.T, one, two []byte) {
		q.messages, q.leaves = nil, nil
		q.add(0, client, one)
		q.add(1, client, two)
		tree := labeled("websocket", testLabels(q.leaves...))
		var p Page
		if err := p.readKeys(&Reply{Messages: q.messages}, q.want(0)); err != nil {
			t.Fatal(err)
		}
		if err := p.checkWitness(encodeTree(t, tree)); err != nil {
			t.Fatal(err)
		}
		for i := range p.Messages {
			m := &p.Messages[i]
			if m.decode(); m.Poison == nil && m.Client != client {
				t.Fatalf("message %d would go to another client", i)
			}
			mustBeTyped(t, m.Poison)
			frame := p.AppendFrame(nil, i)
			var got clientFrame
			if err := cbor.Unmarshal(frame, &got); err != nil || len(frame) != p.FrameSize(i) {
				t.Fatalf("frame %d: %v", i, err)
			}
			theirs, err := agentTree(got.Tree)
			if err != nil || theirs.Reconstruct() != tree.Reconstruct() || !bytes.Equal(got.Content, q.messages[i].Content) {
				t.Fatalf("frame %d: %v", i, err)
			}
		}
	})
}

// FuzzQueryReply reads bodies of query answers and holds the result against fxamacker's decoder.
func FuzzQueryReply(f *testing.F) {
	node := newTestNode(1)
	now := time.Unix(1700000000, 0)
	replied := object{"status": "replied", "reply": object{"arg": []byte("DIDL\x00\x00")}}
	rejected := object{"status": "rejected", "reject_code": uint64(5), "reject_message": "trapped", "error_code": "IC0503"}
	for _, body := range []object{replied, rejected, {"status": "rejected", "reject_code": 2, "reject_message": ""}} {
		f.Add(encode(f, body))
		signed := object{"signatures": []any{node.sign(f, now, [32]byte{}, object{"status": "replied"})}}
		for k, v := range body {
			signed[k] = v
		}
		f.Add(append([]byte{0xd9, 0xd9, 0xf7}, encode(f, signed)...))
	}
	f.Add([]byte("upstream connect error"))
	for _, raw := range recordedSeeds(f, "query") {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		q, err := ParseQueryReply(body)
		if mustBeTyped(t, err); err != nil {
			return
		}
		var theirs struct {
			Status string `cbor:"status"`
			Reply  struct {
				Arg []byte `cbor:"arg"`
			} `cbor:"reply"`
			Code    any    `cbor:"reject_code"`
			Message string `cbor:"reject_message"`
		}
		if err := strictDecoder.Unmarshal(body, &theirs); err != nil {
			t.Fatalf("fxamacker refuses it: %v", err)
		}
		if q.Replied != (theirs.Status == "replied") || q.Replied && !bytes.Equal(q.Arg, theirs.Reply.Arg) ||
			!q.Replied && q.RejectMessage != theirs.Message {
			t.Fatalf("got %+v, fxamacker has %+v", q, theirs)
		}
		if code, ok := theirs.Code.(uint64); ok && !q.Replied && code != q.RejectCode {
			t.Fatalf("reject code %d, fxamacker has %d", q.RejectCode, code)
		}
		err = q.VerifyNode([32]byte{}, func(Principal) ([]byte, bool) { return node.der, true }, now)
		if mustBeTyped(t, err); err == nil && len(q.Signatures) == 0 {
			t.Fatal("an unsigned answer verifies")
		}
	})
}

// strictDecoder is fxamacker's decoder, as strict as ours where that matters.
var strictDecoder = func() cbor.DecMode {
	mode, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, MaxNestedLevels: 256,
		MaxArrayElements: math.MaxInt32, MaxMapPairs: math.MaxInt32, FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return mode
}()

// FuzzCallReply reads bodies of call answers, and what certificates in them say of a request.
func FuzzCallReply(f *testing.F) {
	f.Add(encode(f, object{"status": "replied", "certificate": vector(f, "mainnet_certificate")}))
	f.Add(encode(f, object{"status": "non_replicated_rejection", "reject_code": 2, "reject_message": "busy", "error_code": "IC0207"}))
	f.Add(encode(f, object{"reject_code": 2, "reject_message": "busy"}))
	f.Add([]byte{0xd9, 0xd9, 0xf7, 0xa0})
	for _, raw := range recordedSeeds(f, "call") {
		f.Add(raw)
	}
	a := authorityOf(f, MainnetRootKey())
	canister := parsed(f, "ivg37-qiaaa-aaaab-aaaga-cai")
	id := [32]byte(unhex(f, "edad510eaaa08ed2acd4781324e6446269da6753ec17760f206bbe81c465ff52"))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := ParseCallReply(body)
		if mustBeTyped(t, err); err != nil {
			return
		}
		if r.Rejected == (r.Certificate != nil) {
			t.Fatalf("neither or both: %+v", r)
		}
		if r.Rejected {
			return
		}
		o, err := a.Outcome(r.Certificate, canister, id, mainnetTime)
		if mustBeTyped(t, err); err == nil && (o.Status != CallRejected || o.RejectCode != 3) {
			t.Fatalf("forged outcome %+v", o)
		}
	})
}

// FuzzStatusReply reads bodies of /api/v2/status and of read_state.
func FuzzStatusReply(f *testing.F) {
	f.Add(encode(f, object{"ic_api_version": "0.18.0", "root_key": MainnetRootKey(), "impl_version": "x", "values": object{"a": []any{1}}}))
	f.Add(encode(f, object{"root_key": MainnetRootKey()[:132]}))
	f.Add(encode(f, object{"certificate": []byte("cert")}))
	f.Add([]byte{0xd9, 0xd9, 0xf7, 0xa0})
	for _, raw := range recordedSeeds(f, "status", "readstate") {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		key, err := ParseStatusReply(body)
		if mustBeTyped(t, err); err == nil {
			if _, err := certification.PublicBLSKeyFromDER(key); err != nil {
				t.Fatalf("agent-go does not accept the key: %v", err)
			}
			if a, err := NewAuthority(key); err != nil || !bytes.Equal(a.RootKey(), key) {
				t.Fatalf("we do not accept the key: %v", err)
			}
		}
		_, err = ParseReadStateReply(body)
		mustBeTyped(t, err)
	})
}
