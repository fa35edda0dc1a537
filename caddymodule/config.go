package caddymodule

import (
	"iter"
	"reflect"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// Defaults of the knobs that belong to this package alone. The defaults of the gateway's own knobs are relay's.
const (
	// DefaultIdentity is the name of the key in Caddy's storage when `identity` is not given.
	DefaultIdentity = "default"
)

// Bounds of knobs, each with the reason for it.
const (
	// maxMessageSizeLimit is the IC's ingress limit: nothing larger can reach a canister.
	maxMessageSizeLimit = 2 << 20
	// minMessageSize leaves room for a ws_open envelope with a long delegation chain.
	minMessageSize = 16 << 10
	// minPollInterval keeps a typing mistake (`10us`) from becoming a denial of service against a boundary node.
	minPollInterval = 10 * time.Millisecond
	// minOutboxBytes is a frame of the largest message that most canisters send with its certificate.
	minOutboxBytes = 64 << 10
	// minRate is a request in ten seconds: with less, every request waits longer than anybody for its answer.
	minRate = 0.1
	// maxDuration is a year. Sums and multiples of what is longer leave the range of a duration, and a wait of almost
	// for ever would turn into none.
	maxDuration = 365 * 24 * time.Hour
)

// Identity names the key that makes the gateway who it is for canisters: its principal selects the queue of messages
// that a canister keeps for it. Exactly one of the fields may be set; with neither, the key DefaultIdentity in Caddy's
// storage is used.
type Identity struct {
	// Name of an Ed25519 key in Caddy's storage, under the id of this Caddy instance. It is created on first use (never
	// by `caddy validate`). Letters, digits, dot, dash and underscore; at most 64. Placeholders are resolved at start.
	Name string `json:"name,omitempty"`
	// Path of a file with a private key: PKCS#8 as PEM or as raw DER, such as the key_pair file of the Rust gateway,
	// with an Ed25519 key. Placeholders are resolved at start.
	File string `json:"file,omitempty"`
}

// Outbox bounds what may wait for one client. A client that falls further behind is closed as a slow consumer, because
// leaving out a message would break its sequence.
type Outbox struct {
	// Frames that may wait. Default: 256.
	Frames int `json:"frames,omitempty"`
	// Bytes that may wait, all frames together. Default: 1 MiB.
	Bytes int64 `json:"bytes,omitempty"`
}

// GatewaySettings shape the gateway. Handlers whose gateway settings are equal share one gateway, also across reloads. Names
// are the same in JSON and in the Caddyfile. Zero or absent means the default, which suits a public server. Durations are at
// most a year.
//
// A field is all that a duration or a count needs in this package: fields reads it, and relayConfig copies it to the field of
// relay.Config with the same name.
type GatewaySettings struct {
	// "mainnet" (the default), or base URLs of boundary nodes or of a local replica; several fail over by health.
	// Placeholders are resolved at start; one placeholder may hold several URLs.
	Network []string `json:"network,omitempty"`
	// Also use the API boundary nodes that the network lists in its certified state, read hourly: by health, beside
	// the hosts of network, which stay. In the Caddyfile it is the last word of the network line. Default: false.
	Discover bool `json:"discover,omitempty"`
	// The key that certificates must be signed with, for a network of your own: path of a PEM or DER file, the key
	// as PEM or as DER in hexadecimal, or "fetch" to ask the network itself on first use, which trusts whoever answers and is
	// for development. Default: the key of mainnet, which is built in. Placeholders are resolved at start.
	RootKey string `json:"root_key,omitempty"`
	// The key that is this gateway's identity.
	Identity *Identity `json:"identity,omitempty"`
	// Period of polling a canister that has traffic. At least 10ms. Default: 100ms.
	PollInterval caddy.Duration `json:"poll_interval,omitempty"`
	// Period of polling a silent canister, reached step by step. At least poll_interval. Default: 500ms.
	PollIdleInterval caddy.Duration `json:"poll_idle_interval,omitempty"`
	// Polls and other readings per second, all canisters together. At least 0.1. Default: 200.
	UpstreamRate float64 `json:"upstream_rate,omitempty"`
	// Calls per second, all canisters together: what clients send, and ws_close. At least 0.1. Default: 1000.
	UpstreamCallRate float64 `json:"upstream_call_rate,omitempty"`
	// Time for one request to the network. Default: 10s.
	UpstreamTimeout caddy.Duration `json:"upstream_timeout,omitempty"`
	// Clients of a canister that stays unreachable or unverifiable this long are closed. At least
	// upstream_timeout. Default: 2m.
	OutageTimeout caddy.Duration `json:"outage_timeout,omitempty"`
	// Envelopes of one client in flight at a time, 1 to 64. 1 keeps strict order. Default: 1.
	RelayWindow int `json:"relay_window,omitempty"`
	// Messages of one client submitted per second. What comes faster waits, and so does the client. Default: 100.
	ClientRate int `json:"client_rate,omitempty"`
	// Also verify the node signatures of replies without messages. Default: false.
	VerifyEmpty bool `json:"verify_empty,omitempty"`
	// What to do with clients that a canister still lists for this gateway after a crash: "close" tells the
	// canister, "keep" leaves them, for instances that share an identity. Default: close.
	Orphans string `json:"orphans,omitempty"`
	// Canisters polled at a time. Default: 1000.
	MaxCanisters int `json:"max_canisters,omitempty"`
	// What may wait for one client.
	Outbox *Outbox `json:"outbox,omitempty"`
	// Time from the upgrade to a valid ws_open, with what a person needs to sign it. Default: 60s.
	OpenTimeout caddy.Duration `json:"open_timeout,omitempty"`
	// Period of pings to idle clients. Must exceed pong_timeout. Default: 25s.
	PingInterval caddy.Duration `json:"ping_interval,omitempty"`
	// Time for the answer to a ping. Default: 10s.
	PongTimeout caddy.Duration `json:"pong_timeout,omitempty"`
	// Time for one write to a client. Default: 10s.
	WriteTimeout caddy.Duration `json:"write_timeout,omitempty"`
	// Closes of a drain are spread over this time. When Caddy exits, its grace_period comes before that and 2s after it. Default: 15s.
	DrainTimeout caddy.Duration `json:"drain_timeout,omitempty"`
}

// HandlerSettings decide which sessions a handler takes. They apply to new sessions at once. Zero or absent means the
// default.
type HandlerSettings struct {
	// Ids of the canisters that clients may reach, or "any" as the only element. Required.
	// Placeholders are resolved at start; one placeholder may hold several ids, separated by commas or spaces.
	Canister []string `json:"canister,omitempty"`
	// Which pages may open sessions, as patterns over the Origin header: `https://app.example.com`,
	// `https://*.icp0.io`, `http://localhost:*`, `capacitor://localhost`, `moz-extension://*`, `null`. Requests without the header, which browsers always send,
	// are not affected. Placeholders are resolved at start; one placeholder may hold several patterns. Default: any.
	Origin []string `json:"origin,omitempty"`
	// Sessions of the gateway. Default: 20000.
	MaxSessions int `json:"max_sessions,omitempty"`
	// Sessions per client address (Caddy's client_ip, which respects trusted_proxies), of IPv6 per /64. At most max_sessions
	// counts. Default: 100.
	MaxSessionsPerIP int `json:"max_sessions_per_ip,omitempty"`
	// Sessions per canister. At most max_sessions counts. Default: 20000.
	MaxSessionsPerCanister int `json:"max_sessions_per_canister,omitempty"`
	// Bytes of one client message, 16 KiB to 2 MiB (the IC's ingress limit). Default: 2 MiB.
	MaxMessageSize int64 `json:"max_message_size,omitempty"`
}

// fields yields the exported fields of type T of a struct, embedded ones included, by their names in JSON. settings is a
// pointer to the struct, and so is what is yielded.
func fields[T any](settings any) iter.Seq2[string, *T] {
	return func(yield func(string, *T) bool) {
		v := reflect.ValueOf(settings).Elem()
		for _, f := range reflect.VisibleFields(v.Type()) {
			if !f.IsExported() || f.Type != reflect.TypeFor[T]() {
				continue
			}
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if !yield(name, v.FieldByIndex(f.Index).Addr().Interface().(*T)) {
				return
			}
		}
	}
}
