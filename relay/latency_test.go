package relay_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

// journey is when each step of a message and of its answer was done.
type journey struct {
	sent      time.Time // by the client
	executed  time.Time // by the canister, which answers at once
	certified time.Time // the outcome is back at the gateway
	asked     time.Time // the poll leaves that brings the answer
	answered  time.Time // it is back
	delivered time.Time // the client has it, verified
}

// steps are the stages of a journey, in the order in which a person reads them.
var steps = []struct {
	name string
	took func(j *journey) time.Duration
}{
	{"sent to executed", func(j *journey) time.Duration { return j.executed.Sub(j.sent) }},
	{"executed to outcome", func(j *journey) time.Duration { return j.certified.Sub(j.executed) }},
	{"outcome to poll", func(j *journey) time.Duration { return j.asked.Sub(j.certified) }},
	{"poll to answer", func(j *journey) time.Duration { return j.answered.Sub(j.asked) }},
	{"answer to client", func(j *journey) time.Duration { return j.delivered.Sub(j.answered) }},
	{"executed to client", func(j *journey) time.Duration { return j.delivered.Sub(j.executed) }},
}

// tracedNetwork is a way to the network of which each direction takes a while, and which notes what passes. It is the canister's
// application, too.
type tracedNetwork struct {
	localnet.NoCallbacks
	to     http.RoundTripper
	way    time.Duration
	spread time.Duration
	silent bool          // the canister answers nothing
	lag    time.Duration // by which outcomes are later still; mu guards it

	mu       sync.Mutex
	polls    int
	calls    int
	journeys map[string]*journey
}

// note has f note something in the journeys of which the text is in data.
func (n *tracedNetwork) note(data []byte, f func(*journey)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for at := bytes.Index(data, []byte("journey ")); at >= 0; at = bytes.Index(data, []byte("journey ")) {
		data = data[at:]
		if j := n.journeys[string(data[:min(len(data), len("journey 000000"))])]; j != nil {
			f(j)
		}
		data = data[1:]
	}
}

func (n *tracedNetwork) RoundTrip(r *http.Request) (*http.Response, error) {
	left := time.Now()
	request, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r.Body = io.NopCloser(bytes.NewReader(request))
	time.Sleep(n.way)
	res, err := n.to.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	call := strings.HasSuffix(r.URL.Path, "/call")
	late := time.Duration(0)
	if call {
		n.mu.Lock()
		late = time.Duration(n.calls%9)*n.spread + n.lag
		n.calls++
		n.mu.Unlock()
	}
	time.Sleep(n.way + late)
	back := time.Now()
	if call {
		n.note(request, func(j *journey) { j.certified = back })
		return res, nil
	}
	if strings.HasSuffix(r.URL.Path, "/query") {
		n.mu.Lock()
		n.polls++
		n.mu.Unlock()
		n.note(body, func(j *journey) {
			if j.answered.IsZero() || back.Before(j.answered) {
				j.asked, j.answered = left, back
			}
		})
	}
	return res, nil
}

// OnMessage implements localnet.App.
func (n *tracedNetwork) OnMessage(ctx *localnet.AppContext, from verify.Principal, payload []byte) error {
	n.note(payload, func(j *journey) { j.executed = time.Now() })
	if n.silent {
		return nil
	}
	return ctx.Send(from, payload)
}

// latencyOf has senders send a message a second each for a while, and returns what became of these, with the polls per second.
func latencyOf(t *testing.T, r *rig, n *tracedNetwork, senders, seconds int) (all []*journey, polls float64) {
	t.Helper()
	clients := make([]*client.Client, senders)
	for i := range clients {
		o := r.options()
		o.OnMessage = func(m client.Message) {
			n.note(m.Payload, func(j *journey) { j.delivered = time.Now() })
		}
		c, err := client.Dial(t.Context(), r.url, o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		clients[i] = c
	}
	n.mu.Lock()
	n.polls = 0
	n.mu.Unlock()
	began := time.Now()
	var wg sync.WaitGroup
	for i, c := range clients {
		moments := rand.New(rand.NewPCG(13, uint64(i))) // the same in each run
		wg.Go(func() {
			for s := range seconds {
				due := time.Duration(s)*time.Second + time.Duration(moments.IntN(int(time.Second)))
				time.Sleep(due - time.Since(began))
				text := fmt.Sprintf("journey %06d", s*senders+i)
				n.mu.Lock()
				j := &journey{sent: time.Now()}
				n.journeys[text] = j
				all = append(all, j)
				n.mu.Unlock()
				if err := c.Send(t.Context(), []byte(text)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	n.mu.Lock()
	polls = float64(n.polls) / time.Since(began).Seconds()
	n.mu.Unlock()
	time.Sleep(5 * time.Second)
	return all, polls
}

// How long the answer of a canister takes from its execution to the client, in fake time: what is here is waiting, and nothing of it
// is work. The network certifies what is executed at once, or in blocks.
func TestLatency(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for _, tt := range []struct {
		name           string
		senders        int
		latency, block time.Duration // of the network
		way            time.Duration // to it, one direction
		spread         time.Duration // of outcomes: each of nine comes that much later than the one before
		silent         bool
		old            bool          // the canister does not say where its queue ends
		p50, p99       time.Duration // at most, from the execution to the client
		polls          float64       // at most, per second
	}{
		{name: "1 a second", senders: 1, p50: 0, p99: 0, polls: 12},
		{name: "50 a second", senders: 50, p50: 2 * ms, p99: 10 * ms, polls: 60},
		{name: "200 a second", senders: 200, p50: 6 * ms, p99: 10 * ms, polls: 105},
		{name: "200 a second, blocks of 20 ms", senders: 200, latency: 40 * ms, block: 20 * ms, p50: 0, p99: 10 * ms, polls: 60},
		{name: "50 a second, blocks of 430 ms", senders: 50, latency: 860 * ms, block: 430 * ms, p50: 0, p99: 0, polls: 14},
		{name: "50 a second, blocks of 430 ms, outcomes over 40 ms", senders: 50, latency: 860 * ms, block: 430 * ms, spread: 5 * ms, p50: 20 * ms, p99: 40 * ms, polls: 14},
		{name: "200 a second, blocks of 430 ms, outcomes over 40 ms, a canister of CDK 0.3.0", senders: 200, latency: 860 * ms, block: 430 * ms, spread: 5 * ms, old: true, p50: 20 * ms, p99: 60 * ms, polls: 60},
		{name: "1 a second, 50 ms away", senders: 1, way: 50 * ms, p50: 63 * ms, p99: 150 * ms, polls: 12},
		{name: "50 a second, 50 ms away", senders: 50, way: 50 * ms, p50: 66 * ms, p99: 88 * ms, polls: 41},
		{name: "50 a second, 50 ms away, blocks of 430 ms", senders: 50, way: 50 * ms, latency: 860 * ms, block: 430 * ms, p50: 150 * ms, p99: 150 * ms, polls: 20},
		{name: "50 a second that are not answered", senders: 50, silent: true, polls: 41},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := &tracedNetwork{way: tt.way, spread: tt.spread, silent: tt.silent, journeys: make(map[string]*journey)}
			inBubble(t, rigOptions{
				network: localnet.Options{Latency: tt.latency, Block: tt.block},
				cdk:     localnet.CDKOptions{App: n, PreEndOfQueue: tt.old},
				config: func(c *relay.Config) {
					pollByDefault(c)
					n.to, c.Transport = c.Transport, n
				},
			}, func(t *testing.T, r *rig) {
				seconds := min(20, max(2, 200/tt.senders))
				all, polls := latencyOf(t, r, n, tt.senders, seconds)
				checked := float64(r.authority.Stats().RootMisses) / float64(len(all))
				if polls > tt.polls {
					t.Errorf("%.1f polls a second, want %.1f at most", polls, tt.polls)
				}
				if tt.silent {
					t.Logf("%.1f polls a second", polls)
					return
				}
				var table strings.Builder
				var p50, p99 time.Duration
				for _, s := range steps {
					var took []time.Duration
					for _, j := range all {
						if j.delivered.IsZero() {
							t.Fatal("an answer did not come")
						}
						took = append(took, s.took(j))
					}
					slices.Sort(took)
					p50, p99 = took[len(took)/2], took[len(took)*99/100]
					fmt.Fprintf(&table, "\n%-20s %8.1f %8.1f ms", s.name, p50.Seconds()*1e3, p99.Seconds()*1e3)
				}
				t.Logf("p50 and p99 of %d messages, %.1f polls a second, %.2f signatures of the network checked for each message:%s", len(all), polls, checked, &table)
				if p50 > tt.p50 || p99 > tt.p99 {
					t.Errorf("executed to client: %s and %s, want %s and %s at most", p50, p99, tt.p50, tt.p99)
				}
			})
		})
	}
}
