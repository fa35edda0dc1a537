package caddymodule

import (
	"math"
	"strconv"

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
//		network              mainnet | <url>...
//		root_key             <file> | <hex> | fetch
//		identity             <name> | file <path>
//		origin               <pattern>...
//		poll_interval        <duration>
//		poll_idle_interval   <duration>
//		upstream_rate        <requests_per_second>
//		upstream_timeout     <duration>
//		outage_timeout       <duration>
//		relay_window         <envelopes>
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
	h.Canister = append(h.Canister, d.RemainingArgs()...)

	seen := make(map[string]bool)
	for d.NextBlock(0) {
		name := d.Val()
		parse, known := subdirectives[name]
		if !known {
			return d.Errf("unknown subdirective %q of icws", name)
		}
		if seen[name] && name != "canister" && name != "origin" {
			return d.Errf("%s is given twice: remove one of them", name)
		}
		seen[name] = true
		if err := parse(&h.Knobs, d); err != nil {
			return err
		}
		if d.NextBlock(1) {
			return d.Errf("%s takes no block: remove the braces", name)
		}
	}
	return nil
}

// subdirectives maps each knob to what reads its arguments. The dispenser stands on the name of the subdirective.
var subdirectives = map[string]func(*Knobs, *caddyfile.Dispenser) error{
	"canister": listOf(func(k *Knobs) *[]string { return &k.Canister }),
	"network":  listOf(func(k *Knobs) *[]string { return &k.Network }),
	"origin":   listOf(func(k *Knobs) *[]string { return &k.Origin }),
	"root_key": oneString(func(k *Knobs) *string { return &k.RootKey }),
	"identity": parseIdentity,
	"orphans":  oneOf(func(k *Knobs) *string { return &k.Orphans }, orphansClose, orphansKeep),

	"poll_interval":      duration(func(k *Knobs) *caddy.Duration { return &k.PollInterval }),
	"poll_idle_interval": duration(func(k *Knobs) *caddy.Duration { return &k.PollIdleInterval }),
	"upstream_timeout":   duration(func(k *Knobs) *caddy.Duration { return &k.UpstreamTimeout }),
	"outage_timeout":     duration(func(k *Knobs) *caddy.Duration { return &k.OutageTimeout }),
	"open_timeout":       duration(func(k *Knobs) *caddy.Duration { return &k.OpenTimeout }),
	"ping_interval":      duration(func(k *Knobs) *caddy.Duration { return &k.PingInterval }),
	"pong_timeout":       duration(func(k *Knobs) *caddy.Duration { return &k.PongTimeout }),
	"write_timeout":      duration(func(k *Knobs) *caddy.Duration { return &k.WriteTimeout }),
	"drain_timeout":      duration(func(k *Knobs) *caddy.Duration { return &k.DrainTimeout }),

	"relay_window":              count(func(k *Knobs) *int { return &k.RelayWindow }),
	"max_sessions":              count(func(k *Knobs) *int { return &k.MaxSessions }),
	"max_sessions_per_ip":       count(func(k *Knobs) *int { return &k.MaxSessionsPerIP }),
	"max_sessions_per_canister": count(func(k *Knobs) *int { return &k.MaxSessionsPerCanister }),
	"max_canisters":             count(func(k *Knobs) *int { return &k.MaxCanisters }),

	"upstream_rate":    parseRate,
	"verify_empty":     onOff(func(k *Knobs) *bool { return &k.VerifyEmpty }),
	"max_message_size": size(func(k *Knobs) *int64 { return &k.MaxMessageSize }),
	"outbox":           parseOutbox,
}

// oneArg reads the only argument of a subdirective.
func oneArg(d *caddyfile.Dispenser) (string, error) {
	args := d.RemainingArgs()
	if len(args) != 1 {
		return "", d.ArgErr()
	}
	return args[0], nil
}

func listOf(field func(*Knobs) *[]string) func(*Knobs, *caddyfile.Dispenser) error {
	return func(k *Knobs, d *caddyfile.Dispenser) error {
		args := d.RemainingArgs()
		if len(args) == 0 {
			return d.ArgErr()
		}
		*field(k) = append(*field(k), args...)
		return nil
	}
}

func oneString(field func(*Knobs) *string) func(*Knobs, *caddyfile.Dispenser) error {
	return func(k *Knobs, d *caddyfile.Dispenser) error {
		arg, err := oneArg(d)
		if err != nil {
			return err
		}
		if arg == "" {
			return d.ArgErr()
		}
		*field(k) = arg
		return nil
	}
}

func oneOf(field func(*Knobs) *string, a, b string) func(*Knobs, *caddyfile.Dispenser) error {
	return func(k *Knobs, d *caddyfile.Dispenser) error {
		name := d.Val()
		arg, err := oneArg(d)
		if err != nil {
			return err
		}
		if arg != a && arg != b {
			return d.Errf("%s (%s) must be %s or %s", name, arg, a, b)
		}
		*field(k) = arg
		return nil
	}
}

func onOff(field func(*Knobs) *bool) func(*Knobs, *caddyfile.Dispenser) error {
	return func(k *Knobs, d *caddyfile.Dispenser) error {
		name := d.Val()
		arg, err := oneArg(d)
		if err != nil {
			return err
		}
		if arg != "on" && arg != "off" {
			return d.Errf("%s (%s) must be on or off", name, arg)
		}
		*field(k) = arg == "on"
		return nil
	}
}

func duration(field func(*Knobs) *caddy.Duration) func(*Knobs, *caddyfile.Dispenser) error {
	return func(k *Knobs, d *caddyfile.Dispenser) error {
		name := d.Val()
		arg, err := oneArg(d)
		if err != nil {
			return err
		}
		value, err := caddy.ParseDuration(arg)
		if err != nil {
			return d.Errf("%s (%s) is not a duration: write it like 10s, 1m30s or 250ms", name, arg)
		}
		if value <= 0 {
			return d.Errf("%s (%s) must be positive: leave the line out for the default", name, arg)
		}
		*field(k) = caddy.Duration(value)
		return nil
	}
}

func count(field func(*Knobs) *int) func(*Knobs, *caddyfile.Dispenser) error {
	return func(k *Knobs, d *caddyfile.Dispenser) error {
		name := d.Val()
		arg, err := oneArg(d)
		if err != nil {
			return err
		}
		value, err := strconv.Atoi(arg)
		if err != nil {
			return d.Errf("%s (%s) is not a whole number", name, arg)
		}
		if value < 1 {
			return d.Errf("%s (%s) must be at least 1: leave the line out for the default", name, arg)
		}
		*field(k) = value
		return nil
	}
}

func size(field func(*Knobs) *int64) func(*Knobs, *caddyfile.Dispenser) error {
	return func(k *Knobs, d *caddyfile.Dispenser) error {
		name := d.Val()
		arg, err := oneArg(d)
		if err != nil {
			return err
		}
		value, err := parseSize(d, name, arg)
		if err != nil {
			return err
		}
		*field(k) = value
		return nil
	}
}

func parseSize(d *caddyfile.Dispenser, name, arg string) (int64, error) {
	value, err := humanize.ParseBytes(arg)
	if err != nil || value > math.MaxInt64 {
		return 0, d.Errf("%s (%s) is not a size: write it like 512KiB or 2MiB", name, arg)
	}
	if value == 0 {
		return 0, d.Errf("%s (%s) must be positive: leave the line out for the default", name, arg)
	}
	return int64(value), nil
}

func parseRate(k *Knobs, d *caddyfile.Dispenser) error {
	arg, err := oneArg(d)
	if err != nil {
		return err
	}
	value, err := strconv.ParseFloat(arg, 64)
	if err != nil || math.IsNaN(value) || math.IsInf(value, 0) || value <= 0 {
		return d.Errf("upstream_rate (%s) must be a positive number of requests per second", arg)
	}
	k.UpstreamRate = value
	return nil
}

func parseIdentity(k *Knobs, d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	switch {
	case len(args) == 1 && args[0] == "file":
		return d.Errf("identity file needs a path: identity file <path>")
	case len(args) == 1 && args[0] != "":
		k.Identity = &Identity{Name: args[0]}
	case len(args) == 2 && args[0] == "file" && args[1] != "":
		k.Identity = &Identity{File: args[1]}
	default:
		return d.ArgErr()
	}
	return nil
}

func parseOutbox(k *Knobs, d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 2 {
		return d.ArgErr()
	}
	frames, err := strconv.Atoi(args[0])
	if err != nil || frames < 1 {
		return d.Errf("outbox frames (%s) must be a whole number of at least 1", args[0])
	}
	bytes, err := parseSize(d, "outbox bytes", args[1])
	if err != nil {
		return err
	}
	k.Outbox = &Outbox{Frames: frames, Bytes: bytes}
	return nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Handler)(nil)
