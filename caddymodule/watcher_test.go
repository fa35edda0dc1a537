package caddymodule

import (
	"errors"
	"net/http"
	"sync"
	"weak"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddy.RegisterModule(watcher{})
	httpcaddyfile.RegisterHandlerDirective("icws_test_watch", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		w := new(watcher)
		return w, w.UnmarshalCaddyfile(h.Dispenser)
	})
	httpcaddyfile.RegisterDirectiveOrder("icws_test_watch", httpcaddyfile.Before, "header")
}

// watcher is a handler that tells whether the configuration it belongs to still exists, and can refuse to be provisioned.
type watcher struct {
	Fail bool          `json:"fail,omitempty"`
	_    [1 << 12]byte // large enough not to share a block of memory with others
}

// watched are the watchers of all configurations so far.
var watched struct {
	sync.Mutex
	all []weak.Pointer[watcher]
}

func (watcher) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.icws_test_watch", New: func() caddy.Module { return new(watcher) }}
}

func (w *watcher) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	w.Fail = d.NextArg() && d.Val() == "fail"
	return nil
}

func (w *watcher) Provision(caddy.Context) error {
	if w.Fail {
		return errors.New("told to fail")
	}
	watched.Lock()
	defer watched.Unlock()
	watched.all = append(watched.all, weak.Make(w))
	return nil
}

func (w *watcher) ServeHTTP(rw http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return next.ServeHTTP(rw, r)
}

// watchedBefore returns a mark for alive: Caddy's certificate cache may refer to a configuration of an earlier test.
func watchedBefore() int {
	watched.Lock()
	defer watched.Unlock()
	return len(watched.all)
}

// alive counts the configurations since the mark that have not been collected.
func alive(since int) int {
	watched.Lock()
	defer watched.Unlock()
	n := 0
	for _, p := range watched.all[since:] {
		if p.Value() != nil {
			n++
		}
	}
	return n
}
