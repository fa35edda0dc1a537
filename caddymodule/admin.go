package caddymodule

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/verify"
)

func init() {
	caddy.RegisterModule(adminAPI{})
}

// adminAPI adds the gateways to Caddy's admin endpoint:
//
//	GET    /icws/gateways                 gateways with their network and verification caches
//	GET    /icws/canisters                canisters that are being polled
//	GET    /icws/sessions                 sessions; ?canister_id=, ?gateway= and ?limit= (default 1000) narrow them down
//	DELETE /icws/sessions/<gateway>/<id>  closes one session
//	POST   /icws/drain                    closes all sessions and refuses new ones until a configuration is loaded, with
//	                                      `caddy reload --force` if it is the same one
//	GET    /icws/health/ready             200 if new sessions are welcome, else 503
//	GET    /icws/health/live              200 unless only a restart can help
//
// No answer holds keys, client nonces or payloads. The module has no state: it looks at the gateways of the process.
type adminAPI struct{}

// CaddyModule returns the Caddy module information.
func (adminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.icws",
		New: func() caddy.Module { return new(adminAPI) },
	}
}

// Provision registers the metrics. The handlers do that too, but Caddy replaces the admin endpoint and its registry before
// it provisions the handlers of a new configuration: if one of them fails, that registry is the one that stays.
func (adminAPI) Provision(ctx caddy.Context) error {
	_, err := registerCollectors(ctx.GetMetricsRegistry())
	return err
}

// Routes implements caddy.AdminRouter.
func (a adminAPI) Routes() []caddy.AdminRoute {
	route := func(pattern, method string, f func(http.ResponseWriter, *http.Request) error) caddy.AdminRoute {
		return caddy.AdminRoute{Pattern: pattern, Handler: caddy.AdminHandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			if r.Method != method && (method != http.MethodGet || r.Method != http.MethodHead) {
				w.Header().Set("Allow", method)
				return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: fmt.Errorf("method %s is not allowed, use %s", r.Method, method)}
			}
			return f(w, r)
		})}
	}
	return []caddy.AdminRoute{
		route("/icws/gateways", http.MethodGet, a.gateways),
		route("/icws/canisters", http.MethodGet, a.canisters),
		route("/icws/sessions", http.MethodGet, a.sessions),
		route("/icws/sessions/{gateway}/{id}", http.MethodDelete, a.closeSession),
		route("/icws/drain", http.MethodPost, a.drain),
		route("/icws/health/ready", http.MethodGet, a.ready),
		route("/icws/health/live", http.MethodGet, a.live),
	}
}

// gatewayStatus is one element of the answer to /icws/gateways.
type gatewayStatus struct {
	Gateway string    `json:"gateway"` // names it in this API; changes with its settings
	Since   time.Time `json:"since"`
	Holders int       `json:"handlers"` // icws handlers of the present configuration that use it
	Network []string  `json:"network"`
	relay.Snapshot
}

// canisterStatus is one element of the answer to /icws/canisters.
type canisterStatus struct {
	Gateway string `json:"gateway"`
	relay.CanisterSnapshot
}

// sessionStatus is one element of the answer to /icws/sessions.
type sessionStatus struct {
	Gateway string `json:"gateway"`
	relay.SessionSnapshot
}

// healthStatus is the answer of the health endpoints.
type healthStatus struct {
	OK     bool   `json:"ok"`
	Reason string `json:"reason,omitempty"`
}

func (p *pooled) status() gatewayStatus {
	p.mu.Lock()
	holders := len(p.holders)
	p.mu.Unlock()
	s := gatewayStatus{Gateway: p.key, Since: p.since, Holders: holders, Snapshot: p.gateway.Snapshot()}
	s.Draining = s.Draining || p.isDraining()
	for _, u := range p.config.Hosts {
		s.Network = append(s.Network, u.String())
	}
	return s
}

func (adminAPI) gateways(w http.ResponseWriter, _ *http.Request) error {
	list := []gatewayStatus{}
	for _, p := range live.snapshot() {
		list = append(list, p.status())
	}
	return answer(w, http.StatusOK, list)
}

func (adminAPI) canisters(w http.ResponseWriter, _ *http.Request) error {
	list := []canisterStatus{}
	for _, p := range live.snapshot() {
		for _, c := range p.gateway.Snapshot().Canisters {
			list = append(list, canisterStatus{Gateway: p.key, CanisterSnapshot: c})
		}
	}
	return answer(w, http.StatusOK, list)
}

// defaultSessions bounds the answer to /icws/sessions unless ?limit= asks for more.
const defaultSessions = 1000

func (adminAPI) sessions(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	limit := defaultSessions
	if text := query.Get("limit"); text != "" {
		var err error
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 {
			return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: fmt.Errorf("limit (%s) must be a whole number of at least 1", text)}
		}
	}
	var canister verify.Principal
	byCanister := query.Has("canister_id")
	if byCanister {
		var err error
		if canister, err = verify.ParsePrincipal(query.Get("canister_id")); err != nil {
			return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: fmt.Errorf("canister_id (%s) is not a canister id like bkyz2-fmaaa-aaaaa-qaaaq-cai", query.Get("canister_id"))}
		}
	}
	for name := range query {
		if name != "limit" && name != "gateway" && name != "canister_id" {
			return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: fmt.Errorf("unknown parameter %q: there are canister_id, gateway and limit", name)}
		}
	}
	list := []sessionStatus{}
	for _, p := range live.snapshot() {
		if query.Has("gateway") && query.Get("gateway") != p.key {
			continue
		}
		for _, s := range p.gateway.Sessions() {
			if byCanister && canister != s.Canister {
				continue
			}
			list = append(list, sessionStatus{Gateway: p.key, SessionSnapshot: s})
		}
	}
	slices.SortStableFunc(list, func(a, b sessionStatus) int { return cmp.Compare(a.Started.UnixNano(), b.Started.UnixNano()) })
	return answer(w, http.StatusOK, list[:min(limit, len(list))])
}

func (adminAPI) closeSession(w http.ResponseWriter, r *http.Request) error {
	id, err := strconv.ParseUint(r.PathValue("id"), 10, 64)
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: errors.New("the id of a session is a number, see /icws/sessions")}
	}
	for _, p := range live.snapshot() {
		if p.key == r.PathValue("gateway") && p.gateway.CloseSession(id) {
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
	}
	return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: errors.New("there is no such session, see /icws/sessions")}
}

// drain takes this instance out of service. The next configuration that is loaded gets gateways of its own.
func (adminAPI) drain(w http.ResponseWriter, _ *http.Request) error {
	generation.Add(1)
	list := []gatewayStatus{}
	for _, p := range live.snapshot() {
		p.drain(relay.Draining)
		list = append(list, p.status())
	}
	return answer(w, http.StatusAccepted, list)
}

func (adminAPI) ready(w http.ResponseWriter, _ *http.Request) error {
	return health(w, notReady())
}

// notReady tells why new sessions are not welcome, or "".
func notReady() string {
	if caddy.Exiting() {
		return "exiting"
	}
	held := 0
	for _, p := range live.snapshot() {
		s := p.status()
		if s.Holders == 0 {
			continue // drains after a reload, which says nothing about its successors
		}
		held++
		switch {
		case s.Draining:
			return "gateway " + s.Gateway + " is draining"
		case len(s.Canisters) > 0 && !slices.ContainsFunc(s.Hosts, func(h relay.HostSnapshot) bool { return h.Healthy }):
			// Only while canisters are polled: without polls there would be no way back.
			return "gateway " + s.Gateway + " reaches none of its boundary nodes"
		}
	}
	if held == 0 {
		return "no gateway is running: load a configuration with an icws handler, after a drain with caddy reload --force"
	}
	return ""
}

// liveTimeout is how long a gateway may take to describe itself before it counts as stuck.
const liveTimeout = 5 * time.Second

func (adminAPI) live(w http.ResponseWriter, r *http.Request) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, p := range live.snapshot() {
			p.status()
		}
	}()
	timer := time.NewTimer(liveTimeout)
	defer timer.Stop()
	select {
	case <-done:
		return health(w, "")
	case <-r.Context().Done():
		return r.Context().Err()
	case <-timer.C:
		return health(w, "a gateway does not answer")
	}
}

func health(w http.ResponseWriter, problem string) error {
	if problem != "" {
		return answer(w, http.StatusServiceUnavailable, healthStatus{Reason: problem})
	}
	return answer(w, http.StatusOK, healthStatus{OK: true})
}

func answer(w http.ResponseWriter, status int, value any) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusInternalServerError, Err: err}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, err = w.Write(append(raw, '\n'))
	return err
}

// Interface guards
var (
	_ caddy.AdminRouter = adminAPI{}
	_ caddy.Provisioner = adminAPI{}
)
