// Package chromium runs tests of pages in a real Chromium.
package chromium

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Run runs a file with that many tests with Node, in a home of its own, where Chromium trusts the certificate authority whose
// certificate is in the file rootCert. The file gets its browser from examples/chat/web/chromium.mjs, whose npm packages have to be
// installed.
func Run(t *testing.T, file string, tests int, rootCert string, env ...string) {
	t.Helper()
	home := t.TempDir()
	trust(t, home, rootCert)
	Node(t, file, tests, append([]string{"HOME=" + home}, env...)...)
}

// Node runs a file with that many tests with the test runner of Node.js, in its directory and with more environment.
func Node(t *testing.T, file string, tests int, env ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "--test", "--test-reporter=tap", filepath.Base(file))
	cmd.Dir = filepath.Dir(file)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("node: %v\n%s", err, out)
	}
	if !strings.Contains(string(out), fmt.Sprintf("# pass %d\n", tests)) || !strings.Contains(string(out), "# skipped 0\n") {
		t.Errorf("not all %d tests ran and passed\n%s", tests, out)
	}
}

// trust puts a root certificate into the database that Chromium reads, in a home directory of its own: the one certificate
// authority is trusted and nothing about verification is switched off.
func trust(t *testing.T, home, rootCert string) {
	t.Helper()
	db := filepath.Join(home, ".pki", "nssdb")
	if err := os.MkdirAll(db, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"-N", "--empty-password", "-d", "sql:" + db},
		{"-A", "-d", "sql:" + db, "-n", "caddy", "-t", "C,,", "-i", rootCert},
	} {
		if out, err := exec.CommandContext(t.Context(), "certutil", args...).CombinedOutput(); err != nil {
			t.Fatalf("certutil: %v\n%s", err, out)
		}
	}
}
