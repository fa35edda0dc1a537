package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// publish makes a module proxy, which is a directory, that has the clone as a version. For Go it is then as if this commit were
// published. The clone itself has the tags that it came with, most often none. Whatever else a build needs comes from where it always comes from.
func (r *readme) publish(ctx context.Context) (err error) {
	// Another one for each run: Go keeps what it has once seen of a version.
	r.tag = fmt.Sprintf("v0.0.%d", time.Now().UnixNano())
	versions := filepath.Join(r.proxy(), filepath.FromSlash(module), "@v")
	if err := os.MkdirAll(versions, 0o755); err != nil {
		return err
	}
	if out, err := r.command(ctx, r.tree, "git", "archive", "--format=zip", "--prefix="+module+"@"+r.tag+"/",
		"--output="+filepath.Join(versions, r.tag+".zip"), "HEAD"); err != nil {
		return fmt.Errorf("git archive: %w: %s", err, out)
	}
	mod, err := os.ReadFile(filepath.Join(r.tree, "go.mod"))
	if err != nil {
		return err
	}
	for name, content := range map[string]string{"list": r.tag + "\n", r.tag + ".mod": string(mod), r.tag + ".info": fmt.Sprintf(`{"Version": %q}`, r.tag)} {
		if err := os.WriteFile(filepath.Join(versions, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// proxy is the directory that stands for the module proxy.
func (r *readme) proxy() string { return filepath.Join(r.dir, "proxy") }

// unpublish removes from Go's cache of modules what publish has brought there.
func (r *readme) unpublish() error {
	name := filepath.FromSlash(module)
	kept, err := filepath.Glob(filepath.Join(r.modules, "cache", "download", name, "@v", r.tag+".*"))
	for _, path := range append(kept, filepath.Join(r.modules, name)+"@"+r.tag) {
		err = errors.Join(err, os.RemoveAll(path))
	}
	return err
}

// built looks at the binary that a command of the README has made: it has this module, in the version that its reader asked for,
// and another plugin if the command names one.
func (r *readme) built(ctx context.Context, dir, script string) error {
	r.builds++
	version := r.tag
	if strings.Contains(script, "=.") { // from the clone
		var err error
		if version, err = r.command(ctx, dir, "git", "describe", "--tags"); err != nil {
			if version, err = r.command(ctx, dir, "git", "log", "-1", "--format=v0.0.0-g%h"); err != nil {
				return fmt.Errorf("git log: %w: %s", err, version)
			}
		}
		version = strings.TrimSpace(version)
	}
	modules, err := r.command(ctx, dir, "./caddy", "list-modules", "--versions")
	if err != nil {
		return fmt.Errorf("%w\n%s", err, modules)
	}
	for _, want := range []string{"admin.api.icws " + version, "http.handlers.icws " + version} {
		if !strings.Contains("\n"+modules, "\n"+want) {
			return fmt.Errorf("no line %q in\n%s", want, modules)
		}
	}
	if more := strings.Contains(script, "caddy-dns/"); more != strings.Contains("\n"+modules, "\ndns.providers.") {
		return fmt.Errorf("a DNS provider is asked for: %t, in\n%s", more, modules)
	}
	info, err := r.command(ctx, dir, "./caddy", "build-info")
	if err == nil && !strings.Contains(info, module+"\t"+version) {
		err = fmt.Errorf("no %s", version)
	}
	if err != nil {
		return fmt.Errorf("build-info: %w, in\n%s", err, info)
	}
	return nil
}

// oldForm asks for the package by its own name, as builds from before the short form do. Compiled it is the same.
func (r *readme) oldForm(ctx context.Context) error {
	const pkg = module + "/caddymodule"
	out, err := r.paste(ctx, r.tree, `
mkdir -p old
version=$(go list -m -f '{{.Version}}' github.com/caddyserver/caddy/v2)
TMPDIR=$PWD/old XCADDY_SKIP_BUILD=1 xcaddy build "$version" --with `+pkg+`
cd old/buildenv_*
echo "version is $(go list -f '{{.Module.Version}}' `+pkg+`)"
`, "")
	if err == nil && !strings.Contains(out, "version is "+r.tag+"\n") {
		err = fmt.Errorf("it is not %s", r.tag)
	}
	if err != nil {
		return fmt.Errorf("--with %s: %w\n%s", pkg, err, out)
	}
	return nil
}
