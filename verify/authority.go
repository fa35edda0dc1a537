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

// Authority verifies what one network signs, by its root key. It remembers what it has verified: all canisters of a subnet
// share one state root at one height, so most certificates cost no pairing at all. Time, canister ranges and the tree at
// hand are checked anew on every use. An Authority is safe for concurrent use.
type Authority struct {
	key    *blsKey
	keys   *memo[*blsKey] // of subnets, prepared; only what the root key vouched for gets here
	polled *proofs        // by certificates that hosts answered with
	sent   *proofs        // by certificates in signatures that clients sent
}

// AuthorityStats counts how the caches of an Authority did since it was made.
type AuthorityStats struct {
	// RootHits and RootMisses count signatures of state roots that had been verified before, and those that had to be. The
	// root subnet's in delegations are among them.
	RootHits   uint64 `json:"root_hits"`
	RootMisses uint64 `json:"root_misses"`
	// DelegationHits and DelegationMisses count subnet delegations that were known byte for byte, and those that had to be
	// read.
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
		key: key, keys: newMemo[*blsKey](maxSubnetKeys),
		polled: newProofs(maxCBORValues), sent: newProofs(maxSignatureValues),
	}, nil
}

// RootKey returns the root key in DER form. The caller owns the slice.
func (a *Authority) RootKey() []byte { return a.key.der() }

// IsMainnet reports whether the root key is that of the Internet Computer.
func (a *Authority) IsMainnet() bool { return bytes.Equal(a.RootKey(), MainnetRootKey()) }

// Stats returns the counters.
func (a *Authority) Stats() (s AuthorityStats) {
	for _, p := range []*proofs{a.polled, a.sent} {
		s.RootHits += p.roots.hits.Load()
		s.RootMisses += p.roots.misses.Load()
		s.DelegationHits += p.delegations.hits.Load()
		s.DelegationMisses += p.delegations.misses.Load()
	}
	return s
}

// subnetKey returns the prepared key of a subnet, given in DER form. The error wraps ErrMalformed.
func (a *Authority) subnetKey(der []byte) (*blsKey, error) {
	return a.keys.get(sha256.Sum256(der), func() (*blsKey, error) { return parseBLSKey(der) })
}

// delegation returns the verified delegation with the given subnet and certificate.
func (a *Authority) delegation(p *proofs, subnet Principal, certificate []byte) (*delegation, error) {
	h := sha256.New()
	h.Write([]byte{subnet.n})
	h.Write(subnet.b[:])
	h.Write(certificate)
	var id memoKey
	h.Sum(id[:0])
	if d, ok := p.delegations.cached(id); ok {
		return d, nil
	}
	return p.delegations.get(id, func() (*delegation, error) { return a.newDelegation(p, subnet, certificate) })
}
