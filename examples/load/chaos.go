package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aviate-labs/agent-go/identity"
	"github.com/gorilla/websocket"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// Shares of the clients that do not behave, in percent. The rest is honest and is what the violations are about.
const (
	stallShare    = 4 // stop reading for a while
	vanishShare   = 4 // lose their connection and come back with the same identity
	restlessShare = 4 // close and open again and again
)

// upgradeWake is how long after an upgrade a session may still end because of it: a client that says nothing learns of
// it with the next acknowledgement that does not come, and one that does with its next message.
const upgradeWake = 45 * time.Second

// chaos runs clients against a network that fails in every way that it can, and a canister that is upgraded.
func chaos(ctx context.Context, s *settings, rec *recorder) (*report, error) {
	before := measure()
	w, err := newWorld(worldOptions{
		latency: s.latency, seed: s.seed, nodes: 3, memory: s.memory,
		// Shorter than the CDK's defaults, so that acknowledgements fall into the run.
		cdk: localnet.CDKOptions{App: localnet.Echo{}, AckInterval: 50 * time.Second, KeepAliveTimeout: 30 * time.Second},
	})
	if err != nil {
		return nil, err
	}
	c := &storm{world: w, random: rand.New(rand.NewPCG(s.seed, 0)), mark: rec.mark}
	if c.kinds, err = c.pick(s.weather); err != nil {
		w.close()
		return nil, err
	}
	p := s.plan()
	p.judge = c.judge
	f := newFleet(w.target(), p)
	recorded := rec.start(f.stats)
	runCtx, cancel := context.WithTimeout(ctx, s.duration)
	defer cancel()
	watched := watch(runCtx, s)
	stop := f.explainSilence(runCtx, w.why, rec.console)
	var weather sync.WaitGroup
	weather.Go(func() { c.blow(runCtx, s.duration, s.upgrades) })
	c.clients(runCtx, f)
	cancel()
	weather.Wait()
	stop()
	trend := <-watched
	recorded()
	r := f.stats.report(s.mode, time.Since(rec.started))
	w.drain(20 * time.Second)
	left := len(w.cdk.Clients())
	if err := w.close(); err != nil {
		r.violate("%v", err)
	}
	r.note("%d requests were disturbed, %d upgrades", c.disturbed.Load(), c.upgrades.Load())
	r.note("%d clients still registered in the canister after the drain", left)
	if c.upgrades.Load() == 0 && c.disturbed.Load() == 0 {
		r.violate("nothing was disturbed: the run proves nothing")
	}
	c, f, w = nil, nil, nil // the canister's queues are not what the gateway left behind
	r.Before, r.During, r.After = before, trend.last, settle(before.Goroutines)
	return r, nil
}

// storm makes the faults.
type storm struct {
	world     *world
	mark      func(format string, args ...any) // tells what the weather is
	disturbed atomic.Uint64
	upgrades  atomic.Uint64
	kinds     []regime

	mu     sync.Mutex // guards random and the rest
	random *rand.Rand
	spell  int       // counts the changes of the weather
	lastUp time.Time // when the last upgrade began
}

// A regime is a kind of weather: the fault for one request, chosen with r.
type regime struct {
	name  string
	fault func(r *rand.Rand, q *localnet.Request) localnet.Fault
}

// regimes returns all kinds of weather.
func (c *storm) regimes() []regime {
	millis := func(r *rand.Rand, most int) time.Duration { return time.Duration(r.IntN(most)) * time.Millisecond }
	chance := func(r *rand.Rand, percent int) bool { return r.IntN(100) < percent }
	nodes := c.world.nodes
	flaky := func(r *rand.Rand, _ *localnet.Request) (f localnet.Fault) {
		switch n := r.IntN(100); {
		case n < 8:
			f.Drop = true
		case n < 12:
			f.DropReply = true
		case n < 17:
			f.Status = 503
		case n < 22:
			f.Status, f.RetryAfter = 429, time.Second
		case n < 24:
			f.Status = 500
		}
		return f
	}
	slow := func(r *rand.Rand, _ *localnet.Request) (f localnet.Fault) {
		if chance(r, 15) {
			f.Delay = millis(r, 5000)
		}
		if chance(r, 15) {
			f.ReplyDelay = millis(r, 2000)
		}
		return f
	}
	lying := func(r *rand.Rand, _ *localnet.Request) (f localnet.Fault) {
		switch n := r.IntN(100); {
		case n < 10:
			at := r.IntN(1 << 20)
			f.CorruptAt = &at
		case n < 15:
			f.Truncate = 1 + r.IntN(400)
		case n < 18:
			f.Edit = func(b []byte) []byte { return b[:len(b)/2] }
		}
		return f
	}
	lagging := func(r *rand.Rand, q *localnet.Request) (f localnet.Fault) {
		if q.Endpoint == "query" && chance(r, 50) {
			f.Lag = 1 + r.IntN(50)
		}
		return f
	}
	return []regime{
		{"flaky", flaky},
		{"slow", slow},
		{"lying", lying},
		{"lagging", lagging},
		{"node", func(_ *rand.Rand, q *localnet.Request) localnet.Fault {
			return localnet.Fault{Drop: q.Boundary == nodes[c.spell%len(nodes)]}
		}},
		{"mixed", func(r *rand.Rand, q *localnet.Request) localnet.Fault {
			kinds := []func(*rand.Rand, *localnet.Request) localnet.Fault{flaky, slow, lying, lagging}
			return kinds[r.IntN(len(kinds))](r, q)
		}},
		{"blackout", func(*rand.Rand, *localnet.Request) localnet.Fault { return localnet.Fault{Drop: true} }},
	}
}

// pick returns the kinds of weather that a comma-separated list names.
func (c *storm) pick(list string) ([]regime, error) {
	all := c.regimes()
	switch list {
	case "all":
		return all, nil
	case "none":
		return nil, nil
	}
	var picked []regime
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(all, func(r regime) bool { return r.name == name })
		if i < 0 {
			return nil, fmt.Errorf("-weather %q is not known: use all, none, or some of flaky, slow, lying, lagging, node, mixed, blackout", name)
		}
		picked = append(picked, all[i])
	}
	return picked, nil
}

// blow changes the weather until ctx ends. Upgrades are spread evenly, at a third and two thirds of the time if two.
func (c *storm) blow(ctx context.Context, total time.Duration, count int) {
	defer c.world.network.SetFaults(nil)
	var upgrades sync.WaitGroup
	defer upgrades.Wait()
	for i := range count {
		upgrades.Go(func() {
			if sleep(ctx, total*time.Duration(i+1)/time.Duration(count+1)); ctx.Err() == nil {
				c.upgrade()
			}
		})
	}
	spell := max(total/15, time.Second)
	for i := 0; ctx.Err() == nil; i++ {
		sleep(ctx, spell/3) // calm
		if len(c.kinds) == 0 {
			continue
		}
		kind, length := c.kinds[i%len(c.kinds)], spell
		if kind.name == "blackout" {
			length = min(spell, 5*time.Second)
		}
		c.mark("weather: %s for %s", kind.name, length.Round(time.Millisecond))
		c.mu.Lock()
		c.spell = i
		c.mu.Unlock()
		c.world.network.SetFaults(func(q *localnet.Request) localnet.Fault {
			c.mu.Lock()
			f := kind.fault(c.random, q)
			c.mu.Unlock()
			if f.Delay > 0 || f.ReplyDelay > 0 || f.Drop || f.DropReply || f.Status != 0 || f.Lag > 0 || f.CorruptAt != nil || f.Truncate > 0 || f.Edit != nil {
				c.disturbed.Add(1)
			}
			return f
		})
		sleep(ctx, length)
		c.world.network.SetFaults(nil)
	}
}

// upgrade stops the canister, replaces it and starts it again, as dfx does. It forgets its clients.
func (c *storm) upgrade() {
	c.mu.Lock()
	c.lastUp = time.Now()
	c.mu.Unlock()
	n, id := c.world.network, c.world.canister
	c.mark("upgrade")
	_ = n.Stopping(id) // these fail for an unknown canister only
	time.Sleep(500 * time.Millisecond)
	_ = n.Stop(id)
	time.Sleep(1500 * time.Millisecond)
	_ = n.Upgrade(id)
	_ = n.StartCanister(id)
	c.upgrades.Add(1)
}

// judge says whether an honest session may end like this. Only the upgrade is a reason: everything else that the weather
// does is shorter than what the gateway has to bear.
func (c *storm) judge(end *client.CloseError) error {
	c.mu.Lock()
	since := time.Since(c.lastUp)
	c.mu.Unlock()
	if end.Local {
		return errors.New("the gateway delivered something that the client had to refuse")
	}
	if since > upgradeWake {
		return errors.New("without an upgrade before")
	}
	switch end.Text {
	case relay.SlowConsumer.Text(), relay.WriteTimeout.Text(), relay.PongTimeout.Text():
		return errors.New("an honest client was taken for one that is slow or gone")
	}
	switch end.Code {
	case websocket.CloseServiceRestart, websocket.CloseTryAgainLater: // forgotten, or caught by the stopped canister
	default:
		return errors.New("not a reason that invites to come back")
	}
	if strings.TrimSpace(end.Text) == "" {
		return errors.New("without a text")
	}
	return nil
}

// clients runs the fleet's clients, most of them honest, and returns when all have ended.
func (c *storm) clients(ctx context.Context, f *fleet) {
	var wg sync.WaitGroup
	for i := range f.plan.clients {
		random := rand.New(rand.NewPCG(f.plan.seed, uint64(i)+1))
		kind := i % 100
		wg.Go(func() {
			switch {
			case kind < stallShare:
				repeat(ctx, random, func() error { return stall(ctx, f, random) })
			case kind < stallShare+vanishShare:
				id, err := identity.NewRandomEd25519Identity()
				if err != nil {
					f.stats.violation("no key: %v", err)
					return
				}
				repeat(ctx, random, func() error { return vanish(ctx, f, random, id) })
			case kind < stallShare+vanishShare+restlessShare:
				repeat(ctx, random, func() error {
					brief, cancel := context.WithTimeout(ctx, time.Duration(1+random.IntN(10))*time.Second)
					defer cancel()
					s, err := f.open(ctx, nil)
					if err == nil {
						f.chat(brief, s, random)
						f.end(s)
					}
					return err
				})
			default:
				f.client(ctx, random)
			}
		})
	}
	wg.Wait()
}

// repeat calls once until ctx ends, with growing pauses after failures.
func repeat(ctx context.Context, random *rand.Rand, once func() error) {
	for wait := 100 * time.Millisecond; ctx.Err() == nil; {
		if once() == nil {
			wait = 100 * time.Millisecond
			continue
		}
		sleep(ctx, jitter(random, wait))
		wait = min(2*wait, 5*time.Second)
	}
}

// stall is a session that reads nothing for a while, and then either goes on or breaks off.
func stall(ctx context.Context, f *fleet, random *rand.Rand) error {
	valve := make(chan struct{})
	s, err := f.open(ctx, func(s *session, o *client.Options) {
		s.late = true
		deliver := o.OnMessage
		o.OnMessage = func(m client.Message) {
			<-valve
			deliver(m)
		}
	})
	if err != nil {
		close(valve)
		return err
	}
	brief, cancel := context.WithTimeout(ctx, time.Duration(2+random.IntN(20))*time.Second)
	defer cancel()
	for range f.plan.window { // enough that something comes back to be left unread
		if f.send(brief, s) != nil {
			break
		}
	}
	<-brief.Done()
	close(valve)
	// Its pings stayed unanswered while it stalled, so the gateway may have given it up.
	if random.IntN(2) == 0 {
		f.endAnyhow(s, s.client.Abort)
	} else {
		f.endAnyhow(s, func() { s.client.Close() })
	}
	return nil
}

// vanish is a session that breaks off without a word; the next one has the same identity.
func vanish(ctx context.Context, f *fleet, random *rand.Rand, id *identity.Ed25519Identity) error {
	s, err := f.open(ctx, func(_ *session, o *client.Options) { o.Identity = id })
	if err != nil {
		return err
	}
	brief, cancel := context.WithTimeout(ctx, time.Duration(1+random.IntN(15))*time.Second)
	defer cancel()
	f.chat(brief, s, random)
	f.hangUp(s)
	return nil
}
