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
				"handle {\n\thandle /api/* {\n\trespond api\n\t}\n\thandle {\n\trespond page\n\t}\n\t}\n\ticws /ws %s",
			},
			[]string{"file_server", "static_response", "error", "static_response", "reverse_proxy", "file_server", "static_response"},
		},
		"not shadowed": {
			[]string{
				"handle /ws {\n\ticws %s\n\t}\n\thandle {\n\tfile_server\n\t}",
				"handle {\n\ticws /ws %s\n\tfile_server\n\t}",
				"icws /ws %s\n\treverse_proxy localhost:1",
				"icws /ws %s\n\ttry_files {path} /index.html\n\tfile_server",
				"respond /health ok\n\thandle /api/* {\n\treverse_proxy localhost:1\n\t}\n\ticws /ws %s",
				"route {\n\tfile_server {\n\tpass_thru\n\t}\n\ticws /ws %s\n\t}",
				"handle {\n\trespond /a b\n\t}\n\ticws /ws %s",
				"basic_auth {\n\tme $2a$04$iE9fOOfvCfi7GB7gl9h8yuHgTcOg3Bk5n0BSZgCXzn.XzAW9XPsC.\n\t}\n\tencode\n\ticws /ws %s",
			},
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			caddyfile := "{\n\tauto_https off\n}\n"
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
				field := `"answered_by":"http.handlers.` + module + `"`
				if !strings.Contains(errs, field) {
					t.Errorf("no warning with %s\n%s", field, errs)
				}
				errs = strings.Replace(errs, field, "", 1)
			}
		})
	}
}
