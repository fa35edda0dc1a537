package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// patience is how long a block may take. One that hangs is ended, and fails.
const patience = 15 * time.Minute

// paste runs a script as somebody who pastes it, in a directory, and returns what it printed. With a text in interrupt the script
// gets an interrupt, as from Ctrl-C, once it has printed that. It must end with code 0 in either case, with nothing of it running
// on.
func (r *readme) paste(ctx context.Context, dir, script, interrupt string) (string, error) {
	return r.serve(ctx, dir, script, interrupt, func(string) {})
}

// serve is paste for what somebody uses before they interrupt it: meanwhile is called with what has been printed until then.
func (r *readme) serve(ctx context.Context, dir, script, interrupt string, meanwhile func(printed string)) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("still running after %s", patience))
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-e", "-o", "pipefail", "-c", script)
	cmd.Dir, cmd.Env = dir, r.environment
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// The group has this number as long as something of it runs.
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = r.letGo
	out := &watch{text: interrupt}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return "", err
	}
	ended, used := make(chan struct{}), make(chan struct{})
	out.found(func() {
		go func() {
			defer close(used)
			printed, _ := out.result()
			meanwhile(printed)
			select {
			case <-ended:
			default:
				_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)
			}
		}()
	})
	err := cmd.Wait()
	close(ended)
	printed, seen := out.result()
	if seen {
		<-used
	}
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case errors.Is(err, exec.ErrWaitDelay):
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		err = errors.New("has ended, and something that it started runs on")
	case seen && err != nil && cmd.ProcessState.ExitCode() == 1 && strings.Contains(script, "go run ") && !strings.Contains(printed, "\nexit status "):
		err = nil // of go, which ends so after each interrupt; with a program that fails it says "exit status"
	case interrupt != "" && !seen:
		err = errors.Join(fmt.Errorf("has ended without printing %q", interrupt), err)
	}
	return printed, err
}

// watch keeps what a script prints and calls a function when a text has come.
type watch struct {
	text string

	mu   sync.Mutex
	out  bytes.Buffer
	then func()
	seen bool
}

// found sets the function. It is called once, at once where the text is there already.
func (w *watch) found(then func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.then = then
	w.look()
}

func (w *watch) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.out.Write(p)
	w.look()
	return len(p), nil
}

func (w *watch) look() {
	if w.text == "" || w.seen || w.then == nil || !bytes.Contains(w.out.Bytes(), []byte(w.text)) {
		return
	}
	w.seen = true
	w.then()
}

func (w *watch) result() (printed string, seen bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.String(), w.seen
}

// command runs a program of the checks.
func (r *readme) command(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, r.environment
	if path, err := lookPath(name, r.environment); err == nil {
		cmd.Path, cmd.Err = path, nil
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// lookPath looks for a program along the PATH of an environment, which need not be that of this process.
func lookPath(name string, environment []string) (string, error) {
	for _, v := range environment {
		list, ok := strings.CutPrefix(v, "PATH=")
		if !ok {
			continue
		}
		for _, dir := range filepath.SplitList(list) {
			file := filepath.Join(dir, name)
			if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				return file, nil
			}
		}
	}
	return "", exec.ErrNotFound
}

var (
	shellComment = regexp.MustCompile(`(?m)(^|\s)#.*$`)
	separators   = regexp.MustCompile(`\n|;|&&|\|\|?|[()]`)
	assignment   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)
	stepName     = regexp.MustCompile(`^[a-z0-9]+$`)
	word         = regexp.MustCompile(`^[a-z][a-z-]*$`)
)

// commands are the simple commands of a script, without variables in front. It knows no quotes: for commands that have
// separators in them it is too simple.
func commands(script string) [][]string {
	script = strings.ReplaceAll(script, "\\\n", " ")
	script = shellComment.ReplaceAllString(script, "")
	var out [][]string
	for _, part := range separators.Split(script, -1) {
		words := strings.Fields(part)
		for len(words) > 0 && assignment.MatchString(words[0]) {
			words = words[1:]
		}
		if len(words) > 0 {
			out = append(out, words)
		}
	}
	return out
}

// known holds a command against the help of its program, if that is one of ours: the names of commands, modes, steps and flags.
func (r *readme) known(ctx context.Context, words []string) error {
	var help []string
	var flag func(name string) *regexp.Regexp
	switch {
	case words[0] == "caddy" || words[0] == "./caddy":
		help, words = []string{"caddy"}, words[1:]
		for len(words) > 0 && word.MatchString(words[0]) {
			help, words = append(help, words[0]), words[1:]
		}
		if len(help) == 1 {
			return nil
		}
		flag = func(name string) *regexp.Regexp {
			return regexp.MustCompile(`(?m)^\s+(-\w, )?` + regexp.QuoteMeta(name) + `\b|^\s+` + regexp.QuoteMeta(name) + `, --`)
		}
	case len(words) > 2 && words[0] == "go" && words[1] == "run" && strings.HasPrefix(words[2], "./"):
		help, words = words[:3:3], words[3:]
		for len(words) > 0 && word.MatchString(words[0]) {
			help, words = append(help, words[0]), words[1:]
		}
		flag = func(name string) *regexp.Regexp {
			return regexp.MustCompile(`(?m)^\s+-` + regexp.QuoteMeta(strings.TrimLeft(name, "-")) + `\b`)
		}
	case words[0] == "go":
		for _, w := range words {
			if dir, ok := strings.CutPrefix(w, "./"); ok {
				if _, err := os.Stat(filepath.Join(r.tree, strings.TrimSuffix(dir, "..."))); err != nil {
					return fmt.Errorf("there is no %s", w)
				}
			}
		}
		return nil
	case words[0] == ".ci/run":
		script, err := os.ReadFile(filepath.Join(r.tree, ".ci/run"))
		if err != nil {
			return err
		}
		for _, step := range words[1:] {
			if stepName.MatchString(step) && !bytes.Contains(script, []byte("\nstep_"+step+"() {\n")) {
				return fmt.Errorf(".ci/run has no step %s", step)
			}
		}
		return nil
	default:
		return nil
	}
	text, err := r.help(ctx, help)
	if err != nil {
		return err
	}
	for _, w := range words {
		name, _, _ := strings.Cut(w, "=")
		if strings.HasPrefix(name, "-") && strings.Trim(name, "-") != "" && !strings.HasSuffix(name, "-help") && !flag(name).MatchString(text) {
			return fmt.Errorf("%s has no flag %s", strings.Join(help, " "), name)
		}
	}
	return nil
}

// help is what a program prints about one of its commands. It is asked once.
func (r *readme) help(ctx context.Context, command []string) (string, error) {
	line := strings.Join(command, " ")
	if text, asked := r.helped[line]; asked {
		return text, nil
	}
	asking := "--help"
	if command[0] == "go" {
		asking = "-help"
	}
	text, err := r.command(ctx, r.tree, command[0], append(command[1:len(command):len(command)], asking)...)
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", line, asking, err, text)
	}
	// Of what it does not know, caddy prints the help for the part that it does.
	if command[0] == "caddy" && !regexp.MustCompile(`(?m)^\s+`+regexp.QuoteMeta(line)+`( |$)`).MatchString(text) {
		return "", fmt.Errorf("there is no %s", line)
	}
	r.helped[line] = text
	return text, nil
}
