package relay

import (
	"bytes"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/icws-gateway/caddy-icws/verify"
)

const (
	// donorAge is how long a delegation is used for certificates that came with another before it is read again.
	donorAge = 10 * time.Minute
	// donorRetry is the pause after a reading that failed while there is an older one to go on with.
	donorRetry = time.Minute
)

// donor is a certificate whose delegation deployed clients understand. The poller and the search for orphans share it.
type donor struct {
	mu   sync.Mutex
	cert []byte
	due  time.Time // when it is read again
}

// flatten gives page a certificate that deployed clients can verify. They look for the canister ranges of a subnet in
// the older layout only. A network that certifies the newer one in replies to version 2 queries may still give the
// older one in version 2 of read_state, and the delegation of one certificate is as good for another: the
// certificate's signature does not cover it. h gave cert.
func (p *poller) flatten(page *verify.Page, cert []byte, h *host) error {
	d := &p.donor
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := time.Now(); d.cert == nil || !now.Before(d.due) {
		err := p.readDonor(h)
		switch {
		case err == nil:
			d.due = now.Add(donorAge)
		case d.cert == nil:
			return err
		default: // a delegation is good for weeks
			d.due = now.Add(donorRetry)
			p.logger().Debug("reading the delegation again failed", zap.Error(err))
		}
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

// readDonor reads a certificate whose delegation deployed clients understand. The caller holds the donor's mu. h gave a
// certificate that they do not.
func (p *poller) readDonor(h *host) error {
	raw, c, err := p.g.readState(p.g.ctx, p.id, []byte("time"))
	if err != nil {
		return err
	}
	if !c.Flat() {
		return &badAnswer{host: h, err: &verify.Error{Cause: verify.CauseDelegation,
			Text: "network certifies canister ranges in the newer layout only, which deployed clients refuse"}}
	}
	p.donor.cert = bytes.Clone(raw)
	return nil
}
