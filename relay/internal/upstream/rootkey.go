package upstream

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/icws-gateway/caddy-icws/relay/internal/pause"
	"github.com/icws-gateway/caddy-icws/verify"
)

const (
	// rootKeyPatience bounds one fetch, at however many hosts.
	rootKeyPatience = 30 * time.Second
	// A fetched key is fetched again after rootKeyDoubts signatures in a row that do not hold, over rootKeyDoubtFor: a local
	// network that was started anew has a new key. It is not fetched again more often than every rootKeyPause.
	rootKeyDoubts   = 3
	rootKeyDoubtFor = 2 * time.Second
	rootKeyPause    = 30 * time.Second
)

// rootKey holds the root key that everything is verified against. With a configured key it is there from the start and stays;
// otherwise the network is asked for it on first use.
type rootKey struct {
	n       *Network
	fetched bool // it is asked for, not configured

	authority atomic.Pointer[verify.Authority]
	fetching  shared[*verify.Authority]

	mu       sync.Mutex
	failures int // of fetching, in a row
	retryAt  time.Time
	lastErr  error
	doubts   int       // signatures in a row that did not hold
	doubted  time.Time // the first of them
	again    time.Time // when it may be fetched again
}

func newRootKey(n *Network, key []byte) (*rootKey, error) {
	k := &rootKey{n: n, fetched: len(key) == 0}
	if k.fetched {
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

// get returns the authority, fetching the root key first where that was asked for. All callers wait for the same fetch, and one
// that failed is not repeated at once. The error is that of ctx, or why the key cannot be had.
func (k *rootKey) get(ctx context.Context) (*verify.Authority, error) {
	if a := k.known(); a != nil {
		return a, nil
	}
	k.mu.Lock()
	retryAt, err := k.retryAt, k.lastErr
	k.mu.Unlock()
	if time.Now().Before(retryAt) {
		return nil, err
	}
	return k.fetching.start(k.n, "root key", k.fetchFirst).wait(ctx)
}

// fetchFirst fetches the first key.
func (k *rootKey) fetchFirst(ctx context.Context) (*verify.Authority, error) {
	if a := k.known(); a != nil {
		return a, nil
	}
	a, err := k.fetch(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
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

// held notes that something which leads to the key was verified.
func (k *rootKey) held() {
	if !k.fetched {
		return
	}
	k.mu.Lock()
	k.doubts = 0
	k.mu.Unlock()
}

// doubt notes that a signature does not hold, and has a fetched key fetched again where that goes on.
func (k *rootKey) doubt() {
	if !k.fetched {
		return
	}
	now := time.Now()
	k.mu.Lock()
	if k.doubts++; k.doubts == 1 {
		k.doubted = now
	}
	due := k.doubts >= rootKeyDoubts && now.Sub(k.doubted) >= rootKeyDoubtFor && !now.Before(k.again)
	if due {
		k.doubts, k.again = 0, now.Add(rootKeyPause)
	}
	k.mu.Unlock()
	if due && k.known() != nil {
		k.fetching.start(k.n, "root key", k.fetchAgain)
	}
}

// fetchAgain fetches the key anew and takes it if it is another.
func (k *rootKey) fetchAgain(ctx context.Context) (*verify.Authority, error) {
	old := k.known()
	a, err := k.fetch(ctx)
	switch {
	case err != nil:
		k.n.log().Warn("signatures do not hold, and fetching the root key again failed", zap.Error(err))
		return nil, err
	case bytes.Equal(a.RootKey(), old.RootKey()):
		return old, nil
	}
	k.authority.Store(a)
	k.n.nodes.forget()
	k.n.log().Warn("the network has another root key now, which is therefore trusted: for development only",
		zap.String("old_sha256", fingerprint(old)), zap.String("new_sha256", fingerprint(a)))
	return a, nil
}

// fingerprint is the hash of a root key in DER form, in hexadecimal.
func fingerprint(a *verify.Authority) string {
	sum := sha256.Sum256(a.RootKey())
	return hex.EncodeToString(sum[:])
}

// fetch asks the hosts for the root key, one after the other until one names it.
func (k *rootKey) fetch(ctx context.Context) (*verify.Authority, error) {
	ctx, cancel := context.WithTimeout(ctx, rootKeyPatience)
	defer cancel()
	var failure error
	for range k.n.Hosts() {
		a, err := k.n.status(ctx)
		if err != nil {
			return nil, cmp.Or(failure, err)
		}
		key, err := verify.ParseStatusReply(a.Body)
		if err == nil {
			a.Host.good() // which proves no signature
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
	return n.do(ctx, &request{endpoint: EndpointStatus, class: ClassRead, timeout: n.timeout})
}

// Authority returns what verifies certificates of this network. Without a configured root key it asks the network for one
// first. The caller may keep it for one check: a fetched key can change.
func (n *Network) Authority(ctx context.Context) (*verify.Authority, error) { return n.root.get(ctx) }

// SenderFailed notes why the sender of a client's request could not be verified. Some sign with certificates of the network, so
// it may be for a fetched root key that is not the network's any more.
func (n *Network) SenderFailed(err error) {
	for e, ok := errors.AsType[*verify.Error](err); ok; e, ok = errors.AsType[*verify.Error](e.Err) {
		if e.Cause == verify.CauseSignature {
			n.root.doubt()
			return
		}
	}
}

// KnownAuthority is Authority for a caller that does not wait: nil if the root key is not known yet.
func (n *Network) KnownAuthority() *verify.Authority { return n.root.known() }

// Stats returns the counts of the verification caches.
func (n *Network) Stats() verify.AuthorityStats {
	if a := n.KnownAuthority(); a != nil {
		return a.Stats()
	}
	return verify.AuthorityStats{}
}
