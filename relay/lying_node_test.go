package relay_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

// skippingNode is a boundary node that answers polls as if they had asked from one message further on. All that it shows is
// certified.
type skippingNode struct {
	network http.RoundTripper
	gateway verify.Signer
	honest  atomic.Bool
	skipped atomic.Int64
}

func (n *skippingNode) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if env, err := verify.ParseEnvelope(bytes.TrimPrefix(body, []byte("\xd9\xd9\xf7"))); err == nil && r.URL.Host == "lying.test" && !n.honest.Load() && env.MethodName == "ws_get_messages" {
		nonce, err := verify.DecodePollArg(env.Arg)
		if err != nil {
			return nil, err
		}
		again := verify.Request{Type: "query", Canister: env.Canister, Method: env.MethodName,
			Arg: verify.AppendPollArg(nil, nonce+1), Nonce: env.Nonce, IngressExpiry: time.Now().Add(time.Minute)}
		if body, _, err = again.Sign(n.gateway); err != nil {
			return nil, err
		}
		n.skipped.Add(1)
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return n.network.RoundTrip(r)
}

// twoNodes makes one boundary node lie and leaves the other honest.
func twoNodes(c *relay.Config) {
	c.Hosts = []*url.URL{{Scheme: "http", Host: "lying.test"}, {Scheme: "http", Host: "honest.test"}}
}

// A slow network has several polls under way at once, and all of them may have gone to the boundary node that lies. That
// it says so several times does not make it true: nobody is closed and nothing is lost.
func TestOneLyingNodeIsOneWord(t *testing.T) {
	t.Parallel()
	for name, lie := range map[string]func(r *rig){
		"messages left out": func(*rig) {},
		"client keys swapped": func(r *rig) {
			a, ok := localnet.AttackNamed("client keys swapped outside")
			if !ok {
				r.t.Fatal("no such attack")
			}
			r.t.Cleanup(a.Mount(r.network, r.canister, "http://lying.test").Stop)
		},
		"rejects": func(r *rig) {
			a, ok := localnet.AttackNamed("rejected by the canister")
			if !ok {
				r.t.Fatal("no such attack")
			}
			r.t.Cleanup(a.Mount(r.network, r.canister, "http://lying.test").Stop)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var node *skippingNode
			inBubble(t, rigOptions{
				network: localnet.Options{Nodes: 4},
				config: func(c *relay.Config) {
					twoNodes(c)
					if name == "messages left out" {
						node = &skippingNode{network: c.Transport, gateway: c.Identity}
						c.Transport = node
					}
				},
			}, func(t *testing.T, r *rig) {
				lie(r)
				r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
					if q.Endpoint == "query" {
						f.ReplyDelay = 350 * time.Millisecond
					}
					return f
				})
				a, b := r.open(), r.open()
				for i := range 100 {
					r.burst(fmt.Sprint(i), a, b)
				}
				for _, e := range r.logs.FilterMessageSnippet("skipped").All() {
					t.Errorf("log: %s", e.Message)
				}
				if node != nil && node.skipped.Load() == 0 {
					t.Error("the node did not lie: this shows nothing")
				}
			})
		})
	}
}

// A boundary node that never gives an outcome is not asked for it twice in a row, however fast it is: it may lag, or prove
// with an old certificate that the request is unknown.
func TestOutcomeIsAskedElsewhere(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"call unknown to the network", "call received for ever", "call accepted for ever"} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, rigOptions{config: twoNodes}, func(t *testing.T, r *rig) {
				a, ok := localnet.AttackNamed(name)
				if !ok {
					t.Fatal("no such attack")
				}
				t.Cleanup(a.Mount(r.network, r.canister, "http://lying.test").Stop)
				r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
					f.ReplyDelay = time.Millisecond
					if q.Boundary == "http://honest.test" {
						f.ReplyDelay = 350 * time.Millisecond // the liar is chosen wherever there is a choice
					}
					return f
				})
				c := r.open()
				began := time.Now() // in the bubble's time
				for i := range 6 {  // the next one goes out when the outcome of the one before is known
					r.echo(c, fmt.Sprint(i))
				}
				if took := time.Since(began); took > 10*time.Second {
					t.Errorf("six messages took %s", took)
				}
			})
		})
	}
}

// burst has the canister send three messages to each of the clients at once, and waits for them.
func (r *rig) burst(text string, clients ...*client.Client) {
	r.t.Helper()
	r.cdk.Do(func(ctx *localnet.AppContext) {
		for i := range 3 * len(clients) {
			ctx.Send(clients[i/3].Key().Principal, []byte(text)) // an error if it is gone, which is noticed below
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for i := range 3 * len(clients) {
		if m, err := clients[i/3].Receive(ctx); err != nil || string(m.Payload) != text {
			r.t.Fatalf("burst %s, message %d: got %q, %v", text, i, m.Payload, err)
		}
	}
}

// misrouted changes the client key that stands beside each message for one of the clients. It is not certified.
func misrouted(body []byte, keys ...verify.ClientKey) []byte {
	for _, k := range keys {
		id := k.Principal.Bytes()
		pattern := append([]byte{1, byte(len(id))}, id...)
		pattern = binary.LittleEndian.AppendUint64(pattern, k.Nonce)
		for at := 0; ; {
			i := bytes.Index(body[at:], pattern)
			if i < 0 {
				break
			}
			at += i + len(pattern)
			body[at-1] ^= 0xff
		}
	}
	return body
}

// A canister that states a wrong recipient for some messages loses those clients. A page may hold several such messages,
// and the others in it must still arrive.
func TestSeveralPoisonedMessages(t *testing.T) {
	inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
		bad1, bad2, good := r.open(), r.open(), r.open()
		var hold atomic.Bool
		r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
			if q.Endpoint == "query" {
				f.Drop = hold.Load()
				f.Edit = func(body []byte) []byte { return misrouted(body, bad1.Key(), bad2.Key()) }
			}
			return f
		})
		hold.Store(true)
		time.Sleep(time.Second)
		r.cdk.Do(func(ctx *localnet.AppContext) {
			for _, c := range []*client.Client{bad1, bad2, good} {
				if err := ctx.Send(c.Key().Principal, []byte("hi")); err != nil {
					t.Error(err)
				}
			}
		})
		hold.Store(false)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if m, err := good.Receive(ctx); err != nil || string(m.Payload) != "hi" {
			t.Errorf("the client of a good message got %q, %v", m.Payload, err)
		}
		for _, c := range []*client.Client{bad1, bad2} {
			if ce := closeOf(t, c); ce.Code != 1011 {
				t.Errorf("the client of a bad message was closed with %d %q", ce.Code, ce.Text)
			}
		}
	})
}

// The fastest boundary node is asked most. If it hides the messages, others are asked in time.
func TestHiddenMessagesAreFound(t *testing.T) {
	inBubble(t, rigOptions{config: twoNodes}, func(t *testing.T, r *rig) {
		a, ok := localnet.AttackNamed("every message hidden")
		if !ok {
			t.Fatal("no such attack")
		}
		defer a.Mount(r.network, r.canister, "http://lying.test").Stop()
		r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
			f.ReplyDelay = 5 * time.Millisecond
			if q.Boundary == "http://honest.test" {
				f.ReplyDelay = 300 * time.Millisecond
			}
			return f
		})
		c := r.open()
		time.Sleep(time.Minute) // by now it is known who is slow
		for i := range 20 {
			began := time.Now()
			r.echo(c, fmt.Sprint(i))
			if took := time.Since(began); took > 6*time.Second {
				t.Errorf("echo %d took %s", i, took)
			}
			time.Sleep(20 * time.Second)
		}
	})
}
