package main

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestRepositoryBuild checks the command that the repository's own xcaddy.json leads to.
func TestRepositoryBuild(t *testing.T) {
	raw, err := os.ReadFile("../../xcaddy.json")
	if err != nil {
		t.Fatal(err)
	}
	b, err := parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	module, err := modulePath("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	args := b.arguments(module, "/tree", "/out/caddy")
	want := []string{"tool", "xcaddy", "build", b.CaddyVersion, "--output", "/out/caddy",
		"--with", "github.com/icws-gateway/caddy-icws/caddymodule", "--replace", "github.com/icws-gateway/caddy-icws=/tree"}
	if !slices.Equal(args, want) {
		t.Errorf("arguments %q, want %q", args, want)
	}
	// The version that is built is the version that is tested.
	gomod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(gomod), "github.com/caddyserver/caddy/v2 "+b.CaddyVersion+"\n") {
		t.Errorf("caddy_version %s of xcaddy.json is not that of go.mod", b.CaddyVersion)
	}
}

func TestArguments(t *testing.T) {
	b, err := parse([]byte(`{"caddy_version": "v2.0.0", "plugins": [{"module_path": "example.com/other", "version": "v1.2.3"},
		{"module_path": "example.com/mine/sub", "version": "v9.9.9"}, {"module_path": "example.com/mine2"}],
		"replacements": [{"old": "a", "new": "b"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(b.arguments("example.com/mine", "/t", "/o"), " ")
	want := "tool xcaddy build v2.0.0 --output /o --with example.com/other@v1.2.3 --with example.com/mine/sub --with example.com/mine2 " +
		"--replace example.com/mine=/t --replace a=b"
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestErrors(t *testing.T) {
	for name, raw := range map[string]string{
		"unknown field": `{"caddy_version": "v2", "plugins": [{"module_path": "x"}], "cgo": true}`,
		"no version":    `{"plugins": [{"module_path": "x"}]}`,
		"no plugins":    `{"caddy_version": "v2"}`,
		"not json":      `x`,
	} {
		if _, err := parse([]byte(raw)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := run([]string{"./caddy"}, "../../xcaddy.json", "/o", "linux/amd64", true); err == nil || !strings.Contains(err.Error(), "-o") {
		t.Errorf("an argument in place of a flag: %v", err)
	}
	if err := run(nil, "../../xcaddy.json", "/o", "linux", true); err == nil {
		t.Error("target without architecture: no error")
	}
	if err := run(nil, "missing.json", "/o", "linux/amd64", true); err == nil {
		t.Error("missing file: no error")
	}
}
