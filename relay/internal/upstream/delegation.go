package upstream

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
	// delegationAge is how long a delegation is used for certificates that came with another before it is read again.
	delegationAge = 10 * time.Minute
	// delegationRetry is the pause after a reading that brought none, if not all hosts say that there is none.
	delegationRetry = time.Minute
	// delegationPatience bounds one attempt to read it at one host.
	delegationPatience = 3 * time.Second
	// delegationTries is how often one host alone must say that there is none, while no other gives an answer.
	delegationTries = 3
	// maxDelegation bounds the certificates that are kept for their delegation, in bytes; one has 1 to 4 KiB.
	maxDelegation = 64 << 10
)

// Delegation gives the pages of one canister a delegation that deployed clients understand. They look for the canister ranges
// of a subnet in the older layout only. A network that certifies the newer one in its replies may still give the older one in
// version 2 of read_state, and the delegation of one certificate is as good for another: the certificate's signature does not
// cover it. Safe for concurrent use.
type Delegation struct {
	n        *Network
	canister verify.Principal

	mu      sync.Mutex
	cert    []byte    // a certificate with such a delegation
	due     time.Time // when it is read again
	gone    bool      // the network has none to give any more
	alone   int       // readings in a row in which one host said so, and the others had no answer
	reading bool      // it is being read in the background
}

// NewDelegation returns the delegation for the pages of canister. It reads nothing before it is needed.
func (n *Network) NewDelegation(canister verify.Principal) *Delegation {
	return &Delegation{n: n, canister: canister}
}

func (d *Delegation) log() *zap.Logger {
	return d.n.log().With(zap.Stringer("canister_id", d.canister))
}

// Fit makes page, which was verified and came with cert, one that deployed clients can verify, as far as that is possible.
// Where there is no such delegation to be had any more, the page stays as it is and is not Flat. The error is why nothing
// is known of that. cert is not kept.
func (d *Delegation) Fit(page *verify.Page, cert []byte) error {
	if page.Flat {
		d.keep(cert)
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	swapped, err := d.swap(cert, d.cert)
	switch {
	case err != nil && !d.gone: // there is nothing to go on with
		d.cert = nil
		if err := d.finishReading(d.read(cert)); err != nil {
			return err
		}
		swapped, err = d.swap(cert, d.cert)
	case !time.Now().Before(d.due) && !d.reading: // a delegation is good for weeks
		d.reading = true
		cert = bytes.Clone(cert)
		d.n.spawn("delegation", func() { d.readAgain(cert) }, nil)
	}
	if err != nil {
		return nil
	}
	page.SetCertificate(swapped)
	d.n.flattened.Do(func() {
		d.log().Info("clients get certificates with a delegation in the layout they understand; the network's queries have the newer one",
			zap.String("layout", "/subnet/<id>/canister_ranges"))
	})
	return nil
}

// keep takes a certificate whose delegation deployed clients understand for the day when pages come without.
func (d *Delegation) keep(cert []byte) {
	if !d.mu.TryLock() {
		return // one is being read
	}
	defer d.mu.Unlock()
	if len(cert) <= maxDelegation && (d.cert == nil || !time.Now().Before(d.due)) {
		d.take(bytes.Clone(cert))
	}
}

// take makes cert the one to take the delegation from. The caller holds mu.
func (d *Delegation) take(cert []byte) {
	d.cert, d.due, d.gone, d.alone = cert, time.Now().Add(delegationAge), false, 0
}

var errNoDelegation = errors.New("no certificate to take a delegation from")

// swap returns cert with the delegation of donor, if the result holds by itself: clients will check it.
func (d *Delegation) swap(cert, donor []byte) ([]byte, error) {
	if donor == nil {
		return nil, errNoDelegation
	}
	swapped, err := verify.ReplaceDelegation(cert, donor)
	if err != nil {
		return nil, err
	}
	_, err = d.n.KnownAuthority().Certificate(swapped, d.canister, time.Now())
	return swapped, err
}

// readAgain reads it beside the polling.
func (d *Delegation) readAgain(cert []byte) {
	r := d.read(cert)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reading = false
	if err := d.finishReading(r); err != nil {
		d.log().Debug("reading the delegation again failed", zap.Error(err))
	}
}

// delegationReading is what the hosts gave.
type delegationReading struct {
	cert    []byte // nil = none
	without int    // how many hosts have the newer layout only
	hosts   int    // how many there are
	failure error  // of one that gave no answer to go by
}

// read asks the hosts one by one for a certificate whose delegation cert can have.
func (d *Delegation) read(cert []byte) delegationReading {
	all := d.n.Hosts()
	r := delegationReading{hosts: len(all)}
	for tried := (Hosts)(nil); len(tried) < min(len(all), maxTries); {
		h := all.pick(d.canister, tried, false)
		tried = append(tried, h)
		a, err := d.n.readState(d.n.ctx, d.canister, flatAt(h), []byte("time"))
		switch {
		case servedNowhere(err), err == nil && !a.cert.Flat():
			r.without++
			continue
		case err == nil && len(a.raw) > maxDelegation:
			err = a.Bad(errNoDelegation)
		case err == nil:
			if _, err = d.swap(cert, a.raw); err == nil {
				a.Good()
				r.cert = bytes.Clone(a.raw)
				return r
			}
			err = a.Bad(err)
		}
		r.failure = cmp.Or(r.failure, err)
	}
	return r
}

// flatAt makes it a request to h whose certificate should have the routing table in the older layout.
func flatAt(h *Host) func(*request) {
	return func(r *request) {
		r.versions, r.only, r.timeout = flatReadState, h, min(r.timeout, delegationPatience)
	}
}

// finishReading takes what was read. That the network has no older layout to give is believed when two hosts say so, where
// there are two, or when one goes on saying so and no other gives an answer. The error is why nothing is known. The caller
// holds mu.
func (d *Delegation) finishReading(r delegationReading) error {
	if r.cert != nil {
		d.take(r.cert)
		return nil
	}
	d.due = time.Now().Add(delegationRetry)
	if r.failure == nil {
		d.due = time.Now().Add(delegationAge) // all say so
	}
	if r.without == 0 {
		d.alone = 0
		return r.failure
	}
	if d.alone++; r.without < min(2, r.hosts) && d.alone < delegationTries {
		return r.failure
	}
	if d.cert == nil && !d.gone {
		d.gone = true
		d.log().Warn("clients are closed that do not say that they read the newer layout of certificates: the network gives no other",
			zap.String("layout", "/canister_ranges/<id>"), zap.NamedError("another_host", r.failure))
	}
	return nil
}
