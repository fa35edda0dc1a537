package caddymodule

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// gateway is the block of an icws directive with an id.
func gateway() string { return testCanister + " {\n\t\t" + deadNetwork() + "\n\t}" }

// webRoot is a directory with a page, a script and one more page.
func webRoot(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"index.html": "page", "app.js": "script", "other.html": "other", "index.php": "php", "404.html": "missing"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// siteForm is a form that a site with a gateway has.
type siteForm struct {
	name, site string
	path       string // of the opening, /ws if empty
	plain      string // what a request for the path gets that is no opening; "page" if empty
}

// siteForms are all that the site of one page has, in which any path that is no file is the page.
func siteForms() []siteForm {
	return []siteForm{
		{name: "try_files beside", site: "icws /ws %s\n\ttry_files {path} /index.html\n\tfile_server"},
		{name: "try_files of directories beside", site: "icws /ws %s\n\ttry_files {path} {path}/ /index.html\n\tfile_server"},
		{name: "try_files with a query beside", site: "icws /ws %s\n\ttry_files {path} /index.html?{query}&from={path}\n\tfile_server"},
		{name: "try_files that fails beside", site: "icws /ws %s\n\ttry_files {path} =404\n\tfile_server", plain: "404"},
		{name: "everything beside", site: "encode gzip\n\theader >X-A b\n\tlog {\n\t\toutput discard\n\t}\n\ticws /ws %s\n\ttry_files {path} /index.html\n\tfile_server"},
		{name: "a gateway for all paths", site: "icws %s\n\ttry_files {path} /index.html\n\tfile_server"},
		{name: "a named matcher", site: "@ws {\n\t\tpath /ws /other\n\t\tnot header X-No *\n\t}\n\ticws @ws %s\n\ttry_files {path} /index.html\n\tfile_server"},
		{name: "a path below", site: "icws /api/* %s\n\ttry_files {path} /index.html\n\tfile_server", path: "/api/v1/ws"},
		{name: "two gateways", site: "icws /other %[1]s\n\ticws /ws %[1]s\n\ttry_files {path} /index.html\n\tfile_server"},
		{name: "handle and handle", site: "handle /ws {\n\ticws %s\n\t}\n\thandle {\n\ttry_files {path} /index.html\n\tfile_server\n\t}", plain: "200"},
		{name: "handle beside try_files", site: "handle /ws {\n\ticws %s\n\t}\n\ttry_files {path} /index.html\n\tfile_server"},
		{name: "handle with a path inside", site: "handle /api/* {\n\ticws /api/ws %s\n\t}\n\ttry_files {path} /index.html\n\tfile_server", path: "/api/ws"},
		{name: "handle_path beside try_files", site: "handle_path /api/* {\n\ticws /ws %s\n\t}\n\ttry_files {path} /index.html\n\tfile_server", path: "/api/ws"},
		{name: "try_files in the same handle", site: "handle {\n\ticws /ws %s\n\ttry_files {path} /index.html\n\tfile_server\n\t}"},
		{name: "handle_path with a site of one page", site: "handle_path /app/* {\n\ticws /ws %s\n\ttry_files {path} /index.html\n\tfile_server\n\t}", path: "/app/ws"},
		{name: "a route, gateway first", site: "route {\n\ticws /ws %s\n\ttry_files {path} /index.html\n\tfile_server\n\t}"},
		{name: "a route, gateway after", site: "route {\n\ttry_files {path} /index.html\n\ticws /ws %s\n\tfile_server\n\t}"},
		{name: "a route beside try_files", site: "try_files {path} /index.html\n\troute {\n\ticws /ws %s\n\tfile_server\n\t}"},
		{name: "files without a rewrite", site: "icws /ws %s\n\tfile_server", plain: "404"},
		{name: "try_files by hand", site: "@spa file {path} /index.html\n\trewrite @spa {file_match.relative}\n\ticws /ws %s\n\tfile_server"},
		{name: "what is no file", site: "@missing not file\n\trewrite @missing /index.html\n\ticws /ws %s\n\tfile_server"},
		{name: "what is no file, two conditions", site: "@missing {\n\t\tnot file {path}\n\t\tnot path /api/*\n\t}\n\trewrite @missing /index.html\n\ticws /ws %s\n\tfile_server"},
		{name: "a prefix off", site: "uri strip_prefix /app\n\ttry_files {path} /index.html\n\ticws /ws %s\n\tfile_server", path: "/app/ws"},
		{name: "as for PHP", site: "try_files {path} {path}/index.php index.php\n\ticws /ws %s\n\tfile_server", plain: "php"},
		{name: "php_fastcgi", site: "icws /ws %s\n\tphp_fastcgi " + deadAddress, plain: "502"},
		{name: "errors as pages", site: "icws /ws %s\n\tfile_server\n\thandle_errors {\n\trewrite * /index.html\n\tfile_server\n\t}"},
		{name: "a development server", site: "icws /ws %s\n\treverse_proxy " + deadAddress, plain: "502"},
	}
}

// TestSiteForms opens a WebSocket in every form. What is not an opening gets what it would get without icws.
func TestSiteForms(t *testing.T) {
	for _, test := range siteForms() {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t, "root * "+webRoot(t)+"\n\t"+fmt.Sprintf(test.site, gateway()))
			path := test.path
			if path == "" {
				path = "/ws"
			}
			ws, resp, body := s.open(t, path, nil)
			if ws == nil {
				t.Fatalf("opening: %s %q", resp.Status, body)
			}
			greeted(t, ws)
			status, body := s.get(t, path)
			if want := test.plain; want == "" && body != "page" || want != "" && body != want && fmt.Sprint(status) != want {
				t.Errorf("request that is no opening: %d %q", status, body)
			}
			if strings.Contains(test.site, "index.html") && !strings.Contains(test.site, "/app/*") {
				if status, body := s.get(t, "/some/where"); body != "page" {
					t.Errorf("page at another path: %d %q", status, body)
				}
			}
		})
	}
}

// TestTryFilesKeepsProtection makes sure that an opening which try_files leaves alone meets all that stands before icws,
// and that other rewrites, other openings and other servers stay as they are.
func TestTryFilesKeepsProtection(t *testing.T) {
	spa := "\n\ttry_files {path} /index.html\n\tfile_server\n\ticws /ws " + gateway()
	for _, test := range []struct {
		name, site string
		status     int
	}{
		{"basic_auth", "basic_auth /ws {\n\t\tme $2a$04$iE9fOOfvCfi7GB7gl9h8yuHgTcOg3Bk5n0BSZgCXzn.XzAW9XPsC.\n\t}" + spa, 401},
		{"forward_auth", "forward_auth /ws " + deadAddress + " {\n\t\turi /\n\t}" + spa, 502},
		{"respond", "@blocked {\n\t\tpath /ws\n\t\tmethod GET\n\t}\n\trespond @blocked 403" + spa, 403},
		{"error", "error /ws 418" + spa, 418},
		{"handle", "handle /ws {\n\t\trespond 410\n\t}" + spa, 410},
		{"redir", "redir /ws /other" + spa, 302},
		{"a rewrite on purpose", "rewrite /ws /other.html" + spa, 200},
		{"a rewrite of everything", "rewrite * /other.html" + spa, 200},
		{"a maintenance mode", "@down file /404.html\n\trewrite @down /other.html" + spa, 200},
		{"another matcher than the path", "@ws {\n\t\tpath /ws\n\t\theader X-Yes *\n\t}\n\ttry_files {path} /index.html\n\tfile_server\n\ticws @ws " + gateway(), 200},
		{"another path", "try_files {path} /index.html\n\tfile_server\n\ticws /other " + gateway(), 200},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t, "root * "+webRoot(t)+"\n\t"+test.site)
			if ws, resp, body := s.open(t, "/ws", nil); ws != nil || resp.StatusCode != test.status {
				t.Errorf("opening: %s %q, want %d", resp.Status, body, test.status)
			}
		})
	}

	// A site without a name is the server's own list of routes.
	path := newSocket(t)
	mustLoad(t, fmt.Sprintf("http:// {\n\tbind unix/%s\n\troot * %s%s\n}", path, webRoot(t), spa))
	if ws, resp, body := path.open(t, "/ws", nil); ws == nil {
		t.Errorf("opening at a site without a name: %s %q", resp.Status, body)
	}

	// Another site of the same server, and one on another listener, are left alone.
	paths := [2]socket{newSocket(t), newSocket(t)}
	page := "root * " + webRoot(t) + "\n\ttry_files {path} /index.html\n\tfile_server"
	mustLoad(t, fmt.Sprintf("http://site.test {\n\tbind unix/%s\n\t%s\n}\nhttp://gateway.test {\n\tbind unix/%[1]s\n\ticws /ws %[4]s\n\t%[2]s\n}\nhttp://site.test {\n\tbind unix/%[3]s\n\t%[2]s\n}\n",
		paths[0], page, paths[1], gateway()))
	for _, s := range paths {
		if ws, resp, body := s.open(t, "/ws", nil); ws != nil || resp.StatusCode != http.StatusOK || body != "page" {
			t.Errorf("opening at another site: %s %q", resp.Status, body)
		}
	}
	if ws, resp, body := paths[0].open(t, "/ws", http.Header{"Host": {"gateway.test"}}); ws == nil {
		t.Errorf("opening at the gateway: %s %q", resp.Status, body)
	}
}
