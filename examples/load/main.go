package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the first interrupt ends the run with a report, a second one the process
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// settings are the flags.
type settings struct {
	mode                    string
	clients                 int
	rate                    float64
	size, window            int
	duration, grace, warm   time.Duration
	churn, opens            float64
	seed                    uint64
	latency                 time.Duration
	stalled                 int
	weather                 string
	upgrades                int
	url, canister, root, ca string
	origin                  string
	asJSON                  bool
	csv, html               string
	interval, progress      time.Duration
	resolved                float64
	pid                     int
	command                 string    // the mode and the flags that were given
	flags                   []setting // all that have a value
	memory                  bool      // embedded: without sockets, for tests in fake time
}

// A setting is the value of a flag.
type setting struct{ Name, Value string }

// modes and what they change of the defaults.
var modes = map[string]settings{
	"run": {
		clients: 100, rate: 1, size: 64, duration: 30 * time.Second, opens: 100, latency: 200 * time.Millisecond,
	},
	"chaos": {
		clients: 500, rate: .5, size: 200, duration: 3 * time.Minute, opens: 100, latency: 300 * time.Millisecond,
	},
	"soak": {
		clients: 250, rate: .2, size: 200, duration: 30 * time.Minute, opens: 75, churn: 50, latency: 200 * time.Millisecond,
	},
	"headofline": {
		clients: 1000, rate: 2, size: 2 << 10, duration: 90 * time.Second, opens: 200, stalled: 10, latency: 200 * time.Millisecond,
	},
}

// run is main without the process: it returns the exit code, 1 for violations and 2 for misuse or a run that cannot begin.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && (args[0] == "scale" || args[0] == "bench") {
		return compare(ctx, args[0], args[1:], stdout, stderr)
	}
	s, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "load:", err)
		return 2
	}
	return s.run(ctx, stdout, stderr)
}

// run runs the mode, writes all that is asked for and returns the exit code.
func (s *settings) run(ctx context.Context, stdout, stderr io.Writer) int {
	rec := newRecorder(newConsole(stderr), s)
	out, err := open(s, rec, stdout, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "load:", err)
		return 2
	}
	r, err := s.play(ctx, rec)
	if err != nil {
		fmt.Fprintln(stderr, "load:", err)
		r = &report{Mode: s.mode, Seed: s.seed, Clients: s.clients}
		r.violate("the run failed: %v", err)
		_ = out.close(r)
		return 2
	}
	if ctx.Err() != nil {
		r.note("interrupted after %.1f s", r.Seconds)
	}
	r.judge(s)
	code := r.write(out.report, s.asJSON)
	if err := out.close(r); err != nil {
		fmt.Fprintln(stderr, "load:", err)
		code = 1
	}
	return code
}

// play runs the mode.
func (s *settings) play(ctx context.Context, rec *recorder) (*report, error) {
	switch s.mode {
	case "chaos":
		return chaos(ctx, s, rec)
	case "headofline":
		return headOfLine(ctx, s, rec)
	default:
		return load(ctx, s, rec)
	}
}

// parse reads the mode and the flags.
func parse(args []string, stderr io.Writer) (*settings, error) {
	mode := "run"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		mode, args = args[0], args[1:]
	}
	s, ok := modes[mode]
	if !ok {
		return nil, fmt.Errorf("unknown mode %q: use run, chaos, soak, headofline, scale or bench", mode)
	}
	s.mode = mode
	fs := flag.NewFlagSet("load "+mode, flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.IntVar(&s.clients, "clients", s.clients, "clients at once")
	fs.Float64Var(&s.rate, "rate", s.rate, "messages per second and client")
	fs.IntVar(&s.size, "size", s.size, "bytes of a message, at least 24")
	fs.IntVar(&s.window, "window", 8, "messages of one client on their way at once")
	fs.DurationVar(&s.duration, "duration", s.duration, "how long to send")
	fs.DurationVar(&s.warm, "warm", 6*time.Minute, "soak: time after which heap and goroutines must be flat; the embedded network forgets after 5 minutes")
	fs.DurationVar(&s.grace, "grace", 20*time.Second, "how long none of the messages on their way may come before a session is closed or a turn over")
	fs.Float64Var(&s.churn, "churn", s.churn, "sessions ended and replaced per second, all clients together")
	fs.Float64Var(&s.opens, "opens", s.opens, "sessions opened per second at most, 0 for no limit")
	fs.Uint64Var(&s.seed, "seed", 1, "of everything random except keys")
	fs.DurationVar(&s.latency, "latency", s.latency, "embedded: time of an update call")
	fs.IntVar(&s.stalled, "stalled", s.stalled, "headofline: clients that never read")
	fs.StringVar(&s.weather, "weather", "all", "chaos: kinds of faults, separated by commas; none for upgrades only")
	fs.IntVar(&s.upgrades, "upgrades", 2, "chaos: upgrades of the canister, spread over the duration")
	fs.StringVar(&s.url, "url", "", "gateway elsewhere, ws:// or wss://; default: an embedded one")
	fs.StringVar(&s.canister, "canister", "", "with -url: the canister, which must echo")
	fs.StringVar(&s.root, "root-key", "", "with -url: hex DER root key of the network; default: mainnet's")
	fs.StringVar(&s.ca, "ca", "", "with -url: PEM file with the certificate authority to trust")
	fs.StringVar(&s.origin, "origin", "", "with -url: Origin header")
	fs.BoolVar(&s.asJSON, "json", false, "report as JSON")
	fs.StringVar(&s.csv, "csv", "", "file for the time series, one row each -interval; - for standard output, with the report on standard error")
	fs.StringVar(&s.html, "html", "", "file for a page with the report and plots")
	fs.DurationVar(&s.interval, "interval", time.Second, "of a row of -csv and of a point of -html")
	fs.Float64Var(&s.resolved, "resolved", 50, "percent of the messages of which it must be known at the end what became of them, or the run proves too little and fails")
	fs.IntVar(&s.pid, "pid", 0, "with -url: the gateway's process on this machine, whose CPU and memory are recorded (Linux)")
	fs.DurationVar(&s.progress, "progress", 10*time.Second, "between lines of progress on standard error, 0 for none; a terminal has one line, changed every second")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	switch {
	case fs.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q: flags follow the mode", fs.Arg(0))
	case s.clients < 1:
		return nil, fmt.Errorf("-clients %d: must be at least 1", s.clients)
	case !perSecond(s.rate):
		return nil, fmt.Errorf("-rate %v: must be 0 or from %g to %g", s.rate, leastPerSecond, mostPerSecond)
	case !perSecond(s.churn):
		return nil, fmt.Errorf("-churn %v: must be 0 or from %g to %g", s.churn, leastPerSecond, mostPerSecond)
	case !perSecond(s.opens):
		return nil, fmt.Errorf("-opens %v: must be 0 or from %g to %g", s.opens, leastPerSecond, mostPerSecond)
	case s.window < 1:
		return nil, fmt.Errorf("-window %d: must be at least 1", s.window)
	case s.size < payloadHead:
		return nil, fmt.Errorf("-size %d: must be at least %d, for the numbers that every message carries", s.size, payloadHead)
	case s.size > 1<<20:
		return nil, fmt.Errorf("-size %d: must be at most 1 MiB, the network accepts 2 MiB with everything around", s.size)
	case s.duration <= 0:
		return nil, fmt.Errorf("-duration %s: must be more than 0", s.duration)
	case s.url != "" && (mode == "chaos" || mode == "headofline"):
		return nil, fmt.Errorf("%s needs the embedded network: leave out -url", mode)
	case s.url != "" && s.canister == "":
		return nil, errors.New("-url without -canister: name the canister to talk to")
	case s.url == "" && s.canister+s.root+s.ca+s.origin != "":
		return nil, errors.New("-canister, -root-key, -ca and -origin are for a gateway elsewhere: name it with -url")
	case s.upgrades < 0:
		return nil, fmt.Errorf("-upgrades %d: must not be negative", s.upgrades)
	case !(s.resolved >= 0 && s.resolved <= 100):
		return nil, fmt.Errorf("-resolved %v: must be from 0 to 100", s.resolved)
	case s.interval < leastInterval:
		return nil, fmt.Errorf("-interval %s: must be at least %s", s.interval, leastInterval)
	case s.csv == "-" && s.asJSON:
		return nil, errors.New("-csv - and -json both write to standard output: give -csv a file")
	case s.csv != "" && filepath.Clean(s.csv) == filepath.Clean(s.html):
		return nil, fmt.Errorf("-csv and -html both name %s", s.csv)
	case s.html == "-":
		return nil, errors.New("-html -: give it a file, standard output has the report")
	case s.pid < 0:
		return nil, fmt.Errorf("-pid %d: must not be negative", s.pid)
	case s.pid > 0 && s.url == "":
		return nil, errors.New("-pid is for a gateway elsewhere, without -url it is in this process")
	case s.pid > 0 && process(strconv.Itoa(s.pid)).use() == use{}:
		return nil, fmt.Errorf("-pid %d: /proc has no such process", s.pid)
	case s.stalled < 0 || s.stalled >= s.clients:
		return nil, fmt.Errorf("-stalled %d: must be from 0 to less than -clients (%d)", s.stalled, s.clients)
	}
	s.command = "load " + mode
	fs.VisitAll(func(f *flag.Flag) {
		if value := shown(f); value != "" {
			s.flags = append(s.flags, setting{f.Name, value})
		}
	})
	fs.Visit(func(f *flag.Flag) { s.command += fmt.Sprintf(" -%s=%s", f.Name, shown(f)) })
	return &s, nil
}

// shown is the value of a flag for pages, which people hand on.
func shown(f *flag.Flag) string {
	if value := f.Value.String(); f.Name != "url" || value == "" {
		return value
	}
	return shownURL(f.Value.String())
}

// shownURL is a URL without what may be a secret: a password, and the values of the query.
func shownURL(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return "?"
	}
	query := u.Query()
	for name := range query {
		query[name] = []string{"xxxxx"}
	}
	u.RawQuery = query.Encode()
	return u.Redacted()
}

// leastInterval is the shortest that is worth a look: CPU times come in hundredths of a second.
const leastInterval = 10 * time.Millisecond

// What flags that count per second may be, besides 0: periods that a duration holds and a timer can keep.
const leastPerSecond, mostPerSecond = 1e-6, 1e6

func perSecond(n float64) bool { return n == 0 || n >= leastPerSecond && n <= mostPerSecond }

// remote is the target that the flags name.
func (s *settings) remote() (target, error) {
	if u, err := url.Parse(s.url); err != nil || u.Scheme != "ws" && u.Scheme != "wss" || u.Host == "" {
		return target{}, fmt.Errorf("-url %s: must begin with ws:// or wss:// and name a host", shownURL(s.url))
	}
	canister, err := verify.ParsePrincipal(s.canister)
	if err != nil {
		return target{}, fmt.Errorf("-canister: %w", err)
	}
	key := verify.MainnetRootKey()
	if s.root != "" {
		if key, err = hex.DecodeString(s.root); err != nil {
			return target{}, fmt.Errorf("-root-key: %w", err)
		}
	}
	authority, err := verify.NewAuthority(key)
	if err != nil {
		return target{}, fmt.Errorf("-root-key: %w", err)
	}
	t := target{url: s.url, options: client.Options{Canister: canister, Authority: authority}}
	if s.origin != "" {
		t.options.Header = map[string][]string{"Origin": {s.origin}}
	}
	if s.ca != "" {
		pem, err := os.ReadFile(s.ca)
		if err != nil {
			return target{}, fmt.Errorf("-ca: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return target{}, fmt.Errorf("-ca: no certificate in %s", s.ca)
		}
		t.options.TLS = &tls.Config{RootCAs: pool}
	}
	return t, nil
}

// plan is the behaviour that the flags describe.
func (s *settings) plan() plan {
	p := plan{
		clients: s.clients, rate: s.rate, size: s.size, window: s.window, opens: s.opens,
		grace: s.grace, seed: s.seed,
	}
	if s.churn > 0 {
		p.life = time.Duration(float64(s.clients) / s.churn * float64(time.Second))
	}
	return p
}

// load is the modes run and soak.
func load(ctx context.Context, s *settings, rec *recorder) (*report, error) {
	before := measure()
	var w *world
	t, err := target{}, error(nil)
	why := func() string {
		return "the gateway knows why: caddy icws status on its machine, or caddy icws probe from anywhere"
	}
	if s.url != "" {
		t, err = s.remote()
	} else if w, err = newWorld(worldOptions{latency: s.latency, seed: s.seed, memory: s.memory, cdk: localnet.CDKOptions{App: localnet.Echo{}}}); err == nil {
		t, why = w.target(), w.why
	}
	if err != nil {
		return nil, err
	}
	f := newFleet(t, s.plan())
	recorded := rec.start(f.stats)
	runCtx, cancel := context.WithTimeout(ctx, s.duration)
	defer cancel()
	watched := watch(runCtx, s)
	stop := f.explainSilence(runCtx, why, rec.console)
	f.run(runCtx)
	cancel()
	stop()
	flat := <-watched
	recorded()
	r := f.stats.report(s.mode, time.Since(rec.started))
	if w != nil {
		w.drain(20 * time.Second)
		if err := w.close(); err != nil {
			r.violate("%v", err)
		}
		w = nil // the canister's queues are not what the gateway left behind
	}
	r.Before, r.During, r.After = before, flat.last, settle(before.Goroutines)
	if s.mode == "soak" {
		flat.judge(r)
	}
	return r, nil
}

// settle measures once goroutines that are about to end have had the time to. It counts its looks and not the time: on a busy
// machine all take longer.
func settle(goroutines int) footprint {
	for looks := 100; ; looks-- {
		f := measure()
		if f.Goroutines <= goroutines || looks == 0 {
			return f
		}
		time.Sleep(50 * time.Millisecond)
	}
}
