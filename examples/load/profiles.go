package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

// profiles are files with Go's profiles of the server of a trial. Its nil writes none.
type profiles struct {
	dir     string
	title   string // of the experiment, which the names of the files begin with
	subject *subject
	wg      sync.WaitGroup
	turn    sync.Mutex // held while the CPU is profiled: a process can do that once at a time

	mu  sync.Mutex
	err error // the first one
}

// notOfNames are the letters of a title that the name of a file does not have.
var notOfNames = regexp.MustCompile(`[^a-z0-9]+`)

// cpu profiles what the server does from now on for d, to whole seconds, in the background. What is over sooner is not profiled.
func (p *profiles) cpu(ctx context.Context, what string, d time.Duration) {
	if p == nil || d < time.Second {
		return
	}
	p.wg.Go(func() {
		p.turn.Lock()
		defer p.turn.Unlock()
		p.write(ctx, what+" cpu", fmt.Sprintf("profile?seconds=%d", int(d.Seconds())))
	})
}

// heap has what is on the server's heap after a collection.
func (p *profiles) heap(ctx context.Context, what string) {
	if p != nil {
		p.write(ctx, what+" heap", "heap?gc=1")
	}
}

func (p *profiles) write(ctx context.Context, what, kind string) {
	b, err := p.subject.profile(ctx, kind)
	if err == nil {
		name := strings.Trim(notOfNames.ReplaceAllString(strings.ToLower(p.title+" "+what), "-"), "-")
		err = os.WriteFile(filepath.Join(p.dir, name+".pprof"), b, 0o644)
	}
	if err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.err == nil {
			p.err = fmt.Errorf("profile: %w", err)
		}
	}
}

// wait waits for the files and returns what went wrong.
func (p *profiles) wait() error {
	if p == nil {
		return nil
	}
	p.wg.Wait()
	return p.err
}
