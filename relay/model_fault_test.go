package relay_test

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
)

// modelFault is a way in which the network misbehaves for a while. It ends by itself.
type modelFault struct {
	name  string
	until time.Time
	mend  func() // may be called by anybody, and again
	// refusal is what a session that opens may be told, besides that it should come again.
	refusal string
}

// faultKind is a fault that the model can have.
type faultKind struct {
	name string
	// longest is for how long it lasts at most: shorter than outage_timeout where it takes everything from everybody.
	longest time.Duration
	refusal string
	// deaf says that nobody can poll meanwhile, and for as long as the last Retry-After says.
	deaf bool
	// faults decides about each request, with a source of chance of its own.
	faults func(rnd *rand.Rand) localnet.Faults
	// attack is what one of the two hosts does instead, or both of them.
	attack string
	both   bool
	// omits has one of the two hosts leave out the first message of what it is asked for instead.
	omits bool
}

// Where nothing takes an answer from everybody, a fault may last for long.
const (
	passing = 20 * time.Second
	lasting = 6 * time.Minute
	// retryAfter is for how long both hosts may ask to be left alone.
	retryAfter = 10 * time.Second
)

var faultKinds = []faultKind{
	{name: "requests dropped", longest: lasting, faults: some(func(*rand.Rand) localnet.Fault { return localnet.Fault{Drop: true} })},
	{name: "replies dropped", longest: lasting, faults: some(func(*rand.Rand) localnet.Fault { return localnet.Fault{DropReply: true} })},
	{name: "some 503", longest: lasting, faults: some(func(*rand.Rand) localnet.Fault { return localnet.Fault{Status: 503} })},
	{name: "some 429", longest: lasting, faults: some(func(*rand.Rand) localnet.Fault {
		return localnet.Fault{Status: 429, RetryAfter: time.Second}
	})},
	{name: "slow", longest: lasting, faults: some(func(rnd *rand.Rand) localnet.Fault {
		return localnet.Fault{Delay: time.Duration(rnd.IntN(5000)) * time.Millisecond, ReplyDelay: time.Duration(rnd.IntN(2000)) * time.Millisecond}
	})},
	{name: "lag", longest: lasting, faults: some(func(rnd *rand.Rand) localnet.Fault { return localnet.Fault{Lag: rnd.IntN(50)} })},
	{name: "corrupt", longest: lasting, faults: some(func(rnd *rand.Rand) localnet.Fault {
		at := rnd.IntN(4000)
		return localnet.Fault{CorruptAt: &at}
	})},

	{name: "one host is dead", longest: lasting, faults: one(func(*rand.Rand) localnet.Fault { return localnet.Fault{Drop: true} })},
	{name: "one host hangs", longest: lasting, faults: one(func(*rand.Rand) localnet.Fault { return localnet.Fault{Delay: time.Hour} })},
	{name: "one host takes requests and hangs", longest: lasting, faults: one(func(*rand.Rand) localnet.Fault {
		return localnet.Fault{ReplyDelay: time.Hour}
	})},
	{name: "one host answers garbage", longest: lasting, faults: one(func(rnd *rand.Rand) localnet.Fault {
		garbage := [][]byte{nil, []byte("<html>captive portal</html>"), {0xd9, 0xd9, 0xf7, 0xa0}}[rnd.IntN(3)]
		return localnet.Fault{Edit: func([]byte) []byte { return slices.Clone(garbage) }}
	})},
	{name: "one host asks to be left alone", longest: lasting, faults: one(func(rnd *rand.Rand) localnet.Fault {
		return localnet.Fault{Status: 429 + 74*rnd.IntN(2), RetryAfter: time.Duration(rnd.IntN(20)) * time.Second}
	})},
	{name: "one host is dead, the other lags", longest: lasting, faults: func(rnd *rand.Rand) localnet.Faults {
		lag := some(func(rnd *rand.Rand) localnet.Fault { return localnet.Fault{Lag: rnd.IntN(50)} })(rnd)
		return deadAndLive(func(q *localnet.Request, f *localnet.Fault) { f.Lag = lag(q).Lag })
	}},

	{name: "both hosts ask to be left alone", longest: passing, deaf: true, faults: all(func(rnd *rand.Rand) localnet.Fault {
		return localnet.Fault{Status: 429 + 74*rnd.IntN(2), RetryAfter: time.Duration(rnd.Int64N(int64(retryAfter)))}
	})},
	{name: "routing of the canister is late", longest: passing, deaf: true, refusal: "does not exist", faults: all(func(*rand.Rand) localnet.Fault {
		return localnet.Fault{Status: 400, Cause: "canister_not_found"}
	})},
	{name: "routing of the subnet is late", longest: passing, deaf: true, refusal: "does not exist", faults: all(func(*rand.Rand) localnet.Fault {
		return localnet.Fault{Status: 400, Cause: "subnet_not_found"}
	})},
	{name: "all polls are rejected", longest: 5 * time.Second, deaf: true, attack: "rejected by the canister", both: true},

	{name: "one host omits", longest: lasting, omits: true},
	{name: "one host swaps client keys", longest: lasting, attack: "client keys swapped outside"},
	{name: "one host rejects", longest: lasting, attack: "rejected by the canister"},
	{name: "one host hides messages", longest: lasting, attack: "every message hidden"},
	{name: "one host has no such canister", longest: lasting, attack: "canister not found"},
	{name: "one host signs as a stranger", longest: lasting, attack: "certificate signed by a stranger"},
	{name: "one host cuts Candid short", longest: lasting, attack: "candid cut short"},
}

// some has a random share of the requests suffer f, all has all of them, and one those to one of the two hosts.
func some(f func(*rand.Rand) localnet.Fault) func(*rand.Rand) localnet.Faults {
	return func(rnd *rand.Rand) localnet.Faults {
		share := rnd.Float64() * 0.6
		return func(*localnet.Request) localnet.Fault {
			if rnd.Float64() > share {
				return localnet.Fault{}
			}
			return f(rnd)
		}
	}
}

func all(f func(*rand.Rand) localnet.Fault) func(*rand.Rand) localnet.Faults {
	return func(rnd *rand.Rand) localnet.Faults {
		return func(*localnet.Request) localnet.Fault { return f(rnd) }
	}
}

func one(f func(*rand.Rand) localnet.Fault) func(*rand.Rand) localnet.Faults {
	return func(rnd *rand.Rand) localnet.Faults {
		return func(q *localnet.Request) localnet.Fault {
			if q.Boundary != "http://lying.test" {
				return localnet.Fault{}
			}
			return f(rnd)
		}
	}
}

// misbehave begins a random fault; the one before ends.
func (m *model) misbehave() {
	k := faultKinds[m.rnd.IntN(len(faultKinds))]
	lasts := time.Duration(m.rnd.Int64N(int64(min(k.longest, passing))))
	if m.rnd.IntN(8) == 0 {
		lasts = time.Duration(m.rnd.Int64N(int64(k.longest)))
	}
	m.begin(k, lasts)
}

// faultNamed begins the fault of this name.
func (m *model) faultNamed(name string, lasts time.Duration) {
	i := slices.IndexFunc(faultKinds, func(k faultKind) bool { return k.name == name })
	if i < 0 {
		m.t.Fatalf("no fault is called %q", name)
	}
	m.begin(faultKinds[i], lasts)
}

func (m *model) begin(k faultKind, lasts time.Duration) {
	m.calm()
	m.note("for %s: %s", lasts, k.name)
	mend := func() { m.r.network.SetFaults(nil) }
	switch {
	case k.omits:
		m.skip.honest.Store(false)
		mend = func() { m.skip.honest.Store(true) }
	case k.attack != "":
		a, ok := localnet.AttackNamed(k.attack)
		if !ok {
			m.t.Fatalf("no attack is called %q", k.attack)
		}
		boundaries := []string{"http://lying.test"}
		if k.both {
			boundaries = nil
		}
		mend = a.Mount(m.r.network, m.r.canister, boundaries...).Stop
	default:
		faults := k.faults(rand.New(rand.NewPCG(m.rnd.Uint64(), 1)))
		var mu sync.Mutex // for the source of chance
		m.r.network.SetFaults(func(q *localnet.Request) localnet.Fault {
			mu.Lock()
			defer mu.Unlock()
			return faults(q)
		})
	}
	f := &modelFault{name: k.name, until: time.Now().Add(lasts), mend: sync.OnceFunc(mend), refusal: k.refusal}
	time.AfterFunc(lasts, f.mend)
	if k.deaf {
		m.deaf = f.until.Add(retryAfter)
	}
	m.fault = f
}

// calm ends the fault.
func (m *model) calm() {
	if m.fault != nil {
		m.fault.mend()
		m.fault = nil
	}
}
