package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/gorilla/websocket"

	"github.com/icws-gateway/caddy-icws/examples/freeport"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// chatter sends a message now and then and expects its echo, until its session ends.
type chatter struct {
	*client.Client
	echoes atomic.Int64
	ended  chan time.Time // when the session had ended
}

func (c *chatter) run(ctx context.Context, t *testing.T, every time.Duration) {
	for i := 0; ctx.Err() == nil; i++ {
		payload := fmt.Sprintf("message %d", i)
		if err := c.Send(context.Background(), []byte(payload)); err != nil {
			return // the end of the session is looked at elsewhere
		}
		wait, cancel := context.WithTimeout(context.Background(), hung)
		m, err := c.Receive(wait)
		cancel()
		if err != nil && c.Err() != nil {
			return
		}
		if err != nil || string(m.Payload) != payload {
			t.Errorf("echo %q, want %q (%v)", m.Payload, payload, err)
			return
		}
		c.echoes.Add(1)
		time.Sleep(every)
	}
}

// TestReload keeps 200 clients chatting through 20 reloads of every kind. Exactly the sessions that had to go are closed,
// with 1001, spread over drain_timeout; the others miss nothing.
func TestReload(t *testing.T) {
	clients, leaving := 200, 50
	if testing.Short() {
		clients, leaving = 40, 10 // the race detector makes every certificate ten times as dear
	}
	before := watchedBefore()
	w := newWorld(t, 3)
	stay, change, other := freeport.ForTest(t), freeport.ForTest(t), freeport.ForTest(t)
	logs := t.TempDir()
	generation := 0
	// config builds the configuration of the next reload.
	type parts struct {
		log, level, page, allowed, gateway, watch string
		withoutChange                             bool
	}
	const drainTimeout = 4 * time.Second
	p := parts{level: "INFO", page: "one", gateway: fmt.Sprint("drain_timeout ", drainTimeout)}
	config := func() string {
		generation++
		p.log = filepath.Join(logs, fmt.Sprintf("%02d.log", generation))
		text := fmt.Sprintf("\tlog {\n\t\toutput file %s\n\t\tlevel %s\n\t}\n\tmetrics\n}\n", p.log, p.level)
		text += fmt.Sprintf("http://127.0.0.1:%d {\n\ticws_test_watch %s\n\ticws /ws %s %s {\n\t\t%s\n\t\tmax_sessions_per_ip 1000\n\t\tdrain_timeout 1s\n\t}\n\tmetrics /metrics\n}\n",
			stay, p.watch, w.canisters[0], p.allowed, w.network())
		if !p.withoutChange {
			text += fmt.Sprintf("http://127.0.0.1:%d {\n\ticws /ws %s {\n\t\t%s\n\t\tidentity second\n\t\tmax_sessions_per_ip 1000\n\t\t%s\n\t}\n}\n",
				change, w.canisters[1], w.network(), p.gateway)
		}
		return text + fmt.Sprintf("http://127.0.0.1:%d {\n\trespond %q\n}\n", other, p.page)
	}
	reload := func(t *testing.T) error { t.Helper(); return loadMore(t, config()) }

	if err := reload(t); err != nil {
		t.Fatal(err)
	}
	// Counters live as long as the process, so other tests have moved them.
	metrics := fmt.Sprintf("http://127.0.0.1:%d/metrics", stay)
	reconfigured := func(body string) int {
		series := `caddy_icws_session_closes_total{canister="` + w.canisters[1].String() + `",reason="reconfigured"} `
		n, _ := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(grep(body, series), series)))
		return n // 0 if nothing was counted yet
	}
	_, body, _ := get(t, metrics)
	earlier := reconfigured(body)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	start := func(n, port, canister int) []*chatter {
		all := make([]*chatter, n)
		var opening sync.WaitGroup
		slots := make(chan struct{}, 16)
		for i := range all {
			opening.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				all[i] = &chatter{Client: w.open(t, fmt.Sprintf("ws://127.0.0.1:%d/ws", port), canister), ended: make(chan time.Time, 1)}
			})
		}
		opening.Wait()
		if t.Failed() {
			t.FailNow()
		}
		for _, c := range all {
			wg.Go(func() { c.run(ctx, t, time.Second) })
			wg.Go(func() {
				select {
				case <-c.Done():
					c.ended <- time.Now()
				case <-ctx.Done():
				}
			})
		}
		return all
	}
	staying := start(clients-leaving, stay, 0)
	going := start(leaving, change, 1)
	steady := w.open(t, fmt.Sprintf("ws://127.0.0.1:%d/ws", stay), 0)
	chatting := func(since map[*chatter]int64) func() bool {
		return func() bool {
			return !slices.ContainsFunc(staying, func(c *chatter) bool { return c.Err() == nil && c.echoes.Load() <= since[c] })
		}
	}
	eventually(t, "everybody to chat", chatting(nil))

	mustReload := func() {
		t.Helper()
		if err := reload(t); err != nil {
			t.Fatal(err)
		}
		echo(t, steady, p.page)
	}
	for i := range 8 {
		p.page = fmt.Sprint("page ", i)
		mustReload()
	}
	for _, p.level = range []string{"DEBUG", "WARN", "INFO"} {
		mustReload()
	}
	p.allowed = w.canisters[2].String() // new sessions may reach one more canister
	mustReload()
	if c := w.open(t, fmt.Sprintf("ws://127.0.0.1:%d/ws", stay), 2); c != nil {
		echo(t, c, "the new canister")
		c.Close()
	}
	p.allowed = ""
	mustReload()
	for range 3 {
		p.watch = "fail"
		if err := reload(t); err == nil {
			t.Fatal("a configuration that fails to provision was accepted")
		}
	}
	p.watch = ""
	for _, c := range slices.Concat(staying, going) {
		if err := c.Err(); err != nil {
			t.Fatalf("a session ended too early: %v", err)
		}
	}
	if got := len(live.snapshot()); got != 2 {
		t.Errorf("%d gateways, want 2", got)
	}

	// Each gateway has named its principal once, not once for each configuration.
	files, err := filepath.Glob(filepath.Join(logs, "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	announced := 0
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		announced += strings.Count(string(raw), `"gateway ready"`)
	}
	if announced != 2 {
		t.Errorf("principals were logged %d times, want once for each of 2 gateways", announced)
	}

	// The gateway of the second site changes: its sessions go.
	p.gateway = "poll_interval 50ms"
	began := time.Now()
	mustReload()
	checkSpread(t, began, waitClosed(t, going, 1001, "settings changed"), drainTimeout)

	// A client returns to the new gateway; then the site is removed. One alone is closed at once.
	returned := start(1, change, 1)
	p.page = "last"
	mustReload()
	p.withoutChange = true
	mustReload()
	waitClosed(t, returned, 1001, "")
	mustReload()

	if generation != 21 {
		t.Errorf("%d configurations, want the first and 20 more", generation)
	}
	soFar := make(map[*chatter]int64)
	for _, c := range staying {
		soFar[c] = c.echoes.Load()
	}
	eventually(t, "everybody to chat after the reloads", chatting(soFar))
	for _, c := range staying {
		if err := c.Err(); err != nil {
			t.Fatalf("a session that should have stayed ended: %v", err)
		}
	}

	// Metrics have gone on counting across registries.
	if status, body, _ := get(t, metrics); status != 200 {
		t.Errorf("metrics: %d", status)
	} else {
		if want := fmt.Sprintf("\ncaddy_icws_sessions %d\n", clients-leaving+1); !strings.Contains(body, want) {
			t.Errorf("metrics lack %q: %s", want, grep(body, "caddy_icws_sessions"))
		}
		if got := reconfigured(body) - earlier; got != leaving+len(returned) {
			t.Errorf("%d sessions closed as reconfigured, want %d\n%s", got, leaving+len(returned), grep(body, "session_closes_total"))
		}
	}

	// The end of a session is logged where the present configuration logs.
	staying[0].Close()
	present := p.log
	eventually(t, "the end of a session in the present log", func() bool {
		raw, _ := os.ReadFile(present)
		return strings.Contains(string(raw), "client_closed")
	})

	// Old configurations are gone although their sessions live on.
	eventually(t, "the end of old configurations", func() bool {
		runtime.GC()
		return alive(before) <= 1
	})
}

// TestReloadTLS makes sure that sessions over TLS live through reloads. Each keeps the configuration that accepted it, and
// must do so no longer than until it ends.
func TestReloadTLS(t *testing.T) {
	before := watchedBefore()
	w, port := newWorld(t, 1), freeport.ForTest(t)
	config := func(page string) string {
		return fmt.Sprintf("\tauto_https disable_redirects\n}\nhttps://localhost:%d {\n\ttls internal\n\ticws_test_watch\n\ticws /ws %s {\n\t\t%s\n\t\tdrain_timeout 1s\n\t}\n\trespond /page %q\n}\n",
			port, w.canisters[0], w.network(), page)
	}
	if err := loadMore(t, config("first")); err != nil {
		t.Fatal(err)
	}
	trust := trustInternal(t, caddy.AppDataDir(), port)
	var sessions []*client.Client
	for i := range 5 {
		c := w.open(t, fmt.Sprintf("wss://localhost:%d/ws", port), 0, func(o *client.Options) { o.TLS = trust.Clone() })
		echo(t, c, "accepted by this configuration")
		sessions = append(sessions, c)
		if err := loadMore(t, config(fmt.Sprint("page ", i))); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range sessions {
		echo(t, c, strings.Repeat("large records both ways ", 5000))
		c.Close()
	}
	// Caddy's certificate cache refers to one old configuration, with or without sessions.
	eventually(t, "the end of old configurations", func() bool {
		runtime.GC()
		return alive(before) <= 2
	})
}

// loadMore loads a configuration that continues inside the global options.
func loadMore(t testing.TB, rest string) error {
	t.Helper()
	raw, err := adapt("{\n\tadmin off\n\tpersist_config off\n\tskip_install_trust\n" + rest)
	if err != nil {
		t.Fatalf("adapting: %v\n%s", err, rest)
	}
	stopAtEnd(t)
	return caddy.Load(raw, true)
}

// waitClosed waits until every session has ended with a code and a text, and returns when they did.
func waitClosed(t *testing.T, all []*chatter, code int, text string) []time.Time {
	t.Helper()
	var ended []time.Time
	for _, c := range all {
		select {
		case at := <-c.ended:
			ended = append(ended, at)
		case <-time.After(hung):
			t.Fatal("a session that had to go is still there")
		}
		var closed *client.CloseError
		if !errors.As(c.Err(), &closed) || closed.Code != code || !strings.Contains(closed.Text, text) {
			t.Errorf("closed with %v, want code %d", c.Err(), code)
		}
	}
	return ended
}

// TestOpeningsDuringReloads opens sessions all the time while configurations change: no opening that reaches a handler, of
// the old configuration or the new one, is refused or broken.
func TestOpeningsDuringReloads(t *testing.T) {
	port, other := freeport.ForTest(t), freeport.ForTest(t)
	config := func(page int) string {
		return fmt.Sprintf("}\nhttp://127.0.0.1:%d {\n\ticws %s {\n\t\t%s\n\t\tmax_sessions_per_ip 10000\n\t}\n}\nhttp://127.0.0.1:%d {\n\trespond \"%d\"\n}\n", port, testCanister, deadNetwork(), other, page)
	}
	if err := loadMore(t, config(0)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var opened, reset atomic.Int64
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				ws, resp, err := (&websocket.Dialer{HandshakeTimeout: hung}).Dial(fmt.Sprintf("ws://127.0.0.1:%d/", port), nil)
				if err != nil && resp == nil {
					// Caddy closes the listening socket of the old configuration, and the kernel resets what waits in
					// its queue. No handler has seen such a connection.
					reset.Add(1)
					continue
				}
				if err != nil {
					t.Errorf("opening %d: %v, status %s", opened.Load(), err, resp.Status)
					return
				}
				if _, _, err := ws.ReadMessage(); err != nil {
					t.Errorf("handshake %d: %v", opened.Load(), err)
				}
				ws.Close()
				opened.Add(1)
			}
		})
	}
	for i := range 20 {
		if err := loadMore(t, config(i+1)); err != nil {
			t.Fatal(err)
		}
		sofar := opened.Load()
		eventually(t, "one more opening", func() bool { return opened.Load() > sofar || t.Failed() })
	}
	cancel()
	wg.Wait()
	if reset.Load() > 20*4 {
		t.Errorf("%d openings, %d connections reset", opened.Load(), reset.Load())
	}
}
