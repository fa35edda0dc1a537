package relay

import (
	"bytes"
	"cmp"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/icws-gateway/caddy-icws/verify"
)

const (
	// donorAge is how long a delegation is used for certificates that came with another before it is read again.
	donorAge = 10 * time.Minute
	// donorRetry is the pause after a reading that brought none, if not all hosts say that there is none.
	donorRetry = time.Minute
	// donorPatience bounds one attempt to read it at one host.
	donorPatience = 3 * time.Second
	// maxDonor bounds the certificates that are kept for their delegation, in bytes; one has 1 to 4 KiB.
	maxDonor = 64 << 10
)

// donor is a certificate whose delegation deployed clients understand. The poller and the search for orphans share it.
type donor struct {
	mu      sync.Mutex
	cert    []byte
	due     time.Time // when it is read again
	gone    bool      // the network has none to give any more
	alone   int       // readings in a row in which one host said so, and the others had no answer
	reading bool      // it is being read beside the polling
}

// keep takes the certificate of a page whose delegation deployed clients understand for the day when pages come without.
func (d *donor) keep(cert []byte) {
	if !d.mu.TryLock() {
		return // one is being read
	}
	defer d.mu.Unlock()
	if len(cert) <= maxDonor && (d.cert == nil || !time.Now().Before(d.due)) {
		d.take(bytes.Clone(cert))
	}
}

// take makes cert the donor. The caller holds mu.
func (d *donor) take(cert []byte) {
	d.cert, d.due, d.gone, d.alone = cert, time.Now().Add(donorAge), false, 0
}

// flatten gives page a certificate that deployed clients can verify. They look for the canister ranges of a subnet in
// the older layout only. A network that certifies the newer one in its replies may still give the older one in version 2
// of read_state, and the delegation of one certificate is as good for another: the certificate's signature does not cover
// it. Where there is none to be had any more, the page stays as it is: see receive.
func (p *poller) flatten(page *verify.Page, cert []byte) error {
	d := &p.donor
	d.mu.Lock()
	defer d.mu.Unlock()
	swapped, err := p.swap(cert, d.cert)
	switch {
	case err != nil && !d.gone: // there is nothing to go on with
		d.cert = nil
		if err := p.settleDonor(p.readDonor(cert)); err != nil {
			return err
		}
		swapped, err = p.swap(cert, d.cert)
	case !time.Now().Before(d.due) && !d.reading: // a delegation is good for weeks
		d.reading = true
		cert = bytes.Clone(cert)
		p.g.spawn("delegation", func() { p.readDonorAgain(cert) }, nil)
	}
	if err != nil {
		return nil
	}
	page.SetCertificate(swapped)
	p.g.flattened.Do(func() {
		p.logger().Info("clients get certificates with a delegation in the layout they understand; the network's queries have the newer one",
			zap.String("layout", "/subnet/<id>/canister_ranges"))
	})
	return nil
}

var errNoDonor = errors.New("no certificate to take a delegation from")

// swap returns cert with the delegation of donor, if the result holds by itself: clients will check it.
func (p *poller) swap(cert, donor []byte) ([]byte, error) {
	if donor == nil {
		return nil, errNoDonor
	}
	swapped, err := verify.ReplaceDelegation(cert, donor)
	if err != nil {
		return nil, err
	}
	_, err = p.g.trust.known().Certificate(swapped, p.id, time.Now())
	return swapped, err
}

// readDonorAgain reads the donor beside the polling.
func (p *poller) readDonorAgain(cert []byte) {
	r := p.readDonor(cert)
	d := &p.donor
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reading = false
	if err := p.settleDonor(r); err != nil {
		var bad *badAnswer
		if errors.As(err, &bad) {
			p.blame(bad)
		}
		p.logger().Debug("reading the delegation again failed", zap.Error(err))
	}
}

// donorReading is what the hosts gave.
type donorReading struct {
	cert    []byte // nil = none
	without int    // how many hosts have the newer layout only
	hosts   int    // how many there are
	failure error  // of one that gave no answer to go by
}

// readDonor asks the hosts one by one for a certificate whose delegation cert can have.
func (p *poller) readDonor(cert []byte) donorReading {
	all := p.g.up.hosts()
	r := donorReading{hosts: len(all)}
	for tried := (hosts)(nil); len(tried) < min(len(all), maxTries); {
		h := all.pick(tried)
		tried = append(tried, h)
		raw, c, _, err := p.g.readState(p.g.ctx, p.id, flatAt(h), []byte("time"))
		switch {
		case servedNowhere(err), err == nil && !c.Flat():
			r.without++
			continue
		case err == nil && len(raw) > maxDonor:
			err = &badAnswer{host: h, err: errNoDonor}
		case err == nil:
			if _, err = p.swap(cert, raw); err == nil {
				r.cert = bytes.Clone(raw)
				return r
			}
			err = &badAnswer{host: h, err: err}
		}
		r.failure = cmp.Or(r.failure, err)
	}
	return r
}

// settleDonor takes what was read. That the network has no older layout to give is believed when two hosts say so, where
// there are two, or when one goes on saying so and no other gives an answer. The error is why nothing is known. The caller
// holds the donor's mu.
func (p *poller) settleDonor(r donorReading) error {
	d := &p.donor
	if r.cert != nil {
		d.take(r.cert)
		return nil
	}
	d.due = time.Now().Add(donorRetry)
	if r.failure == nil {
		d.due = time.Now().Add(donorAge) // all say so
	}
	if r.without == 0 {
		d.alone = 0
		return r.failure
	}
	if d.alone++; r.without < min(2, r.hosts) && d.alone < finalTries {
		return r.failure
	}
	if d.cert == nil && !d.gone {
		d.gone = true
		p.logger().Warn("clients are closed that do not say that they read the newer layout of certificates: the network gives no other",
			zap.String("layout", "/canister_ranges/<id>"), zap.NamedError("another_host", r.failure))
	}
	return nil
}
