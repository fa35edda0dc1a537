package verify

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"math/big"
	"time"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	secpecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// rawSignatureSize is the size of a signature of r and s, or R and S, of 32 bytes each.
const rawSignatureSize = 64

var (
	errSignature     = fail(CauseSignature, "signature does not verify, sign the request with the sender's key")
	errSignatureSize = fail(CauseSignature, "signature is not 64 bytes long")
)

// ed25519Key is an Ed25519 key of 32 bytes.
type ed25519Key []byte

func (k ed25519Key) verify(msg, sig []byte, _ *Authority, _ time.Time) error {
	if len(sig) != ed25519.SignatureSize {
		return errSignatureSize
	}
	if !ed25519.Verify(ed25519.PublicKey(k), msg, sig) {
		return errSignature
	}
	return nil
}

// p256Key is an ECDSA key on P-256. Signatures are over SHA-256, with s in either half: the Internet Computer takes both.
type p256Key struct{ *ecdsa.PublicKey }

func (k p256Key) verify(msg, sig []byte, _ *Authority, _ time.Time) error {
	if len(sig) != rawSignatureSize {
		return errSignatureSize
	}
	digest := sha256.Sum256(msg)
	r, s := new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])
	if !ecdsa.Verify(k.PublicKey, digest[:], r, s) {
		return errSignature
	}
	return nil
}

// secp256k1Key is an ECDSA key on secp256k1. Signatures are over SHA-256, with s in either half: the specification asks
// for no more, and replicas verify with malleability on purpose, for the sake of signers made with OpenSSL.
type secp256k1Key struct{ *secp256k1.PublicKey }

func (k secp256k1Key) verify(msg, sig []byte, _ *Authority, _ time.Time) error {
	if len(sig) != rawSignatureSize {
		return errSignatureSize
	}
	var r, s secp256k1.ModNScalar
	if r.SetByteSlice(sig[:32]) || s.SetByteSlice(sig[32:]) || r.IsZero() || s.IsZero() {
		return errSignature // not below the order of the group
	}
	digest := sha256.Sum256(msg)
	if !secpecdsa.NewSignature(&r, &s).Verify(digest[:], k.PublicKey) {
		return errSignature
	}
	return nil
}
