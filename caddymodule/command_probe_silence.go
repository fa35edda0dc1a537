package caddymodule

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/icws-gateway/caddy-icws/relay"
)

const (
	// silence is how long the first message may take before it is said what is known. An update takes 1 to 2 s on mainnet.
	silence = 3 * time.Second
	// lookAgain is the pause between two looks. Only what has changed is said again.
	lookAgain = time.Second
	// lookLimit is how long one question of a look may take: a network that hangs is no reason not to ask the gateway.
	lookLimit = 2 * time.Second
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
	type question struct {
		step string
		ask  func(context.Context) string
	}
	questions := []question{{"polls", p.gatewayState}}
	if p.asker != nil {
		outcome := func(ctx context.Context) string { return p.asker.outcome(ctx, id) }
		questions = []question{{"ws_open", outcome}, {"query", p.asker.pollAgain}, questions[0]}
	}
	said := make([]string, len(questions))
	timer := time.NewTimer(p.quiet)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		for i, q := range questions {
			limited, cancel := context.WithTimeout(ctx, lookLimit)
			text := q.ask(limited)
			cancel()
			if ctx.Err() != nil {
				return
			}
			if full := q.step + ": " + text; said[i] != full {
				said[i] = full
				p.note(q.step, "%s", text)
			}
		}
		all := strings.Join(said, "; ")
		p.seen.Store(&all)
		timer.Reset(lookAgain)
	}
}

// pollAgain says how a poll of our own goes.
func (a *asker) pollAgain(ctx context.Context) string {
	if _, _, err := a.poll(ctx); err != nil {
		return "a poll of our own fails, too: " + err.Error()
	}
	return "a poll of our own is answered"
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
	known, polled := map[string]bool{}, []relay.CanisterSnapshot{}
	for _, g := range v.Gateways {
		if g.Principal == p.gateway {
			known[g.Gateway] = true
		}
	}
	for _, c := range v.Canisters {
		if known[c.Gateway] && c.Canister.String() == p.canister {
			polled = append(polled, c.CanisterSnapshot)
		}
	}
	// Gateways with other settings may have the same principal and poll the same canister. What fails is what matters.
	slices.SortStableFunc(polled, func(a, b relay.CanisterSnapshot) int { return cmp.Compare(b.Failures, a.Failures) })
	switch {
	case len(known) == 0:
		return elsewhere
	case len(polled) == 0:
		return "the gateway does not poll the canister"
	}
	switch c := polled[0]; {
	case c.Failures > 0:
		return fmt.Sprintf("the gateway's polls fail since %s, the last with: %s", c.FailingSince.UTC().Format(time.RFC3339), c.LastError)
	case c.CallError != "":
		return "the gateway's polls are answered, but not its calls, the last with: " + c.CallError
	case c.LastPoll.IsZero():
		return "the gateway has had no answer to a poll yet"
	default:
		return fmt.Sprintf("the gateway's polls are answered, and message %d of its queue has not come", c.Nonce)
	}
}
