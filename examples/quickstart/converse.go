package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/icws-gateway/caddy-icws/caddymodule"
	"github.com/icws-gateway/caddy-icws/examples/internal/quiet"
	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// converse opens a session and talks, and opens another when it ends, until a session ends after ctx. It returns an error
// only where trying again cannot help.
func (d *demo) converse(ctx context.Context, interval time.Duration) error {
	config, err := d.tls()
	if err != nil {
		return err
	}
	go quiet.Watch(ctx, patience, d.arrived.Load,
		func() string { return quiet.Trouble(caddymodule.Snapshots()...) },
		func(text string) { fmt.Printf("-- nothing arrives; %s\n", text) })
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		began := time.Now()
		fmt.Printf("-- %v\n", d.session(config, interval))
		if time.Since(began) > 10*time.Second {
			wait = 100 * time.Millisecond
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// session opens one session and talks until it ends.
func (d *demo) session(config *tls.Config, interval time.Duration) error {
	ctx := context.Background()
	began := time.Now()
	c, err := client.Dial(ctx, d.url(), client.Options{
		Canister: d.canister,
		RootKey:  d.rootKey,
		TLS:      config,
	})
	if err != nil {
		return err
	}
	defer c.Close()
	d.arrived.Add(1)
	fmt.Printf("-- session open in %s; gateway %s\n", since(began), c.Gateway())

	var sent atomic.Int64 // when the last message went out, in nanoseconds since 1970
	go func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for n := 1; ; n++ {
			text := fmt.Sprintf("hello %d", n)
			sent.Store(time.Now().UnixNano())
			if c.Send(ctx, localnet.TextPayload(text)) != nil {
				return
			}
			fmt.Printf("-> %q\n", text)
			select {
			case <-tick.C:
			case <-c.Done():
				return
			}
		}
	}()
	for {
		m, err := c.Receive(ctx)
		if err != nil {
			return err
		}
		d.arrived.Add(1)
		text, ok := localnet.ParseTextPayload(m.Payload)
		if !ok {
			return fmt.Errorf("message %d is not record{text: text}", m.Sequence)
		}
		latency := fmt.Sprintf("round trip %s", since(time.Unix(0, sent.Load())))
		if text == "ping" {
			latency = "the canister's greeting"
		}
		fmt.Printf("<- %q   verified: message %d, certified %s ago; %s\n",
			text, m.Sequence, m.Received.Sub(m.Certified).Round(time.Millisecond), latency)
	}
}

// since is the time from t to now, in whole milliseconds.
func since(t time.Time) time.Duration { return time.Since(t).Round(time.Millisecond) }
