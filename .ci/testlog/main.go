// Command testlog runs `go test -json` and decides whether the run counts.
//
// It prints one line per package, and at the end of a run that failed what a person needs of each failed test: its name,
// the command that repeats it, and the part of its output that says what went wrong. The whole output of the packages that
// failed is in a file, whose name is the last thing printed. Exit code 1 means that a test failed, was skipped, or never
// ended, that nothing ran at all, or that a test named with -require did not pass. A test that skips itself proves nothing,
// and in CI everything it could need is installed.
//
// Run it as `go run ./.ci/testlog -require TestA,TestB/name -- -tags=e2e ./...`. What follows -- goes to go test; flags
// with a value need the form -flag=value. Tests always run: a result of the cache is from another day.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"time"
)

func main() {
	require := flag.String("require", "", "comma-separated `names` of tests that must have passed")
	slowest := flag.Int("slowest", 5, "how many of the slowest tests to print")
	flag.Parse()
	// Ctrl-C ends the tests, which are in the same group of processes; this program then says how far they got.
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	if err := run(os.Stdout, *require, *slowest, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "testlog:", err)
		os.Exit(1)
	}
}

// run runs go test with args in the current directory.
func run(to io.Writer, require string, slowest int, args []string) error {
	module, err := exec.Command("go", "list", "-m").Output()
	if err != nil {
		return fmt.Errorf("the name of the module: %w", err)
	}
	r := newReport(to, repeater{module: strings.TrimSpace(string(module)), args: args, env: os.Environ()})
	cmd := exec.Command("go", append([]string{"test", "-json", "-count=1"}, args...)...)
	out, write := io.Pipe()
	cmd.Stdout, cmd.Stderr = write, write
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() {
		ended <- cmd.Wait()
		write.Close()
	}()
	if err := r.read(out, time.Minute); err != nil {
		out.Close() // go test must not wait for a reader
		return errors.Join(err, <-ended)
	}
	return r.verdict(require, slowest, <-ended)
}

// read reads events until the end of in. Whenever it has printed nothing for as long as patience it says what is running.
func (r *report) read(in io.Reader, patience time.Duration) error {
	lines, failed := make(chan []byte), make(chan error, 1)
	go func() {
		defer close(lines)
		scanner := bufio.NewScanner(in)
		scanner.Buffer(nil, 64<<20)
		for scanner.Scan() {
			lines <- append([]byte(nil), scanner.Bytes()...)
		}
		failed <- scanner.Err()
	}()
	silent := time.NewTicker(patience)
	defer silent.Stop()
	for {
		select {
		case line, more := <-lines:
			if !more {
				if err := <-failed; err != nil {
					return fmt.Errorf("reading the output of go test: %w", err)
				}
				return nil
			}
			if r.line(line) {
				silent.Reset(patience)
			}
		case <-silent.C:
			r.progress()
		}
	}
}
