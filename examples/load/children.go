package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// programs are the servers that are measured.
type programs struct{ caddy, bare string }

// build builds the servers in dir, as releases are built: what a program has that it does not need would count as its memory.
// With a caddy that is one already, that is taken.
func build(ctx context.Context, dir, caddy string) (p programs, err error) {
	const here = "github.com/icws-gateway/caddy-icws/examples/load/"
	p = programs{caddy: caddy, bare: filepath.Join(dir, "bare.exe")}
	wanted := []string{here + "bare"}
	if caddy == "" {
		p.caddy = filepath.Join(dir, "caddy.exe")
		wanted = append(wanted, here+"caddy")
	} else if p.caddy, err = exec.LookPath(caddy); err != nil {
		return p, fmt.Errorf("-caddy: %w", err)
	}
	for _, name := range wanted {
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, path.Base(name)+".exe"), name)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return p, fmt.Errorf("building %s, which needs Go and this repository as the directory: %w: %s", name, err, printable(string(out)))
		}
	}
	return p, nil
}

// A child is a server in a process of its own, so that what it uses is its own.
type child struct {
	cmd   *exec.Cmd
	stdin io.Closer
	said  *said
	done  chan struct{} // closed when it has ended
}

// startChild starts a program.
func startChild(program string, env []string, args ...string) (*child, error) {
	c := &child{cmd: exec.Command(program, args...), said: &said{line: make(chan string, 1)}, done: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), env...)
	c.cmd.Stdout, c.cmd.Stderr = c.said, c.said
	var err error
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", program, err)
	}
	go func() {
		_ = c.cmd.Wait()
		close(c.done)
	}()
	return c, nil
}

// use is what the process uses.
func (c *child) use() use { return process(strconv.Itoa(c.cmd.Process.Pid)).use() }

// kill ends the process at once.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	<-c.done
}

// ended waits for the end of the process.
func (c *child) ended(ctx context.Context) error {
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the end of %s: %w", c.cmd.Path, ctx.Err())
	}
}

// firstLine is the first line that the process writes.
func (c *child) firstLine(ctx context.Context) (string, error) {
	select {
	case line := <-c.said.line:
		return line, nil
	case <-c.done:
		return "", c.failure()
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// failure is what is known of a process that has ended too early.
func (c *child) failure() error {
	return fmt.Errorf("%s ended: %s: %s", c.cmd.Path, c.cmd.ProcessState, printable(c.said.tail()))
}

// said keeps the first line and the last letters of what a process writes.
type said struct {
	line chan string

	mu    sync.Mutex
	text  string
	lined bool
}

// maxSaid bounds what is kept of the output of a process.
const maxSaid = 4 << 10

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text += string(b)
	if line, _, ok := strings.Cut(s.text, "\n"); ok && !s.lined {
		s.lined = true
		s.line <- line
	}
	s.text = s.text[max(0, len(s.text)-maxSaid):]
	return len(b), nil
}

func (s *said) tail() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text[max(0, len(s.text)-maxReason):]
}

// within retries f until it succeeds, the process ends or ctx does.
func (c *child) within(ctx context.Context, f func() error) error {
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-c.done:
			return c.failure()
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
