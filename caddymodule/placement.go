package caddymodule

import (
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/fileserver"
)

// enclosingRoutes returns the lists of routes that the module being provisioned may be in, from the server's to the innermost.
func enclosingRoutes(ctx caddy.Context) (lists []caddyhttp.RouteList) {
	for _, module := range ctx.Modules() {
		switch m := module.(type) {
		case *caddyhttp.App:
			for _, server := range m.Servers {
				lists = append(lists, server.Routes)
			}
		case *caddyhttp.Subroute:
			lists = append(lists, m.Routes)
		}
	}
	return lists
}

// beingProvisioned reports whether the handlers of a route are not ready. The first such route of a list is the one that is
// being provisioned, or the list has not been begun.
func beingProvisioned(r caddyhttp.Route) bool { return len(r.Handlers) == 0 && len(r.HandlersRaw) > 0 }

// shadowedBy returns the module that answers every request before the one that is being provisioned could, or "". It does not
// look at handlers in the same route, which are not ready yet: in a Caddyfile those of directives with equal matchers.
func shadowedBy(ctx caddy.Context) caddy.ModuleID {
	for _, routes := range enclosingRoutes(ctx) {
		at := slices.IndexFunc(routes, beingProvisioned)
		if answers := answersAll(routes[:max(at, 0)]); answers != "" {
			return answers
		}
	}
	return ""
}

// answersAll returns the module of a list of routes that lets no request get beyond them, or "".
func answersAll(routes caddyhttp.RouteList) caddy.ModuleID {
	for _, route := range routes {
		if len(route.MatcherSets) > 0 {
			continue
		}
		for _, handler := range route.Handlers {
			switch h := handler.(type) {
			case *caddyhttp.Subroute:
				if answers := answersAll(h.Routes); answers != "" {
					return answers
				}
			case *fileserver.FileServer:
				if !h.PassThru {
					return h.CaddyModule().ID
				}
			case caddy.Module:
				if id := h.CaddyModule().ID; slices.Contains([]caddy.ModuleID{"http.handlers.static_response", "http.handlers.error", "http.handlers.reverse_proxy"}, id) {
					return id
				}
			}
		}
	}
	return ""
}
