package verify

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math"
	"time"
)

// Bounds the Internet Computer sets on sender delegations.
const (
	// MaxDelegations is the longest chain of sender delegations.
	MaxDelegations = 20
	// MaxDelegationTargets is the largest number of canisters that one delegation may name.
	MaxDelegationTargets = 1000
)

// The permissions of a delegation. An absent one means all.
const (
	permitAll     = "all"
	permitQueries = "queries"
)

var (
	errDelegationPart = fmt.Errorf("%w: delegation without pubkey, expiration or signature", ErrMalformed)
	errDelegationMany = fmt.Errorf("%w: more than %d delegations", ErrMalformed, MaxDelegations)
	errTargetsMany    = fmt.Errorf("%w: delegation with more than %d targets", ErrMalformed, MaxDelegationTargets)
)

// link is one parsed delegation of a sender's chain. Its slices alias the envelope.
type link struct {
	publicKey  []byte
	signature  []byte
	hash       [sha256.Size]byte // of the signed part, over whatever keys it has
	expiration uint64            // nanoseconds since 1970; the delegation is good up to and including then
	targeted   bool              // whether the delegation is limited to targets
	covers     bool              // whether the canister is among them
	permission string
}

// parseChain reads the delegations of an envelope and notes for each whether it covers the canister. It returns at most
// MaxDelegations links.
func parseChain(raw []byte, canister Principal) ([]link, error) {
	c := readClient(raw)
	n := c.array()
	if n > MaxDelegations {
		c.fail(errDelegationMany)
		n = 0
	}
	links := make([]link, 0, n)
	for range n {
		if c.err != nil {
			break
		}
		links = append(links, c.link(canister))
	}
	if err := c.done(); err != nil {
		return nil, err
	}
	return links, nil
}

// link reads one signed delegation.
func (c *cborReader) link(canister Principal) link {
	var l link
	var signed []byte
	f := c.fields()
	for f.next() {
		switch string(f.key) {
		case "delegation":
			signed = c.raw()
		case "signature":
			l.signature = c.bytes()
		default:
			c.skip()
		}
	}
	if c.err != nil {
		return l
	}
	if signed == nil || l.signature == nil {
		c.fail(errDelegationPart)
		return l
	}
	if err := l.parse(signed, canister); err != nil {
		c.fail(err)
		return l
	}
	var err error
	if l.hash, err = hashCBOR(signed, maxDelegationValues); err != nil {
		c.fail(err)
	}
	return l
}

// parse reads the signed part of a delegation.
func (l *link) parse(signed []byte, canister Principal) error {
	c := readClient(signed)
	expires := false
	l.permission = permitAll
	f := c.fields()
	for f.next() {
		switch string(f.key) {
		case "pubkey":
			l.publicKey = c.bytes()
		case "expiration":
			l.expiration, expires = c.uint(), true
		case "targets":
			if !c.null() {
				l.targeted = true
				l.covers = c.containsPrincipal(canister)
			}
		case "permissions":
			if !c.null() {
				l.permission = string(c.text())
			}
		default:
			c.skip()
		}
	}
	if err := c.done(); err != nil {
		return err
	}
	if l.publicKey == nil || !expires {
		return errDelegationPart
	}
	return nil
}

// containsPrincipal reads a list of at most MaxDelegationTargets principals and tells whether p is in it.
func (c *cborReader) containsPrincipal(p Principal) bool {
	n := c.array()
	if n > MaxDelegationTargets {
		c.fail(errTargetsMany)
		return false
	}
	found := false
	for range n {
		if c.err != nil {
			return false
		}
		found = c.principal() == p || found
	}
	return found
}

// chainTerms is what a chain of delegations allows, all links together.
type chainTerms struct {
	expires     uint64 // nanoseconds since 1970, math.MaxUint64 without delegations
	queriesOnly bool
}

// checkLinks makes the cheap checks of a chain: that no key occurs twice, that every link covers the request, and that
// none is expired.
func checkLinks(e *Envelope, links []link, now time.Time) (chainTerms, error) {
	terms := chainTerms{expires: math.MaxUint64}
	for i := range links {
		l := &links[i]
		// The sender's own key counts too: a chain that comes back to it is a loop.
		if bytes.Equal(l.publicKey, e.PublicKey) {
			return terms, fail(CauseDelegation, "a key occurs twice in the sender's delegations")
		}
		for j := range i {
			if bytes.Equal(l.publicKey, links[j].publicKey) {
				return terms, fail(CauseDelegation, "a key occurs twice in the sender's delegations")
			}
		}
		if l.targeted && !l.covers && e.RequestType != RequestReadState {
			return terms, fail(CauseTargets, "sender delegation does not cover the canister, sign in for this canister")
		}
		switch l.permission {
		case permitAll:
		case permitQueries:
			terms.queriesOnly = true
		default:
			return terms, fail(CausePermissions, "sender delegation has permissions that do not exist")
		}
		terms.expires = min(terms.expires, l.expiration)
	}
	return terms, terms.check(e, now)
}

// check judges one request under the terms of a chain that covers its canister.
func (t chainTerms) check(e *Envelope, now time.Time) error {
	if at := nanosOf(now); t.expires < at {
		return fail(CauseDelegationExpired, fmt.Sprintf("sender delegation expired %s ago, sign in again", span(at-t.expires)))
	}
	if t.queriesOnly && e.RequestType != RequestQuery && e.RequestType != RequestReadState {
		return fail(CausePermissions, "sender delegation permits queries only, not calls")
	}
	return nil
}
