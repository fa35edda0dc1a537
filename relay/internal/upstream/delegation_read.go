package upstream

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/icws-gateway/caddy-icws/relay/internal/pause"
	"github.com/icws-gateway/caddy-icws/relay/internal/quorum"
)

const (
	// delegationPatience bounds the time of one host, and delegationStagger is how long it has before the next is asked as well.
	delegationPatience = 3 * time.Second
	delegationStagger  = 500 * time.Millisecond
)

// delegationReading is what the hosts gave.
type delegationReading struct {
	cert    []byte  // nil = none
	without []*Host // that have the newer layout only
	failure error   // of one that gave no answer to go by
}

// ask asks the hosts for a certificate whose delegation cert can have. That they have none is not certified, so it is for a
// quorum; without an error, the reading has a certificate or is believed to show that there is none.
func (d *Delegation) ask(ctx context.Context, cert []byte) (r delegationReading, err error) {
	var none quorum.Claim
	for range quorum.LoneVotes {
		r = d.askAll(ctx, cert)
		if r.cert != nil {
			return r, nil
		}
		if len(r.without) == 0 {
			return r, r.failure
		}
		for _, h := range r.without {
			// All have been asked, and no other gave an answer that holds.
			none.Add(quorum.Vote{Host: quorum.Host(h.name), Alone: len(r.without) == 1}, time.Now())
		}
		if none.Believed() {
			return r, nil
		}
		if err := pause.Sleep(ctx, quorum.LonePause); err != nil {
			return r, err
		}
	}
	return r, fmt.Errorf("only %s says that there is no delegation in the older layout: %w", r.without[0].name, cmp.Or(r.failure, errNoDelegation))
}

// askAll asks the hosts one after the other, and the next one too where one lets it wait, until one gives a certificate or two
// say that they have none.
func (d *Delegation) askAll(ctx context.Context, cert []byte) (r delegationReading) {
	type answer struct {
		host    *Host
		cert    []byte
		without bool
		err     error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	all := d.n.Hosts()
	answers := make(chan answer, maxTries)
	var asked []*Host
	next := func() {
		if len(asked) == min(len(all), maxTries) {
			return
		}
		h := all.pick(d.canister, asked, false)
		asked = append(asked, h)
		d.n.spawn("delegation of one host", func() {
			a := answer{host: h}
			a.cert, a.without, a.err = d.askOne(ctx, h, cert)
			answers <- a
		}, func() { answers <- answer{host: h, err: errPanic} })
	}
	next()
	late := time.NewTicker(delegationStagger)
	defer late.Stop()
	for answered := 0; answered < len(asked); {
		select {
		case a := <-answers:
			answered++
			if a.cert != nil {
				return delegationReading{cert: a.cert}
			}
			if a.without {
				r.without = append(r.without, a.host)
			}
			if len(r.without) == 2 {
				return r
			}
			r.failure = cmp.Or(r.failure, a.err)
			next()
		case <-late.C:
			next()
		}
	}
	return r
}

// askOne asks h for a certificate whose delegation cert can have, and reports instead whether h has the newer layout only. The
// error is why neither is known.
func (d *Delegation) askOne(ctx context.Context, h *Host, cert []byte) (donor []byte, without bool, err error) {
	a, err := d.n.readState(ctx, d.canister, func(r *request) {
		r.versions, r.only, r.timeout = flatReadState, h, min(r.timeout, delegationPatience)
	}, []byte("time"))
	switch {
	case servedNowhere(err):
		return nil, true, nil
	case err != nil:
		return nil, false, err
	case !a.cert.Flat():
		a.Good()
		return nil, true, nil
	case len(a.raw) > maxDelegation:
		return nil, false, a.Bad(errNoDelegation)
	}
	if _, err := d.swap(cert, a.raw); err != nil {
		return nil, false, a.Bad(err)
	}
	a.Good()
	return bytes.Clone(a.raw), false, nil
}
