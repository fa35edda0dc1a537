//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const module = "github.com/icws-gateway/caddy-icws"

// shell runs a command line with more in its environment and returns what it printed on standard output.
func shell(t *testing.T, dir string, env []string, line string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
	var stderr strings.Builder
	cmd.Dir, cmd.Env, cmd.Stderr = dir, append(os.Environ(), env...), &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", line, err, out, stderr.String())
	}
	return string(out)
}

// xcaddy builds the xcaddy that go.mod pins and returns a PATH with it in front.
func xcaddy(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	shell(t, root, nil, "go build -o "+dir+" github.com/caddyserver/xcaddy/cmd/xcaddy")
	return dir + string(os.PathListSeparator) + os.Getenv("PATH")
}

// TestBuild runs the README's build commands as they are written, in a fresh clone with a tag, while Go finds that tag as it
// finds a published one: on a module proxy, which is a directory here. Whatever else a build needs comes from where it always
// comes from.
func TestBuild(t *testing.T) {
	dir := t.TempDir()
	clone, proxy := filepath.Join(dir, "clone"), filepath.Join(dir, "proxy")
	versions := filepath.Join(proxy, filepath.FromSlash(module), "@v")
	// Another one for each run: Go keeps what it has once seen of a version.
	tag := fmt.Sprintf("v0.0.%d", time.Now().UnixNano())
	shell(t, root, nil, "git clone --quiet . "+clone+" && git -C "+clone+" tag "+tag)
	if err := os.MkdirAll(versions, 0o755); err != nil {
		t.Fatal(err)
	}
	shell(t, clone, nil, fmt.Sprintf("git archive --format=zip --prefix=%s@%s/ --output=%s.zip %[2]s", module, tag, filepath.Join(versions, tag)))
	for name, content := range map[string]string{
		"list": tag + "\n", tag + ".mod": readFile(t, filepath.Join(clone, "go.mod")), tag + ".info": fmt.Sprintf(`{"Version": %q}`, tag),
	} {
		if err := os.WriteFile(filepath.Join(versions, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{
		"PATH=" + xcaddy(t), "TMPDIR=" + dir, "GOFLAGS=-modcacherw", "GONOSUMDB=" + module,
		"GOPROXY=file://" + filepath.ToSlash(proxy) + "," + strings.TrimSpace(shell(t, root, nil, "go env GOPROXY")),
	}
	cache := strings.TrimSpace(shell(t, root, nil, "go env GOMODCACHE"))
	t.Cleanup(func() {
		kept, err := filepath.Glob(filepath.Join(cache, "cache", "download", filepath.FromSlash(module), "@v", tag+".*"))
		if err != nil {
			t.Error(err)
		}
		for _, path := range append(kept, filepath.Join(cache, filepath.FromSlash(module)+"@"+tag)) {
			if err := os.RemoveAll(path); err != nil {
				t.Error(err)
			}
		}
	})

	_, text, _ := strings.Cut(readFile(t, filepath.Join(clone, "README.md")), "\n## Build\n")
	text, _, _ = strings.Cut(text, "\n## ")
	built := 0
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "xcaddy build ") {
			continue
		}
		built++
		shell(t, clone, env, line)
		modules := "\n" + shell(t, clone, env, "./caddy list-modules --versions")
		for _, want := range []string{"admin.api.icws " + tag, "http.handlers.icws " + tag} {
			if !strings.Contains(modules, "\n"+want) {
				t.Errorf("%s: no line %q in\n%s", line, want, modules)
			}
		}
		if more := strings.Contains(line, "caddy-dns/"); more != strings.Contains(modules, "\ndns.providers.") {
			t.Errorf("%s: a DNS provider is asked for: %v, in\n%s", line, more, modules)
		}
		if info := shell(t, clone, env, "./caddy build-info"); !strings.Contains(info, module+"\t"+tag) {
			t.Errorf("%s: no %s in\n%s", line, tag, info)
		}
	}
	if built != 3 {
		t.Errorf("the README has %d build commands, want one from a tag, one from a clone, and one with another plugin", built)
	}

	// The package by its own name, as builds from before the short form have it. Compiled it is the same.
	version := shell(t, root, nil, "go list -m -f '{{.Version}}' github.com/caddyserver/caddy/v2")
	shell(t, clone, append(env, "XCADDY_SKIP_BUILD=1"), "xcaddy build "+strings.TrimSpace(version)+" --with "+module+"/caddymodule")
	found := shell(t, dir, env, "cd buildenv_* && go list -f '{{.Module.Version}}' "+module+"/caddymodule")
	if strings.TrimSpace(found) != tag {
		t.Errorf("--with %s/caddymodule builds version %q, want %s", module, found, tag)
	}
}
