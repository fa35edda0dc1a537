package verify

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/aviate-labs/agent-go/principal"
	"github.com/fxamacker/cbor/v2"
)

// authenticator is a WebAuthn authenticator with its browser, made of the standard library and fxamacker's CBOR. Its
// fields let a test do what a browser does not.
type authenticator struct {
	t      testing.TB
	der    []byte
	sign   func(signed []byte) []byte
	client func(challenge string) string // the client's data
	wrap   func(map[string]any)          // last changes to the signature's CBOR
}

func (a *authenticator) Sender() principal.Principal { return principal.NewSelfAuthenticating(a.der) }
func (a *authenticator) PublicKey() []byte           { return a.der }

func (a *authenticator) Sign(msg []byte) ([]byte, error) {
	challenge := base64.RawURLEncoding.EncodeToString(msg)
	client, err := json.Marshal(map[string]any{"type": "webauthn.get", "challenge": challenge, "origin": "https://a.example", "crossOrigin": false})
	if err != nil {
		return nil, err
	}
	if a.client != nil {
		client = []byte(a.client(challenge))
	}
	relyingParty := sha256.Sum256([]byte("a.example"))
	data := append(relyingParty[:], 0x05, 0, 0, 0, 7) // user present and verified, seven signatures so far
	hash := sha256.Sum256(client)
	m := map[string]any{
		"authenticator_data": data, "client_data_json": string(client), "signature": a.sign(append(bytes.Clone(data), hash[:]...)),
	}
	if a.wrap != nil {
		a.wrap(m)
	}
	raw, err := cbor.Marshal(m)
	return append([]byte(selfDescribeTag), raw...), err
}

func newAuthenticator(t testing.TB, cose map[int]any, sign func([]byte) []byte) *authenticator {
	t.Helper()
	raw, err := cbor.Marshal(cose)
	if err != nil {
		t.Fatal(err)
	}
	return &authenticator{t: t, der: spki(t, oidCOSE, raw), sign: sign}
}

func authenticators(t testing.TB) map[string]*authenticator {
	t.Helper()
	must := func(b []byte, err error) []byte {
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point := must(ec.PublicKey.Bytes())
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]*authenticator{
		"ES256": newAuthenticator(t, map[int]any{1: 2, 3: -7, -1: 1, -2: point[1:33], -3: point[33:]}, func(b []byte) []byte {
			digest := sha256.Sum256(b)
			return must(ecdsa.SignASN1(rand.Reader, ec, digest[:]))
		}),
		"RS256": newAuthenticator(t, map[int]any{1: 3, 3: -257, -1: rs.N.Bytes(), -2: []byte{1, 0, 1}}, func(b []byte) []byte {
			digest := sha256.Sum256(b)
			return must(rsa.SignPKCS1v15(rand.Reader, rs, crypto.SHA256, digest[:]))
		}),
	}
}

func TestWebAuthn(t *testing.T) {
	session := ed25519FromSeed(t, 1)
	for name, key := range authenticators(t) {
		direct := signed(t, Request{}, key)
		if _, err := VerifySender(direct, goldenTime, nil, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		r := Request{Delegations: chainOf(t, nil, key, session), RootKey: key.PublicKey()}
		if _, err := VerifySender(signed(t, r, session), goldenTime, nil, nil); err != nil {
			t.Errorf("%s, delegating: %v", name, err)
		}
		key.wrap = func(m map[string]any) { m["client_data_json"] = []byte(m["client_data_json"].(string)) }
		if _, err := VerifySender(signed(t, Request{}, key), goldenTime, nil, nil); err != nil {
			t.Errorf("%s, client data as bytes: %v", name, err)
		}
		key.wrap = nil
		for i := range direct.Signature {
			e := *direct
			e.Signature = bytes.Clone(direct.Signature)
			e.Signature[i] ^= 1
			if _, err := VerifySender(&e, goldenTime, nil, nil); CauseOf(err) != CauseSignature && i >= 3 { // the tag may go
				t.Errorf("%s, byte %d changed: got %v", name, i, err)
			}
		}
		for n := range direct.Signature {
			e := *direct
			e.Signature = direct.Signature[:n]
			if _, err := VerifySender(&e, goldenTime, nil, nil); CauseOf(err) != CauseSignature {
				t.Errorf("%s, cut at %d: got %v", name, n, err)
			}
		}
	}
}

func TestWebAuthnRefuses(t *testing.T) {
	for name, key := range authenticators(t) {
		for what, client := range map[string]func(string) string{
			"another challenge":  func(c string) string { return `{"type":"webauthn.get","challenge":"` + "AAAA" + c[4:] + `"}` },
			"no challenge":       func(string) string { return `{"type":"webauthn.get"}` },
			"another name":       func(c string) string { return `{"Challenge":"` + c + `"}` },
			"challenge a number": func(string) string { return `{"challenge":1}` },
			"padded challenge":   func(c string) string { return `{"challenge":"` + c + `=="}` },
			"line break inside":  func(c string) string { return `{"challenge":"` + c[:4] + `\n` + c[4:] + `"}` },
			"left-over bits":     func(c string) string { return `{"challenge":"` + c[:len(c)-1] + string(c[len(c)-1]+1) + `"}` },
			"not an object":      func(c string) string { return `["` + c + `"]` },
			"not JSON":           func(c string) string { return `{"challenge":"` + c + `"` },
			"empty":              func(string) string { return "" },
			"deep":               func(c string) string { return strings.Repeat("[", 8000) },
			"too long":           func(c string) string { return `{"challenge":"` + c + `","x":"` + strings.Repeat("x", 9000) + `"}` },
		} {
			key.client = client
			if _, err := VerifySender(signed(t, Request{}, key), goldenTime, nil, nil); CauseOf(err) != CauseSignature {
				t.Errorf("%s, %s: got %v", name, what, err)
			}
		}
		key.client = nil
		for what, wrap := range map[string]func(map[string]any){
			"no authenticator data":    func(m map[string]any) { delete(m, "authenticator_data") },
			"no client data":           func(m map[string]any) { delete(m, "client_data_json") },
			"no signature":             func(m map[string]any) { delete(m, "signature") },
			"empty signature":          func(m map[string]any) { m["signature"] = []byte{} },
			"other authenticator data": func(m map[string]any) { m["authenticator_data"] = make([]byte, 37) },
			"client data a number":     func(m map[string]any) { m["client_data_json"] = 1 },
		} {
			key.wrap = wrap
			_, err := VerifySender(signed(t, Request{}, key), goldenTime, nil, nil)
			if CauseOf(err) != CauseSignature {
				t.Errorf("%s, %s: got %v", name, what, err)
			}
			if strings.HasPrefix(what, "no ") && !errors.Is(err, ErrMalformed) {
				t.Errorf("%s, %s: got %v", name, what, err)
			}
		}
	}
}

// Keys that replicas refuse, or would take too long to check.
func TestWebAuthnKeysRefused(t *testing.T) {
	modulus := func(bits int) []byte {
		n := make([]byte, bits/8)
		n[0], n[len(n)-1] = 0x80, 1
		return n
	}
	for name, tt := range map[string]struct {
		cose map[int]any
		want Cause
	}{
		"Ed25519":            {map[int]any{1: 1, 3: -8, -1: 6, -2: make([]byte, 32)}, CauseScheme},
		"RSA of 4096 bits":   {map[int]any{1: 3, 3: -257, -1: modulus(4096), -2: []byte{1, 0, 1}}, ""},
		"RSA of 4104 bits":   {map[int]any{1: 3, 3: -257, -1: modulus(4104), -2: []byte{1, 0, 1}}, CauseMalformed},
		"RSA of 2040 bits":   {map[int]any{1: 3, 3: -257, -1: modulus(2040), -2: []byte{1, 0, 1}}, CauseMalformed},
		"RSA, even exponent": {map[int]any{1: 3, 3: -257, -1: modulus(2048), -2: []byte{1, 0, 0}}, CauseMalformed},
	} {
		raw, err := cbor.Marshal(tt.cose)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parsePublicKey(spki(t, oidCOSE, raw)); CauseOf(err) != tt.want {
			t.Errorf("%s: got %v, want the cause %q", name, err, tt.want)
		}
	}
}
