package caddymodule

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/icws-gateway/caddy-icws/relay"
)

// remedies says what an operator can do about openings that are refused, by the label of the metric.
var remedies = map[string]string{
	"max_sessions":        "raise max_sessions, or run another instance",
	"max_sessions_per_ip": "raise max_sessions_per_ip; if all clients have this address, a proxy is in front: set trusted_proxies",
	"origin":              "if the page is yours, add its origin to the origin setting",
	"opening":             "nothing, if the client is not yours: it does not speak WebSocket as RFC 6455 says, or a proxy in between does not",
	"upgrade":             "nothing, if the client is not yours; for one that is, the error says what to change",
	"draining":            "nothing: clients connect again, to the next configuration or to another instance",
	"not_ready":           "see the error: until it is gone no session can begin",
	"error":               "see the error",
}

// refuse answers an opening before the upgrade, with a status that a client can act on, unlike a close code that comes after it. It
// counts and logs the refusal: the page learns no more than 1006. limit is the label of the metric; after, if not 0, is when to try
// again.
//
// What nobody dresses with handle_errors is answered here: Caddy would write a line of the level error for each 503.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, limit string, status int, after time.Duration, err error) error {
	h.stats.refused(limit)
	level := zapcore.WarnLevel
	if limit == "draining" {
		level = zapcore.InfoLevel
	}
	if ce := h.refusal.Check(level, "opening refused: "+limit); ce != nil {
		fields := []zap.Field{zap.Int("status", status), zap.String("error", cause(err).Error()), zap.String("remedy", remedies[limit]),
			zap.String("host", r.Host), zap.String("path", r.URL.Path)}
		if ip := clientIP(r); ip.IsValid() {
			fields = append(fields, zap.Stringer("client_ip", ip))
		}
		ce.Write(fields...)
	}
	if after > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt(max(1, int64((after+time.Second-1)/time.Second)), 10)) // the header knows whole seconds
	}
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if h.dressed || server == nil || server.Errors != nil && len(server.Errors.Routes) > 0 || status < http.StatusInternalServerError {
		return caddyhttp.Error(status, err)
	}
	w.WriteHeader(status)
	return nil
}

// noPlace refuses an opening that the gateway has no place for.
func (h *Handler) noPlace(w http.ResponseWriter, r *http.Request, err error) error {
	var limit *relay.LimitError
	switch {
	case errors.As(err, &limit) && limit.Limit == "max_sessions_per_ip":
		return h.refuse(w, r, limit.Limit, http.StatusTooManyRequests, limit.RetryAfter, err)
	case errors.As(err, &limit):
		return h.refuse(w, r, limit.Limit, http.StatusServiceUnavailable, limit.RetryAfter, err)
	case errors.Is(err, relay.ErrDraining):
		return h.refuse(w, r, "draining", http.StatusServiceUnavailable, time.Second, err)
	}
	return h.refuse(w, r, "error", http.StatusInternalServerError, 0, err)
}

// failed handles an upgrade that did not happen.
func (h *Handler) failed(w http.ResponseWriter, r *http.Request, err error) error {
	var broken *brokenUpgradeError
	if errors.As(err, &broken) {
		h.stats.refused("upgrade")
		h.logger.Debug("client left during the upgrade", zap.Error(err))
		return nil
	}
	return h.refuse(w, r, "upgrade", statusOf(err), 0, err)
}

// statusOf is the status that an error of Caddy's asks for.
func statusOf(err error) int {
	var asks caddyhttp.HandlerError
	if errors.As(err, &asks) && asks.StatusCode != 0 {
		return asks.StatusCode
	}
	return http.StatusInternalServerError
}

// cause is err without the status and the place in the source that Caddy's errors carry.
func cause(err error) error {
	var carries caddyhttp.HandlerError
	if errors.As(err, &carries) && carries.Err != nil {
		return carries.Err
	}
	return err
}

// errorsHaveRoutes reports whether a subroute around the handler that is being provisioned has routes for errors, which a Caddyfile
// cannot give it.
func errorsHaveRoutes(ctx caddy.Context) bool {
	for _, module := range ctx.Modules() {
		if s, ok := module.(*caddyhttp.Subroute); ok && s.Errors != nil && len(s.Errors.Routes) > 0 {
			return true
		}
	}
	return false
}
