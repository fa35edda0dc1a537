package relay

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/icws-gateway/caddy-icws/verify"
)

// trust holds the root key that everything is verified against. With a configured key it is there from the start;
// otherwise the network is asked for it on first use.
type trust struct {
	up  *upstream
	log func() *zap.Logger

	authority atomic.Pointer[verify.Authority]

	mu       sync.Mutex // held while fetching
	failures int
	retryAt  time.Time
	lastErr  error
}

func newTrust(c *Config, up *upstream) (*trust, error) {
	t := &trust{up: up}
	if len(c.RootKey) == 0 {
		return t, nil
	}
	a, err := verify.NewAuthority(c.RootKey)
	if err != nil {
		return nil, err
	}
	t.authority.Store(a)
	return t, nil
}

// known returns the authority if its key is there already, else nil.
func (t *trust) known() *verify.Authority { return t.authority.Load() }

// get returns the authority, fetching the root key first where that was asked for. Callers take turns, and a fetch
// that failed is not repeated at once.
func (t *trust) get(ctx context.Context) (*verify.Authority, error) {
	if a := t.known(); a != nil {
		return a, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if a := t.known(); a != nil {
		return a, nil
	}
	if time.Now().Before(t.retryAt) {
		return nil, t.lastErr
	}
	a, err := t.fetch(ctx)
	if err != nil {
		t.failures++
		t.retryAt = time.Now().Add(backoff(t.failures, 200*time.Millisecond, 10*time.Second))
		t.lastErr = fmt.Errorf("fetching the root key: %w", err)
		return nil, t.lastErr
	}
	t.authority.Store(a)
	t.log().Warn("root key fetched from the network, which is therefore trusted: for development only")
	return a, nil
}

// fetch asks the hosts for the root key, one after the other until one names it.
func (t *trust) fetch(ctx context.Context) (*verify.Authority, error) {
	var failure error
	for range t.up.hosts() {
		a, err := t.up.status(ctx)
		if err != nil {
			return nil, cmp.Or(failure, err)
		}
		key, err := verify.ParseStatusReply(a.body)
		if err == nil {
			defer a.release()
			return verify.NewAuthority(key)
		}
		a.release()
		failure = fmt.Errorf("the status of %s names no usable key, configure the network's with root_key <file>: %w", a.host.name, err)
		a.host.blame(failure.Error()) // a boundary node that knows no root key knows no network yet
	}
	return nil, failure
}

// stats returns the counts of the verification caches.
func (t *trust) stats() verify.AuthorityStats {
	if a := t.known(); a != nil {
		return a.Stats()
	}
	return verify.AuthorityStats{}
}
