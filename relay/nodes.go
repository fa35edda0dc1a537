package relay

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

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
	g *Gateway

	mu   sync.Mutex
	sets map[verify.Principal]*nodeSet // by canister: it can move to another subnet
}

type nodeSet struct {
	keys map[verify.Principal][]byte
	read time.Time
}

func newNodeKeys(g *Gateway) *nodeKeys {
	return &nodeKeys{g: g, sets: make(map[verify.Principal]*nodeSet)}
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
	keys, err := n.g.readNodeKeys(ctx, canister)
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
func (g *Gateway) readNodeKeys(ctx context.Context, canister verify.Principal) (map[verify.Principal][]byte, error) {
	keys, err := g.readNodeKeysBut(ctx, canister, nil)
	var bad *badAnswer
	if errors.As(err, &bad) {
		bad.host.blame(bad.err.Error())
		g.cfg.Metrics.VerificationFailed(canister, verify.CauseOf(bad.err))
		return g.readNodeKeysBut(ctx, canister, bad.host)
	}
	return keys, err
}

// readNodeKeysBut is one attempt at that, if possible not at avoid.
func (g *Gateway) readNodeKeysBut(ctx context.Context, canister verify.Principal, avoid *host) (map[verify.Principal][]byte, error) {
	_, cert, h, err := g.readState(ctx, canister, func(r *request) { r.avoid = avoid }, []byte("subnet"))
	if err != nil {
		return nil, err
	}
	keys, err := verify.NodeKeys(cert)
	if err != nil {
		return nil, &badAnswer{host: h, err: err}
	}
	return keys, nil
}

// readState reads one path of the certified state as the canister's subnet certifies it, and returns the certificate, raw
// and verified, and the host that answered. shape is for upstream.readState.
func (g *Gateway) readState(ctx context.Context, canister verify.Principal, shape func(*request),
	path ...[]byte) ([]byte, *verify.Certificate, *host, error) {
	authority, err := g.trust.get(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	body, _, err := g.sign(&verify.Request{Type: "read_state", Canister: canister, Paths: [][][]byte{path}})
	if err != nil {
		return nil, nil, nil, err
	}
	a, err := g.up.readState(ctx, canister, body, shape)
	if err != nil {
		return nil, nil, nil, err
	}
	// What is kept of the answer outlives it, so it does not go back to the pool.
	raw, err := verify.ParseReadStateReply(a.body)
	if err != nil {
		return nil, nil, nil, &badAnswer{host: a.host, err: err}
	}
	cert, err := authority.Certificate(raw, canister, time.Now())
	if err != nil {
		return nil, nil, nil, &badAnswer{host: a.host, err: err}
	}
	return raw, cert, a.host, nil
}

// signedBy returns who signed a reply without messages, and when, if its signature was checked and holds.
func (p *poller) signedBy(r *pollResult) (node verify.Principal, when time.Time, ok bool) {
	if r.nodeErr != nil {
		p.logger().Debug("node signature of an empty reply does not hold", zap.Error(r.nodeErr))
		return verify.Principal{}, time.Time{}, false
	}
	sig := r.empty.Signatures[0]
	return sig.Node, time.Unix(0, int64(min(sig.Timestamp, 1<<63-1))), true
}

// checkNode verifies the node signatures of a reply without messages. The error is a *badAnswer if they do not hold;
// otherwise the keys cannot be had.
func (c *canister) checkNode(ctx context.Context, r *pollResult) error {
	var node verify.Principal
	if len(r.empty.Signatures) > 0 {
		node = r.empty.Signatures[0].Node
	}
	keys, err := c.g.nodes.get(ctx, c.id, node)
	if err != nil {
		return err
	}
	err = r.empty.VerifyNode(r.id, func(n verify.Principal) ([]byte, bool) {
		k, ok := keys[n]
		return k, ok
	}, time.Now())
	if err != nil {
		return &badAnswer{host: r.answer.host, err: err}
	}
	return nil
}
