package caddymodule

import (
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/fileserver"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"
)

// keepFromTryFiles makes the try_files before a handler leave alone the WebSocket openings that are the handler's. It is
// called while the handler is provisioned.
//
// In a Caddyfile, try_files comes before every directive that answers. With `try_files {path} /index.html`, as all sites of
// one page have it, a request for /ws becomes one for /index.html, and `icws /ws` never sees it. To match the original path
// there would be wrong: what stands in between, as `basic_auth /ws` or `abort @blocked`, would not see it either, and
// openings would pass it by. So their path has to stay what it is.
func keepFromTryFiles(ctx caddy.Context) {
	for _, routes := range enclosingRoutes(ctx) {
		at := slices.IndexFunc(routes, beingProvisioned)
		for _, before := range routes[:max(at, 0)] {
			for _, handler := range before.Handlers {
				r, ok := handler.(*rewrite.Rewrite)
				if !ok {
					continue
				}
				toFound := strings.Contains(r.URI, "{http.matchers.file.") // what try_files rewrites to
				for i, set := range before.MatcherSets {
					if toFound || slices.ContainsFunc(set, isNoFile) {
						before.MatcherSets[i] = append(caddyhttp.MatcherSet{&noOpening{routes[at].MatcherSets}}, set...)
					}
				}
			}
		}
	}
}

// isNoFile reports whether a matcher wants that there is no file at the path of the request: `not file`, before a rewrite
// to the page, does what try_files does. One that asks for a certain file, like the flag of a maintenance mode, does not.
func isNoFile(matcher any) bool {
	not, ok := matcher.(*caddyhttp.MatchNot)
	return ok && slices.ContainsFunc(not.MatcherSets, func(set caddyhttp.MatcherSet) bool {
		return slices.ContainsFunc(set, func(matcher any) bool {
			file, ok := matcher.(*fileserver.MatchFile)
			return ok && slices.ContainsFunc(file.TryFiles, func(name string) bool { return strings.Contains(name, "{http.request.uri.path") })
		})
	})
}

// noOpening is a matcher of requests that are no WebSocket openings of a route.
type noOpening struct{ route caddyhttp.MatcherSets }

// MatchWithError implements caddyhttp.RequestMatcherWithError.
func (m *noOpening) MatchWithError(r *http.Request) (bool, error) {
	if openingOf(r) == openingNone {
		return true, nil
	}
	ours, err := m.route.AnyMatchWithError(r)
	return !ours, err
}

// Interface guard
var _ caddyhttp.RequestMatcherWithError = (*noOpening)(nil)
