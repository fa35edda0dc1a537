// Package pause has the pauses of the gateway: how long to wait before another attempt, and the waiting itself.
package pause

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff returns the pause before attempt n+1, where n counts failures from 1. It doubles from base up to limit. Its upper
// half is random, so that many who failed together do not come back together.
func Backoff(n int, base, limit time.Duration) time.Duration {
	d := limit
	if shift := max(n-1, 0); shift < 20 {
		d = min(base<<shift, limit)
	}
	return d/2 + rand.N(d/2+1)
}

// Sleep waits for d or the end of ctx, whose error it then returns. It does not wait if d is 0 or less.
func Sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
