package caddymodule

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aviate-labs/agent-go/identity"
	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

func probeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "probe <ws-or-wss-url> --canister <id> [--network <url>...] [--root-key <key>] [--ca <file>] [--origin <origin>] [--address <admin>] [--acks <duration>] [--timeout <duration>]",
		Short: "Opens a session with a gateway and explains each step",
		Long: `
Opens a session as a browser would, with a fresh key, verifies everything that
arrives, and says step by step what works and what is wrong: the name, the TCP
connection, the certificate, the WebSocket upgrade, the gateway's handshake, the
outcome of ws_open, and the first frame with its certificate.

It also asks the network itself, as a gateway does: a query for messages and the
form of its answer, the node that signed it, the age and layout of certificates,
and whether the canister's published interface has the methods it needs. While
the first message does not come it says what the network knows about the ws_open,
and how the gateway's polls go if its admin endpoint is on this machine.

Without --network and --root-key the canister's messages must be certified by
mainnet. For a network of your own give its URL, which is asked for its root key,
or the key itself (a file or hexadecimal). With the key alone the network is not
asked.

Canisters acknowledge messages every five minutes by default. --acks waits for
that, for example --acks 6m; what fails then is a canister that never called
init.

Exit code 1: something is wrong; the last line, on the standard error stream, says
what to do about it. Where the report is not for a terminal, it says so, too, on a
line that begins with "do".
`,
		Example: `  caddy icws probe wss://example.com/ws --canister bkyz2-fmaaa-aaaaa-qaaaq-cai
  caddy icws probe wss://localhost/ws --canister bkyz2-fmaaa-aaaaa-qaaaq-cai --network http://localhost:8000 --ca root.crt`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().String("canister", "", "Canister to open a session with (required)")
	cmd.Flags().StringSlice("network", nil, "Network of the canister, if it is not mainnet; also asked for its root key")
	cmd.Flags().String("root-key", "", "Root key of a network that is not mainnet")
	cmd.Flags().String("ca", "", "PEM file of a certificate authority to trust for the gateway's certificate")
	cmd.Flags().String("origin", "", "Origin header to send, as the page would that opens the session")
	cmd.Flags().String("address", caddy.DefaultAdminListen, "Address of the gateway's admin endpoint, asked only when nothing arrives")
	cmd.Flags().Duration("acks", 0, "Time to wait for the canister's first acknowledgement")
	cmd.Flags().Duration("timeout", probePatience, "Time for all steps up to the first frame; the gateway explains itself within 80s, mostly within 50s")
	cmd.RunE = caddycmd.WrapCommandFuncForCobra(func(fl caddycmd.Flags) (int, error) {
		networks, err := fl.GetStringSlice("network")
		if err != nil {
			return exitFailed, err
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
		defer stop()
		p := &prober{
			out: cmd.OutOrStdout(), url: fl.Args()[0], canister: fl.String("canister"), networks: networks, rootKey: fl.String("root-key"),
			ca: fl.String("ca"), origin: fl.String("origin"), address: fl.String("address"), acks: fl.Duration("acks"), timeout: fl.Duration("timeout"),
			quiet: silence,
		}
		if err := p.run(ctx); err != nil {
			if !isTerminal(p.out) {
				p.remedy(err) // who keeps the report has no last line of the other stream
			}
			return exitFailed, errors.New(printable(err.Error()))
		}
		return 0, nil
	})
	return cmd
}

const (
	// probePatience is longer than that of a gateway, which ends a session that has not opened after 50 s, or 30 s after the canister
	// has accepted it, and says why.
	probePatience = 85 * time.Second
	// greetingPatience is how long the handshake may take, which a gateway sends as soon as the WebSocket is open.
	greetingPatience = 10 * time.Second
)

// errNoGreeting says that a WebSocket is open and no handshake comes.
var errNoGreeting = errors.New("no handshake of a gateway")

// prober opens one session and reports on it.
type prober struct {
	out                        io.Writer
	url, canister, rootKey, ca string
	origin, address            string
	networks                   []string
	acks, timeout              time.Duration
	mu                         sync.Mutex // of out: events come from the client's goroutine
	acked                      chan struct{}
	ackOnce                    sync.Once
	openSent, firstVerified    time.Time

	asker     *asker                 // nil where no network is known
	gateway   verify.Principal       // of the handshake
	sent      chan [32]byte          // takes the id of the ws_open
	quiet     time.Duration          // see silence
	greeting  time.Duration          // see greetingPatience
	wait      *time.Timer            // for it
	ungreeted func()                 // ends the wait for the handshake
	seen      atomic.Pointer[string] // what was said while nothing arrived
	lacks     string                 // what the canister's interface lacks
}

func (p *prober) ok(step, format string, args ...any)  { p.line("ok  ", step, format, args...) }
func (p *prober) bad(step, format string, args ...any) { p.line("FAIL", step, format, args...) }

// note is for what is good to know and decides nothing.
func (p *prober) note(step, format string, args ...any) { p.line("note", step, format, args...) }

func (p *prober) line(mark, step, format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.out, "%s  %-12s %s\n", mark, step, printable(fmt.Sprintf(format, args...)))
}

// run goes through the steps and stops at the first that fails.
func (p *prober) run(ctx context.Context) error {
	switch {
	case p.timeout <= 0:
		return fmt.Errorf("--timeout (%s) must be positive, like 30s", p.timeout)
	case p.acks < 0:
		return fmt.Errorf("--acks (%s) must be positive, like 6m", p.acks)
	}
	deadline, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	p.acked, p.sent = make(chan struct{}), make(chan [32]byte, 1)

	u, err := url.Parse(p.url)
	if err != nil || (u.Scheme != "ws" && u.Scheme != "wss") || u.Host == "" {
		return advise(fmt.Errorf("%q is not the URL of a gateway", p.url), "it starts with wss:// (or ws:// without TLS)")
	}
	host, err := normalHost(u.Hostname())
	if err != nil {
		return fmt.Errorf("%q is not the URL of a gateway: its host %q %w", p.url, u.Hostname(), err)
	}
	u.Host = joinHost(host, u.Port())
	p.url = u.String()
	canister, err := verify.ParsePrincipal(p.canister)
	if err != nil {
		if p.canister == "" {
			return advise(errors.New("the canister is missing"), "add --canister with an id like bkyz2-fmaaa-aaaaa-qaaaq-cai")
		}
		return advise(fmt.Errorf("%q is not a canister id: %w", p.canister, err), "look for a typing mistake: ids are like bkyz2-fmaaa-aaaaa-qaaaq-cai and hold a checksum")
	}
	n, err := p.resolveNetwork(deadline)
	if err != nil {
		p.bad("root key", "%v", err)
		return err
	}
	authority, err := verify.NewAuthority(n.rootKey)
	if err != nil {
		return err
	}
	id, err := identity.NewRandomEd25519Identity()
	if err != nil {
		return err
	}
	tlsConfig, err := p.connect(deadline, u)
	if err != nil {
		return err
	}
	if len(n.hosts) > 0 {
		p.asker = &asker{hosts: n.hosts, authority: authority, canister: canister, id: id}
		limited, cancel := context.WithTimeout(deadline, min(p.timeout/3, 10*time.Second)) // the session needs time, too
		p.askNetwork(limited)
		cancel()
	} else {
		p.note("query", "not sent: with --root-key alone the network is not known, give --network")
	}
	c, err := p.open(deadline, client.Options{Canister: canister, Identity: id, Authority: authority, TLS: tlsConfig,
		OpenTimeout: p.timeout, Trace: p.event, AckTimeout: -1})
	if err != nil {
		return p.explain(err)
	}
	defer c.Close()
	p.ok("session", "open: the canister knows %s", c.Key().Principal)
	if p.acks > 0 {
		if err := p.awaitAck(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// open opens the session, and explains meanwhile why that takes long.
func (p *prober) open(ctx context.Context, o client.Options) (*client.Client, error) {
	if p.origin != "" {
		o.Header = http.Header{"Origin": {p.origin}}
	}
	quiet, stop := context.WithCancel(ctx)
	var explaining sync.WaitGroup
	explaining.Go(func() { p.explainSilence(quiet) })
	defer explaining.Wait()
	defer stop()
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	p.ungreeted = func() { giveUp(errNoGreeting) }
	c, err := client.Dial(ctx, p.url, o)
	if p.wait != nil {
		p.wait.Stop()
	}
	return c, err
}

// resolveNetwork finds the key that the canister's messages must be certified with, and the hosts of the network unless
// the key is all that is known of it.
func (p *prober) resolveNetwork(ctx context.Context) (*network, error) {
	if p.rootKey == rootKeyFetch && len(p.networks) == 0 {
		return nil, errors.New("--root-key fetch needs --network: the URL of the network to ask")
	}
	if (p.rootKey == "" || p.rootKey == rootKeyFetch) && len(p.networks) > 0 {
		n, err := resolveNetwork(p.networks, rootKeyFetch)
		if err != nil {
			if p.rootKey == rootKeyFetch {
				return nil, err
			}
			// Mainnet spelled as a URL: its key is built in.
			return resolveNetwork(p.networks, "")
		}
		// Hosts fail over here as they do in the gateway; one that hangs must leave time for the others.
		for i, host := range n.hosts {
			limited, cancel := context.WithTimeout(ctx, p.timeout/time.Duration(1+len(n.hosts)))
			n.rootKey, err = fetchRootKey(limited, host)
			cancel()
			switch {
			case err == nil:
				p.ok("root key", "%x... of %s", n.rootKey[len(n.rootKey)-8:], host)
				return n, nil
			case i+1 < len(n.hosts):
				p.note("root key", "%v, asking the next host", err)
			default:
				err = advise(err, "is %s a replica or boundary node?", host)
			}
		}
		return nil, err
	}
	if p.rootKey != "" && len(p.networks) == 0 {
		n, err := resolveNetwork([]string{"http://localhost"}, p.rootKey) // any network that is not mainnet
		if err != nil {
			return nil, err
		}
		n.hosts = nil
		return n, nil
	}
	return resolveNetwork(p.networks, p.rootKey)
}

// fetchRootKey asks a network for its key, which trusts whoever answers.
func fetchRootKey(ctx context.Context, host *url.URL) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, host.String()+"/api/v2/status", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, fmt.Errorf("asking for the root key: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("asking for the root key: HTTP status %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("asking for the root key: %w", err)
	}
	return verify.ParseStatusReply(body)
}

// connect checks what lies below the WebSocket, one step after the other, and returns the settings for TLS.
func (p *prober) connect(ctx context.Context, u *url.URL) (*tls.Config, error) {
	host, port := u.Hostname(), u.Port()
	if port == "" {
		port = map[string]string{"ws": "80", "wss": "443"}[u.Scheme]
	}
	addresses, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		p.bad("name", "%v", err)
		return nil, advise(err, "check the name %s and its DNS records", host)
	}
	p.ok("name", "%s is %s", host, strings.Join(addresses, ", "))
	began := time.Now()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		p.bad("connection", "%v", err)
		return nil, advise(err, "is Caddy running and port %s open?", port)
	}
	defer conn.Close()
	p.ok("connection", "to %s in %s", conn.RemoteAddr(), since(began))
	if u.Scheme == "ws" {
		return nil, nil
	}
	config := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if p.ca != "" {
		raw, err := os.ReadFile(p.ca)
		if err != nil {
			p.bad("certificate", "%v", err)
			return nil, advise(err, "--ca names the file of the root certificate")
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(raw) {
			p.bad("certificate", "%s holds no certificate in PEM form", p.ca)
			return nil, fmt.Errorf("--ca (%s) holds no certificate in PEM form", p.ca)
		}
	}
	began = time.Now()
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		p.bad("certificate", "%v", err)
		var unknown x509.UnknownAuthorityError
		if errors.As(err, &unknown) {
			return nil, advise(err, "with Caddy's internal CA give its root certificate with --ca; in public, look for ACME errors in Caddy's log")
		}
		if plain := (tls.RecordHeaderError{}); errors.As(err, &plain) {
			return nil, advise(err, "port %s does not speak TLS: is it the port of the site with the certificate? Without TLS probe %s", port, (&url.URL{Scheme: "ws", Host: u.Host, Path: u.Path, RawQuery: u.RawQuery}).String())
		}
		return nil, advise(err, "does Caddy have a certificate for %s?", host)
	}
	leaf := secure.ConnectionState().PeerCertificates[0]
	p.ok("certificate", "%s until %s, %s in %s", leaf.Issuer.CommonName, leaf.NotAfter.Format(time.RFC3339),
		tls.VersionName(secure.ConnectionState().Version), since(began))
	return config, nil
}

// event reports the client's own steps.
func (p *prober) event(e client.Event) {
	switch e.Step {
	case client.StepUpgraded:
		p.ok("upgrade", "WebSocket open in %s", e.Took.Round(time.Millisecond/10))
		p.wait = time.AfterFunc(cmp.Or(p.greeting, greetingPatience), p.ungreeted)
	case client.StepHandshake:
		p.wait.Stop()
		p.gateway = e.Gateway
		p.ok("handshake", "gateway principal %s", e.Gateway)
	case client.StepOpenSent:
		p.openSent = e.Time
		p.sent <- e.RequestID // has room for the only one
		p.ok("ws_open", "sent, %d bytes", e.Bytes)
	case client.StepFrame:
		if e.Err != nil {
			p.bad("frame", "%v", e.Err)
			return
		}
		if p.firstVerified.IsZero() {
			p.firstVerified = e.Time
			p.ok("ws_open", "accepted by the canister, first frame after %s", e.Time.Sub(p.openSent).Round(time.Millisecond))
			p.ok("frame", "verified in %s: %d bytes, message %d of the queue", e.Took.Round(time.Microsecond), e.Bytes, e.Nonce)
			layout := "readable by deployed SDKs"
			if !e.Flat {
				layout = "NOT readable by SDKs up to 0.5.0"
			}
			p.ok("certified", "%s ago, %s", e.Time.Sub(e.CertificateTime).Round(time.Millisecond), layout)
		}
	case client.StepAck:
		p.ackOnce.Do(func() { close(p.acked) })
	}
}

// awaitAck waits for the first acknowledgement.
func (p *prober) awaitAck(ctx context.Context, c *client.Client) error {
	timer := time.NewTimer(p.acks)
	defer timer.Stop()
	began := time.Now()
	select {
	case <-p.acked:
		p.ok("acks", "the canister acknowledges, after %s", time.Since(began).Round(time.Second))
		return nil
	case <-c.Done():
		return p.explain(c.Err())
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		p.bad("acks", "none within %s", p.acks)
		return advise(errors.New("the canister does not acknowledge"),
			"it must call the CDK's init, also after an upgrade; its default interval is 5 minutes, so give --acks 6m at least")
	}
}

func since(began time.Time) time.Duration { return time.Since(began).Round(time.Millisecond / 10) }
