package relay_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/verify"
)

// modelRun is one run of the model test.
type modelRun struct {
	seed  uint64
	steps int // shared among the variants
}

// modelRuns are those of every run of the tests. Seed 30 is the one that found the protection against lagging nodes switched off.
func modelRuns() []modelRun {
	standard := []modelRun{{1, sized(1500, 400, 200)}, {30, sized(900, 400, 200)}}
	seed, given := os.LookupEnv("ICWS_MODEL_SEED")
	if !given {
		return standard
	}
	n, err := strconv.ParseUint(seed, 10, 64)
	if err != nil {
		panic("ICWS_MODEL_SEED: " + err.Error())
	}
	steps := standard[0].steps
	if given := os.Getenv("ICWS_MODEL_STEPS"); given != "" {
		if steps, err = strconv.Atoi(given); err != nil {
			panic("ICWS_MODEL_STEPS: " + err.Error())
		}
	}
	return []modelRun{{n, steps}}
}

// modelVariants are the networks that a run goes through. Each gets a quarter of the steps.
var modelVariants = []modelVariant{
	{name: "latency=0s"},
	{name: "latency=50ms", latency: 50 * time.Millisecond},
	{name: "latency=1s", latency: time.Second},
	{name: "latency=2s", latency: 2 * time.Second},
	{name: "retention", latency: 50 * time.Millisecond, retention: true},
}

type modelVariant struct {
	name    string
	latency time.Duration
	// retention has the canister delete messages after little more than a minute, and the gateway wait longer than that.
	retention bool
}

// TestModel drives a gateway with random events of clients, canister and network, and holds what everybody saw against
// a model that needs no gateway: a client sees exactly what the canister sent it, in order, and the canister exactly
// what the client sent, as long as the session lasts; and a session ends only for a reason that is in the events.
//
// The seeds fix the events. Which host is asked, how long a pause is and who somebody is differ from run to run: a failure may
// need several to show again. ICWS_MODEL_SEED makes another run instead, and
// ICWS_MODEL_STEPS gives it a length.
func TestModel(t *testing.T) {
	t.Parallel()
	for _, run := range modelRuns() {
		t.Run(fmt.Sprintf("seed=%d", run.seed), func(t *testing.T) {
			t.Parallel()
			for i, v := range modelVariants {
				t.Run(v.name, func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						m := newModel(t, rand.New(rand.NewPCG(run.seed, uint64(i))), v)
						defer m.report(run)
						m.run(run.steps / 4)
					})
				})
			}
		})
	}
}

// model is the reference: what canister and clients did.
type model struct {
	localnet.NoCallbacks
	t    *testing.T
	rnd  *rand.Rand
	r    *rig
	skip skippingNode
	modelVariant

	mu       sync.Mutex
	sessions map[verify.Principal]*history // the last one of each client
	upgrades int

	clients []*modelClient
	fault   *modelFault // the present one, or the last one if its effects may not be over; nil = none
	deaf    time.Time   // until when nobody can read what the canister has for its clients; the past = everybody can
	counter int         // of steps
	began   time.Time
	events  []string // the last ones; mu guards them
}

func newModel(t *testing.T, rnd *rand.Rand, v modelVariant) *model {
	m := &model{t: t, rnd: rnd, modelVariant: v, sessions: make(map[verify.Principal]*history), began: time.Now()}
	cdk := localnet.CDKOptions{App: m}
	if v.retention {
		cdk.NoAcks, cdk.AckInterval = true, 70*time.Second
	}
	m.r = newRig(t, rigOptions{
		pipes:   true,
		network: localnet.Options{Latency: v.latency, Nodes: 4},
		cdk:     cdk,
		config: func(c *relay.Config) {
			twoNodes(c)
			m.skip.network, m.skip.gateway, c.Transport = c.Transport, c.Identity, &m.skip
			if v.retention {
				c.OutageTimeout = time.Hour
			}
		},
	})
	m.skip.honest.Store(true)
	return m
}

func (m *model) run(steps int) {
	for range steps {
		m.step()
		if m.t.Failed() {
			return
		}
	}
	m.calm()
	for _, c := range m.clients {
		c.resume()
	}
	time.Sleep(7 * time.Minute) // an ack, and the canister's look at who has answered it
	m.check(true)
	if n := len(m.r.cdk.Clients()); n != len(m.clients) {
		m.t.Errorf("at the end the canister has %d clients, and there are %d", n, len(m.clients))
	}
}

// step does one random thing.
func (m *model) step() {
	m.counter++
	switch n := m.rnd.IntN(100); {
	case n < 8 && len(m.clients) < 12:
		m.open()
	case n < 43:
		m.clientSends()
	case n < 62:
		m.canisterSends()
	case n < 66:
		m.leave()
	case n < 75:
		m.misbehave()
	case n < 76:
		m.upgrade()
	case n < 77 && !m.retention:
		m.outage()
	case n < 77:
		m.blackout()
	case n < 79:
		m.reopen()
	case n < 80:
		m.dismiss()
	case n < 81:
		m.stall()
	case n < 82:
		m.vanish()
	case n < 83 && m.rnd.IntN(4) == 0:
		m.desert()
	case n < 99:
		time.Sleep(time.Duration(m.rnd.IntN(3000)) * time.Millisecond)
	default:
		time.Sleep(time.Duration(m.rnd.IntN(6)) * time.Minute)
		m.check(false)
	}
	if m.fault != nil && time.Now().After(m.fault.until) {
		m.calm()
	}
}

// note keeps an event for the report of a failure.
func (m *model) note(format string, args ...any) {
	const kept = 30
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.events) == kept {
		m.events = append(m.events[:0], m.events[1:]...)
	}
	at := fmt.Sprintf("step %d, %s: ", m.counter, time.Since(m.began).Round(time.Millisecond))
	m.events = append(m.events, at+fmt.Sprintf(format, args...))
}

// report says of a run that failed how to repeat it, and what happened last.
func (m *model) report(run modelRun) {
	if m.t.Failed() {
		m.t.Logf("repeat it with ICWS_MODEL_SEED=%d ICWS_MODEL_STEPS=%d and -run 'TestModel/.*/%s'; it failed at step %d. The last events:\n%s",
			run.seed, run.steps, m.name, m.counter, strings.Join(m.events, "\n"))
		logs := m.r.logs.All()
		for _, e := range logs[max(0, len(logs)-10):] {
			m.t.Logf("gateway, %s: %s %v", e.Time.Sub(m.began).Round(time.Millisecond), e.Message, e.ContextMap())
		}
	}
}
