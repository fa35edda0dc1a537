package caddymodule

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/aviate-labs/agent-go/identity"
	"github.com/caddyserver/caddy/v2"

	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/verify"
)

// Values of the `orphans` knob.
const (
	orphansClose = "close"
	orphansKeep  = "keep"
)

// canisterAny is the value of `canister` that allows every canister.
const canisterAny = "any"

// relayConfig turns the gateway's knobs into relay's configuration, with defaults filled in. The identity is not set:
// it is loaded when the configuration starts.
func (k *Knobs) relayConfig(n *network) relay.Config {
	cfg := relay.Config{
		Hosts:            n.hosts,
		Discover:         k.Discover,
		RootKey:          n.rootKey,
		FetchRootKey:     n.fetch,
		PollInterval:     time.Duration(k.PollInterval),
		PollIdleInterval: time.Duration(k.PollIdleInterval),
		UpstreamRate:     k.UpstreamRate,
		UpstreamTimeout:  time.Duration(k.UpstreamTimeout),
		OutageTimeout:    time.Duration(k.OutageTimeout),
		RelayWindow:      k.RelayWindow,
		VerifyEmpty:      k.VerifyEmpty,
		KeepOrphans:      k.Orphans == orphansKeep,
		MaxCanisters:     k.MaxCanisters,
		OpenTimeout:      time.Duration(k.OpenTimeout),
		PingInterval:     time.Duration(k.PingInterval),
		PongTimeout:      time.Duration(k.PongTimeout),
		WriteTimeout:     time.Duration(k.WriteTimeout),
		DrainTimeout:     time.Duration(k.DrainTimeout),
	}
	if k.Outbox != nil {
		cfg.OutboxFrames, cfg.OutboxBytes = k.Outbox.Frames, k.Outbox.Bytes
	}
	cfg.SetDefaults()
	return cfg
}

// policy turns the admission knobs into relay's policy, with defaults filled in. A default never exceeds max_sessions.
func (k *Knobs) policy(canisters map[verify.Principal]struct{}, anyCanister bool) *relay.Policy {
	sessions := orDefault(k.MaxSessions, relay.DefaultMaxSessions)
	return &relay.Policy{
		AnyCanister:            anyCanister,
		Canisters:              canisters,
		MaxSessions:            sessions,
		MaxSessionsPerIP:       orDefault(k.MaxSessionsPerIP, min(relay.DefaultMaxSessionsPerIP, sessions)),
		MaxSessionsPerCanister: orDefault(k.MaxSessionsPerCanister, min(relay.DefaultMaxSessionsPerCanister, sessions)),
		MaxMessageSize:         orDefault(k.MaxMessageSize, relay.DefaultMaxMessageSize),
	}
}

func orDefault[T int | int64](value, otherwise T) T {
	if value == 0 {
		return otherwise
	}
	return value
}

// poolKey identifies a gateway by everything that shapes it. Two handlers with the same key share one gateway, and a
// reload that leaves the key alone disconnects nobody.
func poolKey(cfg *relay.Config, publicKey []byte) (string, error) {
	hosts := make([]string, len(cfg.Hosts))
	for i, u := range cfg.Hosts {
		hosts[i] = u.String()
	}
	raw, err := json.Marshal([]any{
		hosts, cfg.Discover, cfg.RootKey, cfg.FetchRootKey, publicKey, cfg.PollInterval, cfg.PollIdleInterval, cfg.UpstreamRate,
		cfg.UpstreamTimeout, cfg.OutageTimeout, cfg.RelayWindow, cfg.VerifyEmpty, cfg.KeepOrphans, cfg.MaxCanisters,
		cfg.OutboxFrames, cfg.OutboxBytes, cfg.OpenTimeout, cfg.PingInterval, cfg.PongTimeout, cfg.WriteTimeout, cfg.DrainTimeout,
	})
	if err != nil {
		return "", fmt.Errorf("hashing the gateway's settings: %w", err)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:8]), nil
}

// validate checks values and relations. Every error begins with the name of the knob to change, and says what to change
// it to.
func (k *Knobs) validate(cfg relay.Config) error {
	for _, n := range []struct {
		knob  string
		value int
	}{
		{"relay_window", k.RelayWindow},
		{"max_sessions", k.MaxSessions},
		{"max_sessions_per_ip", k.MaxSessionsPerIP},
		{"max_sessions_per_canister", k.MaxSessionsPerCanister},
		{"max_canisters", k.MaxCanisters},
	} {
		if n.value < 0 {
			return fmt.Errorf("%s (%d) must not be negative: leave it out for the default", n.knob, n.value)
		}
	}
	for _, d := range []struct {
		knob  string
		value caddy.Duration
	}{
		{"poll_interval", k.PollInterval},
		{"poll_idle_interval", k.PollIdleInterval},
		{"upstream_timeout", k.UpstreamTimeout},
		{"outage_timeout", k.OutageTimeout},
		{"open_timeout", k.OpenTimeout},
		{"ping_interval", k.PingInterval},
		{"pong_timeout", k.PongTimeout},
		{"write_timeout", k.WriteTimeout},
		{"drain_timeout", k.DrainTimeout},
	} {
		switch value := time.Duration(d.value); {
		case value < 0:
			return fmt.Errorf("%s (%s) must not be negative: leave it out for the default", d.knob, value)
		case value > maxDuration:
			return fmt.Errorf("%s (%s) must be at most %s", d.knob, value, maxDuration)
		}
	}
	sessions := orDefault(k.MaxSessions, relay.DefaultMaxSessions)
	switch {
	case k.MaxSessionsPerIP > sessions:
		return fmt.Errorf("max_sessions_per_ip (%d) must not exceed max_sessions (%d): lower one or raise the other", k.MaxSessionsPerIP, sessions)
	case k.MaxSessionsPerCanister > sessions:
		return fmt.Errorf("max_sessions_per_canister (%d) must not exceed max_sessions (%d): lower one or raise the other", k.MaxSessionsPerCanister, sessions)
	case k.MaxMessageSize != 0 && (k.MaxMessageSize < minMessageSize || k.MaxMessageSize > maxMessageSizeLimit):
		return fmt.Errorf("max_message_size (%d) must be from %d (16KiB) to %d (2MiB), the IC's ingress limit", k.MaxMessageSize, minMessageSize, maxMessageSizeLimit)
	case k.Orphans != "" && k.Orphans != orphansClose && k.Orphans != orphansKeep:
		return fmt.Errorf("orphans (%s) must be %s or %s", k.Orphans, orphansClose, orphansKeep)
	case k.Outbox != nil && (k.Outbox.Frames < 0 || k.Outbox.Bytes < 0):
		return fmt.Errorf("outbox (%d frames, %d bytes) must not be negative: leave them out for the defaults", k.Outbox.Frames, k.Outbox.Bytes)
	case cfg.OutboxBytes < minOutboxBytes:
		return fmt.Errorf("outbox bytes (%d) must be at least %d (64KiB): a frame carries a certificate and must fit", cfg.OutboxBytes, minOutboxBytes)
	case cfg.PollInterval < minPollInterval:
		return fmt.Errorf("poll_interval (%s) must be at least %s", cfg.PollInterval, minPollInterval)
	case cfg.UpstreamRate < minUpstreamRate:
		return fmt.Errorf("upstream_rate (%g) must be at least %g requests per second", cfg.UpstreamRate, minUpstreamRate)
	case cfg.UpstreamTimeout > cfg.OutageTimeout:
		return fmt.Errorf("upstream_timeout (%s) must not exceed outage_timeout (%s), or one request would outlast the outage: lower one or raise the other", cfg.UpstreamTimeout, cfg.OutageTimeout)
	}
	// The rest is the gateway's own to judge. It wants an identity, which is not loaded before the configuration starts.
	cfg.Identity = identity.AnonymousIdentity{}
	return cfg.Validate()
}

// resolveList replaces placeholders in the values of a list knob. One value may expand to several, separated by commas
// or white space, so that a whole list fits into one environment variable.
func resolveList(repl *caddy.Replacer, knob string, values []string) ([]string, error) {
	var out []string
	for _, value := range values {
		resolved, err := resolve(repl, knob, value)
		if err != nil {
			return nil, err
		}
		fields := split(resolved)
		if len(fields) == 0 {
			return nil, fmt.Errorf("%s (%s) is empty: give it a value or remove it", knob, value)
		}
		out = append(out, fields...)
	}
	return out, nil
}

// split takes a list apart that is written as one value.
func split(value string) []string {
	return strings.FieldsFunc(value, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
}

// resolve replaces placeholders in the value of a knob. Unknown and empty ones are errors.
func resolve(repl *caddy.Replacer, knob, value string) (string, error) {
	resolved, err := repl.ReplaceOrErr(value, true, true)
	if err != nil {
		return "", fmt.Errorf("%s (%s): %w: use {env.*}, {file.*} or {system.*} and make sure it has a value", knob, value, err)
	}
	return resolved, nil
}

// parseCanisters reads the allow-list.
func parseCanisters(values []string) (canisters map[verify.Principal]struct{}, anyCanister bool, err error) {
	if len(values) == 0 {
		return nil, false, errors.New("canister is missing: name the canisters that clients may reach, or write `canister any`")
	}
	canisters = make(map[verify.Principal]struct{}, len(values))
	for _, value := range values {
		if value == canisterAny {
			if len(values) > 1 {
				return nil, false, errors.New("canister any already allows every canister: remove the ids, or remove any")
			}
			return nil, true, nil
		}
		id, err := verify.ParsePrincipal(value)
		if err != nil {
			return nil, false, fmt.Errorf("canister (%s) is not a canister id like bkyz2-fmaaa-aaaaa-qaaaq-cai: %w", value, err)
		}
		if !isCanisterID(id) {
			return nil, false, fmt.Errorf("canister (%s) is a principal but not a canister's: name the canister itself", value)
		}
		canisters[id] = struct{}{}
	}
	return canisters, false, nil
}

// isCanisterID reports whether a principal is an opaque id (class 1), as the IC gives to canisters, and not that of a
// user, an anonymous caller or the management canister.
func isCanisterID(id verify.Principal) bool {
	raw := id.Bytes()
	return len(raw) > 1 && raw[len(raw)-1] == 1
}
