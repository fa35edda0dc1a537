package localnet

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"math/big"
)

// oidWebAuthn marks the public keys of authenticators: the key itself is a
// COSE key (RFC 9052).
var oidWebAuthn = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 56387, 1, 1}

// maxRSABits bounds the work that a stranger's key can cause.
const maxRSABits = 4096

// parseWebAuthnKey takes the COSE key out of a public key; ok is false for keys
// of other kinds.
func parseWebAuthnKey(der []byte) (cose []byte, ok bool) {
	var spki subjectPublicKey
	rest, err := asn1.Unmarshal(der, &spki)
	if err != nil || len(rest) != 0 || !spki.Algorithm.OID.Equal(oidWebAuthn) || spki.Key.BitLength%8 != 0 {
		return nil, false
	}
	return spki.Key.Bytes, true
}

// coseEC, coseRSA and coseOKP are the parameters of the key types in use.
type coseHead struct {
	Type      int `cbor:"1,keyasint"`
	Algorithm int `cbor:"3,keyasint"`
}

type coseEC struct {
	Curve int    `cbor:"-1,keyasint"`
	X     []byte `cbor:"-2,keyasint"`
	Y     []byte `cbor:"-3,keyasint"`
}

type coseRSA struct {
	N []byte `cbor:"-1,keyasint"`
	E []byte `cbor:"-2,keyasint"`
}

type coseOKP struct {
	Curve int    `cbor:"-1,keyasint"`
	X     []byte `cbor:"-2,keyasint"`
}

// verifyWebAuthn checks an assertion whose challenge is msg.
func verifyWebAuthn(cose, msg, sig []byte) error {
	var s struct {
		AuthenticatorData []byte `cbor:"authenticator_data"`
		ClientDataJSON    string `cbor:"client_data_json"`
		Signature         []byte `cbor:"signature"`
	}
	if treeMode.Unmarshal(sig, &s) != nil {
		return errSignature
	}
	var client struct {
		Challenge string `json:"challenge"`
	}
	if json.Unmarshal([]byte(s.ClientDataJSON), &client) != nil || client.Challenge != base64.RawURLEncoding.EncodeToString(msg) {
		return errSignature
	}
	hash := sha256.Sum256([]byte(s.ClientDataJSON))
	if !verifyCOSE(cose, append(s.AuthenticatorData[:len(s.AuthenticatorData):len(s.AuthenticatorData)], hash[:]...), s.Signature) {
		return errSignature
	}
	return nil
}

func verifyCOSE(cose, signed, sig []byte) bool {
	var head coseHead
	if treeMode.Unmarshal(cose, &head) != nil {
		return false
	}
	digest := sha256.Sum256(signed)
	switch head {
	case coseHead{2, -7}: // EC2, ES256
		var k coseEC
		if treeMode.Unmarshal(cose, &k) != nil || k.Curve != 1 || len(k.X) != 32 || len(k.Y) != 32 {
			return false
		}
		point := append(append([]byte{4}, k.X...), k.Y...)
		key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
		return err == nil && ecdsa.VerifyASN1(key, digest[:], sig)
	case coseHead{3, -257}: // RSA, RS256
		var k coseRSA
		if treeMode.Unmarshal(cose, &k) != nil || len(k.N) > maxRSABits/8 || len(k.E) == 0 || len(k.E) > 3 {
			return false
		}
		key := &rsa.PublicKey{N: new(big.Int).SetBytes(k.N), E: int(new(big.Int).SetBytes(k.E).Int64())}
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], sig) == nil
	case coseHead{1, -8}: // OKP, EdDSA
		var k coseOKP
		return treeMode.Unmarshal(cose, &k) == nil && k.Curve == 6 && len(k.X) == ed25519.PublicKeySize &&
			len(sig) == ed25519.SignatureSize && ed25519.Verify(k.X, signed, sig)
	}
	return false
}
