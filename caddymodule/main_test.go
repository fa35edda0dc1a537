package caddymodule

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/certmagic"
	"github.com/smallstep/certificates/acme"

	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/icws-gateway/caddy-icws/examples/caddylog"
	"github.com/icws-gateway/caddy-icws/examples/freeport"
)

// runCaddyEnv makes the test binary behave like a caddy binary with this module, so that tests can start whole processes,
// stop them with signals and kill them, without building anything.
const runCaddyEnv = "ICWS_TEST_RUN_CADDY"

// alpnPortEnv is where such a process, as an ACME server, looks for the answers to TLS-ALPN challenges.
const alpnPortEnv = "ICWS_TEST_ALPN_PORT"

func TestMain(m *testing.M) {
	if os.Getenv(runCaddyEnv) != "" {
		// The ACME server checks challenges on port 443, which tests do not have.
		acme.InsecurePortTLSALPN01, _ = strconv.Atoi(os.Getenv(alpnPortEnv))
		caddycmd.Main()
		return
	}
	os.Exit(runTests(m))
}

// hung is how long nothing takes, however busy the machine is, that does not hang.
const hung = 3 * time.Minute

// deadAddress is one of loopback where nobody listens, ever.
var deadAddress string

// runTests keeps everything that Caddy writes (instance id, storage, autosave) in a directory that is removed at the end.
func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "icws-caddymodule")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	for name, sub := range map[string]string{"XDG_DATA_HOME": "data", "XDG_CONFIG_HOME": "config", "HOME": "home"} {
		if err := os.Setenv(name, filepath.Join(dir, sub)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	port, release, err := freeport.Hold()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer release()
	deadAddress = fmt.Sprintf("127.0.0.1:%d", port)
	// Both were computed from the environment before this function could change it.
	caddy.ConfigAutosavePath = filepath.Join(dir, "config", "autosave.json")
	caddy.DefaultStorage = &certmagic.FileStorage{Path: caddy.AppDataDir()}
	// Tests that run side by side wait for other processes more than they compute.
	parallel := "8"
	flag.Parse()
	flag.Visit(func(f *flag.Flag) {
		if f.Name == "test.parallel" {
			parallel = f.Value.String()
		}
	})
	if err := flag.Set("test.parallel", parallel); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return caddylog.Run(m)
}
