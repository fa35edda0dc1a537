package caddymodule

import (
	"context"
	"fmt"
	"time"
)

const (
	// silence is how long the first message may take before it is said what is known. An update takes 1 to 2 s on mainnet.
	silence = 3 * time.Second
	// lookAgain is the pause between two looks. Only what has changed is said again.
	lookAgain = time.Second
)

// explainSilence waits for the ws_open to be sent, and from then on, while its first message does not come, says what the
// network and the gateway know about it. It ends with ctx.
func (p *prober) explainSilence(ctx context.Context) {
	var id [32]byte
	select {
	case id = <-p.sent:
	case <-ctx.Done():
		return
	}
	said := map[string]string{}
	say := func(step, text string) {
		if ctx.Err() == nil && said[step] != text {
			said[step] = text
			p.note(step, "%s", text)
			p.seen.Store(&text)
		}
	}
	timer := time.NewTimer(p.quiet)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if p.asker != nil {
			say("ws_open", p.asker.outcome(ctx, id))
			if _, _, err := p.asker.poll(ctx); err != nil {
				say("query", "a poll of our own fails, too: "+err.Error())
			} else {
				say("query", "a poll of our own is answered")
			}
		}
		say("polls", p.gatewayState(ctx))
		timer.Reset(lookAgain)
	}
}

// gatewayState says how the gateway's polls of the canister go, from its admin endpoint, in words that do not change while
// that does not. Only a gateway of this machine can be asked, and only one with the principal of the handshake is believed.
func (p *prober) gatewayState(ctx context.Context) string {
	elsewhere := "unknown: the gateway's admin endpoint is not at " + p.address + ", use `caddy icws status` on its machine"
	address, err := adminAddress(p.address)
	if err != nil {
		return err.Error()
	}
	v, err := fetchView(ctx, address)
	if err != nil {
		return elsewhere
	}
	for _, g := range v.Gateways {
		if g.Principal != p.gateway {
			continue
		}
		for _, c := range v.Canisters {
			switch {
			case c.Gateway != g.Gateway || c.Canister.String() != p.canister:
			case c.Failures > 0:
				return fmt.Sprintf("the gateway's polls fail since %s, the last with: %s", c.FailingSince.UTC().Format(time.RFC3339), c.LastError)
			case c.LastPoll.IsZero():
				return "the gateway has had no answer to a poll yet"
			default:
				return fmt.Sprintf("the gateway's polls are answered, and message %d of its queue has not come", c.Nonce)
			}
		}
		return "the gateway does not poll the canister"
	}
	return elsewhere
}
