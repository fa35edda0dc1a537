package caddymodule

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// origin is what browsers and app shells call a page in the Origin header (RFC 6454, URL standard), in one spelling.
type origin struct {
	null   bool   // sandboxed pages and, in some browsers, local files; nothing else is set
	scheme string // in lower case
	host   string // in lower case; may be empty for schemes that are not the web's
	port   string // "" is the scheme's own
}

// originPattern is one pattern of the `origin` knob.
type originPattern struct {
	origin
	below   bool // any host below host
	anyHost bool
	anyPort bool
}

// origins is the allow-list of the `origin` knob. Empty allows every page.
type origins []originPattern

// webPorts are the ports that schemes imply and browsers therefore leave out. Native clients send the scheme of the
// WebSocket's own URL. The hosts of these schemes are names and addresses; those of all others are what an app or
// extension is called.
var webPorts = map[string]string{"http": "80", "https": "443", "ws": "80", "wss": "443"}

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

// parseOriginPattern refuses patterns that no page could ever match, with the reason.
func parseOriginPattern(pattern string) (originPattern, error) {
	p, problem := originPattern{}, ""
	if pattern == "null" {
		p.null = true
		return p, nil
	}
	scheme, rest, ok := strings.Cut(strings.ToLower(pattern), "://")
	_, web := webPorts[scheme]
	switch first, _, _ := strings.Cut(scheme, ":"); {
	case slices.Contains([]string{"about", "blob", "data", "filesystem", "javascript"}, first):
		problem = "has a scheme without origins: browsers send that of the page it was made by, or null"
	case !ok || !isScheme(scheme) || web && rest == "":
		problem = "must be a scheme and a host, like https://app.example.com, https://*.icp0.io or capacitor://localhost"
	case scheme == "file" && rest != "":
		problem = "names a file: pages from files are null in browsers and file:// in some app shells, whatever file it is"
	case strings.ContainsAny(rest, "/?#@"):
		problem = "must end after the host: an origin has no path"
	default:
		p.scheme = scheme
		problem = p.parseAuthority(rest, web)
	}
	if problem != "" {
		return p, fmt.Errorf("origin %q %s", pattern, problem)
	}
	return p, nil
}

// parseAuthority reads what follows the scheme of a pattern. It returns what is wrong with it, or "".
func (p *originPattern) parseAuthority(rest string, web bool) (problem string) {
	rest, p.anyPort = strings.CutSuffix(rest, ":*")
	var ok bool
	if p.host, p.port, ok = splitPort(p.scheme, rest); !ok {
		return "has no port from 0 to 65535 behind its colon"
	}
	if p.host == "*" && !web {
		// Browsers give an extension another id in every installation.
		p.host, p.anyHost = "", true
		return ""
	}
	p.host, p.below = strings.CutPrefix(p.host, "*.")
	switch {
	case strings.Contains(p.host, "*") || p.below && (p.host == "" || p.host[0] == '.'):
		return "has a wildcard in a place other than the first label: write https://*.example.com"
	case strings.HasPrefix(p.host, "["):
		if p.host, ok = shortIPv6(p.host); !ok || p.below {
			return "has a host that no browser could send: it is no IPv6 address without a zone"
		}
	case strings.Contains(p.host, ":"):
		return "has more than one colon behind the scheme: an IPv6 address needs brackets, like http://[::1]:8080"
	case web:
		host, err := normalHost(p.host)
		if err != nil {
			return "has a host that no browser could send: it " + err.Error()
		}
		if p.host = host; p.below && endsInNumber(host) {
			return "has a wildcard before an address, and only names have parts: name the addresses"
		}
	case strings.ContainsFunc(p.host, notInOpaqueHost):
		return "has a host that no app could send: it may have letters, digits and signs in ASCII, or % and two hexadecimal digits for others"
	}
	return ""
}

// isScheme reports whether s, in lower case, is a scheme of URLs (RFC 3986 section 3.1).
func isScheme(s string) bool {
	return s != "" && 'a' <= s[0] && s[0] <= 'z' && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789+-.") == ""
}

// notInOpaqueHost reports what the URL standard does not let into the host of a scheme that it does not know.
func notInOpaqueHost(r rune) bool {
	return r <= ' ' || r > '~' || strings.ContainsRune(`"<>[\]^`+"`{|}:", r)
}

// parseOrigin reads an Origin header.
func parseOrigin(header string) (origin, bool) {
	if header == "null" {
		return origin{null: true}, true
	}
	scheme, rest, ok := strings.Cut(strings.ToLower(header), "://")
	if !ok {
		return origin{}, false
	}
	o := origin{scheme: scheme}
	if o.host, o.port, ok = splitPort(scheme, rest); ok && strings.HasPrefix(o.host, "[") {
		o.host, ok = shortIPv6(o.host)
	}
	return o, ok
}

// allows reports whether a request may open a session as far as its page is concerned. Browsers always name the page;
// a request that names none is not a browser's, and could have named any.
func (o origins) allows(r *http.Request) bool {
	values := r.Header["Origin"]
	if len(o) == 0 || len(values) == 0 {
		return true
	}
	if len(values) > 1 {
		return false
	}
	sent, ok := parseOrigin(values[0])
	return ok && slices.ContainsFunc(o, func(p originPattern) bool { return p.matches(sent) })
}

func (p *originPattern) matches(sent origin) bool {
	switch {
	case sent.null != p.null || sent.scheme != p.scheme || sent.port != p.port && !p.anyPort:
		return false
	case p.anyHost:
		return true
	case p.below:
		below, ok := strings.CutSuffix(sent.host, "."+p.host)
		return ok && below != ""
	}
	return sent.host == p.host
}

// splitPort takes host and port of an origin apart and drops the port that the scheme implies, as browsers do.
func splitPort(scheme, rest string) (host, port string, ok bool) {
	i := strings.LastIndexByte(rest, ':')
	if i <= strings.LastIndexByte(rest, ']') {
		return rest, "", true
	}
	number, err := strconv.ParseUint(rest[i+1:], 10, 16)
	if port = strconv.FormatUint(number, 10); port == webPorts[scheme] {
		port = ""
	}
	return rest[:i], port, err == nil
}

// shortIPv6 brings an address in brackets into its shortest form.
func shortIPv6(host string) (string, bool) {
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	return "[" + addr.String() + "]", err == nil && addr.Is6() && addr.Zone() == "" && strings.HasSuffix(host, "]")
}
