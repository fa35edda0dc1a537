package caddymodule

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestShadowed makes sure that `caddy validate` tells of a gateway that no request can get to, and of no other.
func TestShadowed(t *testing.T) {
	t.Parallel()
	const warning = "no request gets to icws"
	var working []string
	for _, form := range siteForms() {
		working = append(working, "root * "+webRoot(t)+"\n\t"+form.site)
	}
	for name, test := range map[string]struct {
		sites []string // lines of a site each
		want  []string // what answers instead, for each
	}{
		"shadowed": {
			[]string{
				"handle {\n\ttry_files {path} /index.html\n\tfile_server\n\t}\n\ticws /ws %s",
				"respond \"page\"\n\ticws /ws %s",
				"error 404\n\ticws /ws %s",
				"abort\n\ticws /ws %s",
				"route {\n\treverse_proxy localhost:1\n\t}\n\ticws /ws %s",
				"route {\n\tfile_server\n\ticws /ws %s\n\t}",
				"respond \"page\"\n\ticws %s",
				"respond /ws* \"page\"\n\ticws /ws %s",
				"redir https://other.test{uri}\n\ticws /ws %s",
				"handle /api/* {\n\treverse_proxy localhost:1\n\t}\n\ticws /api/ws %s",
				"@api path /api/* /ws\n\thandle @api {\n\treverse_proxy localhost:1\n\t}\n\ticws /ws %s",
				"route {\n\troute {\n\trespond page\n\t}\n\ticws %s\n\t}",
				"import page *\n\ticws /ws %s",
				"@ws path /ws\n\thandle {\n\trespond page\n\t}\n\ticws @ws %s",
				"handle {\n\thandle /api/* {\n\trespond api\n\t}\n\thandle {\n\trespond page\n\t}\n\t}\n\ticws /ws %s",
				"handle /* {\n\tfile_server\n\t}\n\ticws %s",
				"handle_path /* {\n\tfile_server\n\t}\n\ticws /ws %s",
				"@all path *\n\trespond @all page\n\ticws %s",
				"handle {\n\tphp_fastcgi localhost:1\n\t}\n\ticws /ws %s",
				"handle {\n\troot * /srv\n\ttry_files {path} /index.html\n\treverse_proxy localhost:1\n\t}\n\ticws /ws %s",
				"handle {\n\ttry_files {path} =404\n\tfile_server {\n\tpass_thru\n\t}\n\t}\n\ticws /ws %s",
				"@rest not path /api/*\n\thandle @rest {\n\tfile_server\n\t}\n\ticws /ws %s",
				"@any path_regexp ^/w\n\tredir @any /page\n\ticws /ws %s",
				"@missing not file\n\thandle @missing {\n\treverse_proxy localhost:1\n\t}\n\ticws /ws %s",
				"metrics\n\ticws /ws %s",
				"invoke page\n\ticws /ws %s",
				"@in remote_ip private_ranges\n\thandle @in {\n\trespond in\n\t}\n\thandle {\n\tfile_server\n\t}\n\ticws /ws %s",
				"handle /* {\n\theader X-A b\n\t}\n\thandle {\n\ticws %s\n\t}",
				"handle /ws {\n\trespond /w* page\n\ticws %s\n\t}",
			},
			[]string{"file_server", "static_response", "error", "static_response", "reverse_proxy", "file_server", "static_response", "static_response",
				"static_response", "static_response", "reverse_proxy", "reverse_proxy", "static_response", "static_response", "static_response",
				"file_server", "file_server", "static_response", "reverse_proxy", "reverse_proxy", "http.matchers.file", "file_server", "static_response", "reverse_proxy",
				"metrics", "static_response", "file_server", "subroute", "static_response"},
		},
		"not shadowed": {
			[]string{
				"handle /ws {\n\ticws %s\n\t}\n\thandle {\n\tfile_server\n\t}",
				"handle {\n\ticws /ws %s\n\tfile_server\n\t}",
				"icws /ws %s\n\treverse_proxy localhost:1",
				"icws %s\n\treverse_proxy localhost:1",
				"icws /ws %s\n\tphp_fastcgi localhost:1",
				"templates\n\ticws /ws %s\n\tfile_server",
				"handle /api/* {\n\treverse_proxy localhost:1\n\t}\n\ticws /* %s",
				"@post {\n\tpath /ws\n\tmethod POST\n\t}\n\trespond @post no\n\ticws /ws %s",
				"redir /old /new\n\ticws /ws %s",
				"handle_path /api/* {\n\ticws /ws %s\n\t}",
				"import page /health\n\ticws /ws %s",
				"icws /ws %s\n\ttry_files {path} /index.html\n\tfile_server",
				"respond /health ok\n\thandle /api/* {\n\treverse_proxy localhost:1\n\t}\n\ticws /ws %s",
				"route {\n\tfile_server {\n\tpass_thru\n\t}\n\ticws /ws %s\n\t}",
				"handle {\n\trespond /a b\n\t}\n\ticws /ws %s",
				"forward_auth localhost:1 {\n\turi /\n\t}\n\ticws /ws %s",
				"handle /api/* {\n\tphp_fastcgi localhost:1\n\t}\n\ticws /ws %s",
				"handle /api/* {\n\trespond api\n\t}\n\thandle {\n\ticws %s\n\t}",
				"@rest not path /ws /other\n\thandle @rest {\n\tfile_server\n\t}\n\ticws /ws %s",
				"@in remote_ip private_ranges\n\thandle @in {\n\theader X-A b\n\t}\n\thandle {\n\trespond page\n\t}\n\ticws /ws %s",
				"@app header X-App *\n\trespond @app app\n\ticws /ws %s",
				"@old path_regexp ^/old\n\tredir @old /new\n\ticws /ws %s",
				"@here file\n\thandle @here {\n\tfile_server\n\t}\n\ticws /ws %s",
				"@evening expression `{method} == \"GET\"`\n\trespond @evening page\n\ticws /ws %s",
				"invoke itself\n\ticws /ws %s",
				"rewrite * /ws?{http.request.local}{http.request.local.host}{http.request.remote}{http.request.tls.client.subject}{http.request.tls.version}{http.request.uuid}" +
					"{http.request.duration}{http.request.body}{http.request.cookie.a}{http.request.orig_uri}{http.request.host.labels.0}{http.request.header.A}" +
					"{http.response.header.A}{http.vars.client_ip}{http.request.hostport}{http.request.port}{http.auth.user.id}{http.error}\n\ticws /ws %s",
				"basic_auth {\n\tme $2a$04$iE9fOOfvCfi7GB7gl9h8yuHgTcOg3Bk5n0BSZgCXzn.XzAW9XPsC.\n\t}\n\tencode\n\ticws /ws %s",
			},
			nil,
		},
		"forms that work": {working, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			caddyfile := "{\n\tauto_https off\n}\n(page) {\n\trespond {args[0]} page\n}\n&(page) {\n\trespond page\n}\n&(itself) {\n\tinvoke itself\n}\n"
			for i, site := range test.sites {
				caddyfile += fmt.Sprintf("http://site%d.test {\n\t%s\n}\n", i, fmt.Sprintf(site, gateway()))
			}
			if err := os.WriteFile(filepath.Join(dir, "Caddyfile"), []byte(caddyfile), 0o600); err != nil {
				t.Fatal(err)
			}
			_, errs, code := command(t, dir, nil, "validate")
			if code != 0 {
				t.Fatalf("code %d\n%s", code, errs)
			}
			if got := strings.Count(errs, warning); got != len(test.want) {
				t.Errorf("%d warnings, want %d\n%s", got, len(test.want), errs)
			}
			for _, module := range test.want {
				if !strings.HasPrefix(module, "http.") {
					module = "http.handlers." + module
				}
				field := fmt.Sprintf(`"answered_by":%q`, module)
				if !strings.Contains(errs, field) {
					t.Errorf("no warning with %s\n%s", field, errs)
				}
				errs = strings.Replace(errs, field, "", 1)
			}
		})
	}
}

// TestOtherServersShadowNothing has servers beside the gateway's that answer everything. Caddy makes them ready in any order.
func TestOtherServersShadowNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := fmt.Sprintf("{\n\tauto_https off\n}\nhttp://gateway.test:9000 {\n\ticws /ws %s\n}\n", gateway())
	for i := range 30 {
		text += fmt.Sprintf("http://:%d {\n\trespond page\n}\n", 9001+i)
	}
	if err := os.WriteFile(filepath.Join(dir, "Caddyfile"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := command(t, dir, nil, "validate"); code != 0 || strings.Contains(errs, "no request gets to icws") {
		t.Errorf("code %d\n%s", code, errs)
	}
}

// TestStrippedTwice makes sure that `caddy validate` tells of a matcher inside of handle_path that still has its prefix.
func TestStrippedTwice(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for site, warned := range map[string]bool{
		"handle_path /api/* {\n\ticws /api/ws %s\n\t}": true,
		"handle_path /api/* {\n\ticws /ws %s\n\t}":     false,
		"handle_path /api/* {\n\ticws %s\n\t}":         false,
		"handle /api/* {\n\ticws /api/ws %s\n\t}":      false,
	} {
		text := fmt.Sprintf("{\n\tauto_https off\n}\nhttp://site.test {\n\t%s\n}\n", fmt.Sprintf(site, gateway()))
		if err := os.WriteFile(filepath.Join(dir, "Caddyfile"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, errs, code := command(t, dir, nil, "validate")
		if got := strings.Contains(errs, `"taken_off":"/api","matcher":"/api/ws"`); code != 0 || got != warned {
			t.Errorf("%s: code %d, warned %v\n%s", site, code, got, errs)
		}
	}
}

// TestShadowedInJSON has what a Caddyfile does not make: handlers of one route in any order.
func TestShadowedInJSON(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	icws := fmt.Sprintf(`{"handler": "icws", "canister": [%q]}`, testCanister)
	page := `{"handler": "static_response", "body": "page"}`
	for routes, warned := range map[string]bool{
		`[{"handle": [` + page + `, ` + icws + `]}]`:                                                                                      true,
		`[{"handle": [` + icws + `, ` + page + `]}]`:                                                                                      false,
		`[{"handle": [{"handler": "subroute", "routes": [{"handle": [` + page + `]}]}, ` + icws + `]}]`:                                   true,
		`[{"handle": [{"handler": "subroute", "routes": [{"match": [{"path": ["/health"]}], "handle": [` + page + `]}]}, ` + icws + `]}]`: false,
	} {
		text := fmt.Sprintf(`{"apps": {"http": {"servers": {"s": {"listen": ["127.0.0.1:0"], "routes": %s}}}}}`, routes)
		if err := os.WriteFile(filepath.Join(dir, "caddy.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, errs, code := command(t, dir, nil, "validate", "--config", "caddy.json")
		if got := strings.Contains(errs, "no request gets to icws"); code != 0 || got != warned {
			t.Errorf("%s: code %d, warned %v\n%s", routes, code, got, errs)
		}
	}
}
