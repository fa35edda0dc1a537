package caddymodule

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/fileserver"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"
	"go.uber.org/zap"
)

// enclosingRoutes returns the lists of routes that the module being provisioned may be in, from the server's to the innermost.
func enclosingRoutes(ctx caddy.Context) (lists []caddyhttp.RouteList) {
	if server := serverOf(ctx); server != nil {
		lists = append(lists, server.Routes)
	}
	for _, module := range ctx.Modules() {
		if m, ok := module.(*caddyhttp.Subroute); ok {
			lists = append(lists, m.Routes)
		}
	}
	return lists
}

// serverOf returns the server that the module being provisioned is in, or nil if it is in none.
func serverOf(ctx caddy.Context) *caddyhttp.Server {
	server, _ := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	return server
}

// beingProvisioned reports whether the handlers of a route are not ready. The first such route of a list is the one that is
// being provisioned, or the list has not been begun.
func beingProvisioned(r caddyhttp.Route) bool { return len(r.Handlers) == 0 && len(r.HandlersRaw) > 0 }

// warnOfPlace warns if no request gets to the handler that is being provisioned.
func warnOfPlace(ctx caddy.Context, logger *zap.Logger) {
	if module := shadowedBy(ctx); module != "" {
		logger.Warn("no request gets to icws, as what stands before it answers all of them: give icws a block of its own, `handle /ws { icws ... }`, and the rest `handle { ... }`",
			zap.String("answered_by", string(module)))
	}
	if prefix, pattern := strippedTwice(ctx); prefix != "" {
		logger.Warn("no request gets to icws, as its matcher wants what handle_path has taken off the path: leave that out of the matcher, or write handle in place of handle_path",
			zap.String("taken_off", prefix), zap.String("matcher", pattern))
	}
}

// shadowedBy returns the module that answers every opening before the handler that is being provisioned could, or "". It sends an
// opening for each path of the handler through the routes, on paper: matchers are asked, and handlers are looked at.
func shadowedBy(ctx caddy.Context) (by caddy.ModuleID) {
	defer func() {
		if recover() != nil { // a matcher or placeholder wants more of a request than there is: no warning is worth that
			by = ""
		}
	}()
	var openings []*http.Request
	vars := map[string]any{}
	for _, routes := range enclosingRoutes(ctx) {
		at := slices.IndexFunc(routes, beingProvisioned)
		if at < 0 {
			continue
		}
		if paths := pathsOf(routes[at]); openings == nil || len(paths) > 0 {
			openings = nil
			for _, path := range paths {
				openings = append(openings, newOpening(serverOf(ctx), path, vars))
			}
			if openings == nil {
				openings = append(openings, newOpening(serverOf(ctx), "*", vars))
			}
		}
		if !slices.ContainsFunc(openings, func(r *http.Request) bool {
			by = answeredBefore(routes, at, r)
			return by == ""
		}) {
			return by
		}
		vars = varsOf(openings[0])
	}
	return ""
}

// anyPath stands for what an asterisk matches: no site has a file or a route of that name.
const anyPath = "any-0f3c9a"

// newOpening is a WebSocket opening at a path of a server, for matchers and placeholders. vars are those that have been set before.
func newOpening(server *caddyhttp.Server, pattern string, vars map[string]any) *http.Request {
	path := "/" + strings.TrimPrefix(strings.ReplaceAll(pattern, "*", anyPath), "/")
	r := &http.Request{
		Method: http.MethodGet, URL: &url.URL{Path: path}, RequestURI: path, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}}, Body: http.NoBody,
	}
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), nil, server)
	maps.Copy(varsOf(r), vars)
	return r
}

func varsOf(r *http.Request) map[string]any {
	return r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
}

func replacerOf(r *http.Request) *caddy.Replacer {
	return r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
}

// answeredBefore returns the module of a list of routes that answers r before the route with index at could, or "". r is changed as
// the routes change it.
func answeredBefore(routes caddyhttp.RouteList, at int, r *http.Request) caddy.ModuleID {
	taken := map[string]bool{} // groups, of which only the first route that matches is run
	for i, route := range routes[:at] {
		if route.Group != "" && taken[route.Group] {
			continue
		}
		switch matches, by := routeMatches(route, r); {
		case by != "":
			return by
		case matches == unknown && route.Group != "":
			// If it matches, the others of the group are not run: then none of them answers every opening, unless this does, too.
			copied := newOpening(nil, r.URL.Path, varsOf(r))
			taken[route.Group] = answeredBy(routes[i], copied) == ""
			continue
		case matches != yes:
			continue
		}
		if route.Group != "" {
			taken[route.Group] = true
			if at < len(routes) && routes[at].Group == route.Group {
				return "http.handlers.subroute"
			}
		}
		if by := answeredBy(route, r); by != "" {
			return by
		}
		if route.Terminal {
			return "http.handlers.subroute"
		}
	}
	if at == len(routes) {
		return ""
	}
	return answeredBy(routes[at], r)
}

// answeredBy returns the handler of a route that answers r, or "". Of the route that is being provisioned only those count that stand
// before icws.
func answeredBy(route caddyhttp.Route, r *http.Request) caddy.ModuleID {
	for i, handler := range handlersOf(route) {
		if beingProvisioned(route) && bytes.Contains(route.HandlersRaw[i], []byte(`"icws"`)) {
			return "" // it is one, or has one
		}
		switch h := handler.(type) {
		case *rewrite.Rewrite:
			if !beingProvisioned(route) {
				h.Rewrite(r, replacerOf(r))
			}
		case *caddyhttp.VarsMiddleware: // root is one
			_ = h.ServeHTTP(nil, r, caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil }))
		case *caddyhttp.Subroute:
			if by := answeredBefore(h.Routes, len(h.Routes), r); by != "" {
				return by
			}
		case *caddyhttp.Invoke:
			server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
			if server == nil || server.NamedRoutes[h.Name] == nil {
				continue
			}
			// Without the server, a named route that invokes another ends the search, and one that invokes itself, too.
			r = r.WithContext(context.WithValue(r.Context(), caddyhttp.ServerCtxKey, (*caddyhttp.Server)(nil)))
			if by := answeredBefore(caddyhttp.RouteList{*server.NamedRoutes[h.Name]}, 1, r); by != "" {
				return by
			}
		case *fileserver.FileServer:
			if !h.PassThru {
				return h.CaddyModule().ID
			}
		case *reverseproxy.Handler:
			if len(h.HandleResponse) == 0 { // as forward_auth lets pass what is allowed
				return h.CaddyModule().ID
			}
		case caddy.Module:
			if id := h.CaddyModule().ID; slices.Contains(answering, id) {
				return id
			}
		}
	}
	return ""
}

// answering are further modules that answer whatever they get.
var answering = []caddy.ModuleID{"http.handlers.static_response", "http.handlers.error", "http.handlers.metrics"}

// handlersOf returns the handlers of a route, as far as their settings tell if they are not ready.
func handlersOf(route caddyhttp.Route) (all []any) {
	for _, h := range route.Handlers {
		all = append(all, h)
	}
	if beingProvisioned(route) {
		for _, raw := range route.HandlersRaw {
			var name struct {
				Handler string `json:"handler"`
			}
			var h any
			_ = json.Unmarshal(raw, &name) // what cannot be read, Caddy reports
			if info, err := caddy.GetModule("http.handlers." + name.Handler); err == nil {
				h = info.New()
				_ = json.Unmarshal(raw, h)
			}
			all = append(all, h)
		}
	}
	return all
}

// verdict is whether something matches an opening, of which only the path is known. They are in such an order that "and" is the
// lowest of several, "or" the highest, and "not" the negative.
type verdict int

const (
	no verdict = iota - 1
	unknown
	yes
)

// routeMatches tells whether a route matches r. A matcher that refuses the request altogether, as `try_files {path} =404` does, is returned.
func routeMatches(route caddyhttp.Route, r *http.Request) (verdict, caddy.ModuleID) {
	switch {
	case len(route.MatcherSetsRaw) > 0: // not ready
		return unknown, ""
	case len(route.MatcherSets) == 0:
		return yes, ""
	}
	return anyOf(route.MatcherSets, r)
}

func anyOf(sets caddyhttp.MatcherSets, r *http.Request) (verdict, caddy.ModuleID) {
	highest := no
	for _, set := range sets {
		lowest := yes
		for _, matcher := range set {
			one, refuses := matches(matcher, r)
			if lowest = min(lowest, one); refuses != "" && lowest == yes {
				return yes, refuses
			}
		}
		highest = max(highest, lowest)
	}
	return highest, ""
}

// matches tells whether a matcher matches r.
func matches(matcher any, r *http.Request) (verdict, caddy.ModuleID) {
	module, ok := matcher.(caddy.Module)
	if !ok {
		return unknown, ""
	}
	switch id := module.CaddyModule().ID; id {
	case "http.matchers.not":
		if not, ok := matcher.(*caddyhttp.MatchNot); ok {
			inner, refuses := anyOf(not.MatcherSets, r)
			return -inner, refuses
		}
	case "http.matchers.path", "http.matchers.path_regexp", "http.matchers.file":
		if m, ok := matcher.(caddyhttp.RequestMatcherWithError); ok {
			switch matched, err := m.MatchWithError(r); {
			case err != nil:
				return yes, id
			case matched:
				return yes, ""
			}
			return no, ""
		}
	}
	return unknown, ""
}

// pathsOf returns the paths that a route is for, or nil if that is not known or it is for all of them.
func pathsOf(route caddyhttp.Route) (paths []string) {
	for _, set := range route.MatcherSets {
		i := slices.IndexFunc(set, func(m any) bool { return len(plainPaths(m)) > 0 })
		if i < 0 {
			return nil
		}
		paths = append(paths, plainPaths(set[i])...)
	}
	return paths
}

// plainPaths returns the patterns of a matcher of paths, or nil if m is none, or has placeholders or escapes.
func plainPaths(m any) caddyhttp.MatchPath {
	var path caddyhttp.MatchPath
	switch m := m.(type) {
	case *caddyhttp.MatchPath:
		path = *m
	case caddyhttp.MatchPath:
		path = m
	}
	if slices.ContainsFunc(path, func(p string) bool { return strings.ContainsAny(p, "{%") }) {
		return nil
	}
	return path
}

// strippedTwice returns what is taken off every path, as by handle_path, before a route that is being provisioned, if all that the
// route matches still begins with it; and such a pattern.
func strippedTwice(ctx caddy.Context) (prefix, pattern string) {
	for _, routes := range enclosingRoutes(ctx) {
		at := slices.IndexFunc(routes, beingProvisioned)
		if at < 0 {
			continue
		}
		paths := pathsOf(routes[at])
		for _, before := range routes[:at] {
			for _, handler := range before.Handlers {
				r, ok := handler.(*rewrite.Rewrite)
				if !ok || r.StripPathPrefix == "" || len(before.MatcherSets) > 0 || len(paths) == 0 {
					continue
				}
				if !slices.ContainsFunc(paths, func(path string) bool { return !strings.HasPrefix(path, r.StripPathPrefix) }) {
					return r.StripPathPrefix, paths[0]
				}
			}
		}
	}
	return "", ""
}
