package caddymodule

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
)

// socket is a site in this process that listens on a Unix socket, which nobody else can take, unlike a port.
type socket string

// newSocket is a path for a socket. Systems take about a hundred bytes, which the directory of a test can be longer than.
func newSocket(t testing.TB) socket {
	t.Helper()
	base := os.TempDir()
	if len(base) > 60 && runtime.GOOS != "windows" {
		base = "/tmp"
	}
	dir, err := os.MkdirTemp(base, "icws")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return socket(filepath.Join(dir, "s"))
}

// serve runs a site whose name is http://site.test.
func serve(t testing.TB, directives string) socket {
	t.Helper()
	path := newSocket(t)
	mustLoad(t, fmt.Sprintf("http://site.test {\n\tbind unix/%s\n\t%s\n}", path, directives))
	return path
}

func (s socket) dialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", string(s))
}

// open opens a WebSocket at a path. Without one, what the server answered instead is returned with its body read.
func (s socket) open(t testing.TB, path string, header http.Header) (*websocket.Conn, *http.Response, string) {
	t.Helper()
	d := websocket.Dialer{HandshakeTimeout: hung, NetDialContext: s.dialContext}
	ws, resp, err := d.DialContext(t.Context(), "ws://site.test"+path, header)
	switch {
	case err == nil:
		t.Cleanup(func() { ws.Close() })
		return ws, resp, ""
	case resp == nil:
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return nil, resp, string(body)
}

// get makes a plain request.
func (s socket) get(t testing.TB, path string) (status int, body string) {
	t.Helper()
	c := http.Client{Transport: &http.Transport{DialContext: s.dialContext, DisableKeepAlives: true}}
	resp, err := c.Get("http://site.test" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(raw))
}
