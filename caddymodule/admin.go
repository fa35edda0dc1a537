package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/verify"
)

func init() {
	caddy.RegisterModule(adminAPI{})
}

// adminAPI adds the gateways to Caddy's admin endpoint, see endpoints. No answer holds keys, client nonces or payloads. The module has
// no state: it looks at the gateways of the process.
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

// endpoint is what can be asked for, and what GET /icws/ says of it.
type endpoint struct {
	Method string   `json:"method"`
	Path   string   `json:"path"` // a part in braces stands for one segment
	Query  []string `json:"query,omitempty"`
	About  string   `json:"about"`

	serve func(http.ResponseWriter, *http.Request) error
}

func (a adminAPI) endpoints() []endpoint {
	return []endpoint{
		{http.MethodGet, "/icws/", nil, "this list; the live page for whoever accepts text/html", a.index},
		{http.MethodGet, "/icws/status", nil, "all of the three that follow and whether new sessions are welcome, for who looks often", a.status},
		{http.MethodGet, "/icws/gateways", nil, "gateways with their network, canisters, hosts, caches and counters", a.gateways},
		{http.MethodGet, "/icws/canisters", nil, "canisters that are being polled", a.canisters},
		{http.MethodGet, "/icws/closes", listQuery, "how the last 50 sessions of each gateway ended, the newest first", a.closes},
		{http.MethodGet, "/icws/sessions", listQuery, "sessions, the oldest first; limit is 1000 unless it is set", a.sessions},
		{http.MethodDelete, "/icws/sessions/{gateway}/{id}", nil, "closes one session", a.closeSession},
		{http.MethodPost, "/icws/drain", nil, "closes all sessions and refuses new ones until a configuration is loaded, with caddy reload --force if it is the same one", a.drain},
		{http.MethodGet, "/icws/health/ready", nil, "200 if new sessions are welcome, else 503", a.ready},
		{http.MethodGet, "/icws/health/live", nil, "200 unless only a restart can help", a.live},
	}
}

// Routes implements caddy.AdminRouter.
func (a adminAPI) Routes() []caddy.AdminRoute {
	var routes []caddy.AdminRoute
	for _, e := range a.endpoints() {
		pattern := e.Path
		if strings.HasSuffix(pattern, "/") {
			pattern += "{$}" // and nothing below
		}
		routes = append(routes, caddy.AdminRoute{Pattern: pattern, Handler: caddy.AdminHandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			if r.Method != e.Method && (e.Method != http.MethodGet || r.Method != http.MethodHead) {
				w.Header().Set("Allow", e.Method)
				return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: fmt.Errorf("method %s is not allowed, use %s", r.Method, e.Method)}
			}
			return e.serve(w, r)
		})})
	}
	return routes
}

// index lists the endpoints, and is the live page for browsers.
func (a adminAPI) index(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Vary", "Accept")
	if wantsHTML(r) {
		return servePage(w)
	}
	return answer(w, http.StatusOK, a.endpoints())
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

// closeStatus is one element of the answer to /icws/closes.
type closeStatus struct {
	Gateway string `json:"gateway"`
	relay.CloseSnapshot
}

// view is the answer to /icws/status, and what the status command shows.
type view struct {
	Ready     bool             `json:"ready"`
	Reason    string           `json:"reason,omitempty"` // why not
	Gateways  []gatewayStatus  `json:"gateways"`
	Canisters []canisterStatus `json:"canisters"`
	Closes    []closeStatus    `json:"closes"`
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

func (adminAPI) status(w http.ResponseWriter, _ *http.Request) error {
	reason := notReady()
	gateways := gatewayList()
	return answer(w, http.StatusOK, view{reason == "", reason, gateways, canisterList(gateways), closeList(everything)})
}

func (adminAPI) gateways(w http.ResponseWriter, _ *http.Request) error {
	return answer(w, http.StatusOK, gatewayList())
}

func gatewayList() []gatewayStatus {
	list := []gatewayStatus{}
	for _, p := range live.snapshot() {
		list = append(list, p.status())
	}
	return list
}

func (adminAPI) canisters(w http.ResponseWriter, _ *http.Request) error {
	return answer(w, http.StatusOK, canisterList(gatewayList()))
}

func canisterList(gateways []gatewayStatus) []canisterStatus {
	list := []canisterStatus{}
	for _, g := range gateways {
		for _, c := range g.Canisters {
			list = append(list, canisterStatus{Gateway: g.Gateway, CanisterSnapshot: c})
		}
	}
	return list
}

// listQuery are the parameters that narrow a list down.
var listQuery = []string{"canister_id", "gateway", "limit"}

// defaultLimit bounds the answer to a request for a list, unless ?limit= asks for more.
const defaultLimit = 1000

// narrowed is what the query of a request leaves of a list.
type narrowed struct {
	limit    int
	gateway  func(key string) bool
	canister func(id verify.Principal) bool
}

// everything is what nothing narrows down.
var everything = narrowed{math.MaxInt, func(string) bool { return true }, func(verify.Principal) bool { return true }}

// gateways are those that are wanted.
func (n narrowed) gateways() []*pooled {
	return slices.DeleteFunc(live.snapshot(), func(p *pooled) bool { return !n.gateway(p.key) })
}

func narrow(r *http.Request) (narrowed, error) {
	bad := func(format string, args ...any) (narrowed, error) {
		return narrowed{}, caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: fmt.Errorf(format, args...)}
	}
	n := everything
	n.limit = defaultLimit
	for name, values := range r.URL.Query() {
		value := values[0]
		switch name {
		case "limit":
			limit, err := strconv.Atoi(value)
			if err != nil || limit < 1 {
				return bad("limit (%s) must be a whole number of at least 1", value)
			}
			n.limit = limit
		case "gateway":
			n.gateway = func(key string) bool { return key == value }
		case "canister_id":
			wanted, err := verify.ParsePrincipal(value)
			if err != nil {
				return bad("canister_id (%s) is not a canister id like bkyz2-fmaaa-aaaaa-qaaaq-cai", value)
			}
			n.canister = func(id verify.Principal) bool { return id == wanted }
		default:
			return bad("unknown parameter %q: there are canister_id, gateway and limit", name)
		}
	}
	return n, nil
}

func (adminAPI) sessions(w http.ResponseWriter, r *http.Request) error {
	wanted, err := narrow(r)
	if err != nil {
		return err
	}
	list := []sessionStatus{}
	for _, p := range wanted.gateways() {
		for _, s := range p.gateway.Sessions() {
			if wanted.canister(s.Canister) {
				list = append(list, sessionStatus{Gateway: p.key, SessionSnapshot: s})
			}
		}
	}
	slices.SortStableFunc(list, func(a, b sessionStatus) int { return a.Started.Compare(b.Started) })
	return answer(w, http.StatusOK, list[:min(wanted.limit, len(list))])
}

func (adminAPI) closes(w http.ResponseWriter, r *http.Request) error {
	wanted, err := narrow(r)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, closeList(wanted))
}

func closeList(wanted narrowed) []closeStatus {
	list := []closeStatus{}
	for _, p := range wanted.gateways() {
		for _, c := range p.gateway.Closes() {
			if wanted.canister(c.Canister) {
				list = append(list, closeStatus{Gateway: p.key, CloseSnapshot: c})
			}
		}
	}
	slices.SortStableFunc(list, func(a, b closeStatus) int { return b.At.Compare(a.At) })
	return list[:min(wanted.limit, len(list))]
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
