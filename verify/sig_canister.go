package verify

import (
	"crypto/sha256"
	"fmt"
	"time"
)

// labelSig is where canisters certify their signatures: ["sig", H(seed), H(message)].
var labelSig = []byte("sig")

var errCanisterParts = fmt.Errorf("%w: canister signature lacks certificate or tree", ErrMalformed)

// canisterKey stands for a canister and a seed that it signs for: every identity of Internet Identity is one. There is no
// secret key; the signature is the network's certificate that the canister put the message into its certified data.
type canisterKey struct {
	canister Principal
	seed     [sha256.Size]byte // hash of the seed
}

// parseCanisterKey reads the bits of a canister signature key: the length of the canister id, the id, the seed.
func parseCanisterKey(raw []byte) (publicKey, error) {
	if len(raw) == 0 || int(raw[0]) > len(raw)-1 {
		return nil, badKey("canister signature key ends early")
	}
	size, rest := int(raw[0]), raw[1:] // as a byte, 255 and one more would be 0
	canister, err := PrincipalFromBytes(rest[:size])
	if err != nil {
		return nil, badKey("canister id longer than 29 bytes")
	}
	return canisterKey{canister: canister, seed: sha256.Sum256(rest[size:])}, nil
}

// verify checks that the network certified the signing canister's tree, on whatever subnet the canister is, and that the
// message is in it.
//
// The certificate's age does not matter: the signature of a delegation is made at login and stays good until the
// delegation expires, weeks later (IC interface specification, "Canister signatures").
func (k canisterKey) verify(msg, sig []byte, a *Authority, _ time.Time) error {
	if a == nil {
		return &Error{Cause: CauseScheme, Text: "canister signature cannot be checked without a root key", Err: ErrUnknownScheme}
	}
	raw, witness, err := parseCanisterSignature(sig)
	if err != nil {
		return &Error{Cause: CauseSignature, Text: "decoding canister signature", Err: err}
	}
	var tree Tree
	if err := tree.Parse(witness); err != nil {
		return &Error{Cause: CauseSignature, Text: "decoding tree of canister signature", Err: err}
	}
	// The cheap part first: a signature of another message need not cost a pairing.
	digest := sha256.Sum256(msg)
	if value, r := tree.Lookup(labelSig, k.seed[:], digest[:]); r != Found || len(value) != 0 {
		return fail(CauseSignature, "canister signature is not of this request or delegation")
	}
	certificate, err := a.lastingCertificate(raw, k.canister)
	if err != nil {
		return &Error{Cause: CauseSignature, Text: "checking certificate of canister signature", Err: err}
	}
	root := tree.Digest()
	data, r := certificate.Lookup(labelCanister, k.canister.Bytes(), labelCertifiedData)
	if r != Found || string(data) != string(root[:]) {
		return fail(CauseSignature, "canister signature is not in the canister's certified data")
	}
	// The specification refuses subnets of the type "cloud_engine" and wants the type to be there. Local networks and
	// delegations made before the type existed lack it, so absence is no objection here: the Internet Computer itself
	// has the last word on the envelope anyway.
	if d := certificate.delegation; d != nil && d.kind == cloudEngine {
		return fail(CauseSignature, "canister signature comes from a cloud engine subnet, which may not sign")
	}
	return nil
}

// parseCanisterSignature reads the CBOR of a canister signature: a certificate as bytes and a tree as it is.
func parseCanisterSignature(sig []byte) (certificate, tree []byte, err error) {
	c := readSignature(sig)
	c.selfDescribe()
	f := c.fields()
	for f.next() {
		switch string(f.key) {
		case "certificate":
			certificate = c.bytes()
		case "tree":
			tree = c.raw()
		default:
			c.skip()
		}
	}
	if err := c.done(); err != nil {
		return nil, nil, err
	}
	if certificate == nil || tree == nil {
		return nil, nil, errCanisterParts
	}
	return certificate, tree, nil
}
