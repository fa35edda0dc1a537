package verify

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"
)

// maxClientData bounds client_data_json in bytes. Browsers make about 200.
const maxClientData = 8192

var (
	errWebAuthnParts = fmt.Errorf("%w: webauthn signature lacks a part", ErrMalformed)
	errChallenge     = fail(CauseSignature, "webauthn challenge is not the signed request or delegation")
)

// webauthnKey is the key of an authenticator: one of its fields is set.
type webauthnKey struct {
	p256 *ecdsa.PublicKey
	rsa  *rsa.PublicKey
}

// verify checks an assertion: its challenge is msg, and its signature is over the authenticator's data and the digest of
// the client's data, in which the challenge stands. Origin and relying party are not looked at, as the Internet Computer
// does not: the principal is derived from the key alone.
func (k webauthnKey) verify(msg, sig []byte, _ *Authority, _ time.Time) error {
	data, client, signature, err := parseAssertion(sig)
	if err != nil {
		return &Error{Cause: CauseSignature, Text: "decoding webauthn signature", Err: err}
	}
	if challenge, err := clientChallenge(client); err != nil || challenge != base64.RawURLEncoding.EncodeToString(msg) {
		return errChallenge
	}
	clientHash := sha256.Sum256(client)
	signed := append(bytes.Clone(data), clientHash[:]...)
	digest := sha256.Sum256(signed)
	ok := false
	switch {
	case k.p256 != nil:
		ok = ecdsa.VerifyASN1(k.p256, digest[:], signature)
	case k.rsa != nil:
		ok = rsa.VerifyPKCS1v15(k.rsa, crypto.SHA256, digest[:], signature) == nil
	}
	if !ok {
		return errSignature
	}
	return nil
}

// parseAssertion reads the CBOR of a WebAuthn signature. The client's data is text by the specification; replicas and
// agents in use write it as bytes too.
func parseAssertion(raw []byte) (data, client, signature []byte, err error) {
	c := readSignature(raw)
	c.selfDescribe()
	f := c.fields()
	for f.next() {
		switch string(f.key) {
		case "authenticator_data":
			data = c.bytes()
		case "client_data_json":
			if c.peek() == cborText {
				client = c.text()
			} else {
				client = c.bytes()
			}
		case "signature":
			signature = c.bytes()
		default:
			c.skip()
		}
	}
	if err := c.done(); err != nil {
		return nil, nil, nil, err
	}
	if data == nil || client == nil || signature == nil || len(client) > maxClientData {
		return nil, nil, nil, errWebAuthnParts
	}
	return data, client, signature, nil
}

// clientChallenge returns the challenge in the client's data, in base64url: not decoded, because decoders are of different
// minds about line breaks and left-over bits. Reading into a map keeps names exact: into a struct, encoding/json would
// take "Challenge" for "challenge".
func clientChallenge(client []byte) (challenge string, err error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(client, &fields); err != nil {
		return "", err
	}
	err = json.Unmarshal(fields["challenge"], &challenge)
	return challenge, err
}
