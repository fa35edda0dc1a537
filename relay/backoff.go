package relay

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff gives the pause before attempt n+1 (n counts failures, from 1): it doubles from base up to limit, and the
// upper half of it is random, so that many who failed together do not come back together.
func backoff(n int, base, limit time.Duration) time.Duration {
	d := limit
	if shift := max(n-1, 0); shift < 20 {
		d = min(base<<shift, limit)
	}
	return d/2 + rand.N(d/2+1)
}

// sleep waits for d or the end of ctx, whose error it then returns.
func sleep(ctx context.Context, d time.Duration) error {
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
