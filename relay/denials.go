package relay

import (
	"slices"
	"time"

	"github.com/icws-gateway/caddy-icws/relay/internal/upstream"
)

// denials counts who says no without proof. What is not certified is one host's word, so it takes a second one, where
// there is a second, to believe it.
type denials struct {
	by    []*upstream.Host
	since time.Time // when the first said so
}

// add counts the word of h and reports whether it is to be believed now.
func (d *denials) add(h *upstream.Host, hs upstream.Hosts) bool {
	if len(d.by) == 0 {
		d.since = time.Now()
	}
	if len(d.by) < 2 || !slices.Contains(d.by, h) {
		d.by = append(d.by, h)
	}
	if len(d.by) < 2 {
		return false
	}
	return len(hs) == 1 || slices.ContainsFunc(d.by, func(other *upstream.Host) bool { return other != d.by[0] })
}

// lasted reports whether they have been saying so for t.
func (d *denials) lasted(t time.Duration) bool { return time.Since(d.since) >= t }
