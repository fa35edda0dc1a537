package localnet

import (
	"bytes"
	"crypto/sha256"
	"sync"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// II is a canister that signs delegations as Internet Identity does: with
// canister signatures, the kind of key at the root of every session of a user
// of Internet Identity. Its interface is Go, not Candid; see Delegate. Its
// methods may be called concurrently.
type II struct {
	net    *Network
	id     verify.Principal
	subnet *subnet
	slot   *slot

	mu      sync.Mutex
	users   *node // hash of seed -> hash of message -> empty leaf
	sharded bool
}

// InstallII installs an Internet Identity. By default it shares the subnet of
// the other canisters; OnSubnet(1) puts it on another, where the real one is.
func (n *Network) InstallII(opts ...InstallOption) *II {
	ii := &II{net: n}
	ii.id = n.Install(ii, opts...)
	return ii
}

// ID is the canister id.
func (ii *II) ID() verify.Principal { return ii.id }

// SetSharded lets the certificates in signatures carry sharded canister ranges
// in their delegation, as they do when the signature was fetched by a v3 query.
func (ii *II) SetSharded(on bool) {
	ii.mu.Lock()
	defer ii.mu.Unlock()
	ii.sharded = on
}

// PublicKey is the DER form of the key of a user, whom a name stands for. The
// user's principal derives from it.
func (ii *II) PublicKey(user string) []byte { return canisterKeyDER(ii.id, seedOf(user)) }

func seedOf(user string) []byte {
	h := sha256.Sum256([]byte("user " + user))
	return h[:]
}

// Delegate signs a delegation from the user's key to a session key in DER form,
// for all canisters or for the targets alone. Together with the user's key as
// RootKey it goes into a verify.Request that the session key signs.
func (ii *II) Delegate(user string, session []byte, expires time.Time, targets ...verify.Principal) (rootKey []byte, d verify.SignedDelegation) {
	d.PublicKey, d.Expiration, d.Targets = session, expires, targets
	m := map[string]any{"pubkey": session, "expiration": uint64(expires.UnixNano())}
	if len(targets) > 0 {
		var list []any
		for _, t := range targets {
			list = append(list, t.Bytes())
		}
		m["targets"] = list
	}
	hash, err := hashMap(m)
	if err != nil { // all values are of supported types
		panic(err)
	}
	d.Signature = ii.Sign(user, append([]byte("\x1aic-request-auth-delegation"), hash[:]...))
	return ii.PublicKey(user), d
}

// Sign makes the canister signature of a user over msg.
func (ii *II) Sign(user string, msg []byte) []byte {
	seed, hash := sha256.Sum256(seedOf(user)), sha256.Sum256(msg)
	for {
		var tree *node
		var l layout
		ii.subnet.message(ii.slot, func(env *Env) ([]byte, error) {
			ii.mu.Lock()
			defer ii.mu.Unlock()
			of, _ := ii.users.get(seed[:])
			ii.users = ii.users.with(seed[:], mapOf(of.kids.with(hash[:], leafOf([]byte{}))))
			tree = ii.certify(env)
			if ii.sharded {
				l = sharded
			}
			return nil, nil
		})
		r := ii.subnet.current()
		if !bytes.Equal(r.slots[ii.id].certified, tree.digest[:]) {
			continue // somebody else signed in between: the tree is not the certified one
		}
		dst := appendMap([]byte(selfDescribe), 2)
		dst = appendBytes(appendText(dst, "certificate"), r.dataCertificate(ii.subnet.delegation(l, ii.id), ii.id))
		return mapOf(tree).appendWitness(appendText(dst, "tree"), pickPaths([][]byte{[]byte("sig"), seed[:], hash[:]}))
	}
}

// certify makes the root of the signatures the certified data and returns their
// tree.
func (ii *II) certify(env *Env) *node {
	tree := (*node)(nil).with([]byte("sig"), mapOf(ii.users))
	env.SetCertifiedData(tree.digest[:])
	return tree
}

// Init implements Canister: all signatures are forgotten.
func (ii *II) Init(env *Env) error {
	ii.mu.Lock()
	defer ii.mu.Unlock()
	ii.subnet, ii.slot, ii.users = env.subnet, env.slot, nil
	ii.certify(env)
	return nil
}

// Update implements Canister.
func (ii *II) Update(*Env, string, []byte) ([]byte, error) { return nil, ErrNoMethod }

// Query implements Canister.
func (ii *II) Query(*Env, string, []byte) ([]byte, error) { return nil, ErrNoMethod }
