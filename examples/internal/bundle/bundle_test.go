package bundle

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A page that was bundled is bundled again only when what it is made of has changed.
func TestPage(t *testing.T) {
	root := t.TempDir()
	web := filepath.Join(root, "web")
	for _, file := range []string{"web/package.json", "web/dist/page.js", "web/src/page.js", "library/part.ts"} {
		path := filepath.Join(root, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	built := time.Now()
	touch := func(file string, at time.Time) {
		t.Helper()
		if err := os.Chtimes(filepath.Join(root, file), at, at); err != nil {
			t.Fatal(err)
		}
	}
	more := []string{"../library/*.ts"}
	for _, file := range []string{"web/src/page.js", "library/part.ts"} {
		for _, later := range []time.Duration{-time.Minute, time.Minute, -time.Minute} {
			touch("web/src/page.js", built.Add(-time.Minute))
			touch("library/part.ts", built.Add(-time.Minute))
			touch(file, built.Add(later))
			if got := changedSince(web, built, more); got != (later > 0) {
				t.Errorf("%s %s later than the page: changed %v", file, later, got)
			}
		}
	}
	touch("web/dist/page.js", built)
	if dist, err := Page(t.Context(), web, "page.js", more...); err != nil || dist != filepath.Join(web, "dist") {
		t.Errorf("%s, %v", dist, err)
	}
	if _, err := Page(t.Context(), filepath.Join(root, "library"), "page.js"); err == nil || !strings.Contains(err.Error(), "or set -web") {
		t.Errorf("no page: %v", err)
	}
}
