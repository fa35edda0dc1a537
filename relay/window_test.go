package relay_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/verify"
)

// Envelopes under way together are submitted in the order in which the client sent them, also while the network cannot be
// reached: a connection that is refused has carried nothing, so nothing may follow.
func TestRelayWindowKeepsTheOrder(t *testing.T) {
	network := &refusing{}
	inBubble(t, rigOptions{
		network: localnet.Options{Latency: time.Second},
		config: func(c *relay.Config) {
			c.RelayWindow = 8
			network.RoundTripper, c.Transport = c.Transport, network
		},
	}, func(t *testing.T, r *rig) {
		c := r.open()
		network.calls.Store(20)
		const n = 8
		for i := range n {
			if err := c.Send(t.Context(), fmt.Append(nil, i)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * time.Minute)
		var order []uint64
		for _, body := range network.bodies() {
			env, err := verify.ParseEnvelope(body)
			if err != nil {
				t.Fatal(err)
			}
			m, err := verify.DecodeMessageArg(env.Arg)
			if err != nil {
				t.Fatal(err)
			}
			order = append(order, m.Sequence)
		}
		if !slices.IsSorted(order) || len(order) < 2 {
			t.Errorf("sent in the order %v", order)
		}
	})
}

// refusing is a network that refuses connections for some calls, and notes the ws_message that it carries.
type refusing struct {
	http.RoundTripper
	calls atomic.Int64 // how many more to refuse

	mu   sync.Mutex
	sent [][]byte
}

func (n *refusing) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(r.URL.Path, "/call") {
		return n.RoundTripper.RoundTrip(r)
	}
	if n.calls.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if bytes.Contains(body, []byte("ws_message")) {
		n.mu.Lock()
		n.sent = append(n.sent, body)
		n.mu.Unlock()
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return n.RoundTripper.RoundTrip(r)
}

func (n *refusing) bodies() [][]byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.sent)
}
