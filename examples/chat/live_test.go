//go:build e2e

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/icws-gateway/caddy-icws/examples/freeport"
	"github.com/icws-gateway/caddy-icws/examples/internal/chromium"
	"github.com/icws-gateway/caddy-icws/examples/internal/site"
	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

// hostileText is what a canister and a client want the page of an operator to run.
const hostileText = `<img src=x onerror="hacked=1">`

// trapping is a canister that echoes, and traps on hostileText with it.
type trapping struct{ localnet.Echo }

func (trapping) OnMessage(ctx *localnet.AppContext, who verify.Principal, payload []byte) error {
	if string(payload) == hostileText {
		return errors.New(hostileText)
	}
	return ctx.Send(who, payload)
}

// watched is a site whose operator looks at the live page, and what can be asked to happen there.
type watched struct {
	t      *testing.T
	site   site.Options
	dial   client.Options
	url    string
	mu     sync.Mutex // one thing at a time
	client *client.Client
}

func (w *watched) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ctx, cancel := context.WithTimeout(w.t.Context(), 3*time.Minute)
	defer cancel()
	if err := w.act(ctx, strings.TrimPrefix(r.URL.Path, "/")); err != nil {
		w.t.Errorf("%s: %v", r.URL.Path, err)
		http.Error(rw, err.Error(), http.StatusInternalServerError)
	}
}

func (w *watched) act(ctx context.Context, what string) (err error) {
	switch what {
	case "open":
		w.client, err = client.Dial(ctx, w.url, w.dial)
		return err
	case "chat":
		for range 20 {
			if err := w.client.Send(ctx, []byte("hello")); err != nil {
				return err
			}
			if _, err := w.client.Receive(ctx); err != nil {
				return err
			}
		}
		return nil
	case "close":
		return w.client.Close()
	case "trap":
		if err := w.client.Send(ctx, []byte(hostileText)); err != nil {
			return err
		}
		<-w.client.Done()
		return nil
	case "leave": // with a reason of its own, without a canister
		raw, err := client.DialRaw(ctx, w.url, w.dial)
		if err != nil {
			return err
		}
		return raw.CloseWith(3000, hostileText)
	case "stop":
		return caddy.Load([]byte(`{"admin": {"disabled": true, "config": {"persist": false}}}`), true)
	case "start":
		_, err := site.Run(ctx, w.site)
		return err
	}
	return fmt.Errorf("nobody can %q", what)
}

// TestLivePage has an operator look at the page of the admin endpoint in a real Chromium, while sessions come and go and Caddy is
// away for a while.
func TestLivePage(t *testing.T) {
	network, err := localnet.New(localnet.Options{Latency: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := network.Close(); err != nil {
			t.Error(err)
		}
	})
	canister := network.Install(localnet.NewCDK(localnet.CDKOptions{App: trapping{}}))
	boundary, err := network.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port, err := site.ClaimPort(0)
	if err != nil {
		t.Fatal(err)
	}
	admin := fmt.Sprintf("localhost:%d", freeport.ForTest(t))
	w := &watched{t: t, url: fmt.Sprintf("wss://localhost:%d/ws", port), site: site.Options{
		Dir: t.TempDir(), Port: port, Admin: fmt.Sprintf("%s {\n\torigins %[1]s \"\"\n}", admin),
		Caddyfile: fmt.Sprintf("https://localhost:%d {\n\tbind 127.0.0.1\n\ticws /ws %s {\n\t\tnetwork %s\n\t\troot_key %x\n\t\tdrain_timeout 1s\n\t}\n}\n",
			port, canister, boundary, network.RootKey()),
	}}
	rootCert, err := site.Run(t.Context(), w.site)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(w.act(context.Background(), "stop"), site.Stop()); err != nil {
			t.Error(err)
		}
	})
	w.dial = client.Options{Canister: canister, RootKey: network.RootKey(), TLS: address{rootCert: rootCert}.tls(t)}
	control := httptest.NewServer(w)
	defer control.Close()
	chromium.Run(t, "web/live.test.mjs", 4, rootCert, "ICWS_ADMIN=http://"+admin, "ICWS_CONTROL="+control.URL, "ICWS_CANISTER="+canister.String(),
		"ICWS_SHOTS="+os.Getenv("ICWS_SHOTS"))
}
