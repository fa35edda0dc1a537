package localnet

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aviate-labs/agent-go/certification"
	"github.com/aviate-labs/agent-go/certification/hashtree"
	"github.com/aviate-labs/agent-go/identity"
	"github.com/aviate-labs/agent-go/principal"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/fxamacker/cbor/v2"

	"github.com/icws-gateway/caddy-icws/verify"
)

// The golden frames of the protocol reference were signed by the published
// JavaScript SDK: the network takes their envelopes while they are valid.
func TestGoldenEnvelopes(t *testing.T) {
	const (
		opened    = "d9d9f7a367636f6e74656e74a763617267583c4449444c016c02f3eec6b40268bbd1eacd0e780100011d0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c0208070605040302016b63616e69737465725f69644a800000000010000101016e696e67726573735f6578706972791b181668b6a17460006b6d6574686f645f6e616d656777735f6f70656e656e6f6e636550000000010000000100000001000000016c726571756573745f747970656463616c6c6673656e646572581db6050c705d781193221234459d49948f6701c36d08f22b96a475228a026d73656e6465725f7075626b657958583056301006072a8648ce3d020106052b8104000a034200044f355bdcb7cc0af728ef3cceb9615d90684bb5b2ca5f859ab0f0b704075871aa385b6b1b8ead809ca67454d9683fcf2ba03456d6fe2c4abe2b07f0fbdbb2f1c16a73656e6465725f7369675840cc6631fe60095839479ce27617df5971444e9b7d0e4109b8188bd25e7156b6223632a1aa9da279b4bc8be13096dde2b9a07860962180a986661cf69eaea5fddd"
		delegated = "d9d9f7a467636f6e74656e74a763617267464449444c00006b63616e69737465725f69644a800000000010000101016e696e67726573735f6578706972791b181668b6a17460006b6d6574686f645f6e616d656777735f6f70656e656e6f6e636550070707070707070707070707070707076c726571756573745f747970656463616c6c6673656e646572581d238973d97e2ab9f20b2c1064221367b95e3415946320b69754c74a3c027173656e6465725f64656c65676174696f6e81a26a64656c65676174696f6ea3667075626b6579582c302a300506032b657003210017cb79fb2b4120f2b1ec65e4198d6e08b28e813feb01e4a400839b85e18080ce6a65787069726174696f6e1b181669504c8528006774617267657473814a80000000001000010101697369676e6174757265584015ce65f04c20b2509f96db282a5d5b55804e7c13bcadb924b7166b3a6a93926409971a3be2e2952ae263700c2420a77fd4b93178d9168468a3748f0201f774066d73656e6465725f7075626b6579582c302a300506032b6570032100a09aa5f47a6759802ff955f8dc2d2a14a5c99d23be97f864127ff9383455a4f06a73656e6465725f7369675840667bf0b100c2f641c5582fc69b9140d41e23e385a48a200c438307bb322ed10811aacfffb74f59da38f5c4b8c91bceaab3256615d77e4500cd4255ea3690fa0e"
	)
	signed := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name, envelope, id string
	}{
		{"secp256k1", opened, "ca1ac2d033f65b4e803d12721ce0c5077ccce53be47f0f9e8e9e355aa4a3c730"},
		{"ed25519 delegation", delegated, "29af0eb68251441b16e1d77378b74ab787de7be95aa0e8083ae365d0e76ca78d"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			now := signed
			n := newNetwork(t, Options{Now: func() time.Time { return now }})
			id := n.Install(NewCDK(CDKOptions{}))
			path := canisterPath("v4", id, "call")
			body := unhex(t, tt.envelope)
			req, err := parseEnvelope(body)
			if err != nil || string(req.id[:]) != string(unhex(t, tt.id)) {
				t.Fatalf("request id %x, %v", req.id, err)
			}
			if r := post(t, n, path, body).decode(t); r.Status != "replied" {
				t.Fatalf("%+v", r)
			}
			for i := range body { // every changed byte is noticed, whatever it belongs to
				if i%7 != 0 || i < 3 {
					continue
				}
				bad := append([]byte(nil), body...)
				bad[i] ^= 1
				fresh := newNetwork(t, Options{Now: func() time.Time { return now }})
				fresh.Install(NewCDK(CDKOptions{}))
				if r := post(t, fresh, path, bad); r.status == http.StatusOK {
					t.Fatalf("byte %d changed: accepted", i)
				}
			}
			now = signed.Add(4 * time.Minute)
			r := post(t, n, path, body)
			if r.status != 400 || !strings.Contains(string(r.body), "Invalid request expiry") {
				t.Fatalf("after its expiry: %d %s", r.status, r.body)
			}
		})
	}
}

func TestRefusedEnvelopes(t *testing.T) {
	n := newNetwork(t, Options{})
	id := n.Install(NewCDK(CDKOptions{}))
	who, other := newIdentity(t), newIdentity(t)
	good := func() map[string]any { return content(n, who, "call", id, "ws_open", []byte("DIDL")) }
	edit := func(key string, v any) []byte {
		c := good()
		if v == nil {
			delete(c, key)
		} else {
			c[key] = v
		}
		return envelope(t, c, who, nil)
	}
	// resent signs one thing and sends another in the place of one field.
	same := good()
	resent := func(key string, v any) []byte {
		c := maps.Clone(same)
		c[key] = v
		return envelope(t, same, who, map[string]any{"content": c})
	}
	delegation := func(from, to identity.Identity, change map[string]any) map[string]any {
		d := map[string]any{"pubkey": to.PublicKey(), "expiration": uint64(n.Now().Add(time.Hour).UnixNano())}
		for k, v := range change {
			d[k] = v
		}
		h, err := certification.HashAny(d)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := from.Sign(append([]byte("\x1aic-request-auth-delegation"), h[:]...))
		if err != nil {
			t.Fatal(err)
		}
		return map[string]any{"delegation": d, "signature": sig}
	}
	chain := func(links ...any) []byte {
		return envelope(t, good(), other, map[string]any{"sender_pubkey": who.PublicKey(), "sender_delegation": links})
	}
	minutes := func(m time.Duration) uint64 { return uint64(n.Now().Add(m * time.Minute).UnixNano()) }
	anonymous := content(n, identity.AnonymousIdentity{}, "call", id, "ws_open", []byte("DIDL"))

	long := []any{}
	holders := []identity.Identity{who}
	for i := range 21 {
		holders = append(holders, newIdentity(t))
		long = append(long, delegation(holders[i], holders[i+1], nil))
	}
	links := func(n int) []byte {
		return envelope(t, good(), holders[n], map[string]any{"sender_pubkey": who.PublicKey(), "sender_delegation": long[:n]})
	}
	for _, tt := range []struct {
		name string
		body []byte
		want string // part of the text of a 400; empty: accepted
	}{
		{"good", envelope(t, good(), who, nil), ""},
		{"empty", nil, "CBOR"},
		{"not CBOR", []byte{0xff}, "CBOR"},
		{"array", mustCBOR(t, []any{1}), "CBOR"},
		{"no content", mustCBOR(t, map[string]any{"sender_sig": []byte{1}}), "content"},
		{"unknown envelope field", envelope(t, good(), who, map[string]any{"more": 1}), "unknown field"},
		{"unknown content field is hashed", edit("sender_info", map[string]any{"a": "b", "n": uint64(5)}), ""},
		{"no method", edit("method_name", nil), "method_name"},
		{"no arg", edit("arg", nil), "arg"},
		{"no expiry", edit("ingress_expiry", nil), "ingress_expiry"},
		{"expiry of the wrong type", edit("ingress_expiry", "soon"), "ingress_expiry"},
		{"bignum expiry", resent("ingress_expiry", cbor.Tag{Number: 2, Content: binary.BigEndian.AppendUint64(nil, same["ingress_expiry"].(uint64))}), ""},
		{"large bignum expiry", resent("ingress_expiry", cbor.Tag{Number: 2, Content: bytes.Repeat([]byte{1}, 9)}), "ingress_expiry"},
		{"sender of 30 bytes", edit("sender", make([]byte, 30)), "principal"},
		{"unknown type", edit("request_type", "mint"), "request_type"},
		{"query at call", edit("request_type", "query"), "unknown variant `query`"},
		{"another canister", edit("canister_id", canisterID(9).Bytes()), "does not match"},
		{"just expired", edit("ingress_expiry", minutes(0)), "Invalid request expiry"},
		{"long expired", edit("ingress_expiry", uint64(1)), "Invalid request expiry"},
		{"5 min 20 s ahead", edit("ingress_expiry", uint64(n.Now().Add(320*time.Second).UnixNano())), ""},
		{"6 min ahead", edit("ingress_expiry", minutes(6)), "Invalid request expiry"},
		{"largest number ahead", edit("ingress_expiry", uint64(1<<64-1)), "Invalid request expiry"},
		{"nonce of 32", edit("nonce", make([]byte, 32)), ""},
		{"nonce of 33", edit("nonce", make([]byte, 33)), "Invalid nonce"},
		{"anonymous", envelope(t, anonymous, nil, nil), ""},
		{"anonymous and signed", envelope(t, anonymous, who, nil), "anonymous"},
		{"unsigned", envelope(t, good(), nil, nil), "Missing signature"},
		{"no signature", envelope(t, good(), who, map[string]any{"sender_sig": nil}), "Missing signature"},
		{"another's key", envelope(t, good(), other, nil), "does not match the public key"},
		{"another's signature", envelope(t, good(), other, map[string]any{"sender_pubkey": who.PublicKey()}), "Invalid signature"},
		{"short signature", envelope(t, good(), who, map[string]any{"sender_sig": []byte{1, 2}}), "Invalid signature"},
		{"delegated", chain(delegation(who, other, nil)), ""},
		{"delegated to the canister", chain(delegation(who, other, map[string]any{"targets": []any{id.Bytes()}})), ""},
		{"delegated to another canister", chain(delegation(who, other, map[string]any{"targets": []any{canisterID(5).Bytes()}})), "delegation targets"},
		{"delegated to no canister", chain(delegation(who, other, map[string]any{"targets": []any{}})), "delegation targets"},
		{"expired delegation", chain(delegation(who, other, map[string]any{"expiration": minutes(-1)})), "has expired"},
		{"delegated for all", chain(delegation(who, other, map[string]any{"permissions": "all"})), ""},
		{"delegated for queries", chain(delegation(who, other, map[string]any{"permissions": "queries"})), "queries only"},
		{"delegated for fun", chain(delegation(who, other, map[string]any{"permissions": "fun"})), "unknown permissions"},
		{"newer delegation field is hashed", chain(delegation(who, other, map[string]any{"since": uint64(3)})), ""},
		{"delegation by another", chain(delegation(other, other, nil)), "Invalid delegation"},
		{"cycle", chain(delegation(who, other, nil), delegation(other, who, nil), delegation(who, other, nil)), "cycle"},
		{"20 links", links(20), ""},
		{"21 links", links(21), "too long"},
		{"delegation without signature", chain(map[string]any{"delegation": delegation(who, other, nil)["delegation"]}), "signature"},
		{"deep", append([]byte("\xd9\xd9\xf7\xa1\x67content"), deep(10000)...), "CBOR"},
		{"duplicate key", unhex(t, "a267636f6e74656e74a067636f6e74656e74a0"), "CBOR"},
		{"huge byte string", unhex(t, "a167636f6e74656e745bffffffffffffffff"), "CBOR"},
		{"huge array", unhex(t, "a167636f6e74656e749bffffffffffffffff"), "CBOR"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := post(t, n, canisterPath("v4", id, "call"), tt.body)
			switch {
			case tt.want == "" && r.status != http.StatusOK:
				t.Errorf("%d %s", r.status, r.body)
			case tt.want != "" && (r.status != http.StatusBadRequest || !strings.Contains(string(r.body), tt.want)):
				t.Errorf("%d %s, want 400 with %q", r.status, r.body, tt.want)
			}
		})
	}
}

func deep(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = 0x81
	}
	return append(b, 0x80)
}

// Every kind of key, through agent-go's identities.
func TestSignatureSchemes(t *testing.T) {
	n := newNetwork(t, Options{})
	id := n.Install(NewCDK(CDKOptions{}))
	secp, err := identity.NewRandomSecp256k1Identity()
	if err != nil {
		t.Fatal(err)
	}
	p256, err := identity.NewRandomPrime256v1Identity()
	if err != nil {
		t.Fatal(err)
	}
	for name, who := range map[string]identity.Identity{"ed25519": newIdentity(t), "secp256k1": secp, "p256": p256} {
		t.Run(name, func(t *testing.T) {
			c := content(n, who, "call", id, "ws_open", verify.AppendOpenArg(nil, 1, canisterID(1)))
			body := envelope(t, c, who, nil)
			if r := post(t, n, canisterPath("v4", id, "call"), body).decode(t); r.Status != "replied" {
				t.Fatalf("%+v", r)
			}
			body[len(body)-1] ^= 1
			if r := post(t, n, canisterPath("v4", id, "call"), body); r.status != http.StatusBadRequest {
				t.Fatalf("a changed signature gets %d", r.status)
			}
		})
	}
	t.Run("secp256k1 with high S", func(t *testing.T) {
		c := content(n, secp, "call", id, "ws_open", verify.AppendOpenArg(nil, 2, canisterID(1)))
		h := requestID(t, c)
		sig, err := secp.Sign(append([]byte("\x0aic-request"), h[:]...))
		if err != nil {
			t.Fatal(err)
		}
		var s secp256k1.ModNScalar
		s.SetByteSlice(sig[32:])
		high := s.Negate().Bytes()
		body := envelope(t, c, secp, map[string]any{"sender_sig": append(sig[:32:32], high[:]...)})
		if r := post(t, n, canisterPath("v4", id, "call"), body).decode(t); r.Status != "replied" {
			t.Fatalf("%+v", r)
		}
	})
}

// Sessions of Internet Identity: a canister signature at the root of the chain.
func TestInternetIdentity(t *testing.T) {
	for _, subnet := range []int{0, 1} {
		for _, sharded := range []bool{false, true} {
			n := newNetwork(t, Options{})
			id := n.Install(NewCDK(CDKOptions{}))
			ii := n.InstallII(OnSubnet(subnet))
			ii.SetSharded(sharded)
			session := newIdentity(t)
			root, d := ii.Delegate("alice", session.PublicKey(), n.Now().Add(time.Hour), id)
			post := func(d verify.SignedDelegation) response {
				r := verify.Request{
					Type: verify.RequestCall, Canister: id, Method: "ws_open", Arg: verify.AppendOpenArg(nil, 1, canisterID(1)),
					IngressExpiry: n.Now().Add(time.Minute), Delegations: []verify.SignedDelegation{d}, RootKey: root,
					Nonce: binary.BigEndian.AppendUint64(nil, uint64(len(d.Signature))),
				}
				body, _, err := r.Sign(session)
				if err != nil {
					t.Fatal(err)
				}
				return post(t, n, canisterPath("v4", id, "call"), body)
			}
			// agent-go's view of the certificate inside the signature.
			var sig struct {
				Certificate []byte            `cbor:"certificate"`
				Tree        hashtree.HashTree `cbor:"tree"`
			}
			if err := cbor.Unmarshal(d.Signature, &sig); err != nil {
				t.Fatal(err)
			}
			witness := sig.Tree.Digest()
			if err := certification.VerifyCertifiedData(parseCertificate(t, sig.Certificate), raw(ii.ID()), n.RootKey(), witness[:]); err != nil {
				t.Fatal(err)
			}
			if r := post(d).decode(t); r.Status != "replied" {
				t.Fatalf("subnet %d: %+v", subnet, r)
			}
			_, bob := ii.Delegate("bob", session.PublicKey(), n.Now().Add(time.Hour), id)
			bob.Targets = d.Targets
			for name, bad := range map[string]verify.SignedDelegation{
				"another user's signature": bob,
				"another delegation":       {PublicKey: d.PublicKey, Expiration: d.Expiration.Add(1), Targets: d.Targets, Signature: d.Signature},
				"garbage":                  {PublicKey: d.PublicKey, Expiration: d.Expiration, Targets: d.Targets, Signature: []byte{0xa0}},
				"truncated":                {PublicKey: d.PublicKey, Expiration: d.Expiration, Targets: d.Targets, Signature: d.Signature[:len(d.Signature)-5]},
			} {
				if r := post(bad); r.status != http.StatusBadRequest {
					t.Errorf("subnet %d, %s: %d", subnet, name, r.status)
				}
			}
		}
	}
}

// The first byte of a canister's key says how long the id is, in whatever a stranger sends.
func TestCanisterKeyLengths(t *testing.T) {
	for n := range 256 {
		var spki subjectPublicKey
		spki.Algorithm.OID = oidCanisterSignature
		spki.Key = asn1.BitString{Bytes: append([]byte{byte(n)}, make([]byte, 255)...), BitLength: 8 * 256}
		der, err := asn1.Marshal(spki)
		if err != nil {
			t.Fatal(err)
		}
		if id, seed, ok := parseCanisterKey(der); ok != (n <= 29) || ok && (len(id.Bytes()) != n || len(seed) != 255-n) {
			t.Errorf("id of %d bytes: got %s, a seed of %d bytes, %v", n, id, len(seed), ok)
		}
	}
}

// webAuthn is an authenticator: it signs what a browser gives it.
type webAuthn struct {
	cose []byte
	sign func(signed []byte) []byte
	edit func(m map[string]any)
}

func (w webAuthn) PublicKey() []byte {
	var spki subjectPublicKey
	spki.Algorithm.OID = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 56387, 1, 1}
	spki.Key = asn1.BitString{Bytes: w.cose, BitLength: len(w.cose) * 8}
	der, err := asn1.Marshal(spki)
	if err != nil {
		panic(err)
	}
	return der
}

func (w webAuthn) Sender() principal.Principal { return principal.NewSelfAuthenticating(w.PublicKey()) }

func (w webAuthn) Sign(msg []byte) ([]byte, error) {
	client := `{"type":"webauthn.get","challenge":"` + base64.RawURLEncoding.EncodeToString(msg) + `","origin":"https://id.example","crossOrigin":false}`
	hash := sha256.Sum256([]byte(client))
	data := bytes.Repeat([]byte{7}, 37)
	m := map[string]any{"authenticator_data": data, "client_data_json": client, "signature": w.sign(append(data[:37:37], hash[:]...))}
	if w.edit != nil {
		w.edit(m)
	}
	return cbor.Marshal(cbor.Tag{Number: 55799, Content: m})
}

func TestWebAuthn(t *testing.T) {
	n := newNetwork(t, Options{})
	id := n.Install(NewCDK(CDKOptions{}))
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	edPublic, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cose := func(m map[int]any) []byte {
		b, err := cbor.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	point, err := ec.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	must := func(b []byte, err error) []byte {
		if err != nil {
			t.Error(err)
		}
		return b
	}
	digest := func(b []byte) []byte { h := sha256.Sum256(b); return h[:] }
	for name, w := range map[string]webAuthn{
		"p256":    {cose: cose(map[int]any{1: 2, 3: -7, -1: 1, -2: point[1:33], -3: point[33:]}), sign: func(b []byte) []byte { return must(ecdsa.SignASN1(rand.Reader, ec, digest(b))) }},
		"rsa":     {cose: cose(map[int]any{1: 3, 3: -257, -1: rs.N.Bytes(), -2: []byte{1, 0, 1}}), sign: func(b []byte) []byte { return must(rsa.SignPKCS1v15(nil, rs, crypto.SHA256, digest(b))) }},
		"ed25519": {cose: cose(map[int]any{1: 1, 3: -8, -1: 6, -2: []byte(edPublic)}), sign: func(b []byte) []byte { return ed25519.Sign(ed, b) }},
	} {
		t.Run(name, func(t *testing.T) {
			try := func(w webAuthn) int {
				c := content(n, nil, "call", id, "ws_open", verify.AppendOpenArg(nil, 1, canisterID(1)))
				c["sender"] = w.Sender().Raw
				h := requestID(t, c)
				sig := must(w.Sign(append([]byte("\x0aic-request"), h[:]...)))
				return post(t, n, canisterPath("v4", id, "call"), envelope(t, c, nil, map[string]any{"sender_pubkey": w.PublicKey(), "sender_sig": sig})).status
			}
			if got := try(w); got != http.StatusOK {
				t.Fatalf("%d", got)
			}
			for name, edit := range map[string]func(map[string]any){
				"another challenge": func(m map[string]any) {
					m["client_data_json"] = strings.Replace(m["client_data_json"].(string), `challenge":"`, `challenge":"A`, 1)
				},
				"other data":   func(m map[string]any) { m["authenticator_data"] = []byte("other") },
				"no data":      func(m map[string]any) { delete(m, "authenticator_data") },
				"no signature": func(m map[string]any) { m["signature"] = []byte{} },
				"no JSON":      func(m map[string]any) { m["client_data_json"] = "{" },
			} {
				bad := w
				bad.edit = edit
				if got := try(bad); got != http.StatusBadRequest {
					t.Errorf("%s: %d", name, got)
				}
			}
			cut := w
			cut.cose = w.cose[:len(w.cose)-1]
			if got := try(cut); got != http.StatusBadRequest {
				t.Errorf("short key: %d", got)
			}
		})
	}
}

// Small items are what makes a decoder take a hundred times the bytes that it is sent.
func TestManyItems(t *testing.T) {
	n := newNetwork(t, Options{})
	id := n.Install(NewCDK(CDKOptions{}))
	list := append([]byte{0x99, 2000 >> 8, 2000 & 0xff}, bytes.Repeat([]byte("\xa1\x60\x01"), 2000)...)
	for name, body := range map[string][]byte{
		"in lists": append([]byte("\xd9\xd9\xf7\xa1\x67content\x99\x02\x00"), bytes.Repeat(list, 512)...),
		"in a row": bytes.Repeat([]byte{0xa0}, maxBody),
	} {
		for _, endpoint := range []string{"call", "query", "read_state"} {
			r := post(t, n, canisterPath("v3", id, endpoint), body)
			if r.status != http.StatusBadRequest || !strings.Contains(string(r.body), "items") {
				t.Errorf("%s, %s: %d %s", name, endpoint, r.status, r.body)
			}
		}
	}
	// As many as may be.
	path := slices.Repeat([][]byte{{}}, maxLabels)
	paths := make([][][]byte, maxPaths)
	for i := range paths {
		paths[i] = path
	}
	r, err := parseEnvelope(envelope(t, readStateContent(n, nil, paths...), nil, nil))
	if err != nil || len(r.paths) != maxPaths {
		t.Error(err)
	}
	// Lengths that are not there, and heads that are cut short, are the decoder's affair.
	for _, b := range []string{"\x5b\xff\xff\xff\xff\xff\xff\xff\xff", "\x78", "\x19\x01", "\x5f\x41x\xff", "\x42x"} {
		if moreItems([]byte(b), 5) {
			t.Errorf("%x has more than 5 items", b)
		}
	}
	if !moreItems([]byte("\x82\x41x\x19\x01\x00"), 2) || moreItems([]byte("\x82\x41x\x19\x01\x00"), 3) {
		t.Error("three items are miscounted")
	}
}
