package caddymodule

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/icws-gateway/caddy-icws/relay"
)

func init() {
	caddy.RegisterModule(Handler{})
}

// Handler is a gateway between WebSocket clients and canisters of the Internet Computer. A request that opens a WebSocket,
// by an HTTP/1.1 upgrade or by extended CONNECT over HTTP/2 and HTTP/3, becomes a session: the client's signed messages
// go to its canister in order, and the canister's certified messages come back, verified on the way. Every other request
// goes to the next handler.
//
// Rewrites that stand before it and lead to a page where there is no file, such as Caddy's try_files, leave alone the openings
// that its route matches: their path is what the client asked for.
//
// Refused openings are errors that handle_errors can answer: 400, 405 and 426 for malformed ones, 403 for an origin that is
// not allowed, 429 for max_sessions_per_ip, and 503 for max_sessions and during a drain, both with Retry-After. The other limits end
// a session after the upgrade, with 1013 or 1009.
//
// Sessions outlive the configuration that took them, as long as the next one has a handler with the same gateway settings.
//
// It sets these placeholders for the handlers after it:
//
//	{http.icws.gateway_principal}  the gateway's principal, which canisters keep its queue under
type Handler struct {
	GatewaySettings
	HandlerSettings

	gateway  *gatewayRef // how to get at the pooled gateway; shared with the icws app
	policy   *relay.Policy
	nameless *sync.Once    // has warned of clients without an address
	noIP     *relay.Policy // the same without the limit per address, for clients that have none
	origins  origins
	logger   *zap.Logger
	refusal  *zap.Logger // of refused openings: many may come at once
	stats    *collectors
	dressed  bool // an error in a route around this one has routes of its own
}

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.icws",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision resolves and checks the settings. It contacts no network, creates no identity and starts nothing: `caddy
// validate` provisions too. The gateway is acquired when the configuration starts.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	repl := caddy.NewReplacer()

	cfg, source, err := h.resolveGateway(repl)
	if err != nil {
		return err
	}
	if err := h.resolveHandler(repl); err != nil {
		return err
	}
	h.nameless = new(sync.Once)
	h.refusal = relay.Sampled(h.logger)
	h.dressed = errorsHaveRoutes(ctx)
	keepFromTryFiles(ctx)
	warnOfPlace(ctx, h.logger)
	if h.stats, err = registerCollectors(ctx.GetMetricsRegistry()); err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}

	app, err := ctx.App(appID)
	if err != nil {
		return err
	}
	h.gateway = app.(*App).add(&gatewayRef{
		config:    cfg,
		source:    source,
		storage:   ctx.Storage(),
		logger:    h.logger,
		canisters: h.policy.Canisters,
	})
	return nil
}

// resolveGateway handles the settings that shape the gateway.
func (h *Handler) resolveGateway(repl *caddy.Replacer) (relay.Config, *identitySource, error) {
	var none relay.Config
	urls, err := resolveList(repl, "network", h.Network)
	if err != nil {
		return none, nil, err
	}
	rootKey, err := resolve(repl, "root_key", h.RootKey)
	if err != nil {
		return none, nil, err
	}
	n, err := resolveNetwork(urls, rootKey)
	if err != nil {
		return none, nil, err
	}
	if n.fetch {
		h.logger.Warn("root_key fetch trusts whoever answers for the network: for development only")
	}
	var id *Identity
	if h.Identity != nil {
		id = new(Identity)
		if id.Name, err = resolve(repl, "identity", h.Identity.Name); err != nil {
			return none, nil, err
		}
		if id.File, err = resolve(repl, "identity file", h.Identity.File); err != nil {
			return none, nil, err
		}
	}
	source, err := resolveIdentity(id, h.logger)
	if err != nil {
		return none, nil, err
	}
	return h.relayConfig(n), source, nil
}

// resolveHandler handles the settings that decide which sessions this handler takes.
func (h *Handler) resolveHandler(repl *caddy.Replacer) error {
	ids, err := resolveList(repl, "canister", h.Canister)
	if err != nil {
		return err
	}
	canisters, anyCanister, err := parseCanisters(ids)
	if err != nil {
		return err
	}
	if anyCanister {
		h.logger.Warn("canister any lets clients use this gateway, and its request budget, for every canister")
	}
	patterns, err := resolveList(repl, "origin", h.Origin)
	if err != nil {
		return err
	}
	if h.origins, err = parseOrigins(patterns); err != nil {
		return err
	}
	h.policy = h.HandlerSettings.policy(canisters, anyCanister)
	for name, value := range map[string]int{"max_sessions_per_ip": h.MaxSessionsPerIP, "max_sessions_per_canister": h.MaxSessionsPerCanister} {
		if value > h.policy.MaxSessions {
			h.logger.Warn(name+" is above max_sessions, which counts: lower one or raise the other", zap.Int(name, value), zap.Int("max_sessions", h.policy.MaxSessions))
		}
	}
	noIP := *h.policy
	noIP.MaxSessionsPerIP = 0
	h.noIP = &noIP
	return nil
}

// validate checks the settings. cfg is what relayConfig has made of those of the gateway.
func (h *Handler) validate(cfg relay.Config) error {
	if err := h.HandlerSettings.validate(); err != nil {
		return err
	}
	return h.GatewaySettings.validate(cfg)
}

// Validate checks values and their relations.
func (h *Handler) Validate() error {
	return h.validate(h.gateway.config)
}

// Cleanup gives the gateway back. Its sessions stay if another configuration holds it too, and are drained otherwise.
func (h *Handler) Cleanup() error {
	if h.gateway == nil {
		return nil // Provision failed before there was anything
	}
	return h.gateway.release()
}

// ServeHTTP takes WebSocket openings and passes everything else on. After an HTTP/1.1 upgrade it returns at once, which
// frees all that Caddy keeps for a request: that is most of what an idle client would cost.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	kind := openingOf(r)
	if kind == openingNone {
		// Not even the first request to a site may wait for the storage that an identity comes from.
		if pooled := h.gateway.peek(); pooled != nil {
			setPrincipal(r, pooled)
		}
		return next.ServeHTTP(w, r)
	}
	pooled, err := h.gateway.acquire()
	if err != nil {
		return h.refuse(w, r, "not_ready", http.StatusServiceUnavailable, time.Second, err)
	}
	setPrincipal(r, pooled)
	if err := checkOpening(w, r, kind); err != nil {
		return h.refuse(w, r, "opening", statusOf(err), 0, err)
	}
	subprotocol, err := chooseSubprotocol(r)
	if err != nil {
		return h.refuse(w, r, "opening", statusOf(err), 0, err)
	}
	if !h.origins.allows(r) {
		return h.refuse(w, r, "origin", http.StatusForbidden, 0, fmt.Errorf("origin %.200q is not allowed: if its pages are yours, add it to the origin setting", r.Header.Get("Origin")))
	}

	policy, ip := h.policy, clientIP(r)
	if !ip.IsValid() {
		policy = h.noIP
		h.nameless.Do(func() {
			h.logger.Warn("clients of this listener have no address, and max_sessions_per_ip does not count them: if a proxy in front says whose they are, set trusted_proxies_unix in the global option servers")
		})
	}
	ticket, err := pooled.gateway.Reserve(policy, ip)
	if err != nil {
		return h.noPlace(w, r, err)
	}
	defer ticket.Release() // does nothing once the session has begun
	ticket.Heed(r.URL)

	if kind == openingConnect {
		ws, stream, err := connect(pooled.upgrader, w, r, subprotocol)
		if err != nil {
			return h.failed(w, r, err)
		}
		ticket.Serve(sessionContext(r), ws)
		if r.ProtoMajor == 3 {
			h.gateway.outlast(ticket, stream)
		}
		stream.wait() // the stream ends when this handler returns
		return nil
	}
	ws, err := upgrade(pooled.upgrader, w, r, subprotocol)
	if err != nil {
		return h.failed(w, r, err)
	}
	ticket.Serve(sessionContext(r), ws)
	return nil
}

// setPrincipal sets the placeholder of the gateway principal for the handlers that follow, those of handle_errors included.
func setPrincipal(r *http.Request, p *pooled) {
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Set("http.icws.gateway_principal", p.principal)
	}
}

// clientIP returns the address that limits count, which is Caddy's client_ip and therefore the right one behind trusted
// proxies. It is invalid for clients that have none, such as those of a Unix socket.
func clientIP(r *http.Request) netip.Addr {
	text, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}
	}
	return addr.WithZone("").Unmap()
}

// sessionContext keeps the trace of the opening request for the spans of its session, and nothing else of the request:
// a session lives for days, and the request's context leads to its whole configuration.
func sessionContext(r *http.Request) context.Context {
	span := trace.SpanFromContext(r.Context())
	if !span.SpanContext().IsSampled() {
		return context.Background()
	}
	return trace.ContextWithSpan(context.Background(), span)
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
