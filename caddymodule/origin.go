package caddymodule

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
)

// originPattern is one pattern of the `origin` knob: scheme, host with an optional leading wildcard label, port.
type originPattern struct {
	scheme string
	host   string // without the wildcard: "icp0.io" of "*.icp0.io"
	wild   bool   // any host below host
	port   string // "" is the scheme's default, "*" any
	null   bool   // the opaque origin of sandboxed pages and local files
}

// origins is the allow-list of the `origin` knob. Empty allows every page.
type origins []originPattern

// parseOrigins compiles the patterns of the `origin` knob.
func parseOrigins(patterns []string) (origins, error) {
	out := make(origins, 0, len(patterns))
	for _, pattern := range patterns {
		if pattern == "*" || pattern == "any" {
			if len(patterns) > 1 {
				return nil, fmt.Errorf("origin %s already allows every page: remove the other patterns", pattern)
			}
			return nil, nil
		}
		p, err := parseOriginPattern(pattern)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func parseOriginPattern(pattern string) (originPattern, error) {
	if pattern == "null" {
		return originPattern{null: true}, nil
	}
	scheme, rest, ok := strings.Cut(strings.ToLower(pattern), "://")
	if !ok || (scheme != "https" && scheme != "http") || rest == "" {
		return originPattern{}, fmt.Errorf("origin %q must be a scheme and a host, like https://app.example.com or https://*.icp0.io", pattern)
	}
	host, port, ok := splitOriginHost(rest)
	if !ok || strings.ContainsAny(rest, "/?#@ ") {
		return originPattern{}, fmt.Errorf("origin %q must end after the host: an origin has no path", pattern)
	}
	p := originPattern{scheme: scheme, host: host, port: normalPort(scheme, port)}
	p.host, p.wild = strings.CutPrefix(host, "*.")
	if p.host == "" || strings.Contains(p.host, "*") || (p.wild && strings.HasPrefix(p.host, ".")) {
		return originPattern{}, fmt.Errorf("origin %q has a wildcard in a place other than the first label: write https://*.example.com", pattern)
	}
	if p.host, ok = browserHost(p.host); !ok {
		return originPattern{}, fmt.Errorf("origin %q has a host that no browser could send: write it like https://app.example.com", pattern)
	}
	return p, nil
}

// browserHost brings a host into the form that browsers put into the Origin header, and reports whether there is one.
func browserHost(host string) (string, bool) {
	if inner, ok := strings.CutPrefix(host, "["); ok {
		addr, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		return "[" + addr.String() + "]", err == nil && addr.Is6() && addr.Zone() == ""
	}
	if strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == "" {
		return host, true
	}
	ascii, err := idna.Lookup.ToASCII(host)
	return ascii, err == nil
}

// allows reports whether a request may open a session as far as its page is concerned. Browsers always name the page;
// a request that names none is not a browser's, and could have named any.
func (o origins) allows(r *http.Request) bool {
	if len(o) == 0 {
		return true
	}
	values := r.Header["Origin"]
	if len(values) == 0 {
		return true
	}
	if len(values) > 1 {
		return false
	}
	for i := range o {
		if o[i].matches(values[0]) {
			return true
		}
	}
	return false
}

func (p *originPattern) matches(origin string) bool {
	if p.null || origin == "null" {
		return p.null && origin == "null"
	}
	scheme, rest, ok := strings.Cut(strings.ToLower(origin), "://")
	if !ok || scheme != p.scheme {
		return false
	}
	host, port, ok := splitOriginHost(rest)
	if !ok || (p.port != "*" && normalPort(scheme, port) != p.port) {
		return false
	}
	if p.wild {
		return len(host) > len(p.host)+1 && strings.HasSuffix(host, p.host) && host[len(host)-len(p.host)-1] == '.'
	}
	return host == p.host
}

// splitOriginHost takes the host part of an origin apart; IPv6 addresses keep their brackets.
func splitOriginHost(rest string) (host, port string, ok bool) {
	host = rest
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, ']') {
		host, port = rest[:i], rest[i+1:]
		if port == "" {
			return "", "", false
		}
		if port != "*" && strings.Trim(port, "0123456789") != "" {
			return "", "", false
		}
	}
	return host, port, host != ""
}

// normalPort drops the port that the scheme implies, as browsers do.
func normalPort(scheme, port string) string {
	if (scheme == "https" && port == "443") || (scheme == "http" && port == "80") {
		return ""
	}
	return port
}
