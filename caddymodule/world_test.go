package caddymodule

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/freeport"
	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

// world is a local Internet Computer with echo canisters.
type world struct {
	net       *localnet.Network
	url       string
	canisters []verify.Principal
	cdks      []*localnet.CDK
	authority *verify.Authority
}

func newWorld(t testing.TB, canisters int) *world {
	t.Helper()
	n, err := localnet.New(localnet.Options{Seed: 7})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{net: n}
	if w.url, err = n.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	for range canisters {
		cdk := localnet.NewCDK(localnet.CDKOptions{})
		w.canisters = append(w.canisters, n.Install(cdk))
		w.cdks = append(w.cdks, cdk)
	}
	if w.authority, err = verify.NewAuthority(n.RootKey()); err != nil {
		t.Fatal(err)
	}
	return w
}

// network is the part of a Caddyfile that makes a gateway use this world.
func (w *world) network() string {
	return fmt.Sprintf("network %s\n\t\troot_key %s", w.url, hex.EncodeToString(w.net.RootKey()))
}

// site is a site on a port with a gateway for one canister. extra are further lines of the icws block. Unless they say
// otherwise, a drain is as good as none: what a test leaves open is not waited for.
func (w *world) site(port, canister int, extra ...string) string {
	if !slices.ContainsFunc(extra, func(line string) bool { return strings.Contains(line, "drain_timeout") }) {
		extra = append(slices.Clone(extra), "drain_timeout 100ms")
	}
	return fmt.Sprintf("http://127.0.0.1:%d {\n\ticws /ws %s {\n\t\t%s\n\t\t%s\n\t}\n}\n",
		port, w.canisters[canister], w.network(), strings.Join(extra, "\n\t\t"))
}

// open opens a verified session.
func (w *world) open(t testing.TB, url string, canister int, options ...func(*client.Options)) *client.Client {
	t.Helper()
	o := client.Options{Canister: w.canisters[canister], Authority: w.authority, CloseTimeout: time.Second, OpenTimeout: hung}
	for _, option := range options {
		option(&o)
	}
	ctx, cancel := context.WithTimeout(t.Context(), hung)
	defer cancel()
	c, err := client.Dial(ctx, url, o)
	for range 5 {
		// Right after a reload the kernel resets connections that wait in the queue of the old configuration's socket.
		if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		c, err = client.Dial(ctx, url, o)
	}
	if err != nil {
		t.Fatalf("opening a session: %v", err)
	}
	t.Cleanup(c.Abort)
	return c
}

// echo sends a message and waits for its echo.
func echo(t testing.TB, c *client.Client, payload string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hung)
	defer cancel()
	if err := c.Send(ctx, []byte(payload)); err != nil {
		t.Fatalf("sending: %v", err)
	}
	m, err := c.Receive(ctx)
	if err != nil {
		t.Fatalf("receiving: %v", err)
	}
	if string(m.Payload) != payload {
		t.Fatalf("echo %q, want %q", m.Payload, payload)
	}
}

// TestSession opens a verified session through a whole server and chats.
func TestSession(t *testing.T) {
	w, port := newWorld(t, 2), freeport.ForTest(t)
	mustLoad(t, w.site(port, 0, "poll_interval 20ms"))
	url := fmt.Sprintf("ws://127.0.0.1:%d/ws", port)
	c := w.open(t, url, 0)
	for i := range 5 {
		echo(t, c, strings.Repeat("x", 100*i)+"!")
	}
	if got := live.snapshot()[0].principal; c.Gateway().String() != got {
		t.Errorf("handshake of %s, gateway %s", c.Gateway(), got)
	}

	// A canister that is not on the list is refused with a reason.
	_, err := client.Dial(t.Context(), url, client.Options{Canister: w.canisters[1], Authority: w.authority})
	closed, ok := err.(*client.CloseError)
	if !ok || closed.Code != 1008 || !strings.Contains(closed.Text, "not allowed") {
		t.Errorf("another canister: %v", err)
	}
}

// grep returns the lines of text that contain part.
func grep(text, part string) string {
	var out []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

// eventually waits until f holds.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(hung); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
