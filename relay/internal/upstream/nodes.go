package upstream

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

const (
	// nodeKeysAge is how long the node keys of a canister's subnet are used before they are read again.
	nodeKeysAge = time.Hour
	// nodeKeysPause is the pause between readings for a node that is not known.
	nodeKeysPause = time.Minute
	// maxNodeKeys bounds the canisters whose node keys are kept.
	maxNodeKeys = 1024
)

// nodeKeys keeps the public keys of the nodes that answer for each canister.
type nodeKeys struct {
	net *Network

	mu   sync.Mutex
	sets map[verify.Principal]*nodeSet // by canister: it can move to another subnet
}

type nodeSet struct {
	keys map[verify.Principal][]byte
	read time.Time
}

func newNodeKeys(n *Network) *nodeKeys {
	return &nodeKeys{net: n, sets: make(map[verify.Principal]*nodeSet)}
}

// forget forgets all keys.
func (n *nodeKeys) forget() {
	n.mu.Lock()
	clear(n.sets)
	n.mu.Unlock()
}

// count returns how many nodes of canister's subnet are known.
func (n *nodeKeys) count(canister verify.Principal) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if set := n.sets[canister]; set != nil {
		return len(set.keys)
	}
	return 0
}

// get returns the keys for canister, read from the certified state if need be; node is one that must be among them.
func (n *nodeKeys) get(ctx context.Context, canister, node verify.Principal) (map[verify.Principal][]byte, error) {
	n.mu.Lock()
	set := n.sets[canister]
	n.mu.Unlock()
	if set != nil {
		age := time.Since(set.read)
		_, known := set.keys[node]
		if known && age < nodeKeysAge || age < nodeKeysPause {
			return set.keys, nil
		}
	}
	keys, err := n.net.readNodeKeys(ctx, canister)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.sets) >= maxNodeKeys {
		clear(n.sets)
	}
	n.sets[canister] = &nodeSet{keys: keys, read: time.Now()}
	return keys, nil
}

// readNodeKeys reads them from the certified state tree, from a second host if the first gives no good answer.
func (n *Network) readNodeKeys(ctx context.Context, canister verify.Principal) (map[verify.Principal][]byte, error) {
	keys, err := n.readNodeKeysBut(ctx, canister, nil)
	var bad *BadAnswer
	if errors.As(err, &bad) {
		return n.readNodeKeysBut(ctx, canister, bad.Host)
	}
	return keys, err
}

// readNodeKeysBut is one attempt at that, if possible not at avoid.
func (n *Network) readNodeKeysBut(ctx context.Context, canister verify.Principal, avoid *Host) (map[verify.Principal][]byte, error) {
	a, err := n.readState(ctx, canister, avoiding(avoid), []byte("subnet"))
	if err != nil {
		return nil, err
	}
	keys, err := verify.NodeKeys(a.cert)
	if err != nil {
		return nil, a.Bad(err)
	}
	a.Good()
	return keys, nil
}

// NodeCount returns how many nodes of canister's subnet are known.
func (n *Network) NodeCount(canister verify.Principal) int { return n.nodes.count(canister) }

// CheckNode verifies the node signatures of an answer to a query of canister, which is needed where nothing in it is
// certified. The error is a *BadAnswer if they do not hold; otherwise the keys cannot be had.
func (n *Network) CheckNode(ctx context.Context, canister verify.Principal, a *QueryAnswer) error {
	var node verify.Principal
	if len(a.Reply.Signatures) > 0 {
		node = a.Reply.Signatures[0].Node
	}
	keys, err := n.nodes.get(ctx, canister, node)
	if err != nil {
		return err
	}
	err = a.Reply.VerifyNode(a.ID, func(n verify.Principal) ([]byte, bool) {
		k, ok := keys[n]
		return k, ok
	}, time.Now())
	if err != nil {
		return a.Bad(err)
	}
	a.Good()
	return nil
}
