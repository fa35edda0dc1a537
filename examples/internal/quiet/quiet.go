// Package quiet tells somebody who waits for messages why none come.
package quiet

import (
	"context"
	"time"

	"github.com/icws-gateway/caddy-icws/relay"
)

// Patience is how long nothing may arrive before it is asked why. An update takes 1 to 2 s on mainnet.
const Patience = 3 * time.Second

// Watch calls say with what ask returns once arrived has not changed for patience, and again whenever that is something
// new, until ctx ends. It looks six times in that time. Nothing is said while ask returns "", nor while something arrives.
func Watch(ctx context.Context, patience time.Duration, arrived func() uint64, ask func() string, say func(text string)) {
	tick := time.NewTicker(patience / 6)
	defer tick.Stop()
	count, since, said := arrived(), time.Now(), ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if n := arrived(); n != count {
			count, since, said = n, time.Now(), ""
		}
		if time.Since(since) < patience {
			continue
		}
		if text := ask(); text != "" && text != said {
			said = text
			say(text)
		}
	}
}

// Trouble says what fails now of a gateway's polls and of its calls, "" if nothing does.
func Trouble(gateways ...relay.Snapshot) string {
	var calls string
	for _, g := range gateways {
		for _, c := range g.Canisters {
			switch {
			case c.Failures > 0:
				return "the gateway's polls fail: " + c.LastError
			case c.CallError != "":
				calls = "the gateway's polls are answered, but not its calls: " + c.CallError
			}
		}
	}
	return calls
}
