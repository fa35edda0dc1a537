package tap

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddy.RegisterModule(Handler{})
	httpcaddyfile.RegisterHandlerDirective("icws_tap", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		handler := new(Handler)
		return handler, handler.UnmarshalCaddyfile(h.Dispenser)
	})
	httpcaddyfile.RegisterDirectiveOrder("icws_tap", httpcaddyfile.Before, "reverse_proxy") // where icws is, too: a route says which comes first
}

// Handler taps the sessions of the icws handler that comes after it. To requests
// for text/event-stream it serves what passes, one Frame in JSON per event.
//
// Sessions over HTTP/2 and HTTP/3 are not seen; browsers use HTTP/1.1 with a
// Caddy that is not told otherwise.
type Handler struct {
	// Tap is the name that was given to New.
	Tap string `json:"tap"`

	tap *Tap
}

// CaddyModule implements caddy.Module.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.icws_tap", New: func() caddy.Module { return new(Handler) }}
}

// UnmarshalCaddyfile reads:
//
//	icws_tap <name>
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.AllArgs(&h.Tap) {
		return d.ArgErr()
	}
	return nil
}

// Provision implements caddy.Provisioner.
func (h *Handler) Provision(caddy.Context) (err error) {
	h.tap, err = find(h.Tap)
	return err
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
		return h.tap.serve(w, r)
	}
	return next.ServeHTTP(&writer{w, h.tap}, r)
}

// serve writes what is kept and then what passes, until the page leaves or the
// tap is closed. Pages of a closed tap are told not to come back.
func (t *Tap) serve(w http.ResponseWriter, r *http.Request) error {
	kept, c := t.read()
	if c == nil {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	defer t.leave(c)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	flush := http.NewResponseController(w)
	write := func(f Frame) error {
		b, err := json.Marshal(f)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "data: %s\n\n", b); err != nil {
			return err
		}
		return flush.Flush()
	}
	if err := flush.Flush(); err != nil {
		return err
	}
	for _, f := range kept {
		if write(f) != nil {
			return nil // the page has gone
		}
	}
	for {
		select {
		case <-r.Context().Done():
			return nil
		case f, open := <-c:
			if !open || write(f) != nil {
				return nil
			}
		}
	}
}

var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyfile.Unmarshaler       = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
