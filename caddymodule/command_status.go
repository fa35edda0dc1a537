package caddymodule

import (
	"cmp"
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
	"unicode"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
	"golang.org/x/term"
	"golang.org/x/text/width"

	"github.com/icws-gateway/caddy-icws/verify"
)

func statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status [--address <admin>] [--config <path>] [--adapter <name>] [--interval <duration>] [--once] [--json]",
		Short: "Shows a running gateway",
		Long: `
Shows the gateways of a running Caddy: whether it is ready for new sessions, for
each canister its sessions, the place in its queue and what is wrong with it, how
the last sessions ended, and the health of the boundary nodes.

On a terminal the view is renewed every second until it is interrupted, also
while Caddy restarts, and cut to its size. With --once, or when the output is
not a terminal, it is printed once and whole.

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

// statusCloses is how many ended sessions the view shows.
const statusCloses = 5

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
	body, err := adminGet(ctx, address, "/icws/status")
	if err != nil {
		return nil, fmt.Errorf("asking %s: %w: is Caddy running, with this module and its admin endpoint on?", address, err)
	}
	v := new(view)
	if err := json.Unmarshal(body, v); err != nil {
		return nil, fmt.Errorf("reading the answer of %s: %w: is it the admin endpoint of a Caddy with this version of the module?", address, err)
	}
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
		if _, err := io.WriteString(out, fit(text.String(), out)); err != nil {
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
		fmt.Fprintf(w, "  up %s, %s, %s%s\n", now.Sub(g.Since).Round(time.Second), count(g.Sessions, "session"), count(len(g.Canisters), "canister"),
			when(g.Draining, ", DRAINING"))
	}
	if len(v.Canisters) > 0 {
		fmt.Fprintln(w, "\nCANISTER\tGATEWAY\tSESSIONS\tNONCE\tLAST POLL\tCERTIFIED\tSTATE")
	}
	for _, c := range v.Canisters {
		state := "ok"
		switch {
		case c.Failures > 0:
			state = fmt.Sprintf("failing since %s (%s): %s", ago(now, c.FailingSince), count(c.Failures, "poll"), printable(c.LastError))
		case c.CallError != "":
			state = "calls fail: " + printable(c.CallError)
		case c.AckOverdue:
			state = "sends no acks: does it call init, also after an upgrade?"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%s\t%s\n", c.Canister, c.Gateway, c.Sessions, c.Nonce, ago(now, c.LastPoll), ago(now, c.Certified), state)
	}
	if len(v.Closes) > 0 {
		fmt.Fprintln(w, "\nLAST CLOSES\tGATEWAY\tSESSION\tLASTED\tENDED\tREASON")
	}
	for _, c := range v.Closes[:min(statusCloses, len(v.Closes))] {
		canister := "no canister" // it never named one
		if c.Canister != (verify.Principal{}) {
			canister = c.Canister.String()
		}
		reason := fmt.Sprintf("%s (%d)", printable(c.Reason), c.Code)
		if text := cmp.Or(c.ClientText, c.Text); text != "" {
			reason += ": " + printable(text)
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\n", canister, c.Gateway, c.ID, c.Lasted.Round(time.Second/10), ago(now, c.At), reason)
	}
	if len(v.Gateways) > 0 { // last, as there may be many
		fmt.Fprintln(w, "\nHOST\tGATEWAY\tHEALTH\tLATENCY\tLAST ERROR")
	}
	for _, g := range v.Gateways {
		for _, h := range g.Hosts {
			health := "ok"
			if !h.Healthy {
				health = count(h.Failures, "failure")
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", h.Host, g.Gateway, health, h.Latency.Round(time.Millisecond/10), printable(h.LastError))
		}
	}
	return w.Flush()
}

// count is a number of things, of which one has that name.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// fit cuts a view to the size of the terminal that out is, and puts the codes that clear it in front.
func fit(view string, out io.Writer) string {
	columns, height := 0, 0
	if file, ok := out.(*os.File); ok {
		columns, height, _ = term.GetSize(int(file.Fd())) // of what is no terminal, zero
	}
	return "\x1b[H\x1b[2J" + cut(view, columns, height)
}

// cut cuts a text to a width in columns and a height, and says so where lines are missing. Zero is no limit.
func cut(text string, columns, height int) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if height > 2 && len(lines) >= height { // the cursor stands in a line of its own
		left := len(lines) - (height - 2)
		lines = append(lines[:height-2:height-2], fmt.Sprintf("... %s more, see --once", count(left, "line")))
	}
	if columns > 3 {
		for i, line := range lines {
			lines[i] = clip(line, columns)
		}
	}
	return strings.Join(lines, "\n") + "\n"
}

// clip cuts a line to a number of columns of a terminal, at least 3.
func clip(line string, columns int) string {
	taken, room := 0, 0 // columns before i; where three dots still have room
	for i, r := range line {
		if taken <= columns-3 {
			room = i
		}
		switch kind := width.LookupRune(r).Kind(); {
		case unicode.In(r, unicode.Mn, unicode.Me): // stands upon the letter before
		case kind == width.EastAsianWide || kind == width.EastAsianFullwidth:
			taken += 2
		default:
			taken++
		}
		if taken > columns {
			return line[:room] + "..."
		}
	}
	return line
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
