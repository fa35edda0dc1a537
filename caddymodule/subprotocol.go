package caddymodule

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"golang.org/x/net/http/httpguts"
)

// maxSubprotocol bounds the name of a subprotocol, in bytes. Pages put tokens there, as they can set no other header.
const maxSubprotocol = 4 << 10

// chooseSubprotocol returns the first subprotocol that a client offers, or "" if it offers none. The gateway gives it no
// meaning, but has to choose: a browser that gets none of its names back closes the connection with 1006 (WHATWG WebSockets
// section 2, "establish a WebSocket connection"). Where nothing that is offered can be a name, the opening is refused.
func chooseSubprotocol(r *http.Request) (string, error) {
	offered := false
	for _, value := range r.Header["Sec-Websocket-Protocol"] {
		for name := range strings.SplitSeq(value, ",") {
			name = strings.Trim(name, " \t")
			if len(name) <= maxSubprotocol && httpguts.ValidHeaderFieldName(name) { // both are tokens, RFC 6455 section 4.3
				return name, nil
			}
			offered = offered || name != "" // lists may have empty elements, RFC 9110 section 5.6.1
		}
	}
	if offered {
		return "", caddyhttp.Error(http.StatusBadRequest, fmt.Errorf("none of the offered subprotocols has a valid name: use letters, digits, dots and hyphens, at most %d", maxSubprotocol))
	}
	return "", nil
}
