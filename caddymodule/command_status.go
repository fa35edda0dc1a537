package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status [--address <admin>] [--config <path>] [--adapter <name>] [--interval <duration>] [--once] [--json]",
		Short: "Shows a running gateway",
		Long: `
Shows the gateways of a running Caddy: whether it is ready for new sessions, the
health of the boundary nodes, and for each canister its sessions, the place in
its queue, and what is wrong with it.

On a terminal the view is renewed every second until it is interrupted, also
while Caddy restarts. With --once, or when the output is not a terminal, it is
printed once.

Exit codes: 1 if the admin endpoint cannot be reached at first; when the view is
printed once also 2 if the instance takes no new sessions.
`,
		Example: `  caddy icws status
  caddy icws status --address localhost:2020 --once
  caddy icws status --json | jq .canisters`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().String("address", "", "Address of the admin endpoint")
	cmd.Flags().StringP("config", "c", "", "Configuration file that names the admin endpoint")
	cmd.Flags().StringP("adapter", "a", "", "Name of config adapter to apply")
	cmd.Flags().Duration("interval", time.Second, "Time between two views")
	cmd.Flags().Bool("once", false, "Print one view and exit")
	cmd.Flags().Bool("json", false, "Print one view as JSON and exit")
	cmd.RunE = caddycmd.WrapCommandFuncForCobra(func(fl caddycmd.Flags) (int, error) {
		address, err := caddycmd.DetermineAdminAPIAddress(fl.String("address"), nil, fl.String("config"), fl.String("adapter"))
		if err != nil {
			return exitFailed, err
		}
		interval := fl.Duration("interval")
		if interval < 100*time.Millisecond {
			return exitFailed, fmt.Errorf("interval (%s) must be at least 100ms", interval)
		}
		if address, err = adminAddress(address); err != nil {
			return exitFailed, err
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
		defer stop()
		out := cmd.OutOrStdout()
		asJSON := fl.Bool("json")
		if fl.Bool("once") || asJSON || !isTerminal(out) {
			return printStatus(ctx, out, address, asJSON)
		}
		return watchStatus(ctx, out, address, interval)
	})
	return cmd
}

func isTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// view is what the status command shows.
type view struct {
	Ready     bool             `json:"ready"`
	Reason    string           `json:"reason,omitempty"`
	Gateways  []gatewayStatus  `json:"gateways"`
	Canisters []canisterStatus `json:"canisters"`
}

// adminAddress checks the address of an admin endpoint, which people also write as the URL that it is for curl.
func adminAddress(text string) (string, error) {
	text = strings.TrimSuffix(strings.TrimPrefix(text, "http://"), "/")
	address, err := caddy.ParseNetworkAddress(text)
	if err != nil || (address.StartPort == 0 && !address.IsUnixNetwork() && !address.IsFdNetwork()) {
		return "", fmt.Errorf("address (%s) is not that of an admin endpoint: write it like %s or unix//run/caddy.sock", text, caddy.DefaultAdminListen)
	}
	return text, nil
}

// adminTimeout is how long the admin endpoint may take for one answer.
const adminTimeout = 10 * time.Second

// adminGet asks the admin endpoint. Caddy's client has no timeout of its own, leaves a connection behind for every
// request unless told to close it, and reports statuses from 400 as errors.
func adminGet(ctx context.Context, address, path string) ([]byte, error) {
	type answer struct {
		body []byte
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		resp, err := caddycmd.AdminAPIRequest(address, http.MethodGet, path, http.Header{"Connection": {"close"}}, nil)
		if err != nil {
			got <- answer{nil, err}
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
		got <- answer{body, err}
	}()
	timer := time.NewTimer(adminTimeout)
	defer timer.Stop()
	select {
	case a := <-got:
		return a.body, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
		return nil, fmt.Errorf("no answer within %s", adminTimeout)
	}
}

// fetchView asks the admin endpoint for everything that the view shows.
func fetchView(ctx context.Context, address string) (*view, error) {
	v := new(view)
	for path, into := range map[string]any{"/icws/gateways": &v.Gateways, "/icws/canisters": &v.Canisters} {
		body, err := adminGet(ctx, address, path)
		if err != nil {
			return nil, fmt.Errorf("asking %s: %w: is Caddy running, with this module and its admin endpoint on?", address, err)
		}
		if err := json.Unmarshal(body, into); err != nil {
			return nil, fmt.Errorf("reading the answer of %s: %w: is it the admin endpoint of a Caddy with this version of the module?", address, err)
		}
	}
	_, err := adminGet(ctx, address, "/icws/health/ready")
	if err == nil {
		v.Ready = true
		return v, nil
	}
	// The request reports the body of a refusal as text.
	_, body, refused := strings.Cut(err.Error(), "HTTP 503: ")
	var h healthStatus
	if !refused || json.Unmarshal([]byte(body), &h) != nil {
		return nil, fmt.Errorf("asking %s whether it is ready: %w", address, err)
	}
	v.Reason = h.Reason
	return v, nil
}

func printStatus(ctx context.Context, out io.Writer, address string, asJSON bool) (int, error) {
	v, err := fetchView(ctx, address)
	if err != nil {
		return exitFailed, err
	}
	if asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(v)
	} else {
		err = v.render(out, time.Now())
	}
	switch {
	case err != nil:
		return exitFailed, err
	case !v.Ready:
		return exitNotReady, errors.New(v.Reason)
	}
	return 0, nil
}

// watchStatus renews the view until ctx ends. It clears the screen and never scrolls it. Only the first view has to
// succeed: whoever watches a restart wants to see its end.
func watchStatus(ctx context.Context, out io.Writer, address string, interval time.Duration) (int, error) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for first := true; ; first = false {
		var text strings.Builder
		text.WriteString("\x1b[H\x1b[2J")
		v, err := fetchView(ctx, address)
		switch {
		case ctx.Err() != nil:
			return 0, nil
		case err != nil && first:
			return exitFailed, err
		case err != nil:
			fmt.Fprintln(&text, printable(err.Error()))
		default:
			if err := v.render(&text, time.Now()); err != nil {
				return exitFailed, err
			}
		}
		if _, err := io.WriteString(out, text.String()); err != nil {
			return exitFailed, err
		}
		select {
		case <-ctx.Done():
			return 0, nil
		case <-ticker.C:
		}
	}
}

// render writes the view as text.
func (v *view) render(out io.Writer, now time.Time) error {
	state := "ready"
	if !v.Ready {
		state = "NOT READY: " + v.Reason
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "IC WebSocket gateways, %s: %s\n", now.Format(time.TimeOnly), state)
	for _, g := range v.Gateways {
		fmt.Fprintf(w, "\ngateway %s  %s\n", g.Gateway, g.Principal)
		fmt.Fprintf(w, "  up %s, %d sessions, %d canisters%s\n", now.Sub(g.Since).Round(time.Second), g.Sessions, len(g.Canisters), when(g.Draining, ", DRAINING"))
		fmt.Fprintln(w, "  HOST\tHEALTH\tLATENCY\tLAST ERROR")
		for _, h := range g.Hosts {
			health := "ok"
			if !h.Healthy {
				health = fmt.Sprintf("%d failures", h.Failures)
			}
			fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", h.Host, health, h.Latency.Round(time.Millisecond/10), printable(h.LastError))
		}
	}
	if len(v.Canisters) > 0 {
		fmt.Fprintln(w, "\nCANISTER\tSESSIONS\tNONCE\tLAST POLL\tCERTIFIED\tSTATE")
	}
	for _, c := range v.Canisters {
		state := "ok"
		switch {
		case c.Failures > 0:
			state = fmt.Sprintf("failing since %s (%d polls): %s", ago(now, c.FailingSince), c.Failures, printable(c.LastError))
		case c.AckOverdue:
			state = "sends no acks: does it call init, also after an upgrade?"
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%s\n", c.Canister, c.Sessions, c.Nonce, ago(now, c.LastPoll), ago(now, c.Certified), state)
	}
	return w.Flush()
}

// ago tells how long ago t was.
func ago(now, t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return now.Sub(t).Round(time.Second/10).String() + " ago"
}

func when(on bool, text string) string {
	if on {
		return text
	}
	return ""
}
