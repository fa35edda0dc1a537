package localnet

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math/big"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	secpecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// The DER forms of ECDSA keys up to the uncompressed point.
var (
	secp256k1Prefix, _ = hex.DecodeString("3056301006072a8648ce3d020106052b8104000a034200")
	p256Prefix, _      = hex.DecodeString("3059301306072a8648ce3d020106082a8648ce3d030107034200")
)

var errSignature = errors.New("signature could not be verified")

// verifySignature checks sig over msg by the key in its DER form, for the
// schemes of the interface specification, section "Signatures".
func (n *Network) verifySignature(der, msg, sig []byte) error {
	if key, ok := bytes.CutPrefix(der, ed25519Prefix); ok && len(key) == ed25519.PublicKeySize {
		if len(sig) != ed25519.SignatureSize || !ed25519.Verify(key, msg, sig) {
			return errSignature
		}
		return nil
	}
	if point, ok := bytes.CutPrefix(der, secp256k1Prefix); ok {
		return verifySecp256k1(point, msg, sig)
	}
	if point, ok := bytes.CutPrefix(der, p256Prefix); ok {
		return verifyP256(point, msg, sig)
	}
	if id, seed, ok := parseCanisterKey(der); ok {
		return n.verifyCanisterSignature(id, seed, msg, sig)
	}
	if cose, ok := parseWebAuthnKey(der); ok {
		return verifyWebAuthn(cose, msg, sig)
	}
	return errors.New("unsupported public key algorithm")
}

// verifySecp256k1 takes s in either half, as replicas do.
func verifySecp256k1(point, msg, sig []byte) error {
	if len(point) != 65 || point[0] != 4 || len(sig) != 64 {
		return errSignature
	}
	key, err := secp256k1.ParsePubKey(point)
	if err != nil {
		return errSignature
	}
	var r, s secp256k1.ModNScalar
	if r.SetByteSlice(sig[:32]) || s.SetByteSlice(sig[32:]) {
		return errSignature
	}
	digest := sha256.Sum256(msg)
	if !secpecdsa.NewSignature(&r, &s).Verify(digest[:], key) {
		return errSignature
	}
	return nil
}

func verifyP256(point, msg, sig []byte) error {
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil || len(sig) != 64 {
		return errSignature
	}
	digest := sha256.Sum256(msg)
	if !ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		return errSignature
	}
	return nil
}
