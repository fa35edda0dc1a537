package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/freeport"
)

// A caddyServer is a Caddy with the gateway in a process of its own.
type caddyServer struct {
	program string // a Caddy with the module
	site    string // of the Caddyfile
	dir     string // of its data, so that its identity survives a restart
	port    int
	admin   int
	release func()
	version int // of the configuration
	child   *child
}

// caddyPatience bounds the time in which a Caddy starts, stops or takes a configuration.
const caddyPatience = 2 * time.Minute

// newCaddyServer makes a server of a site, in which {port} stands for where it has to listen. It does not start it.
func newCaddyServer(program, site, dir string) (*caddyServer, error) {
	port, releasePort, err := freeport.Hold()
	if err != nil {
		return nil, err
	}
	admin, releaseAdmin, err := freeport.Hold()
	if err != nil {
		releasePort()
		return nil, err
	}
	return &caddyServer{
		program: program, dir: dir, port: port, admin: admin, release: func() { releasePort(); releaseAdmin() },
		site: strings.ReplaceAll(site, "{port}", fmt.Sprint(port)),
	}, nil
}

// caddyfile is the configuration. Each version differs, so that Caddy does not skip a reload.
func (c *caddyServer) caddyfile() string {
	return fmt.Sprintf(`{
	admin 127.0.0.1:%d
	persist_config off
	storage file_system %q
	storage_clean_interval off
	skip_install_trust
	auto_https disable_redirects
	log {
		level ERROR
	}
}
%s
`, c.admin, filepath.Join(c.dir, "storage"), strings.ReplaceAll(c.site, "{version}", fmt.Sprint(c.version)))
}

// start starts the process and returns when the site accepts connections.
func (c *caddyServer) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, caddyPatience)
	defer cancel()
	file := filepath.Join(c.dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(c.caddyfile()), 0o600); err != nil {
		return err
	}
	args := []string{"run", "--adapter", "caddyfile", "--config", file}
	env := []string{"HOME=" + c.dir, "XDG_DATA_HOME=" + filepath.Join(c.dir, "data"), "XDG_CONFIG_HOME=" + filepath.Join(c.dir, "config")}
	var err error
	if c.child, err = startChild(c.program, env, args...); err != nil {
		return err
	}
	return c.child.within(ctx, func() error {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", c.port))
		if err != nil {
			return fmt.Errorf("waiting for Caddy: %w", err)
		}
		return conn.Close()
	})
}

// reload gives the running Caddy a new configuration and returns when it is in force.
func (c *caddyServer) reload(ctx context.Context) error {
	c.version++
	return c.call(ctx, "/load", c.caddyfile())
}

// restart stops Caddy, which ends its sessions, and starts it again on the same port.
func (c *caddyServer) restart(ctx context.Context) error {
	if err := c.call(ctx, "/stop", ""); err != nil {
		return err
	}
	stopping, cancel := context.WithTimeout(ctx, caddyPatience)
	defer cancel()
	if err := c.child.ended(stopping); err != nil {
		return err
	}
	return c.start(ctx)
}

// call has the admin endpoint do something.
func (c *caddyServer) call(ctx context.Context, path, body string) error {
	_, err := c.ask(ctx, http.MethodPost, path, body)
	return err
}

// live is what the process has on its heap and stacks after a collection, in bytes.
func (c *caddyServer) live(ctx context.Context) (float64, error) {
	var text string
	for range 2 { // the second collection frees what the first one found finalizers for
		var err error
		if text, err = c.ask(ctx, http.MethodGet, "/debug/pprof/heap?gc=1&debug=1", ""); err != nil {
			return 0, err
		}
	}
	sum := 0.0
	for _, name := range []string{"HeapAlloc", "Stack"} {
		found := regexp.MustCompile(`(?m)^# ` + name + ` = (\d+)`).FindStringSubmatch(text)
		if found == nil {
			return 0, fmt.Errorf("no %s in Caddy's heap profile", name)
		}
		n, err := strconv.ParseFloat(found[1], 64)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// profile is one of Go's profiles of the process: a path below /debug/pprof/.
func (c *caddyServer) profile(ctx context.Context, kind string) ([]byte, error) {
	text, err := c.ask(ctx, http.MethodGet, "/debug/pprof/"+kind, "")
	return []byte(text), err
}

// ask makes a request to the admin endpoint and returns the body of the answer.
func (c *caddyServer) ask(ctx context.Context, method, path, body string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, caddyPatience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("http://127.0.0.1:%d%s", c.admin, path), strings.NewReader(body))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "text/caddyfile")
	r.Close = true
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return "", fmt.Errorf("asking Caddy for %s: %w", path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", fmt.Errorf("asking Caddy for %s: %w", path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("asking Caddy for %s: %s: %s", path, resp.Status, printable(string(text)))
	}
	return string(text), nil
}

// close ends the process and removes what it kept.
func (c *caddyServer) close() error {
	if c.child != nil {
		c.child.kill()
	}
	c.release()
	return os.RemoveAll(c.dir)
}
