package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aviate-labs/agent-go/identity"

	"github.com/icws-gateway/caddy-icws/examples/freeport"
	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

// TestExit ends a process in each of the ways it can be asked to: every client learns it with 1001, spread over
// drain_timeout, and the canister learns of every client.
func TestExit(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(t *testing.T, p *process){
		"SIGTERM": func(t *testing.T, p *process) { p.terminate(t) },
		"stop command": func(t *testing.T, p *process) {
			if out, errs, code := command(t, p.dir, nil, "stop", "--address", strings.TrimPrefix(p.admin, "http://")); code != 0 {
				t.Errorf("stop: code %d, %s%s", code, out, errs)
			}
			p.wait(t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const drainTimeout = 4 * time.Second
			w, port := newWorld(t, 1), freeport.ForTest(t)
			site := w.site(port, 0, fmt.Sprint("drain_timeout ", drainTimeout))
			p := runCaddy(t, "", site)
			url := fmt.Sprintf("ws://127.0.0.1:%d/ws", port)
			const clients = 20
			sessions := make([]*client.Client, clients)
			ended := make([]time.Time, clients)
			first := make(chan struct{}) // closed when a session has ended
			var once sync.Once
			var wg sync.WaitGroup
			for i := range sessions {
				sessions[i] = w.open(t, url, 0)
				wg.Go(func() {
					<-sessions[i].Done()
					ended[i] = time.Now()
					once.Do(func() { close(first) })
				})
			}
			// Readiness is false before the first session has gone.
			wg.Go(func() {
				<-first
				resp, err := http.Get(p.admin + "/icws/health/ready")
				if err != nil {
					return // the process has ended meanwhile
				}
				resp.Body.Close()
				if resp.StatusCode != http.StatusServiceUnavailable {
					t.Errorf("readiness during the drain: %s", resp.Status)
				}
			})
			began := time.Now()
			end(t, p)
			wg.Wait()
			if p.err != nil {
				t.Errorf("exit: %v", p.err)
			}
			checkSpread(t, began, ended, drainTimeout)
			for _, c := range sessions {
				var closed *client.CloseError
				if !errors.As(c.Err(), &closed) || closed.Code != 1001 {
					t.Errorf("closed with %v", c.Err())
				}
			}
			if left := w.cdks[0].Clients(); len(left) != 0 {
				t.Errorf("the canister still has %d clients", len(left))
			}
		})
	}

	t.Run("replacement", func(t *testing.T) {
		t.Parallel()
		w, port := newWorld(t, 1), freeport.ForTest(t)
		site := w.site(port, 0, "drain_timeout 500ms")
		data := "XDG_DATA_HOME=" + t.TempDir()
		url := fmt.Sprintf("ws://127.0.0.1:%d/ws", port)
		p := runCaddy(t, "", site, data)
		before := w.open(t, url, 0)
		echo(t, before, "the old process")
		p.terminate(t)
		<-before.Done()
		runCaddy(t, "", site, data)
		after := w.open(t, url, 0)
		echo(t, after, "the new process")
		if before.Gateway() != after.Gateway() {
			t.Errorf("the principal changed from %s to %s", before.Gateway(), after.Gateway())
		}
	})
	t.Run("hanging network", func(t *testing.T) {
		t.Parallel()
		w, port := newWorld(t, 1), freeport.ForTest(t)
		p := runCaddy(t, "", w.site(port, 0, "drain_timeout 1s", fmt.Sprint("upstream_timeout ", 2*hung), fmt.Sprint("outage_timeout ", 2*hung)))
		c := w.open(t, fmt.Sprintf("ws://127.0.0.1:%d/ws", port), 0)
		w.net.SetFaults(func(*localnet.Request) localnet.Fault { return localnet.Fault{Delay: time.Hour} })
		p.terminate(t)
		<-c.Done()
		var closed *client.CloseError
		if !errors.As(c.Err(), &closed) || closed.Code != 1001 {
			t.Errorf("closed with %v", c.Err())
		}
	})
}

// checkSpread makes sure that a drain that began after a moment has spread the ends of sessions over two thirds of
// drain_timeout: each ends in its own slice of them or, on a busy machine, later.
func checkSpread(t testing.TB, began time.Time, ended []time.Time, drainTimeout time.Duration) {
	t.Helper()
	slices.SortFunc(ended, time.Time.Compare)
	for i, at := range ended {
		if earliest := drainTimeout * 2 / 3 * time.Duration(i) / time.Duration(len(ended)); at.Sub(began) < earliest {
			t.Errorf("session %d of %d ended after %s, its slice begins at %s", i+1, len(ended), at.Sub(began), earliest)
			return
		}
	}
}

// wanderer is a client that comes back whenever its session ends, always as the same principal.
type wanderer struct {
	identity *identity.Ed25519Identity
	opens    atomic.Int64
	echoes   atomic.Int64
	gateway  atomic.Value // of the present session
}

func (w *wanderer) run(ctx context.Context, url string, canister verify.Principal, authority *verify.Authority, failed func(error)) {
	for ctx.Err() == nil {
		dial, cancel := context.WithTimeout(ctx, hung)
		c, err := client.Dial(dial, url, client.Options{Canister: canister, Authority: authority, Identity: w.identity, CloseTimeout: time.Second, AckTimeout: -1})
		cancel()
		if err == nil {
			w.opens.Add(1)
			w.gateway.Store(c.Gateway())
			w.chat(ctx, c, failed)
			c.Close()
		}
		if ctx.Err() == nil {
			time.Sleep(time.Duration(100+rand.IntN(400)) * time.Millisecond)
		}
	}
}

// chat echoes until the session ends. The client has verified that no message is missing, repeated or out of order; what
// is left to check is that each echo is that of the message before it.
func (w *wanderer) chat(ctx context.Context, c *client.Client, failed func(error)) {
	for i := 0; ctx.Err() == nil; i++ {
		payload := fmt.Sprint("message ", i)
		if err := c.Send(ctx, []byte(payload)); err != nil {
			judge(ctx, err, failed)
			return
		}
		m, err := c.Receive(ctx)
		if err != nil {
			judge(ctx, err, failed)
			return
		}
		if string(m.Payload) != payload {
			failed(fmt.Errorf("echo %q, want %q", m.Payload, payload))
		}
		w.echoes.Add(1)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// judge tells the ends that gateways going away explain from faults that this side found in what it was sent.
func judge(ctx context.Context, err error, failed func(error)) {
	var closed *client.CloseError
	if ctx.Err() == nil && errors.As(err, &closed) && closed.Local {
		failed(err)
	}
}

// TestScaleOut runs three instances behind a load balancer on one network, kills one, stops another, and makes sure that
// the clients go on with the third and that the canister ends with nobody who is not there.
func TestScaleOut(t *testing.T) {
	t.Parallel()
	clients := 300
	if testing.Short() {
		clients = 45 // the race detector makes every certificate ten times as dear
	}
	w := newWorld(t, 1)

	var instances []*process
	var upstreams []string
	for range 3 {
		port := freeport.ForTest(t)
		instances = append(instances, runCaddy(t, "", w.site(port, 0, "max_sessions_per_ip 1000", "drain_timeout 2s", "orphans close")))
		upstreams = append(upstreams, fmt.Sprintf("127.0.0.1:%d", port))
	}
	front := freeport.ForTest(t)
	runCaddy(t, "", fmt.Sprintf(`http://127.0.0.1:%d {
	reverse_proxy %s {
		lb_policy round_robin
		lb_try_duration 10s
		lb_try_interval 50ms
		fail_duration 2s
		lb_retry_match {
			path *
		}
		unhealthy_status 503
	}
}`, front, strings.Join(upstreams, " ")))

	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	failed := func(err error) { t.Errorf("a client found a fault: %v", err) }
	url := fmt.Sprintf("ws://127.0.0.1:%d/ws", front)
	all := make([]*wanderer, clients)
	for i := range all {
		id, err := identity.NewRandomEd25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		all[i] = &wanderer{identity: id}
		wg.Go(func() { all[i].run(ctx, url, w.canisters[0], w.authority, failed) })
	}
	served := func(what string, enough func(*wanderer) bool) {
		t.Helper()
		eventually(t, "all clients to be served "+what, func() bool {
			return !slices.ContainsFunc(all, func(c *wanderer) bool { return !enough(c) })
		})
	}
	marks := make(map[*wanderer]int64)
	mark := func() {
		for _, c := range all {
			marks[c] = c.echoes.Load()
		}
	}
	served("at first", func(c *wanderer) bool { return c.echoes.Load() >= 1 })
	spread := make(map[verify.Principal]int)
	for _, c := range all {
		spread[c.gateway.Load().(verify.Principal)]++
	}
	if len(spread) != 3 {
		t.Errorf("%d gateways serve, want 3 with principals of their own: %v", len(spread), spread)
	}

	if err := instances[0].Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-instances[0].done
	mark()
	served("after one instance was killed", func(c *wanderer) bool { return c.echoes.Load() >= marks[c]+2 })

	instances[1].terminate(t)
	mark()
	served("after another was stopped", func(c *wanderer) bool { return c.echoes.Load() >= marks[c]+2 })

	rest := make(map[verify.Principal]int)
	for _, c := range all {
		rest[c.gateway.Load().(verify.Principal)]++
	}
	if len(rest) != 1 {
		t.Errorf("%d gateways serve at the end: %v", len(rest), rest)
	}
	cancel()
	wg.Wait()
	eventually(t, "the canister to forget everybody", func() bool { return len(w.cdks[0].Clients()) == 0 })
}
