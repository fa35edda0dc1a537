package localnet

import (
	"bytes"
	"slices"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

const (
	maxDelegations = 20
	maxTargets     = 1000
)

// validate checks an envelope as a replica does: expiry, nonce, sender, chain
// of delegations, signature. The error is a badRequest.
func (n *Network) validate(r *request, now time.Time) error {
	expiry := time.Unix(0, int64(min(r.expiry, 1<<63-1)))
	latest := now.Add(maxIngressLife)
	// What anybody may read does not expire: boundary nodes cache it, and who has a wrong clock can ask for the time.
	expires := r.kind == "call" || !r.sender.IsAnonymous()
	if expires && (!expiry.After(now) || expiry.After(latest)) {
		return refuse("Invalid request expiry: Specified ingress_expiry not within expected range: "+
			"Minimum allowed expiry: %s, Maximum allowed expiry: %s, Provided expiry:        %s",
			replicaTime(now), replicaTime(latest), replicaTime(expiry))
	}
	if len(r.nonce) > maxNonce {
		return refuse("Invalid nonce: length %d, at most %d", len(r.nonce), maxNonce)
	}
	return n.authenticate(r, now)
}

// replicaTime writes a time as replicas do.
func replicaTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.999999999 UTC") }

func (n *Network) authenticate(r *request, now time.Time) error {
	if r.sender.IsAnonymous() {
		if r.pubkey != nil || r.sig != nil || r.chain != nil {
			return refuse("Signature is not allowed for the anonymous user")
		}
		return nil
	}
	if r.pubkey == nil || r.sig == nil {
		return refuse("Missing signature from user: %s", r.sender)
	}
	if verify.SelfAuthenticating(r.pubkey) != r.sender {
		return refuse("The user id %s does not match the public key %x", r.sender, r.pubkey)
	}
	key, err := n.followChain(r, now)
	if err != nil {
		return err
	}
	if err := n.verifySignature(key, append([]byte("\x0aic-request"), r.id[:]...), r.sig); err != nil {
		return refuse("Invalid signature: %v", err)
	}
	return nil
}

// followChain verifies the delegations and returns the key that must have
// signed the request.
func (n *Network) followChain(r *request, now time.Time) ([]byte, error) {
	if len(r.chain) > maxDelegations {
		return nil, refuse("Chain of delegations is too long: %d links, at most %d.", len(r.chain), maxDelegations)
	}
	key := r.pubkey
	seen := [][]byte{key}
	for _, d := range r.chain {
		if slices.ContainsFunc(seen, func(k []byte) bool { return bytes.Equal(k, d.pubkey) }) {
			return nil, refuse("Chain of delegations contains a cycle.")
		}
		seen = append(seen, d.pubkey)
		if d.expiration < uint64(now.UnixNano()) {
			return nil, refuse("Invalid delegation expiry: Specified sender delegation has expired:\nProvided expiry:    %s\nLocal replica time: %s",
				replicaTime(time.Unix(0, int64(d.expiration))), replicaTime(now))
		}
		switch d.permissions {
		case "", "all":
		case "queries":
			if r.kind == "call" {
				return nil, refuse("Invalid delegation: its permissions allow queries only.")
			}
		default:
			return nil, refuse("Invalid delegation: unknown permissions.")
		}
		if err := n.verifySignature(key, append([]byte("\x1aic-request-auth-delegation"), d.hash[:]...), d.signature); err != nil {
			return nil, refuse("Invalid delegation: %v", err)
		}
		key = d.pubkey
	}
	if r.kind != "read_state" && !r.targets(r.canister) { // read_state: see maySee
		return nil, refuse("Canister %s is not one of the delegation targets", r.canister)
	}
	return key, nil
}

// targets tells whether all delegations of the request allow for a canister.
func (r *request) targets(canister verify.Principal) bool {
	return !slices.ContainsFunc(r.chain, func(d signedDelegation) bool {
		return d.hasTargets && !slices.Contains(d.targets, canister)
	})
}
