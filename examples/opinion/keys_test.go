//go:build e2e

package opinion

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	secpecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// signer is a key of a user, of any kind that the network knows.
type signer struct {
	kind string
	der  []byte
	sign func(r *mathrand.Rand, msg []byte) []byte
}

// newSigner makes the key of that kind and number. twist writes what is CBOR in keys and signatures.
func (w *world) newSigner(kind string, number int, twist func(part string, it *item) []byte) *signer {
	seed := sha256.Sum256(fmt.Appendf(nil, "%s %d", kind, number))
	s := &signer{kind: kind}
	switch kind {
	case "ed25519":
		key := ed25519.NewKeyFromSeed(seed[:])
		s.der = ed25519DER(key)
		s.sign = func(_ *mathrand.Rand, msg []byte) []byte { return ed25519.Sign(key, msg) }
	case "secp256k1":
		key := secp256k1.PrivKeyFromBytes(seed[:])
		s.der = append(unhex("3056301006072a8648ce3d020106052b8104000a034200"), key.PubKey().SerializeUncompressed()...)
		s.sign = func(r *mathrand.Rand, msg []byte) []byte {
			digest := sha256.Sum256(msg)
			compact := secpecdsa.SignCompact(key, digest[:], false)
			sig := compact[1:]
			if r.IntN(2) == 0 { // either half will do
				highS(sig, secp256k1.S256().N)
			}
			return sig
		}
	case "p256":
		key := p256Key(seed)
		s.der = append(unhex("3059301306072a8648ce3d020106082a8648ce3d030107034200"), p256Point(key)...)
		s.sign = func(r *mathrand.Rand, msg []byte) []byte {
			digest := sha256.Sum256(msg)
			raw := signP256(key, digest[:])
			if r.IntN(2) == 0 {
				highS(raw, elliptic.P256().Params().N)
			}
			return raw
		}
	case "webauthn p256":
		key := p256Key(seed)
		point := p256Point(key)
		s.webauthn(twist, coseItem(2, -7, -1, uintItem(1), -2, bytesItem(point[1:33]), -3, bytesItem(point[33:])), func(signed []byte) []byte {
			digest := sha256.Sum256(signed)
			raw := signP256(key, digest[:])
			der, err := asn1.Marshal([]*big.Int{new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])})
			must(err)
			return der
		})
	case "webauthn rsa":
		key := rsaKey() // whatever the number
		s.webauthn(twist, coseItem(3, -257, -1, bytesItem(key.N.Bytes()), -2, bytesItem(big.NewInt(int64(key.E)).Bytes())), func(signed []byte) []byte {
			digest := sha256.Sum256(signed)
			sig, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
			must(err)
			return sig
		})
	case "webauthn ed25519":
		key := ed25519.NewKeyFromSeed(seed[:])
		s.webauthn(twist, coseItem(1, -8, -1, uintItem(6), -2, bytesItem(key.Public().(ed25519.PublicKey))), func(signed []byte) []byte {
			return ed25519.Sign(key, signed)
		})
	case "canister":
		key := append(append([]byte{byte(len(w.canister.Bytes()))}, w.canister.Bytes()...), seed[:]...)
		s.der = spki("\x2b\x06\x01\x04\x01\x83\xb8\x43\x01\x02", key)
		s.sign = func(r *mathrand.Rand, msg []byte) []byte { return w.canisterSignature(r, seed[:], msg, twist) }
	}
	return s
}

// webauthn makes the key an authenticator's.
func (s *signer) webauthn(twist func(string, *item) []byte, cose *item, sign func([]byte) []byte) {
	s.der = spki("\x2b\x06\x01\x04\x01\x83\xb8\x43\x01\x01", twist("cose", cose))
	s.sign = func(r *mathrand.Rand, msg []byte) []byte {
		client := fmt.Appendf(nil, `{"type":"webauthn.get","challenge":"%s","origin":"https://identity.example"}`, base64.RawURLEncoding.EncodeToString(msg))
		data := make([]byte, 37)
		hash := sha256.Sum256(client)
		clientItem := textItem(string(client))
		if r.IntN(2) == 0 { // both are written
			clientItem = bytesItem(client)
		}
		assertion := mapItem("authenticator_data", bytesItem(data), "client_data_json", clientItem,
			"signature", bytesItem(sign(append(data[:37:37], hash[:]...))))
		return append(selfDescribed[:3:3], twist("assertion", assertion)...)
	}
}

// coseItem is a COSE key: type, algorithm, and labels below zero with their values.
func coseItem(kty, alg int64, rest ...any) *item {
	number := func(n int64) *item {
		if n < 0 {
			return &item{major: mNeg, n: uint64(-1 - n)}
		}
		return uintItem(uint64(n))
	}
	m := &item{major: mMap, kids: []*item{uintItem(1), number(kty), uintItem(3), number(alg)}}
	for i := 0; i < len(rest); i += 2 {
		m.kids = append(m.kids, number(int64(rest[i].(int))), rest[i+1].(*item))
	}
	return m
}

// canisterSignature is what a canister such as Internet Identity certifies as its signature of msg.
func (w *world) canisterSignature(r *mathrand.Rand, seed, msg []byte, twist func(string, *item) []byte) []byte {
	seedHash, digest := sha256.Sum256(seed), sha256.Sum256(msg)
	witness := labeled("sig", forest(r, labeled(string(seedHash[:]), forest(r,
		labeled(string(digest[:]), leaf(nil)), pruned(labeled("\xff", leaf(nil)))))))
	root := witness.digest()
	p := newPage(w, r)
	p.at = timeLeaf(w.now.Add(-time.Hour)) // a signature stays good
	p.layout = pick(r, []string{"flat", "sharded", "both"})
	p.twist = twist
	delegation := w.delegationOf(p.write("delegation", p.delegation(), true))
	raw := p.write("certificate", certificate(w.subnet, w.stateTree(r, root[:], p.at), delegation), true)
	return append(selfDescribed[:3:3], twist("canister signature", mapItem("certificate", bytesItem(raw), "tree", witness.item()))...)
}

// spki wraps the bits of a key with an object identifier, as subject public key info.
func spki(oid string, key []byte) []byte {
	type algorithm struct{ OID asn1.RawValue }
	der, err := asn1.Marshal(struct {
		Algorithm algorithm
		Key       asn1.BitString
	}{algorithm{asn1.RawValue{Tag: asn1.TagOID, Bytes: []byte(oid)}}, asn1.BitString{Bytes: key, BitLength: 8 * len(key)}})
	must(err)
	return der
}

func p256Key(seed [32]byte) *ecdsa.PrivateKey {
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), seed[:])
	must(err)
	return key
}

func p256Point(key *ecdsa.PrivateKey) []byte {
	point, err := key.PublicKey.Bytes()
	must(err)
	return point
}

// signP256 returns r and s of 32 bytes each; s is in the lower half.
func signP256(key *ecdsa.PrivateKey, digest []byte) []byte {
	der, err := key.Sign(nil, digest, crypto.SHA256) // without a source of randomness it is deterministic
	must(err)
	var rs struct{ R, S *big.Int }
	_, err = asn1.Unmarshal(der, &rs)
	must(err)
	n := elliptic.P256().Params().N
	if new(big.Int).Lsh(rs.S, 1).Cmp(n) > 0 {
		rs.S.Sub(n, rs.S)
	}
	raw := make([]byte, 64)
	rs.R.FillBytes(raw[:32])
	rs.S.FillBytes(raw[32:])
	return raw
}

// highS replaces s in a signature by the other value that verifies.
func highS(sig []byte, n *big.Int) {
	s := new(big.Int).SetBytes(sig[32:])
	s.Sub(n, s).FillBytes(sig[32:])
}

// rsaKey is made once: it is dear.
var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	return key
})

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	must(err)
	return b
}

// must stops on what cannot go wrong with the constants of a test.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
