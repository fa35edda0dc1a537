package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// check looks at one block of a file in the way of its language. dir is where the reader of that file is. It returns what was
// done with the block, and what the block printed.
func (r *readme) check(ctx context.Context, dir string, b, before block, printed string) (done, out string, err error) {
	b.text = r.stands.Replace(b.text)
	checks := map[string]func() (string, error){
		"caddyfile":  func() (string, error) { return r.caddyfile(ctx, b.text) },
		"json":       func() (string, error) { return r.json(ctx, b.text) },
		"yaml":       func() (string, error) { return r.yaml(ctx, b.text) },
		"js":         func() (string, error) { return r.javaScript(ctx, b.text) },
		"dockerfile": func() (string, error) { return r.dockerfile(ctx, b.text) },
		"dotenv":     func() (string, error) { return "read", dotenv(b.text) },
		"text": func() (string, error) {
			if !b.follows || before.language != "sh" || before.directive.needs != "" {
				return "nothing to check", nil
			}
			return "was printed", wasPrinted(b.text, printed)
		},
	}
	if b.language == "sh" {
		return r.shell(ctx, dir, b)
	}
	check, ok := checks[b.language]
	switch {
	case b.directive != (directive{}):
		return "", "", errors.New("a directive is for blocks of sh")
	case b.language == "":
		return "", "", errors.New("the block has no language: sh is run, text is for what is printed or drawn")
	case !ok:
		return "", "", fmt.Errorf("%s is a language that nothing checks; there are sh, %s", b.language, strings.Join(slices.Sorted(maps.Keys(checks)), ", "))
	}
	done, err = check()
	return done, "", err
}

// shell runs a block. Of one that CI cannot run it looks at the syntax, and at the flags of programs that are ours.
func (r *readme) shell(ctx context.Context, dir string, b block) (done, out string, err error) {
	if b.directive.needs == "" {
		if b.directive.beside != "" {
			out, err := r.beside(ctx, dir, b)
			return "run beside " + b.directive.beside, out, err
		}
		out, err := r.paste(ctx, dir, b.directive.first+"\n"+b.text, b.directive.interrupt)
		if err == nil && strings.Contains(b.text, "xcaddy build") {
			err = r.built(ctx, dir, b.text)
		}
		if b.directive.interrupt != "" {
			return "interrupted", out, err
		}
		return "run", out, err
	}
	if err := r.instead(ctx, b.directive.needs); err != nil {
		return "", "", err
	}
	if out, err := r.command(ctx, dir, "bash", "-n", "-c", b.text); err != nil {
		return "", out, err
	}
	for _, words := range commands(b.text) {
		if err := r.known(ctx, words); err != nil {
			return "", "", err
		}
	}
	return "not run, needs " + b.directive.needs, "", nil
}

var named = regexp.MustCompile(`\b(Test[A-Z]\w*)|\bstep ([a-z0-9]+)`)

// instead looks for the tests and the steps that a reason names.
func (r *readme) instead(ctx context.Context, reason string) error {
	for _, m := range named.FindAllStringSubmatch(reason, -1) {
		search := []string{"func " + m[1] + "(", "--", "*_test.go"}
		if m[1] == "" {
			search = []string{"step_" + m[2] + "()", "--", ".ci/run"}
		}
		if _, err := r.command(ctx, r.tree, "git", append([]string{"grep", "--quiet", "--fixed-strings"}, search...)...); err != nil {
			return fmt.Errorf("there is no %s", m[0])
		}
	}
	return nil
}

// scratch writes a file that a program is to read, and returns its path.
func (r *readme) scratch(name, text string) (string, error) {
	path := filepath.Join(r.dir, name)
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// caddyfile has the built binary adapt a Caddyfile without a warning, and load every module that it names.
func (r *readme) caddyfile(ctx context.Context, text string) (string, error) {
	path, err := r.scratch("Caddyfile", text)
	if err != nil {
		return "", err
	}
	out, err := r.command(ctx, r.dir, "caddy", "adapt", "--validate", "--adapter", "caddyfile", "--config", path)
	for line := range strings.Lines(out) {
		// fetch is warned of wherever it stands, as it should.
		if err == nil && strings.Contains(line, `"level":"warn"`) && !strings.Contains(line, `"msg":"root_key fetch `) {
			err = errors.New("there is a warning")
		}
	}
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return "adapted and validated", nil
}

// json has the built binary load a configuration, or a handler in the smallest one.
func (r *readme) json(ctx context.Context, text string) (string, error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		return "", err
	}
	if object["handler"] != nil {
		text = fmt.Sprintf(`{"apps": {"http": {"servers": {"site": {"listen": ["127.0.0.1:0"], "routes": [{"handle": [%s]}]}}}}}`, text)
	} else if object["apps"] == nil {
		return "", errors.New("neither a configuration of Caddy nor a handler: nothing can load it")
	}
	path, err := r.scratch("caddy.json", text)
	if err != nil {
		return "", err
	}
	if out, err := r.command(ctx, r.dir, "caddy", "validate", "--config", path); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return "loaded", nil
}

// yaml holds a compose file against the published schema.
func (r *readme) yaml(ctx context.Context, text string) (string, error) {
	var object map[string]any
	if err := yaml.Unmarshal([]byte(text), &object); err != nil {
		return "", err
	}
	if object["services"] == nil {
		return "", errors.New("not a compose file: no schema is known")
	}
	path, err := r.scratch("compose.yaml", text)
	if err != nil {
		return "", err
	}
	if out, err := r.command(ctx, r.dir, "python3", "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", path); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return "has its schema", nil
}

func (r *readme) javaScript(ctx context.Context, text string) (string, error) {
	path, err := r.scratch("snippet.mjs", text)
	if err != nil {
		return "", err
	}
	if out, err := r.command(ctx, r.dir, "node", "--check", path); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return "parsed", nil
}

// dockerfile looks at the instructions, at the shell of those that run something, and at the stages that others copy from.
func (r *readme) dockerfile(ctx context.Context, text string) (string, error) {
	stages := map[string]bool{}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 2 {
			return "", fmt.Errorf("%q is no instruction", line)
		}
		switch rest := strings.Join(words[1:], " "); words[0] {
		case "FROM":
			if len(words) == 4 && words[2] == "AS" {
				stages[words[3]] = true
			}
		case "RUN":
			if out, err := r.command(ctx, r.dir, "bash", "-n", "-c", rest); err != nil {
				return "", fmt.Errorf("%w\n%s", err, out)
			}
		case "COPY":
			if stage, ok := strings.CutPrefix(words[1], "--from="); ok && !stages[stage] {
				return "", fmt.Errorf("there is no stage %s above it", stage)
			}
		default:
			return "", fmt.Errorf("%s is an instruction that nothing checks", words[0])
		}
	}
	return "read", nil
}

var variable = regexp.MustCompile(`^[A-Z_][A-Z0-9_]*=\S+$`)

// dotenv looks at a file of variables, as compose reads it.
func dotenv(text string) error {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") && !variable.MatchString(line) {
			return fmt.Errorf("%q gives no value to a variable", line)
		}
	}
	return nil
}

// What is another in each run of a program: durations. What a block shows with three dots is anything.
var varies = regexp.MustCompile(`\\\.\\\.\\\.|\d+(\\\.\d+)?(ms|s)\b`)

// wasPrinted looks for the lines of a block, in their order, in what the block before has printed.
func wasPrinted(want, printed string) error {
	lines := strings.Split(printed, "\n")
	for line := range strings.Lines(want) {
		line = strings.TrimSpace(line)
		pattern := regexp.MustCompile("^" + varies.ReplaceAllStringFunc(regexp.QuoteMeta(line), func(part string) string {
			if strings.HasPrefix(part, `\.`) {
				return ".*"
			}
			return `[0-9.]+(ms|s)`
		}) + "$")
		i := slices.IndexFunc(lines, func(l string) bool { return pattern.MatchString(strings.TrimSpace(l)) })
		if i < 0 {
			return fmt.Errorf("the block before did not print %q, or not in this place, but\n%s", line, printed)
		}
		lines = lines[i+1:]
	}
	return nil
}

// stands makes what stands for what a text leaves to its reader.
func (r *readme) standIns() (*strings.Replacer, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	key, err := r.scratch("key_pair", string(raw))
	if err != nil {
		return nil, err
	}
	return strings.NewReplacer(
		"<canister id>", theCanister,
		"<canister>", theCanister,
		"<id>", theCanister,
		"<hex>", "00",
		"<gateway>", theGateway,
		"<network>", theNetwork,
		"/data/key_pair", key, // in a container
	), nil
}
