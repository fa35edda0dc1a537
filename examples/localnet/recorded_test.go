package localnet

import (
	"encoding/hex"
	"testing"
	"time"

	"github.com/aviate-labs/agent-go/identity"

	"github.com/icws-gateway/caddy-icws/examples/recorded"
	"github.com/icws-gateway/caddy-icws/verify"
)

// The envelopes of many clients and wallets are read as the network read them:
// each is valid a minute before it expires, by its own signature. What other
// networks' canisters signed is none of this network's.
func TestRecordedEnvelopes(t *testing.T) {
	foreign := map[string]bool{
		"envelope-call-ii-delegation-p256.bin":          true,
		"envelope-query-ii-delegation-p256-2023-12.bin": true,
	}
	n := newNetwork(t, Options{})
	for _, r := range recorded.All(t, "../..") {
		if r.Kind != "envelope" {
			continue
		}
		t.Run(r.File, func(t *testing.T) {
			req, err := parseEnvelope(r.Bytes(t))
			if err != nil {
				t.Fatal(err)
			}
			if r.RequestID != "" && hex.EncodeToString(req.id[:]) != r.RequestID {
				t.Errorf("request id %x, want %s", req.id, r.RequestID)
			}
			if r.Signed == (req.sig == nil) {
				t.Errorf("signature of %d bytes", len(req.sig))
			}
			err = n.validate(req, time.Unix(0, int64(req.expiry)).Add(-time.Minute))
			if (err != nil) != foreign[r.File] {
				t.Errorf("validated: %v", err)
			}
		})
	}
}

// One message in the forms that published clients write it in: ICP.NET with
// maps of indefinite length, cbor-x with heads of 16 bits and keys in tag 64.
// And the same with what replicas refuse.
func TestEnvelopeForms(t *testing.T) {
	n := newNetwork(t, Options{})
	id := n.Install(NewCDK(CDKOptions{}))
	who, root := newIdentity(t), newIdentity(t)
	definite := func(pairs int) ([]byte, []byte) { return appendMap(nil, pairs), nil }
	endless := func(int) ([]byte, []byte) { return []byte{majorMap | indefinite}, []byte{breakCode} }
	wide := func(pairs int) ([]byte, []byte) { return []byte{majorMap | 25, 0, byte(pairs)}, nil }
	plain := func(b []byte) []byte { return appendBytes(nil, b) }
	typed := func(b []byte) []byte { return append([]byte{0xd8, 64}, appendBytes(nil, b)...) }
	long := func(b []byte) []byte {
		return append([]byte{majorBytes | 26, 0, 0, byte(len(b) >> 8), byte(len(b))}, b...)
	}
	pieces := func(b []byte) []byte {
		return append(appendBytes(appendBytes([]byte{majorBytes | indefinite}, b[:1]), b[1:]), breakCode)
	}
	nonce := uint64(0)
	build := func(mapOf func(int) ([]byte, []byte), blob func([]byte) []byte, from identity.Identity, last ...byte) []byte {
		nonce++
		c := content(n, from, "call", id, "ws_open", verify.AppendOpenArg(nil, nonce, canisterID(1)))
		expiry := uint64(n.Now().Add(time.Hour).UnixNano())
		head, tail := mapOf(6)
		for _, key := range []string{"request_type", "canister_id", "method_name", "arg", "sender", "ingress_expiry"} {
			head = appendText(head, key)
			switch v := c[key].(type) {
			case string:
				head = appendText(head, v)
			case []byte:
				head = append(head, blob(v)...)
			case uint64:
				head = appendUint(head, v)
			}
		}
		inner := append(head, tail...)
		h := requestID(t, c)
		sig, err := who.Sign(append([]byte("\x0aic-request"), h[:]...))
		if err != nil {
			t.Fatal(err)
		}
		pairs := 3
		if from != who {
			pairs++
		}
		head, tail = mapOf(pairs)
		head = append(appendText(head, "content"), inner...)
		head = append(appendText(head, "sender_pubkey"), blob(from.PublicKey())...)
		head = append(appendText(head, "sender_sig"), blob(sig)...)
		if from != who {
			d := requestID(t, map[string]any{"pubkey": who.PublicKey(), "expiration": expiry})
			sig, err := from.Sign(append([]byte("\x1aic-request-auth-delegation"), d[:]...))
			if err != nil {
				t.Fatal(err)
			}
			outer, outerEnd := mapOf(2)
			link, linkEnd := mapOf(2)
			link = append(appendText(link, "pubkey"), blob(who.PublicKey())...)
			link = append(appendUint(appendText(link, "expiration"), expiry), linkEnd...)
			outer = append(append(appendText(outer, "delegation"), link...), appendText(nil, "signature")...)
			outer = append(append(outer, blob(sig)...), outerEnd...)
			head = append(appendArray(appendText(head, "sender_delegation"), 1), outer...)
		}
		return append(append(head, tail...), last...)
	}
	for _, tt := range []struct {
		name string
		body []byte
		want int
	}{
		{"definite", build(definite, plain, who), 200},
		{"definite and tagged", append([]byte(selfDescribe), build(definite, plain, who)...), 200},
		{"definite with a delegation", build(definite, plain, root), 200},
		{"ICP.NET", build(endless, plain, who), 200},
		{"ICP.NET with a delegation", build(endless, plain, root), 200},
		{"cbor-x", build(wide, typed, who), 200},
		{"cbor-x with a delegation", build(wide, typed, root), 200},
		{"lengths of 32 bits", build(definite, long, root), 200},
		{"byte strings in pieces", build(definite, pieces, root), 200},
		{"more behind it", build(definite, plain, who, 0), 400},
		{"a map without end", build(func(int) ([]byte, []byte) { return []byte{majorMap | indefinite}, nil }, plain, who), 400},
		{"numbers for keys", build(definite, func(b []byte) []byte { return appendUint(nil, uint64(len(b))) }, who), 400},
	} {
		r := post(t, n, canisterPath("v4", id, "call"), tt.body)
		if r.status != tt.want {
			t.Errorf("%s: %d %s", tt.name, r.status, r.body)
		}
	}
}
