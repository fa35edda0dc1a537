// Command build makes a caddy binary with this module from xcaddy.json, as
//
//	go run ./caddymodule/build -o ./caddy
//
// in the root of the repository. It calls the xcaddy that go.mod pins, with cgo off, and builds the module from the working
// tree instead of its published version. With -target it cross-compiles:
//
//	go run ./caddymodule/build -o ./caddy-arm64 -target linux/arm64
//
// xcaddy.json has the field names of xcaddy's Builder. Those that are read here are caddy_version, plugins, replacements
// and build_flags; any other is an error.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
)

// builder is the part of xcaddy's Builder that is supported.
type builder struct {
	CaddyVersion string        `json:"caddy_version"`
	Plugins      []plugin      `json:"plugins"`
	Replacements []replacement `json:"replacements,omitempty"`
	BuildFlags   string        `json:"build_flags,omitempty"`
}

type plugin struct {
	ModulePath string `json:"module_path"` // of a package
	Version    string `json:"version,omitempty"`
}

type replacement struct {
	Old string `json:"old"`
	New string `json:"new"`
}

// Variables that make this program stand in for the go command when xcaddy calls it: the real one, and what to require.
const (
	realGoEnv  = "ICWS_BUILD_GO"
	requireEnv = "ICWS_BUILD_REQUIRE"
)

func main() {
	if real := os.Getenv(realGoEnv); real != "" {
		os.Exit(standIn(real, os.Getenv(requireEnv), os.Args[1:]))
	}
	output := flag.String("o", "caddy", "the `file` to write")
	config := flag.String("config", "xcaddy.json", "the `file` to build from; its directory is the working tree")
	target := flag.String("target", runtime.GOOS+"/"+runtime.GOARCH, "`os/arch` to build for")
	print := flag.Bool("print", false, "print the command that would run, and do not run it")
	flag.Parse()
	if err := run(flag.Args(), *config, *output, *target, *print); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

func run(surplus []string, config, output, target string, print bool) error {
	if len(surplus) > 0 {
		return fmt.Errorf("unexpected argument %q: there are flags only, the file to write is -o", surplus[0])
	}
	raw, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	b, err := parse(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", config, err)
	}
	goos, goarch, ok := strings.Cut(target, "/")
	if !ok || goos == "" || goarch == "" {
		return fmt.Errorf("target %q must be os/arch, like linux/arm64", target)
	}
	if output, err = filepath.Abs(output); err != nil {
		return err
	}
	tree, err := filepath.Abs(filepath.Dir(config))
	if err != nil {
		return err
	}
	module, err := modulePath(filepath.Join(tree, "go.mod"))
	if err != nil {
		return err
	}
	args := b.arguments(module, tree, output)
	if print {
		fmt.Println("go", strings.Join(args, " "))
		return nil
	}
	// `go tool` would build xcaddy itself for the target, so it is built here first, for this machine.
	dir, err := os.MkdirTemp("", "icws-build")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	xcaddy := filepath.Join(dir, "xcaddy")
	tool := exec.Command("go", "build", "-o", xcaddy, "github.com/caddyserver/xcaddy/cmd/xcaddy")
	tool.Dir, tool.Stderr = tree, os.Stderr
	if err := tool.Run(); err != nil {
		return fmt.Errorf("building xcaddy: %w", err)
	}
	goCommand, err := exec.LookPath("go")
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(xcaddy, args[2:]...)
	cmd.Dir = tree
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+goarch, "GOFLAGS=", "XCADDY_SETCAP=0",
		"XCADDY_WHICH_GO="+self, realGoEnv+"="+goCommand, requireEnv+"="+module+"@v0.0.0")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

// standIn runs the go command for xcaddy and returns its exit code. Before the last `go get`, which resolves what is still
// missing, it requires the module of the working tree: go would otherwise ask the module proxy whether the package within it
// is a module of its own, and a proxy that refuses instead of saying no would end the build.
func standIn(goCommand, require string, args []string) int {
	commands := [][]string{args}
	if len(args) > 0 && args[0] == "get" && args[len(args)-1] == "" {
		commands = [][]string{{"mod", "edit", "-require=" + require}, args}
	}
	for _, args := range commands {
		cmd := exec.Command(goCommand, args...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				return exit.ExitCode()
			}
			fmt.Fprintln(os.Stderr, "build:", err)
			return 1
		}
	}
	return 0
}

// parse reads xcaddy.json.
func parse(raw []byte) (*builder, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	b := new(builder)
	if err := decoder.Decode(b); err != nil {
		return nil, err
	}
	if b.CaddyVersion == "" {
		return nil, errors.New("caddy_version is missing: builds must be repeatable")
	}
	if len(b.Plugins) == 0 {
		return nil, errors.New("plugins is empty: name this module")
	}
	return b, nil
}

// arguments returns what to call go with. Plugins of the module in the working tree are built from there.
func (b *builder) arguments(module, tree, output string) []string {
	args := []string{"tool", "xcaddy", "build", b.CaddyVersion, "--output", output}
	for _, p := range b.Plugins {
		with := p.ModulePath
		if p.Version != "" && !within(p.ModulePath, module) {
			with += "@" + p.Version
		}
		args = append(args, "--with", with)
	}
	args = append(args, "--replace", module+"="+tree)
	for _, r := range b.Replacements {
		args = append(args, "--replace", r.Old+"="+r.New)
	}
	return args
}

// within reports whether a package belongs to a module.
func within(pkg, module string) bool {
	return pkg == module || strings.HasPrefix(path.Clean(pkg), module+"/")
}

// modulePath reads the module's name from go.mod.
func modulePath(file string) (string, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(raw)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "module "); ok {
			return strings.Trim(name, `" `), nil
		}
	}
	return "", fmt.Errorf("%s names no module", file)
}
