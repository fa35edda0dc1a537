package relay_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

// Whatever a network does to single requests, messages arrive once, in order.
func TestRelaySurvivesFaults(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(*localnet.Request) localnet.Fault{
		"429": func(q *localnet.Request) localnet.Fault {
			return localnet.Fault{Status: 429, Cause: "rate_limited", RetryAfter: time.Second}
		},
		"503":        func(*localnet.Request) localnet.Fault { return localnet.Fault{Status: 503, Cause: "no_healthy_nodes"} },
		"dropped":    func(*localnet.Request) localnet.Fault { return localnet.Fault{Drop: true} },
		"reply lost": func(*localnet.Request) localnet.Fault { return localnet.Fault{DropReply: true} },
		"late":       func(*localnet.Request) localnet.Fault { return localnet.Fault{Delay: 4 * time.Second} },
		"never":      func(*localnet.Request) localnet.Fault { return localnet.Fault{Delay: time.Hour} },
		"truncated":  func(*localnet.Request) localnet.Fault { return localnet.Fault{Truncate: 20} },
		"one bit off": func(q *localnet.Request) localnet.Fault {
			at := int(q.Count) * 31
			return localnet.Fault{CorruptAt: &at}
		},
		"lag": func(*localnet.Request) localnet.Fault { return localnet.Fault{Lag: 5} },
		"html instead": func(*localnet.Request) localnet.Fault {
			return localnet.Fault{Edit: func([]byte) []byte { return []byte("<html>") }}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
				c := r.open()
				// Every other call and every other query: of all requests, it could be the calls that fail, and nothing else.
				var calls, queries atomic.Uint64
				r.network.SetFaults(func(q *localnet.Request) localnet.Fault {
					n := &queries
					if q.Endpoint == "call" {
						n = &calls
					}
					if n.Add(1)%2 == 0 {
						return localnet.Fault{}
					}
					return fault(q)
				})
				for i := range 10 {
					r.echo(c, fmt.Sprintf("message %d", i))
				}
			})
		})
	}
}

// A call that takes longer than the replica holds a request is answered with 202, and posted again for its outcome.
func TestOutcomeAfter202(t *testing.T) {
	inBubble(t, rigOptions{network: localnet.Options{Latency: 25 * time.Second}}, func(t *testing.T, r *rig) {
		o := r.options()
		o.OpenTimeout = 3 * time.Minute
		c, err := client.Dial(t.Context(), r.url, o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for i := range 3 {
			if err := c.Send(t.Context(), fmt.Appendf(nil, "%d", i)); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 3 {
			m, err := c.Receive(t.Context())
			if err != nil || string(m.Payload) != fmt.Sprint(i) {
				t.Fatalf("message %d: %q, %v", i, m.Payload, err)
			}
		}
	})
}

// An outcome that cannot be learned closes the session rather than risk a gap.
func TestOutcomeUnknownClosesTheSession(t *testing.T) {
	inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
		c := r.open()
		r.network.SetFaults(func(q *localnet.Request) localnet.Fault {
			return localnet.Fault{DropReply: q.Endpoint == "call"}
		})
		if err := c.Send(t.Context(), []byte("hi")); err != nil {
			t.Fatal(err)
		}
		ce := closeOf(t, c)
		if ce.Code != 1012 || !strings.Contains(ce.Text, "outcome") {
			t.Errorf("closed with %d %q, want 1012 and the unknown outcome", ce.Code, ce.Text)
		}
	})
}

func TestNetworkWithAsynchronousCallsOnly(t *testing.T) {
	inBubble(t, rigOptions{network: localnet.Options{V2Only: true}}, func(t *testing.T, r *rig) {
		c := r.open()
		for i := range 5 {
			r.echo(c, fmt.Sprint(i))
		}
		if !r.logged("does not certify their outcome") {
			t.Error("the log does not say what is lost with version 2 of the call endpoint")
		}
	})
}

func TestCertificatesInTheNewerLayoutAreSwapped(t *testing.T) {
	inBubble(t, rigOptions{network: localnet.Options{ShardedOnly: true}}, func(t *testing.T, r *rig) {
		r.echo(r.open(), "hi") // the client refuses sharded certificates, as the SDK does
		if !r.logged("layout they understand") {
			t.Error("the log does not mention the swap")
		}
	})
}

func TestRefusalsReachTheClient(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		do   func(t *testing.T, r *rig)
		code int
		text string
	}{
		{"canister out of cycles", func(t *testing.T, r *rig) { r.network.OutOfCycles(r.canister, true) }, 1013, "cycles"},
		{"canister stopped", func(t *testing.T, r *rig) { r.network.Stop(r.canister) }, 1013, "stopped"},
		{"canister without module", func(t *testing.T, r *rig) { r.network.Uninstall(r.canister) }, 1013, "module"},
		{"canister deleted", func(t *testing.T, r *rig) { r.network.Delete(r.canister) }, 1011, "does not exist"},
		{"upgraded: session forgotten", func(t *testing.T, r *rig) { r.network.Upgrade(r.canister) }, 1012, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
				c := r.open()
				r.echo(c, "before")
				tc.do(t, r)
				if err := c.Send(t.Context(), []byte("after")); err != nil {
					t.Fatal(err)
				}
				ce := closeOf(t, c)
				if ce.Code != tc.code || !strings.Contains(ce.Text, tc.text) {
					t.Errorf("closed with %d %q, want %d and %q", ce.Code, ce.Text, tc.code, tc.text)
				}
			})
		})
	}
}

func TestTrapReachesTheClient(t *testing.T) {
	inBubble(t, rigOptions{cdk: localnet.CDKOptions{App: localnet.PingPong{Quiet: true}}}, func(t *testing.T, r *rig) {
		c := r.open()
		if err := c.Send(t.Context(), localnet.TextPayload("trap")); err != nil {
			t.Fatal(err)
		}
		if ce := closeOf(t, c); ce.Code != 1011 || !strings.Contains(ce.Text, "trapped") {
			t.Errorf("closed with %d %q", ce.Code, ce.Text)
		}
	})
}

func TestUnknownCanister(t *testing.T) {
	inBubble(t, rigOptions{policy: func(p *relay.Policy) { p.AnyCanister = true }}, func(t *testing.T, r *rig) {
		o := r.options()
		o.Canister, _ = verify.PrincipalFromBytes([]byte{0x80, 0, 0, 0, 0, 0x10, 0, 99, 1, 1})
		began := time.Now()
		_, err := client.Dial(t.Context(), r.url, o)
		var ce *client.CloseError
		if !errors.As(err, &ce) || ce.Code != 1011 || !strings.Contains(ce.Text, "does not exist") {
			t.Errorf("dial failed with %v, want 1011", err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("that took %s", took)
		}
	})
}

// A canister upgrade takes some time and forgets all sessions. They are closed with a reason, and new ones open at once.
func TestUpgradeIsNoticed(t *testing.T) {
	inBubble(t, rigOptions{network: localnet.Options{Nodes: 4}}, func(t *testing.T, r *rig) {
		quiet, busy := r.open(), r.open()
		for i := range 70 {
			r.echo(busy, fmt.Sprint(i))
		}
		r.network.Upgrade(r.canister)
		fresh := r.open() // a queue of its own, far below the position of the poller
		r.echo(fresh, "new")
		for name, c := range map[string]*client.Client{"quiet": quiet, "busy": busy} {
			if ce := closeOf(t, c); ce.Code != 1012 || !strings.Contains(ce.Text, "forgot") {
				t.Errorf("the %s session was closed with %d %q", name, ce.Code, ce.Text)
			}
		}
		r.echo(fresh, "still new")
	})
}

// Without any new session, nothing is certified that would show the reset; then the nodes' signatures do.
func TestUpgradeIsNoticedInSilence(t *testing.T) {
	inBubble(t, rigOptions{network: localnet.Options{Nodes: 4}}, func(t *testing.T, r *rig) {
		c := r.open()
		r.echo(c, "hi")
		r.network.Upgrade(r.canister)
		began := time.Now()
		if ce := closeOf(t, c); ce.Code != 1012 {
			t.Errorf("closed with %d %q", ce.Code, ce.Text)
		}
		if took := time.Since(began); took > time.Minute {
			t.Errorf("noticed after %s", took)
		}
	})
}

func TestLagIsNoReset(t *testing.T) {
	inBubble(t, rigOptions{network: localnet.Options{Nodes: 4}}, func(t *testing.T, r *rig) {
		c := r.open()
		r.echo(c, "hi")
		var n atomic.Uint64
		r.network.SetFaults(func(q *localnet.Request) localnet.Fault {
			return localnet.Fault{Lag: int(n.Add(1)*7) % 50}
		})
		for i := range sized(60, 45, 25) {
			r.echo(c, fmt.Sprint(i))
			time.Sleep(time.Duration(i) * time.Second)
		}
		if r.logged("began anew") {
			t.Error("lag was taken for a reset")
		}
	})
}

func TestOutageWithinTheLimitHurtsNobody(t *testing.T) {
	inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
		c := r.open()
		r.echo(c, "before")
		r.network.SetFaults(func(*localnet.Request) localnet.Fault { return localnet.Fault{Drop: true} })
		if err := c.Send(t.Context(), []byte("during")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Second)
		r.network.SetFaults(nil)
		m, err := c.Receive(t.Context())
		if err != nil || string(m.Payload) != "during" {
			t.Fatalf("after the outage: %q, %v", m.Payload, err)
		}
		r.echo(c, "after")
	})
}

func TestOutageBeyondTheLimitClosesWithAReason(t *testing.T) {
	inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
		c := r.open()
		r.network.SetFaults(func(*localnet.Request) localnet.Fault { return localnet.Fault{Status: 503} })
		began := time.Now()
		ce := closeOf(t, c)
		if ce.Code != 1012 || !strings.Contains(ce.Text, "cannot be reached") {
			t.Errorf("closed with %d %q", ce.Code, ce.Text)
		}
		if took := time.Since(began); took < 2*time.Minute || took > 140*time.Second {
			t.Errorf("closed after %s, want about the outage_timeout of 2 minutes", took)
		}
		r.network.SetFaults(nil)
		r.echo(r.open(), "again")
	})
}

func TestUnverifiableAnswersCloseWithAReason(t *testing.T) {
	inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
		c := r.open()
		r.network.SetFaults(func(q *localnet.Request) localnet.Fault {
			if q.Endpoint != "query" {
				return localnet.Fault{}
			}
			return localnet.Fault{Edit: func(body []byte) []byte {
				if at := bytes.Index(body, []byte("certified_data")); at >= 0 {
					body[at+20] ^= 1
				}
				return body
			}}
		})
		if err := c.Send(t.Context(), []byte("hi")); err != nil {
			t.Fatal(err)
		}
		ce := closeOf(t, c)
		if ce.Code != 1011 || !strings.Contains(ce.Text, "verification") {
			t.Errorf("closed with %d %q", ce.Code, ce.Text)
		}
	})
}

func TestCanisterClose(t *testing.T) {
	inBubble(t, rigOptions{cdk: localnet.CDKOptions{App: localnet.PingPong{Quiet: true}}}, func(t *testing.T, r *rig) {
		c := r.open()
		if err := c.Send(t.Context(), localnet.TextPayload("close")); err != nil {
			t.Fatal(err)
		}
		if ce := closeOf(t, c); ce.Code != client.CodeByApplication || !ce.Local {
			t.Errorf("closed with %d %q, want the client's own 4001", ce.Code, ce.Text)
		}
	})
}

// Sessions live for hours on acks and keep-alives alone.
func TestIdleSessionLives(t *testing.T) {
	inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
		o := r.options()
		o.AckTimeout = 0 // the SDK's
		c, err := client.Dial(t.Context(), r.url, o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		r.echo(c, "hi")
		for range sized(12, 6, 3) {
			time.Sleep(5 * time.Minute)
			r.echo(c, "still there")
		}
	})
}

func TestMissingAcksAreNamed(t *testing.T) {
	inBubble(t, rigOptions{cdk: localnet.CDKOptions{NoAcks: true}}, func(t *testing.T, r *rig) {
		o := r.options()
		o.AckTimeout = 0
		c, err := client.Dial(t.Context(), r.url, o)
		if err != nil {
			t.Fatal(err)
		}
		r.echo(c, "hi")
		if ce := closeOf(t, c); ce.Text != client.TextAckTimeout {
			t.Errorf("closed with %d %q", ce.Code, ce.Text)
		}
		if !r.logged("is the CDK's init() called") {
			t.Error("the log does not name the likely cause")
		}
		if s := r.gateway.Snapshot(); len(s.Canisters) != 1 || !s.Canisters[0].AckOverdue {
			t.Errorf("the snapshot does not show it: %+v", s.Canisters)
		}
	})
}

// A half-open connection is noticed within ping_interval + pong_timeout.
func TestHalfOpenConnection(t *testing.T) {
	inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
		raw := r.raw(r.options())
		frame, _ := raw.Composer().Open(raw.Gateway(), time.Time{})
		raw.Write(t.Context(), 2, frame)
		if _, _, err := raw.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for r.gateway.Snapshot().Sessions != 0 { // nothing is read, so no ping is answered
			time.Sleep(100 * time.Millisecond)
			if time.Since(began) > time.Minute {
				t.Fatal("not noticed within a minute")
			}
		}
		limit := relay.DefaultPingInterval + relay.DefaultPongTimeout + 4*time.Second // and the linger of the close
		if took := time.Since(began); took > limit {
			t.Errorf("noticed after %s, want %s at most", took, limit)
		}
	})
}

func TestLimits(t *testing.T) {
	inBubble(t, rigOptions{policy: func(p *relay.Policy) { p.MaxSessionsPerIP, p.MaxSessionsPerCanister = 3, 2 }}, func(t *testing.T, r *rig) {
		r.open()
		r.open()
		_, err := client.Dial(t.Context(), r.url, r.options())
		var ce *client.CloseError
		if !errors.As(err, &ce) || ce.Code != 1013 {
			t.Errorf("third session of the canister: %v, want 1013", err)
		}
		r.waitFor("the refused session is gone", func() bool { return r.gateway.Snapshot().Sessions == 2 })
		r.raw(r.options())
		_, err = client.DialRaw(t.Context(), r.url, r.options())
		var ue *client.UpgradeError
		if !errors.As(err, &ue) || ue.Status != http.StatusTooManyRequests || !strings.Contains(ue.Body, "max_sessions_per_ip") {
			t.Errorf("fourth connection: %v, want 429 and the name of the limit", err)
		}
	})
}

// The message queue of an earlier run is passed in few requests, and nothing of it is delivered.
func TestLongOldQueue(t *testing.T) {
	inBubble(t, rigOptions{cdk: localnet.CDKOptions{AckInterval: 10 * time.Hour}}, func(t *testing.T, r *rig) {
		// A client of an earlier run of this gateway, whose messages nobody fetched.
		old := r.open()
		r.echo(old, "first")
		const n = 10_000
		r.network.SetFaults(func(*localnet.Request) localnet.Fault { return localnet.Fault{Drop: true} })
		r.cdk.Do(func(ctx *localnet.AppContext) {
			for range n {
				ctx.Send(old.Key().Principal, []byte("old"))
			}
		})
		r.network.SetFaults(nil)
		old.Abort()
		time.Sleep(10 * time.Minute) // the poller of the old run ends
		var polls atomic.Int64
		r.network.SetFaults(func(q *localnet.Request) localnet.Fault {
			if q.Endpoint == "query" {
				polls.Add(1)
			}
			return localnet.Fault{}
		})
		c := r.open()
		if got := polls.Load(); got > 40 {
			t.Errorf("it took %d polls to open, want few", got)
		}
		r.echo(c, "fresh")
	})
}

// The hint about missing acks rests on what passed through the gateway, not on what a client says, and it goes when acks
// come.
func TestMissingAcksAreMissing(t *testing.T) {
	t.Parallel()
	overdue := func(r *rig) bool { return r.gateway.Snapshot().Canisters[0].AckOverdue }
	t.Run("a client only says so", func(t *testing.T) {
		inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
			r.open()
			liar := r.openRaw()
			liar.CloseWith(client.CodeProtocol, client.TextAckTimeout)
			time.Sleep(time.Second)
			if overdue(r) || r.logged("is the CDK's init() called") {
				t.Error("a canister was blamed for what a client said right after opening")
			}
		})
	})
	t.Run("acks come after all", func(t *testing.T) {
		inBubble(t, rigOptions{cdk: localnet.CDKOptions{NoAcks: true}}, func(t *testing.T, r *rig) {
			r.echo(r.open(), "hi")
			time.Sleep(6 * time.Minute)
			if !overdue(r) {
				t.Fatal("missing acks were not noticed")
			}
			if err := r.network.Reinstall(r.canister, localnet.NewCDK(localnet.CDKOptions{})); err != nil {
				t.Fatal(err)
			}
			r.echo(r.open(), "hi")
			time.Sleep(6 * time.Minute)
			if overdue(r) {
				t.Error("acks come, and are still held for missing")
			}
		})
	})
}

// What a client sent while the outcome of its ws_open was not known does not count against its canister from the beginning of
// time on: acks are missed once they are overdue, and not before.
func TestAcksAreNotMissedFromTheStart(t *testing.T) {
	inBubble(t, rigOptions{cdk: localnet.CDKOptions{NoAcks: true}}, func(t *testing.T, r *rig) {
		r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
			if q.Method == "ws_open" {
				f.ReplyDelay = 8 * time.Second // the canister's first message is there long before
			}
			return f
		})
		c := r.open()
		if err := c.Send(t.Context(), []byte("hi")); err != nil {
			t.Fatal(err)
		}
		overdue := func() bool { return r.gateway.Snapshot().Canisters[0].AckOverdue }
		time.Sleep(5 * time.Minute)
		if overdue() {
			t.Error("acks were missed before they can be overdue")
		}
		time.Sleep(time.Minute)
		if !overdue() {
			t.Error("missing acks were not noticed")
		}
	})
}
