package upstream

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
	// delegationAge is how long a delegation is used for certificates that came with another before it is read again.
	delegationAge = 10 * time.Minute
	// delegationRetry is the pause after a reading that brought none, if not all hosts say that there is none.
	delegationRetry = time.Minute
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
	reading  shared[struct{}]

	mu   sync.Mutex
	cert []byte    // a certificate with such a delegation; nil = none
	due  time.Time // when it is read again
	none bool      // the network has none to give any more
	news int       // counts what has come of these
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
// is known of that. Fit waits for the network only where nothing is known yet, or what is known does not fit. cert is not kept.
func (d *Delegation) Fit(page *verify.Page, cert []byte) error {
	if page.Flat {
		d.keep(cert)
		return nil
	}
	donor, none, due, news := d.known()
	swapped, err := d.swap(cert, donor)
	switch {
	case err != nil && !none:
		d.drop(donor)
		if _, err := d.read(cert, news).wait(d.n.ctx); err != nil {
			return err
		}
		donor, none, _, _ = d.known()
		if swapped, err = d.swap(cert, donor); err != nil && !none {
			return err // what was read is for another subnet
		}
	case due: // a delegation is good for weeks
		d.read(cert, news)
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

// known returns a certificate to take the delegation from, nil if there is none; whether the network has none to give any more;
// whether it is time to read it again; and how often something of that has changed.
func (d *Delegation) known() (donor []byte, none, due bool, news int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cert, d.none, !time.Now().Before(d.due), d.news
}

// drop forgets a certificate whose delegation does not fit any more.
func (d *Delegation) drop(donor []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.cert) > 0 && len(donor) > 0 && &d.cert[0] == &donor[0] { // and no newer one has come
		d.cert = nil
	}
}

// keep takes a certificate whose delegation deployed clients understand for the day when pages come without.
func (d *Delegation) keep(cert []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(cert) <= maxDelegation && (d.cert == nil || !time.Now().Before(d.due)) {
		d.take(bytes.Clone(cert))
	}
}

// take makes cert the one to take the delegation from. The caller holds mu.
func (d *Delegation) take(cert []byte) {
	d.cert, d.due, d.none = cert, time.Now().Add(delegationAge), false
	d.news++
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

// read reads a delegation that fits cert, unless that is being done already, or has been since the caller looked at what is known: when
// there were news so many times.
func (d *Delegation) read(cert []byte, news int) *sharedRun[struct{}] {
	cert = bytes.Clone(cert)
	return d.reading.start(d.n, "delegation", func(ctx context.Context) (struct{}, error) {
		if _, _, _, now := d.known(); now != news {
			return struct{}{}, nil
		}
		r, err := d.ask(ctx, cert)
		d.mu.Lock()
		defer d.mu.Unlock()
		if err == nil && r.cert != nil {
			d.take(r.cert)
			return struct{}{}, nil
		}
		d.news++
		d.due = time.Now().Add(delegationRetry)
		if r.failure == nil {
			d.due = time.Now().Add(delegationAge) // all say that there is none
		}
		if err != nil {
			d.log().Debug("reading the delegation failed", zap.Error(err))
			return struct{}{}, err
		}
		if d.cert == nil && !d.none {
			d.none = true
			d.log().Warn("clients are closed that do not say that they read the newer layout of certificates: the network gives no other",
				zap.String("layout", "/canister_ranges/<id>"), zap.NamedError("another_host", r.failure))
		}
		return struct{}{}, nil
	})
}
