// Package bundle has npm bundle the pages of the examples when they are served.
package bundle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Page returns the directory of a bundled page, which is dist in the directory
// web. It bundles the page when script is not there yet, or older than what it
// is made of: the sources, what package-lock.json pins, and the files that match
// more, patterns relative to web. npm speaks on standard error.
func Page(ctx context.Context, web, script string, more ...string) (dist string, err error) {
	if web, err = filepath.Abs(web); err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(web, "package.json")); err != nil {
		return "", fmt.Errorf("looking for the page: %w: run this in the root of the repository, or set -web", err)
	}
	dist = filepath.Join(web, "dist")
	if done, err := os.Stat(filepath.Join(dist, script)); err == nil && !changedSince(web, done.ModTime(), more) {
		return dist, nil
	}
	for _, args := range [][]string{{"ci", "--no-fund", "--no-audit"}, {"run", "build"}} {
		fmt.Println("npm", args[0], "...")
		cmd := exec.CommandContext(ctx, "npm", args...)
		cmd.Dir, cmd.Stdout, cmd.Stderr = web, os.Stderr, os.Stderr
		if err := cmd.Run(); ctx.Err() != nil {
			return "", errors.New("interrupted while npm bundled the page")
		} else if err != nil {
			return "", fmt.Errorf("bundling the page with npm %s: %w: Node.js 20 or newer is needed", args[0], err)
		}
	}
	return dist, nil
}

// changedSince tells whether something that the page is made of is newer than t.
func changedSince(web string, t time.Time, more []string) bool {
	for _, pattern := range append([]string{"src/*", "build.mjs", "package-lock.json"}, more...) {
		files, _ := filepath.Glob(filepath.Join(web, pattern)) // the patterns are well formed
		for _, file := range files {
			if info, err := os.Stat(file); err == nil && info.ModTime().After(t) {
				return true
			}
		}
	}
	return false
}
