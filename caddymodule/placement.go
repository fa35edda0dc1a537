package caddymodule

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/fileserver"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"
	"go.uber.org/zap"
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

// shadowedBy returns the module that answers every request before the one that is being provisioned could, or "".
func shadowedBy(ctx caddy.Context) caddy.ModuleID {
	for _, routes := range enclosingRoutes(ctx) {
		at := slices.IndexFunc(routes, beingProvisioned)
		if at < 0 {
			continue
		}
		if answers := answersAll(routes[:at], pathsOf(routes[at])); answers != "" {
			return answers
		}
		for i, handler := range handlersOf(routes[at]) {
			if bytes.Contains(routes[at].HandlersRaw[i], []byte(`"icws"`)) {
				break // it is one, or has one
			}
			if answers := answers(handler); answers != "" {
				return answers
			}
		}
	}
	return ""
}

// answersAll returns the module of a list of routes that lets no request for paths get beyond them, or "". nil are all paths.
func answersAll(routes caddyhttp.RouteList, paths []string) caddy.ModuleID {
	for _, route := range routes {
		if !matchesAll(route, paths) {
			continue
		}
		for _, handler := range handlersOf(route) {
			if answers := answers(handler); answers != "" {
				return answers
			}
		}
	}
	return ""
}

// answers returns the module that answers all requests which get to handler, or "".
func answers(handler any) caddy.ModuleID {
	switch h := handler.(type) {
	case *caddyhttp.Subroute:
		return answersAll(h.Routes, nil)
	case *fileserver.FileServer:
		if !h.PassThru {
			return h.CaddyModule().ID
		}
	case caddy.Module:
		if id := h.CaddyModule().ID; slices.Contains([]caddy.ModuleID{"http.handlers.static_response", "http.handlers.error", "http.handlers.reverse_proxy"}, id) {
			return id
		}
	}
	return ""
}

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

// matchesAll reports whether a route takes every request for paths: it has no matcher, or one of paths alone that has them all.
func matchesAll(route caddyhttp.Route, paths []string) bool {
	if len(route.MatcherSets) == 0 && len(route.MatcherSetsRaw) == 0 {
		return true
	}
	for _, set := range route.MatcherSets {
		if len(set) != 1 || len(paths) == 0 {
			continue
		}
		if m, ok := pathMatcher(set[0]); ok && !slices.ContainsFunc(paths, func(path string) bool { return !hasPath(m, path) }) {
			return true
		}
	}
	return false
}

// hasPath reports whether m matches what pattern does: pattern is a path, or one that ends in an asterisk.
func hasPath(m caddyhttp.MatchPath, pattern string) bool {
	path, anyEnd := strings.CutSuffix(pattern, "*")
	if anyEnd {
		m = slices.DeleteFunc(slices.Clone(m), func(p string) bool { return !strings.HasSuffix(p, "*") })
	}
	r := &http.Request{URL: &url.URL{Path: path}}
	matched, err := m.MatchWithError(r.WithContext(context.WithValue(context.Background(), caddy.ReplacerCtxKey, caddy.NewReplacer())))
	return matched && err == nil
}

// pathsOf returns the paths that a route is for, or nil if that is not known or it is for all of them.
func pathsOf(route caddyhttp.Route) (paths []string) {
	for _, set := range route.MatcherSets {
		i := slices.IndexFunc(set, func(m any) bool { _, ok := pathMatcher(m); return ok })
		if i < 0 {
			return nil
		}
		m, _ := pathMatcher(set[i])
		paths = append(paths, m...)
	}
	return paths
}

// pathMatcher returns m if it is a matcher of paths, in which an asterisk is only at the end.
func pathMatcher(m any) (caddyhttp.MatchPath, bool) {
	var path caddyhttp.MatchPath
	switch m := m.(type) {
	case *caddyhttp.MatchPath:
		path = *m
	case caddyhttp.MatchPath:
		path = m
	}
	odd := func(p string) bool { return strings.ContainsAny(strings.TrimSuffix(p, "*"), "*{%") }
	return path, len(path) > 0 && !slices.ContainsFunc(path, odd)
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
