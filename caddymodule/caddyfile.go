package caddymodule

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/dustin/go-humanize"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("icws", parseCaddyfile)
	// A site that proxies the rest of its paths needs no `order` line: what opens a WebSocket for a canister is ours,
	// everything else falls through.
	httpcaddyfile.RegisterDirectiveOrder("icws", httpcaddyfile.Before, "reverse_proxy")
}

func parseCaddyfile(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(Handler)
	if err := handler.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	return handler, nil
}

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens. Syntax:
//
//	icws [<matcher>] [<canister_id>...] {
//		canister             <canister_id>... | any
//		network              mainnet | <url>... [discover]
//		root_key             <file> | <hex> | fetch
//		identity             <name> | file <path>
//		origin               <pattern>...
//		poll_interval        <duration>
//		poll_idle_interval   <duration>
//		upstream_rate        <requests_per_second>
//		upstream_call_rate   <requests_per_second>
//		upstream_timeout     <duration>
//		outage_timeout       <duration>
//		relay_window         <envelopes>
//		client_rate          <messages_per_second>
//		verify_empty         on | off
//		orphans              close | keep
//		max_sessions         <count>
//		max_sessions_per_ip  <count>
//		max_sessions_per_canister <count>
//		max_canisters        <count>
//		max_message_size     <size>
//		outbox               <frames> <size>
//		open_timeout         <duration>
//		ping_interval        <duration>
//		pong_timeout         <duration>
//		write_timeout        <duration>
//		drain_timeout        <duration>
//	}
//
// Canister ids on the directive line and in `canister` lines add up; `origin` may be repeated too; every other
// subdirective may be given once.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive itself
	directive := d.Token()
	h.Canister = append(h.Canister, d.RemainingArgs()...)
	if err := h.checkLists(); err != nil {
		return d.WrapErr(err)
	}

	lines := make(map[string]caddyfile.Token) // where each subdirective was last given
	for d.NextBlock(0) {
		name := d.Val()
		sub, known := subdirectives[name]
		if !known {
			return d.Errf("unknown subdirective %q of icws: there are %s", name, strings.Join(slices.Sorted(maps.Keys(subdirectives)), ", "))
		}
		if _, seen := lines[name]; seen && name != "canister" && name != "origin" {
			return d.Errf("%s is given twice: remove one of them", name)
		}
		lines[name] = d.Token()
		args := d.RemainingArgs()
		switch {
		case len(args) == 0:
			return d.Errf("%s needs a value: write it as `%s %s`", name, name, sub.syntax)
		case slices.Contains(args, ""):
			return d.Errf("%s has an empty value: write it as `%s %s`", name, name, sub.syntax)
		case len(args) < sub.min:
			return d.Errf("%s (%s) is not complete: write it as `%s %s`", name, strings.Join(args, " "), name, sub.syntax)
		case len(args) > sub.max:
			return d.Errf("%s (%s) has too many values: write it as `%s %s`", name, strings.Join(args, " "), name, sub.syntax)
		}
		if err := sub.set(h, args); err != nil {
			return d.WrapErr(err)
		}
		if err := h.checkLists(); err != nil {
			return d.WrapErr(err)
		}
		if d.NextBlock(1) {
			return d.Errf("%s takes no block: remove the braces", name)
		}
	}
	if err := h.checkLiterals(); err != nil {
		// Errors about settings begin with the name of the one to change.
		name, _, _ := strings.Cut(err.Error(), " ")
		line, ok := lines[name]
		if !ok {
			line = directive
		}
		at := caddyfile.NewDispenser([]caddyfile.Token{line})
		at.Next()
		return at.WrapErr(err)
	}
	return nil
}

// hasPlaceholder reports whether a value is known only when the configuration starts.
func hasPlaceholder(value string) bool { return strings.Contains(value, "{") }

// literals returns what a list holds beside placeholders.
func literals(values []string) []string {
	var out []string
	for _, value := range values {
		if !hasPlaceholder(value) {
			out = append(out, split(value)...)
		}
	}
	return out
}

// checkLists checks the lists as far as they are given, so that an error names the line that brought it. Placeholders are
// left to Provision.
func (h *Handler) checkLists() error {
	if ids := literals(h.Canister); len(ids) > 0 {
		if _, _, err := parseCanisters(ids); err != nil {
			return err
		}
	}
	if _, err := parseOrigins(literals(h.Origin)); err != nil {
		return err
	}
	_, err := parseNetwork(literals(h.Network))
	return err
}

// checkLiterals checks what can be told of a whole block without placeholders and without looking at files, which may be
// on another machine than the one that adapts the Caddyfile.
func (h *Handler) checkLiterals() error {
	if len(h.Canister) == 0 {
		_, _, err := parseCanisters(nil)
		return err
	}
	if h.Identity != nil && h.Identity.Name != "" && !hasPlaceholder(h.Identity.Name) {
		if err := checkIdentityName(h.Identity.Name); err != nil {
			return err
		}
	}
	// Stands in for a network that cannot be known yet.
	n := &network{hosts: []*url.URL{{Scheme: "http", Host: "localhost"}}, fetch: true}
	if !slices.ContainsFunc(h.Network, hasPlaceholder) && !hasPlaceholder(h.RootKey) {
		literal, err := parseNetwork(literals(h.Network))
		if err != nil {
			return err
		}
		if _, isHex := hexRootKey(h.RootKey); isHex || h.RootKey == "" || h.RootKey == rootKeyFetch {
			if err := literal.resolveRootKey(h.RootKey); err != nil {
				return err
			}
			n = literal
		}
	}
	return h.validate(h.relayConfig(n))
}

// subdirective reads the arguments of one setting.
type subdirective struct {
	syntax   string // of the arguments, for errors
	min, max int    // how many there may be
	set      func(*Handler, []string) error
}

// subdirectives has every setting by its name. Durations and counts need no line here.
var subdirectives = func() map[string]subdirective {
	all := map[string]subdirective{
		"canister":         listOf("<canister_id>... | any", func(h *Handler) *[]string { return &h.Canister }),
		"network":          {"mainnet | <url>... [discover]", 1, math.MaxInt, setNetwork},
		"origin":           listOf("<pattern>...", func(h *Handler) *[]string { return &h.Origin }),
		"root_key":         {"<file> | <hex> | fetch", 1, 1, func(h *Handler, args []string) error { h.RootKey = args[0]; return nil }},
		"identity":         {"<name> | file <path>", 1, 2, setIdentity},
		"orphans":          oneOf("orphans", orphansClose, orphansKeep, func(h *Handler, value string) { h.Orphans = value }),
		"verify_empty":     oneOf("verify_empty", "on", "off", func(h *Handler, value string) { h.VerifyEmpty = value == "on" }),
		"max_message_size": {"<size>", 1, 1, setMaxMessageSize},
		"outbox":           {"<frames> <size>", 2, 2, setOutbox},
	}
	for name := range fields[caddy.Duration](new(Handler)) {
		all[name] = numberOf("<duration>", name, parseDuration)
	}
	for name := range fields[int](new(Handler)) {
		all[name] = numberOf("<count>", name, parseCount)
	}
	for name := range fields[float64](new(Handler)) {
		all[name] = numberOf("<requests_per_second>", name, parseRate)
	}
	return all
}()

func listOf(syntax string, field func(*Handler) *[]string) subdirective {
	return subdirective{syntax, 1, math.MaxInt, func(h *Handler, args []string) error {
		*field(h) = append(*field(h), args...)
		return nil
	}}
}

func oneOf(name, a, b string, set func(*Handler, string)) subdirective {
	return subdirective{a + " | " + b, 1, 1, func(h *Handler, args []string) error {
		if args[0] != a && args[0] != b {
			return fmt.Errorf("%s (%s) must be %s or %s", name, args[0], a, b)
		}
		set(h, args[0])
		return nil
	}}
}

// numberOf reads the setting of type T with the given name.
func numberOf[T any](syntax, name string, parse func(name, arg string) (T, error)) subdirective {
	return subdirective{syntax, 1, 1, func(h *Handler, args []string) error {
		value, err := parse(name, args[0])
		for n, field := range fields[T](h) {
			if n == name {
				*field = value
			}
		}
		return err
	}}
}

func parseDuration(name, arg string) (caddy.Duration, error) {
	value, err := caddy.ParseDuration(arg)
	if err != nil {
		return 0, fmt.Errorf("%s (%s) is not a duration: write it like 10s, 1m30s or 250ms", name, arg)
	}
	if value <= 0 {
		return 0, fmt.Errorf("%s (%s) must be positive: leave the line out for the default", name, arg)
	}
	return caddy.Duration(value), nil
}

func parseRate(name, arg string) (float64, error) {
	value, err := strconv.ParseFloat(arg, 64)
	if err != nil || math.IsNaN(value) || math.IsInf(value, 0) || value <= 0 {
		return 0, fmt.Errorf("%s (%s) must be a positive number of requests per second", name, arg)
	}
	return value, nil
}

func parseCount(name, arg string) (int, error) {
	value, err := strconv.Atoi(arg)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, fmt.Errorf("%s (%s) is out of range: use at most %d", name, arg, math.MaxInt)
	case err != nil:
		return 0, fmt.Errorf("%s (%s) is not a whole number: write it like 100", name, arg)
	case value < 1:
		return 0, fmt.Errorf("%s (%s) must be at least 1: leave the line out for the default", name, arg)
	}
	return value, nil
}

func parseSize(name, arg string) (int64, error) {
	value, err := humanize.ParseBytes(arg)
	if err != nil || value > math.MaxInt64 {
		return 0, fmt.Errorf("%s (%s) is not a size: write it like 512KiB or 2MiB", name, arg)
	}
	if value == 0 {
		return 0, fmt.Errorf("%s (%s) must be positive: leave the line out for the default", name, arg)
	}
	return int64(value), nil
}

func setMaxMessageSize(h *Handler, args []string) (err error) {
	h.MaxMessageSize, err = parseSize("max_message_size", args[0])
	return err
}

func setNetwork(h *Handler, args []string) error {
	last := len(args) - 1
	switch at := slices.Index(args, networkDiscover); {
	case at < 0:
		h.Network = args
	case last == 0:
		return fmt.Errorf("network %s needs the hosts to begin with: write it as `network mainnet %[1]s`", networkDiscover)
	case at < last:
		return fmt.Errorf("network has %s before its end: write it once, as the last word", networkDiscover)
	default:
		h.Network, h.Discover = args[:last], true
	}
	return nil
}

func setIdentity(h *Handler, args []string) error {
	switch {
	case len(args) == 1 && args[0] == "file":
		return errors.New("identity file needs a path: write it as `identity file <path>`")
	case len(args) == 1:
		h.Identity = &Identity{Name: args[0]}
	case args[0] == "file":
		h.Identity = &Identity{File: args[1]}
	default:
		return fmt.Errorf("identity (%s %s) must be one name, or `identity file <path>`", args[0], args[1])
	}
	return nil
}

func setOutbox(h *Handler, args []string) error {
	frames, err := parseCount("outbox frames", args[0])
	if err != nil {
		return err
	}
	bytes, err := parseSize("outbox bytes", args[1])
	if err != nil {
		return err
	}
	h.Outbox = &Outbox{Frames: frames, Bytes: bytes}
	return nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Handler)(nil)
