// Command readme does what the Markdown files of this repository say, literally: from a fresh clone of HEAD it goes through them
// block by block, README.md first, and follows every link. It prints a line for each block, and exits with code 1 if something
// was wrong.
//
//	sh          is run, as a reader pastes it. See directive for what cannot run here.
//	text        behind a block of sh: was printed by it
//	caddyfile   is adapted and validated by the caddy that README.md has built
//	json        is loaded by it
//	yaml        has the schema of compose files
//	js          is parsed by node
//	dockerfile  and dotenv are read
//
// Commands in running text, and in blocks that do not run, are held against the help of their programs, if those are ours.
//
// Each file has a clone of its own to work in, and a home, but for the caches of downloads, that is made for the run. For Go the
// commit at hand is published, with a version. The programs listen where they always do, so ports 8443 and 2019 of loopback have
// to be free. Run it as `go run ./.ci/readme` in the root of the repository, or as `.ci/run readme`, which has what it needs.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "readme:", err)
		os.Exit(1)
	}
}

// readme is one run.
type readme struct {
	to          io.Writer
	dir         string // of the run, removed at the end
	tree        string // the clone in which README.md is done, and in which files are looked for
	environment []string
	modules     string        // Go's cache of modules
	tag         string        // which the commit has in the clone
	builds      int           // commands that have built a caddy
	letGo       time.Duration // how long what a block has started may keep its output after the block's end
	helped      map[string]string
	stands      *strings.Replacer
	failures    int
}

// run does everything for the repository in the current directory.
func run(ctx context.Context, to io.Writer) (err error) {
	for _, port := range []string{"8443", "2019"} {
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			return fmt.Errorf("the programs of the README listen on port %s: %w", port, err)
		}
		l.Close()
	}
	r := &readme{to: to, letGo: 10 * time.Second, helped: map[string]string{}}
	if r.dir, err = os.MkdirTemp("", "icws-readme-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.dir)) }()
	if r.tree, err = r.clone(ctx, "README.md"); err != nil {
		return err
	}
	if err := r.hermetic(ctx); err != nil {
		return err
	}
	if r.stands, err = r.standIns(); err != nil {
		return err
	}
	if err := r.publish(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.unpublish()) }()
	out, err := r.command(ctx, r.tree, "git", "ls-files", "--", "*.md")
	if err != nil {
		return fmt.Errorf("git ls-files: %w: %s", err, out)
	}
	files := slices.DeleteFunc(strings.Fields(out), func(file string) bool { return file == "README.md" })
	files = append([]string{"README.md"}, files...)
	documents := map[string]*document{}
	links := 0
	for _, file := range files {
		raw, err := os.ReadFile(filepath.Join(r.tree, file))
		if err != nil {
			return err
		}
		d, err := parse(raw)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		for _, l := range d.links {
			links++
			if err := r.link(ctx, file, l.text); err != nil {
				r.fail("%s:%d: link to %s: %v", file, l.line, l.text, err)
			}
		}
		documents[file] = d
	}
	fmt.Fprintf(to, "  %d links of %d files\n", links, len(files))
	for _, file := range files {
		if err := r.file(ctx, file, documents[file]); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	if r.builds != 3 {
		return fmt.Errorf("README.md builds %d times, want one build from a tag, one from a clone, and one with another plugin", r.builds)
	}
	if r.failures > 0 {
		return fmt.Errorf("%d failures", r.failures)
	}
	return nil
}

// clone makes a fresh clone in which a file can be done.
func (r *readme) clone(ctx context.Context, file string) (string, error) {
	dir := filepath.Join(r.dir, "of", strings.NewReplacer("/", "-", ".md", "").Replace(file))
	if out, err := exec.CommandContext(ctx, "git", "clone", "--quiet", "--no-hardlinks", ".", dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("git clone: %w: %s", err, out)
	}
	return dir, nil
}

// hermetic sets the environment: a home of its own, the caddy of README.md on the PATH, and the caches of downloads that are
// there.
func (r *readme) hermetic(ctx context.Context) error {
	ask := func(name string, args ...string) (string, error) {
		out, err := exec.CommandContext(ctx, name, args...).Output()
		if err != nil {
			return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
		}
		return strings.TrimRight(string(out), "\n"), nil
	}
	goes, err := ask("go", "env", "GOENV", "GOPATH", "GOCACHE", "GOMODCACHE", "GOPROXY", "GONOSUMDB", "GOFLAGS")
	if err != nil {
		return err
	}
	values := strings.Split(goes, "\n")
	r.modules = values[3]
	npmCache, err := ask("npm", "config", "get", "cache")
	if err != nil {
		return err
	}
	npmConfig, err := ask("npm", "config", "get", "userconfig")
	if err != nil {
		return err
	}
	here, err := os.Getwd()
	if err != nil {
		return err
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return err
	}
	given := func(name, otherwise string) string {
		if v := os.Getenv(name); v != "" {
			return v
		}
		return otherwise
	}
	set := map[string]string{
		"HOME":   filepath.Join(r.dir, "home"),
		"TMPDIR": filepath.Join(r.dir, "tmp"),
		"GOBIN":  filepath.Join(r.dir, "bin"),
		"PATH":   strings.Join([]string{r.tree, filepath.Join(r.dir, "bin"), os.Getenv("PATH")}, string(os.PathListSeparator)),
		"GOENV":  values[0], "GOPATH": values[1], "GOCACHE": values[2], "GOMODCACHE": values[3],
		"GOPROXY":               "file://" + filepath.ToSlash(r.proxy()) + "," + values[4],
		"GONOSUMDB":             strings.Trim(values[5]+","+module, ","),
		"GOFLAGS":               strings.TrimSpace(values[6] + " -modcacherw"), // so that unpublish can
		"npm_config_cache":      npmCache,
		"npm_config_userconfig": npmConfig,
		// Cargo compiles here what it would compile in each clone.
		"CARGO_BUILD_BUILD_DIR": filepath.Join(here, "examples", "canisters", "rust", "target"),
		"CARGO_HOME":            given("CARGO_HOME", filepath.Join(home, ".cargo")),
		"RUSTUP_HOME":           given("RUSTUP_HOME", filepath.Join(home, ".rustup")),
	}
	for _, name := range []string{"HOME", "TMPDIR", "GOBIN"} {
		if err := os.MkdirAll(set[name], 0o700); err != nil {
			return err
		}
	}
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if _, ours := set[name]; !ours && !strings.HasPrefix(name, "XDG_") {
			r.environment = append(r.environment, v)
		}
	}
	for name, value := range set {
		r.environment = append(r.environment, name+"="+value)
	}
	return nil
}

// file does the blocks and the commands of one file. An error ends the run.
func (r *readme) file(ctx context.Context, file string, d *document) (err error) {
	dir := r.tree
	if file != "README.md" && len(d.blocks) > 0 {
		if dir, err = r.clone(ctx, file); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	var before block
	printed := ""
	for _, b := range d.blocks {
		fmt.Fprintf(r.to, "  %-34s %-10s ", fmt.Sprintf("%s:%d", file, b.line), b.language)
		began := time.Now()
		done, out, err := r.check(ctx, dir, b, before, printed)
		if ctx.Err() != nil {
			fmt.Fprintln(r.to)
			return context.Cause(ctx)
		}
		took := time.Since(began).Seconds()
		if err != nil {
			fmt.Fprintf(r.to, "%5.1f s  failed\n", took)
			r.fail("%s:%d: %v\n%s", file, b.line, err, out)
		} else {
			fmt.Fprintf(r.to, "%5.1f s  ok, %s\n", took, done)
		}
		before, printed = b, out
	}
	if file == "README.md" {
		if err := r.oldForm(ctx); err != nil {
			r.fail("%v", err)
		}
	}
	if filepath.Base(file) == "CHANGELOG.md" { // also names what is gone
		d.code = nil
	}
	for _, c := range d.code { // now that there is a caddy
		for _, words := range commands(r.stands.Replace(c.text)) {
			if err := r.known(ctx, words); err != nil {
				r.fail("%s:%d: `%s`: %v", file, c.line, c.text, err)
			}
		}
	}
	return nil
}

// fail says what is wrong and counts it.
func (r *readme) fail(format string, args ...any) {
	r.failures++
	fmt.Fprintln(r.to, "    "+strings.ReplaceAll(strings.TrimSpace(fmt.Sprintf(format, args...)), "\n", "\n    "))
}
