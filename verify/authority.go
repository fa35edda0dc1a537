package verify

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"time"
)

// Bounds in time of certificates, on both sides of now. They are those of deployed clients.
const (
	// MaxCertificateAge is how old a certificate may be.
	MaxCertificateAge = 5 * time.Minute
	// MaxClockSkew is how far in the future a certificate may be.
	MaxClockSkew = 5 * time.Minute
	// MaxPageAge is how old the certificate of a page may be. It is passed on, and clients judge it by MaxCertificateAge
	// when it reaches them, by clocks of their own.
	MaxPageAge = 4 * time.Minute
)

// Bounds of the caches. A delegation holds 24 kB of line tables. A subnet signs about one root a second.
const (
	maxCachedDelegations = 128
	maxCachedRoots       = 1024
)

// mainnetKey is the root key of the Internet Computer, as published in the interface specification.
const mainnetKey = "308182301d060d2b0601040182dc7c0503010201060c2b0601040182dc7c05030201036100" +
	"814c0e6ec71fab583b08bd81373c255c3c371b2e84863c98a4f1e08b74235d14" +
	"fb5d9c0cd546d9685f913a0c0b2cc5341583bf4b4392e467db96d65b9bb4cb71" +
	"7112f8472e0d5a4d14505ffd7484b01291091c5f87b98883463f98091a0baaae"

// MainnetRootKey returns the root key of the Internet Computer in DER form. The caller owns the slice.
func MainnetRootKey() []byte {
	key, err := hex.DecodeString(mainnetKey)
	if err != nil {
		panic("mainnet root key: " + err.Error()) // the constant above is broken
	}
	return key
}

// Authority verifies what one network signs, by its root key. It remembers subnet delegations and state roots that it has
// verified: all canisters of a subnet share one root at one height, so most certificates cost no pairing at all. Time,
// canister ranges and the tree at hand are checked anew on every use. An Authority is safe for concurrent use.
type Authority struct {
	key         *blsKey
	delegations *onceCache[delegationID, *delegation]
	roots       *onceCache[rootSignature, struct{}]
}

// delegationID names a delegation: what it says, by its hash, and of whom.
type delegationID struct {
	subnet      Principal
	certificate [sha256.Size]byte
}

// rootSignature names a verified signature.
type rootSignature struct {
	key       [blsKeySize]byte
	root      [32]byte
	signature [blsSignatureSize]byte
}

// AuthorityStats counts how the caches of an Authority did since it was made.
type AuthorityStats struct {
	// RootHits and RootMisses count state roots that had been verified before, and those that had to be.
	RootHits   uint64 `json:"root_hits"`
	RootMisses uint64 `json:"root_misses"`
	// DelegationHits and DelegationMisses are the same for subnet delegations.
	DelegationHits   uint64 `json:"delegation_hits"`
	DelegationMisses uint64 `json:"delegation_misses"`
}

// NewAuthority returns an Authority for the network with the given root key, in DER form (133 bytes). The error wraps
// ErrMalformed if it is not a BLS12-381 key.
func NewAuthority(rootKeyDER []byte) (*Authority, error) {
	key, err := parseBLSKey(rootKeyDER)
	if err != nil {
		return nil, &Error{Cause: CauseMalformed, Text: "reading root key", Err: err}
	}
	return &Authority{
		key:         key,
		delegations: newOnceCache[delegationID, *delegation](maxCachedDelegations),
		roots:       newOnceCache[rootSignature, struct{}](maxCachedRoots),
	}, nil
}

// RootKey returns the root key in DER form. The caller owns the slice.
func (a *Authority) RootKey() []byte { return a.key.der() }

// IsMainnet reports whether the root key is that of the Internet Computer.
func (a *Authority) IsMainnet() bool { return bytes.Equal(a.RootKey(), MainnetRootKey()) }

// Stats returns the counters.
func (a *Authority) Stats() (s AuthorityStats) {
	s.RootHits, s.RootMisses = a.roots.stats()
	s.DelegationHits, s.DelegationMisses = a.delegations.stats()
	return s
}

// verifyRoot checks the signature of a state root by the subnet with the given key, or remembers having done so.
func (a *Authority) verifyRoot(key *blsKey, root [32]byte, signature []byte) error {
	if len(signature) != blsSignatureSize {
		return fail(CauseSignature, "certificate signature has the wrong length")
	}
	id := rootSignature{key: key.raw, root: root, signature: [blsSignatureSize]byte(signature)}
	if _, ok := a.roots.cached(id); ok {
		return nil // asked before making a closure: this is the common case
	}
	if _, err := a.roots.get(id, func() (struct{}, error) {
		return struct{}{}, key.verifyRoot(root, signature)
	}); err != nil {
		return &Error{Cause: CauseSignature, Text: "checking certificate signature", Err: err}
	}
	return nil
}

// delegation returns the verified delegation with the given subnet and certificate.
func (a *Authority) delegation(subnet Principal, certificate []byte) (*delegation, error) {
	id := delegationID{subnet: subnet, certificate: sha256.Sum256(certificate)}
	if d, ok := a.delegations.cached(id); ok {
		return d, nil
	}
	return a.delegations.get(id, func() (*delegation, error) {
		return newDelegation(a.key, subnet, certificate)
	})
}
