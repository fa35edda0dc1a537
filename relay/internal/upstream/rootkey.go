package upstream

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/icws-gateway/caddy-icws/relay/internal/pause"
	"github.com/icws-gateway/caddy-icws/verify"
)

// rootKey holds the root key that everything is verified against. With a configured key it is there from the start;
// otherwise the network is asked for it on first use.
type rootKey struct {
	n *Network

	authority atomic.Pointer[verify.Authority]

	mu       sync.Mutex // held while fetching
	failures int
	retryAt  time.Time
	lastErr  error
}

func newRootKey(n *Network, key []byte) (*rootKey, error) {
	k := &rootKey{n: n}
	if len(key) == 0 {
		return k, nil
	}
	a, err := verify.NewAuthority(key)
	if err != nil {
		return nil, err
	}
	k.authority.Store(a)
	return k, nil
}

// known returns the authority if its key is there already, else nil.
func (k *rootKey) known() *verify.Authority { return k.authority.Load() }

// get returns the authority, fetching the root key first where that was asked for. Callers take turns, and a fetch
// that failed is not repeated at once.
func (k *rootKey) get(ctx context.Context) (*verify.Authority, error) {
	if a := k.known(); a != nil {
		return a, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if a := k.known(); a != nil {
		return a, nil
	}
	if time.Now().Before(k.retryAt) {
		return nil, k.lastErr
	}
	a, err := k.fetch(ctx)
	if err != nil {
		k.failures++
		k.retryAt = time.Now().Add(pause.Backoff(k.failures, 200*time.Millisecond, 10*time.Second))
		k.lastErr = fmt.Errorf("fetching the root key: %w", err)
		return nil, k.lastErr
	}
	k.authority.Store(a)
	k.n.log().Warn("root key fetched from the network, which is therefore trusted: for development only")
	return a, nil
}

// fetch asks the hosts for the root key, one after the other until one names it.
func (k *rootKey) fetch(ctx context.Context) (*verify.Authority, error) {
	var failure error
	for range k.n.Hosts() {
		a, err := k.n.status(ctx)
		if err != nil {
			return nil, cmp.Or(failure, err)
		}
		key, err := verify.ParseStatusReply(a.Body)
		if err == nil {
			a.Good()
			defer a.Release()
			return verify.NewAuthority(key)
		}
		a.Release()
		failure = fmt.Errorf("the status of %s names no usable key, configure the network's with root_key <file>: %w", a.Host.name, err)
		a.Bad(failure) // a boundary node that knows no root key knows no network yet
	}
	return nil, failure
}

// status asks for the network's status, which names its root key.
func (n *Network) status(ctx context.Context) (*Answer, error) {
	return n.do(ctx, &request{endpoint: EndpointStatus, class: ClassCall, timeout: n.timeout})
}

// Authority returns what verifies certificates of this network. Without a configured root key it asks the network for one
// first.
func (n *Network) Authority(ctx context.Context) (*verify.Authority, error) { return n.root.get(ctx) }

// KnownAuthority is Authority for a caller that does not wait: nil if the root key is not known yet.
func (n *Network) KnownAuthority() *verify.Authority { return n.root.known() }

// Stats returns the counts of the verification caches.
func (n *Network) Stats() verify.AuthorityStats {
	if a := n.KnownAuthority(); a != nil {
		return a.Stats()
	}
	return verify.AuthorityStats{}
}
