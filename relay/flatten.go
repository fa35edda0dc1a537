package relay

import (
	"bytes"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/icws-gateway/caddy-icws/verify"
)

// donorAge is how long a delegation is used for certificates that came with another before it is read again.
const donorAge = 10 * time.Minute

// donor is a certificate whose delegation deployed clients understand.
type donor struct {
	mu   sync.Mutex
	cert []byte
	read time.Time
	said sync.Once
}

// flatten gives page a certificate that deployed clients can verify. They look for the canister ranges of a subnet in
// the older layout only. A network that certifies the newer one in replies to version 2 queries may still give the
// older one in version 2 of read_state, and the delegation of one certificate is as good for another: the
// certificate's signature does not cover it.
func (p *poller) flatten(page *verify.Page, cert []byte) error {
	d := &p.donor
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cert == nil || time.Since(d.read) > donorAge {
		raw, c, err := p.g.readState(p.g.ctx, p.id, []byte("time"))
		if err != nil {
			return err
		}
		if !c.Flat() {
			return &verify.Error{Cause: verify.CauseDelegation,
				Text: "network certifies canister ranges in the newer layout only, which deployed clients refuse"}
		}
		d.cert, d.read = bytes.Clone(raw), time.Now()
	}
	swapped, err := verify.ReplaceDelegation(cert, d.cert)
	if err != nil {
		return err
	}
	// The result must hold by itself: clients will check it.
	if _, err := p.g.trust.known().Certificate(swapped, p.id, time.Now()); err != nil {
		d.cert = nil
		return err
	}
	page.SetCertificate(swapped)
	d.said.Do(func() {
		p.logger().Info("clients get certificates with a delegation in the layout they understand; the network's queries have the newer one",
			zap.String("layout", "/subnet/<id>/canister_ranges"))
	})
	return nil
}
