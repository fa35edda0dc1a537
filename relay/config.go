package relay

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"go.uber.org/zap"

	"github.com/icws-gateway/caddy-icws/verify"
)

// Defaults of [Config] and [Policy], fit for a public server.
const (
	DefaultPollInterval     = 100 * time.Millisecond
	DefaultPollIdleInterval = 500 * time.Millisecond
	DefaultUpstreamRate     = 200
	DefaultUpstreamCallRate = 1000
	DefaultUpstreamTimeout  = 10 * time.Second
	DefaultOutageTimeout    = 2 * time.Minute
	DefaultRelayWindow      = 1
	DefaultClientRate       = 100
	DefaultMaxCanisters     = 1000
	DefaultOutboxFrames     = 256
	DefaultOutboxBytes      = 1 << 20
	// DefaultOpenTimeout leaves time for a person: where ws_open is signed by a security key or a passkey, the browser asks only
	// once the connection stands. Who proves nothing costs a connection meanwhile, which max_sessions and max_sessions_per_ip bound.
	DefaultOpenTimeout  = 60 * time.Second
	DefaultPingInterval = 25 * time.Second
	DefaultPongTimeout  = 10 * time.Second
	DefaultWriteTimeout = 10 * time.Second
	DefaultDrainTimeout = 15 * time.Second

	DefaultMaxSessions            = 20000
	DefaultMaxSessionsPerIP       = 100
	DefaultMaxSessionsPerCanister = 20000
	// DefaultMaxMessageSize is the IC's ingress limit on application subnets.
	DefaultMaxMessageSize = 2 << 20
)

// maxRelayWindow bounds how many envelopes of one client may be under way at once.
const maxRelayWindow = 64

// Config shapes a [Gateway]. The zero value of a field means its default, except where noted. Its settings are what it is in
// JSON: gateways whose settings and identity are equal behave the same.
type Config struct {
	// Hosts are the boundary nodes, or the replica of a network of one's own. Scheme and host are used, and a path is
	// kept as a prefix. Requests go to the healthiest; at least one is needed.
	Hosts []*url.URL
	// Discover adds the API boundary nodes that the network lists in its certified state: read at most once an hour while
	// there are sessions, each asked for a certificate before it is used, and at most 64 of them. The hosts above stay.
	Discover bool
	// RootKey is the DER public key that all certificates must lead to. Empty only together with FetchRootKey.
	RootKey []byte
	// FetchRootKey asks the network itself for its root key, on first use. That trusts whoever answers: for
	// development networks only, never for mainnet.
	FetchRootKey bool
	// Identity signs the gateway's own calls; its principal is the gateway principal. Required. It must be safe for
	// concurrent use.
	Identity verify.Signer `json:"-"`

	// PollInterval is the pause between polls of a canister with traffic. One that has probably queued an answer is polled earlier:
	// after a tenth of it at least, or a quarter where the last such poll brought nothing.
	PollInterval time.Duration
	// PollIdleInterval is the pause reached step by step after 30 s of silence. At least PollInterval.
	PollIdleInterval time.Duration
	// UpstreamRate bounds the polls and other readings per second, of all canisters together. More than 0. Every canister is
	// polled at least every 15 s, in half of this; canisters for which that does not suffice are refused.
	UpstreamRate float64
	// UpstreamCallRate bounds the calls per second, of all canisters together: what clients send, and ws_close. More than 0.
	UpstreamCallRate float64
	// UpstreamTimeout bounds one request to the network.
	UpstreamTimeout time.Duration
	// OutageTimeout is how long a canister may be unreachable or unverifiable before its clients are closed.
	OutageTimeout time.Duration
	// RelayWindow is how many envelopes of one client may be under way at once. 1 keeps strict order; canisters that
	// follow the CDK remove a client whose messages arrive out of order.
	RelayWindow int
	// ClientRate is how many messages of one client are submitted in a second, at least 1. A second's worth may go out at once;
	// what comes faster waits, as does its client once much waits. Nothing is lost by that.
	ClientRate int
	// VerifyEmpty also checks the node signatures of replies without messages.
	VerifyEmpty bool
	// KeepOrphans leaves clients alone that a canister lists for this gateway and that are not connected here: for
	// several instances that share one identity. Otherwise they are what a crash left behind, and are closed, except
	// while the queue proves that another instance with this identity is alive.
	KeepOrphans bool
	// CleanStart says that the run before this one, with this identity, told the canisters of all its clients, see [Gateway.Drain]:
	// nothing that was queued before is taken for what a crash left behind.
	CleanStart bool `json:"-"`
	// MaxCanisters bounds how many canisters are polled at once.
	MaxCanisters int

	// OutboxFrames and OutboxBytes bound what may wait for one client before it is closed as too slow.
	OutboxFrames int
	OutboxBytes  int64
	// OpenTimeout is the time a client has from the upgrade to a valid ws_open.
	OpenTimeout time.Duration
	// PingInterval is how long a client may be silent before it is pinged.
	PingInterval time.Duration
	// PongTimeout is how long a client has to answer a ping. Less than PingInterval.
	PongTimeout time.Duration
	// WriteTimeout bounds the writing of one frame.
	WriteTimeout time.Duration
	// DrainTimeout bounds [Gateway.Drain]; closes are spread over it.
	DrainTimeout time.Duration

	// Peers are the other gateways of this process, whose clients are not orphans; nil means that there are none.
	Peers *Peers `json:"-"`
	// Transport carries the requests to the network; nil means one of its own, tuned for few hosts and many requests. A
	// RelayWindow above 1 has its effect only with one that reports written requests to [net/http/httptrace].
	Transport http.RoundTripper `json:"-"`
	// Logger receives the log, of which some lines may be left out; nil means none. See [Gateway.SetLogger].
	Logger *zap.Logger `json:"-"`
	// Metrics receives the counts; nil means none.
	Metrics Metrics `json:"-"`
	// Tracer makes spans; nil means none.
	Tracer Tracer `json:"-"`
}

// durationSetting is a setting of a [Config] that is a duration.
type durationSetting struct {
	name      string // in configurations
	value     *time.Duration
	byDefault time.Duration
}

func (c *Config) durations() []durationSetting {
	return []durationSetting{
		{"poll_interval", &c.PollInterval, DefaultPollInterval},
		{"poll_idle_interval", &c.PollIdleInterval, max(DefaultPollIdleInterval, c.PollInterval)},
		{"upstream_timeout", &c.UpstreamTimeout, DefaultUpstreamTimeout},
		{"outage_timeout", &c.OutageTimeout, DefaultOutageTimeout},
		{"open_timeout", &c.OpenTimeout, DefaultOpenTimeout},
		{"ping_interval", &c.PingInterval, DefaultPingInterval},
		{"pong_timeout", &c.PongTimeout, DefaultPongTimeout},
		{"write_timeout", &c.WriteTimeout, DefaultWriteTimeout},
		{"drain_timeout", &c.DrainTimeout, DefaultDrainTimeout},
	}
}

// SetDefaults fills in the default of every field that is zero.
func (c *Config) SetDefaults() {
	for _, d := range c.durations() {
		setDefault(d.value, d.byDefault)
	}
	setDefault(&c.UpstreamRate, DefaultUpstreamRate)
	setDefault(&c.UpstreamCallRate, DefaultUpstreamCallRate)
	setDefault(&c.RelayWindow, DefaultRelayWindow)
	setDefault(&c.ClientRate, DefaultClientRate)
	setDefault(&c.MaxCanisters, DefaultMaxCanisters)
	setDefault(&c.OutboxFrames, DefaultOutboxFrames)
	setDefault(&c.OutboxBytes, DefaultOutboxBytes)
	if c.Peers == nil {
		c.Peers = new(Peers)
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	if c.Metrics == nil {
		c.Metrics = NopMetrics{}
	}
	if c.Tracer == nil {
		c.Tracer = nopTracer{}
	}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate reports the first setting that cannot work, by the name it has in configurations, with the remedy.
func (c *Config) Validate() error {
	for _, d := range c.durations() {
		if *d.value <= 0 {
			return fmt.Errorf("%s (%s) must be more than 0", d.name, *d.value)
		}
	}
	switch {
	case len(c.Hosts) == 0:
		return errors.New("network has no hosts: name at least one URL")
	case len(c.RootKey) == 0 && !c.FetchRootKey:
		return errors.New("root_key is missing: give the network's key, or fetch for a development network")
	case c.Identity == nil:
		return errors.New("identity is missing")
	case c.PollIdleInterval < c.PollInterval:
		return fmt.Errorf("poll_idle_interval (%s) must not be less than poll_interval (%s): raise one or lower the other", c.PollIdleInterval, c.PollInterval)
	case c.PingInterval <= c.PongTimeout:
		return fmt.Errorf("ping_interval (%s) must be greater than pong_timeout (%s): raise one or lower the other", c.PingInterval, c.PongTimeout)
	case c.UpstreamRate <= 0:
		return fmt.Errorf("upstream_rate (%g) must be more than 0", c.UpstreamRate)
	case c.UpstreamCallRate <= 0:
		return fmt.Errorf("upstream_call_rate (%g) must be more than 0", c.UpstreamCallRate)
	case c.RelayWindow < 1 || c.RelayWindow > maxRelayWindow:
		return fmt.Errorf("relay_window (%d) must be from 1 to %d", c.RelayWindow, maxRelayWindow)
	case c.ClientRate < 1:
		return fmt.Errorf("client_rate (%d) must be at least 1", c.ClientRate)
	case c.MaxCanisters < 1:
		return fmt.Errorf("max_canisters (%d) must be at least 1", c.MaxCanisters)
	case c.OutboxFrames < 1:
		return fmt.Errorf("outbox (%d frames) must be at least 1", c.OutboxFrames)
	case c.OutboxBytes < 1:
		return fmt.Errorf("outbox (%d bytes) must be at least 1", c.OutboxBytes)
	}
	for _, h := range c.Hosts {
		if h.Scheme != "https" && h.Scheme != "http" || h.Host == "" {
			return fmt.Errorf("network host %q must be a URL such as https://icp-api.io", h)
		}
	}
	return nil
}

// Policy decides which sessions a gateway takes. It belongs to whoever upgrades the connection, so several handlers
// can share a gateway with a policy each. A Policy must not be changed once it is in use.
type Policy struct {
	// AnyCanister lets clients name any canister. Otherwise Canisters is the list of those allowed.
	AnyCanister bool
	Canisters   map[verify.Principal]struct{}
	// MaxSessions bounds the sessions of the whole gateway, MaxSessionsPerIP those from one address,
	// MaxSessionsPerCanister those of one canister. 0 means no limit.
	MaxSessions            int
	MaxSessionsPerIP       int
	MaxSessionsPerCanister int
	// MaxMessageSize bounds one signed envelope, in bytes. 0 means DefaultMaxMessageSize.
	MaxMessageSize int64
}

// Allows reports whether clients may open sessions with canister.
func (p *Policy) Allows(canister verify.Principal) bool {
	if p.AnyCanister {
		return true
	}
	_, ok := p.Canisters[canister]
	return ok
}

// tooLarge is the closing for a message above the limit, which is the operator's unless it is the IC's own.
func (p *Policy) tooLarge() *closing {
	limit := p.maxMessageSize()
	if limit >= DefaultMaxMessageSize {
		return newClosing(TooLarge, "")
	}
	return newClosing(TooLarge, fmt.Sprintf("message is larger than max_message_size of this gateway (%d bytes), send smaller ones", limit))
}

func (p *Policy) maxMessageSize() int64 {
	if p.MaxMessageSize == 0 {
		return DefaultMaxMessageSize
	}
	return p.MaxMessageSize
}
