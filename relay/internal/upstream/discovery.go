package upstream

import (
	"context"
	"math/rand/v2"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/icws-gateway/caddy-icws/relay/internal/pause"
	"github.com/icws-gateway/caddy-icws/verify"
)

// The network lists its API boundary nodes in the certified state of every subnet, readable by anybody at any canister
// (interface specification, "API boundary nodes information").

const (
	// discoverEvery is the pause between readings of the list, give or take a tenth.
	discoverEvery = time.Hour
	// discoverRetryMin and discoverRetryMax bound the pause after a reading that failed.
	discoverRetryMin = 10 * time.Second
	discoverRetryMax = 10 * time.Minute
	// maxDiscovered bounds the discovered hosts, and the ones that are tried out after one reading. Mainnet lists about 20.
	maxDiscovered = 64
)

// discovery keeps the discovered hosts of a network. Its fields belong to its goroutine, of which there is one at most.
type discovery struct {
	n        *Network
	running  atomic.Bool
	due      time.Time // of the next reading
	failures int       // in a row
}

// Discover looks for the hosts that the network lists, for as long as canister names a canister to read the list at, and
// adds them to the configured ones. It may be called again at any time. canister should choose at random: one that does not
// exist must not be asked for ever.
func (n *Network) Discover(canister func() (id verify.Principal, found bool)) {
	d := &n.discovery
	if !d.running.CompareAndSwap(false, true) {
		return
	}
	n.spawn("discovery", func() { d.run(canister) }, func() { d.running.Store(false) })
}

// run reads the list again and again.
func (d *discovery) run(canister func() (id verify.Principal, found bool)) {
	for {
		if pause.Sleep(d.n.ctx, time.Until(d.due)) != nil {
			return
		}
		d.running.Store(false) // whoever adds a canister from here on starts it again
		id, found := canister()
		if !found || !d.running.CompareAndSwap(false, true) {
			return
		}
		err := d.refresh(d.n.ctx, id)
		switch {
		case d.n.ctx.Err() != nil:
			return
		case err != nil:
			d.failures++
			d.due = time.Now().Add(pause.Backoff(d.failures, discoverRetryMin, discoverRetryMax))
			d.n.log().Warn("reading the network's boundary nodes failed, trying again", zap.Int("failures", d.failures), zap.Error(err))
		default:
			d.failures = 0
			d.due = time.Now().Add(discoverEvery - discoverEvery/10 + rand.N(discoverEvery/5))
		}
	}
}

// refresh reads the list at canister and takes its nodes for the discovered hosts.
func (d *discovery) refresh(ctx context.Context, canister verify.Principal) error {
	a, err := d.n.readState(ctx, canister, nil, []byte("api_boundary_nodes"))
	if err != nil {
		return err
	}
	domains, err := verify.BoundaryNodes(a.cert)
	if err != nil {
		return a.Bad(err)
	}
	a.Good()
	d.adopt(ctx, canister, domains)
	return nil
}

// adopt makes the nodes of these domains the discovered hosts. Those that are not listed any more go at once. New ones, and
// those that fail, have to give a certificate that holds before requests go to them.
func (d *discovery) adopt(ctx context.Context, canister verify.Principal, domains []string) {
	pool := &d.n.pool
	domains = slices.DeleteFunc(domains, pool.configures)
	var kept Hosts
	var gone []string
	for _, h := range pool.discovered() {
		switch {
		case !slices.Contains(domains, h.name):
			gone = append(gone, h.name)
		case h.healthy():
			kept = append(kept, h)
		}
	}
	pool.discover(kept)
	domains = slices.DeleteFunc(domains, func(name string) bool {
		return slices.ContainsFunc(kept, func(h *Host) bool { return h.name == name })
	})
	rand.Shuffle(len(domains), func(i, j int) { domains[i], domains[j] = domains[j], domains[i] })
	domains = domains[:min(len(domains), maxDiscovered-len(kept))]
	var found, unfit []string
	for _, name := range domains {
		h := newHost(&url.URL{Scheme: "https", Host: name})
		h.discovered = true
		if err := d.tryOut(ctx, h, canister); err != nil {
			if ctx.Err() != nil {
				return
			}
			unfit = append(unfit, name)
			d.n.log().Debug("a boundary node that the network lists is of no use now", zap.String("host", name), zap.Error(err))
			continue
		}
		found = append(found, name)
		kept = append(kept, h)
		pool.discover(kept)
	}
	fields := []zap.Field{zap.Int("in_use", len(kept)), zap.Strings("found", found), zap.Strings("not_listed_any_more", gone),
		zap.Strings("of_no_use_now", unfit)}
	switch {
	case len(found)+len(gone) > 0:
		d.n.log().Info("the network's boundary nodes have changed", fields...)
	case len(unfit) > 0 && len(kept) == 0:
		d.n.log().Warn("none of the boundary nodes that the network lists is of use now", fields...)
	}
}

// tryOut has h give a certificate. That also measures how fast it is.
func (d *discovery) tryOut(ctx context.Context, h *Host, canister verify.Principal) error {
	a, err := d.n.readState(ctx, canister, func(r *request) { r.only = h }, []byte("time"))
	if err != nil {
		return err
	}
	a.Good()
	return nil
}
