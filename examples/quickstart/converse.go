package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// converse opens a session and talks, and opens another when it ends, until the process ends. Caddy obtains its first
// certificate while it already listens, so failures of the first seconds are not worth a word.
func (s *site) converse(interval time.Duration) {
	started := time.Now()
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		began := time.Now()
		err := s.session(interval)
		var refused net.Error
		if !errors.As(err, &refused) || time.Since(started) > 10*time.Second {
			fmt.Printf("-- %v\n", err)
		}
		if caddy.Exiting() {
			select {} // the exit functions end the process
		}
		if time.Since(began) > 10*time.Second {
			wait = 100 * time.Millisecond
		}
		time.Sleep(wait)
	}
}

// session opens one session and talks until it ends.
func (s *site) session(interval time.Duration) error {
	config, err := s.tls()
	if err != nil {
		return err
	}
	ctx := context.Background()
	began := time.Now()
	c, err := client.Dial(ctx, s.url(), client.Options{
		Canister: s.canister,
		RootKey:  s.rootKey,
		TLS:      config,
	})
	if err != nil {
		return err
	}
	defer c.Close()
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
