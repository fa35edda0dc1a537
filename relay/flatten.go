package relay

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/icws-gateway/caddy-icws/verify"
)

const (
	// donorAge is how long a delegation is used for certificates that came with another before it is read again.
	donorAge = 10 * time.Minute
	// donorRetry is the pause after a reading that brought none.
	donorRetry = time.Minute
	// maxDonor bounds the certificates that are kept for their delegation, in bytes; one has 1 to 4 KiB.
	maxDonor = 64 << 10
)

// donor is a certificate whose delegation deployed clients understand. The poller and the search for orphans share it.
type donor struct {
	mu   sync.Mutex
	cert []byte
	due  time.Time // when it is read again
	gone bool      // the network has none to give any more
}

// errLayoutGone says that no host gives certificates in the layout that deployed clients understand.
var errLayoutGone = errors.New("the network certifies canister ranges in the newer layout only, which deployed clients refuse")

// keep takes the certificate of a page whose delegation deployed clients understand for the day when pages come without.
func (d *donor) keep(cert []byte) {
	if !d.mu.TryLock() {
		return // one is being read
	}
	defer d.mu.Unlock()
	if now := time.Now(); len(cert) <= maxDonor && (d.cert == nil || !now.Before(d.due)) {
		d.cert, d.due, d.gone = bytes.Clone(cert), now.Add(donorAge), false
	}
}

// flatten gives page a certificate that deployed clients can verify. They look for the canister ranges of a subnet in
// the older layout only. A network that certifies the newer one in its replies may still give the older one in version 2
// of read_state, and the delegation of one certificate is as good for another: the certificate's signature does not cover
// it. Where there is none to be had any more, the page stays as it is: see receive. h gave cert.
func (p *poller) flatten(page *verify.Page, cert []byte, h *host) error {
	d := &p.donor
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := time.Now(); d.cert == nil && !d.gone || !now.Before(d.due) {
		err := p.readDonor()
		gone := errors.Is(err, errLayoutGone)
		switch {
		case err == nil:
			d.due, d.gone = now.Add(donorAge), false
		case d.cert == nil && !d.gone && !gone:
			return err
		default: // a delegation is good for weeks
			d.due = now.Add(donorRetry)
			p.logger().Debug("reading the delegation again failed", zap.Error(err))
		}
		if d.cert == nil && gone && !d.gone {
			d.gone = true
			p.logger().Warn("clients are closed that do not say that they read the newer layout of certificates: the network gives no other",
				zap.String("layout", "/canister_ranges/<id>"), zap.Error(err))
		}
	}
	if d.cert == nil {
		return nil
	}
	swapped, err := verify.ReplaceDelegation(cert, d.cert)
	if err == nil { // the result must hold by itself: clients will check it
		_, err = p.g.trust.known().Certificate(swapped, p.id, time.Now())
	}
	if err != nil {
		d.cert = nil
		return &badAnswer{host: h, err: err}
	}
	page.SetCertificate(swapped)
	p.g.flattened.Do(func() {
		p.logger().Info("clients get certificates with a delegation in the layout they understand; the network's queries have the newer one",
			zap.String("layout", "/subnet/<id>/canister_ranges"))
	})
	return nil
}

// readDonor reads a certificate whose delegation deployed clients understand. That there is none is believed when no host
// serves the endpoint, or when two give the newer layout there, if there are two. The caller holds the donor's mu.
func (p *poller) readDonor() error {
	var by denials
	var avoid *host
	for {
		raw, c, h, err := p.g.readStateBy(p.g.ctx, p.id, func(ctx context.Context, id verify.Principal, body []byte) (*answer, error) {
			return p.g.up.readStateFlat(ctx, id, body, avoid)
		}, []byte("time"))
		var ue *upstreamError
		switch {
		case errors.As(err, &ue) && ue.means == noEndpoint:
			return errLayoutGone
		case err != nil:
			return err
		case c.Flat() && len(raw) <= maxDonor:
			p.donor.cert = bytes.Clone(raw)
			return nil
		case by.add(h, p.g.up.hosts()):
			return errLayoutGone
		}
		avoid = h
	}
}
