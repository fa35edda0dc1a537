package caddymodule

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
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

// relayConfig is relay's configuration of the settings, with defaults filled in. Fields of the same name and kind are copied.
// The identity is not set: it is loaded when the configuration starts.
func (s *GatewaySettings) relayConfig(n *network) relay.Config {
	cfg := relay.Config{
		Hosts:        n.hosts,
		RootKey:      n.rootKey,
		FetchRootKey: n.fetch,
		KeepOrphans:  s.Orphans == orphansKeep,
	}
	if s.Outbox != nil {
		cfg.OutboxFrames, cfg.OutboxBytes = s.Outbox.Frames, s.Outbox.Bytes
	}
	from, to := reflect.ValueOf(s).Elem(), reflect.ValueOf(&cfg).Elem()
	for i := range from.NumField() {
		if field := to.FieldByName(from.Type().Field(i).Name); field.IsValid() && field.Kind() == from.Field(i).Kind() {
			field.Set(from.Field(i).Convert(field.Type()))
		}
	}
	cfg.SetDefaults()
	return cfg
}

// policy is relay's policy of the settings, with defaults filled in. No other limit of sessions exceeds max_sessions.
func (s *HandlerSettings) policy(canisters map[verify.Principal]struct{}, anyCanister bool) *relay.Policy {
	sessions := orDefault(s.MaxSessions, relay.DefaultMaxSessions)
	return &relay.Policy{
		AnyCanister:            anyCanister,
		Canisters:              canisters,
		MaxSessions:            sessions,
		MaxSessionsPerIP:       min(orDefault(s.MaxSessionsPerIP, relay.DefaultMaxSessionsPerIP), sessions),
		MaxSessionsPerCanister: min(orDefault(s.MaxSessionsPerCanister, relay.DefaultMaxSessionsPerCanister), sessions),
		MaxMessageSize:         orDefault(s.MaxMessageSize, relay.DefaultMaxMessageSize),
	}
}

func orDefault[T int | int64](value, otherwise T) T {
	if value == 0 {
		return otherwise
	}
	return value
}

// poolKey identifies a gateway by its settings, which are what cfg is in JSON, and by its identity. Two handlers with the
// same key share one gateway, and a reload that leaves the key alone disconnects nobody.
func poolKey(cfg *relay.Config, publicKey []byte) (string, error) {
	raw, err := json.Marshal([]any{cfg, publicKey})
	if err != nil {
		return "", fmt.Errorf("hashing the gateway's settings: %w", err)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:8]), nil
}

// validateNumbers checks what holds for every count, rate and duration of settings, a pointer to a struct. Its errors begin with
// the name of the setting to change and say what to change it to, as do those of the methods below.
func validateNumbers(settings any) error {
	for name, n := range fields[int](settings) {
		if *n < 0 {
			return fmt.Errorf("%s (%d) must not be negative: leave it out for the default", name, *n)
		}
	}
	for name, r := range fields[float64](settings) {
		if *r != 0 && *r < minRate {
			return fmt.Errorf("%s (%g) must be at least %g requests per second", name, *r, minRate)
		}
	}
	for name, d := range fields[caddy.Duration](settings) {
		switch value := time.Duration(*d); {
		case value < 0:
			return fmt.Errorf("%s (%s) must not be negative: leave it out for the default", name, value)
		case value > maxDuration:
			return fmt.Errorf("%s (%s) must be at most %s", name, value, maxDuration)
		}
	}
	return nil
}

// validate checks values and relations. cfg is what relayConfig has made of the settings.
func (s *GatewaySettings) validate(cfg relay.Config) error {
	if err := validateNumbers(s); err != nil {
		return err
	}
	switch {
	case s.Orphans != "" && s.Orphans != orphansClose && s.Orphans != orphansKeep:
		return fmt.Errorf("orphans (%s) must be %s or %s", s.Orphans, orphansClose, orphansKeep)
	case s.Outbox != nil && (s.Outbox.Frames < 0 || s.Outbox.Bytes < 0):
		return fmt.Errorf("outbox (%d frames, %d bytes) must not be negative: leave them out for the defaults", s.Outbox.Frames, s.Outbox.Bytes)
	case cfg.OutboxBytes < minOutboxBytes:
		return fmt.Errorf("outbox bytes (%d) must be at least %d (64KiB): a frame carries a certificate and must fit", cfg.OutboxBytes, minOutboxBytes)
	case cfg.PollInterval < minPollInterval:
		return fmt.Errorf("poll_interval (%s) must be at least %s", cfg.PollInterval, minPollInterval)
	case cfg.UpstreamTimeout > cfg.OutageTimeout:
		return fmt.Errorf("upstream_timeout (%s) must not exceed outage_timeout (%s), or one request would outlast the outage: lower one or raise the other", cfg.UpstreamTimeout, cfg.OutageTimeout)
	}
	// The rest is the gateway's own to judge. It wants an identity, which is not loaded before the configuration starts.
	cfg.Identity = identity.AnonymousIdentity{}
	return cfg.Validate()
}

// validate checks values and relations.
func (s *HandlerSettings) validate() error {
	if err := validateNumbers(s); err != nil {
		return err
	}
	if s.MaxMessageSize != 0 && (s.MaxMessageSize < minMessageSize || s.MaxMessageSize > maxMessageSizeLimit) {
		return fmt.Errorf("max_message_size (%d) must be from %d (16KiB) to %d (2MiB), the IC's ingress limit", s.MaxMessageSize, minMessageSize, maxMessageSizeLimit)
	}
	return nil
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
