package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// scaleSettings are the flags of scale and of bench.
type scaleSettings struct {
	mode                string
	sessions, canisters list
	rate, opens, polls  float64
	size, window        int
	latency             time.Duration
	rest, idle, talk    time.Duration
	grace               time.Duration
	runs                int
	quick               bool
	seed                uint64
	caddy, csv, html    string
	profiles, only      string
	programs            programs
	command             string
}

// Bounds of what the flags may ask for.
const maxSessions, maxCanisters, maxRuns = 50000, 5000, 100

// compare is the modes scale and bench: it returns the exit code.
func compare(ctx context.Context, mode string, args []string, stdout, stderr io.Writer) int {
	s, err := parseScale(mode, args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err == nil {
		err = s.roomForFiles()
	}
	if err != nil {
		fmt.Fprintln(stderr, "load:", err)
		return 2
	}
	return s.run(ctx, stdout, stderr)
}

// run measures and writes what was found.
func (s *scaleSettings) run(ctx context.Context, stdout, stderr io.Writer) int {
	var files [2]*os.File // before anything is measured: a run must not turn out to be in vain at its end
	for i, name := range []string{s.csv, s.html} {
		if name == "" {
			continue
		}
		f, err := os.Create(name)
		if err != nil {
			fmt.Fprintln(stderr, "load:", err)
			return 2
		}
		files[i] = f
	}
	console := newConsole(stderr)
	if s.profiles != "" {
		if err := os.MkdirAll(s.profiles, 0o755); err != nil {
			fmt.Fprintln(stderr, "load:", err)
			return 2
		}
	}
	dir, err := os.MkdirTemp("", "icws-load")
	if err != nil {
		fmt.Fprintln(stderr, "load:", err)
		return 2
	}
	defer os.RemoveAll(dir)
	console.say("building what is measured")
	if s.programs, err = build(ctx, dir, s.caddy); err != nil {
		fmt.Fprintln(stderr, "load:", err)
		return 2
	}
	f := &findings{command: "go run ./examples/" + s.command, began: time.Now(), load: loadAverage()}
	for _, e := range s.experiments() {
		began := time.Now()
		f.results = append(f.results, e.run(ctx, s.runs, func(format string, args ...any) {
			console.say("%4.0f s  %s", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
		}))
	}
	f.markdown(stdout)
	var errs []error
	for i, write := range []func(io.Writer) error{f.csv, f.page} {
		if files[i] != nil {
			errs = append(errs, write(files[i]), files[i].Close())
		}
	}
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintln(stderr, "load:", err)
		return 1
	}
	if len(f.wrong()) > 0 {
		return 1
	}
	return 0
}

// experiments are those of the mode, or the chosen ones of them.
func (s *scaleSettings) experiments() []experiment {
	all := s.growth
	if s.mode == "bench" {
		all = s.table
	}
	var chosen []experiment
	for _, e := range all() {
		if strings.Contains(e.title, s.only) {
			e.profiles = s.profiles
			chosen = append(chosen, e)
		}
	}
	return chosen
}

// growth is what scale runs: every number of sessions with every number of canisters.
func (s *scaleSettings) growth() (all []experiment) {
	for _, canisters := range s.canisters.numbers {
		for _, sessions := range s.sessions.numbers {
			all = append(all, experiment{
				title: fmt.Sprintf("%d sessions, %d canisters", sessions, canisters),
				rig:   rig{sessions: sessions, canisters: canisters, latency: s.latency, seed: s.seed, polls: s.polls, programs: s.programs},
				plan: plan{
					clients: sessions, rate: s.rate, size: s.size, window: s.window, opens: s.opens, grace: s.grace, seed: s.seed,
				},
				course: course{sessions: sessions, rest: s.rest, idle: s.idle, talk: s.talk},
				steps:  (*trial).full,
			})
		}
	}
	return all
}

// parseScale reads the flags of scale and bench.
func parseScale(mode string, args []string, stderr io.Writer) (*scaleSettings, error) {
	s := &scaleSettings{mode: mode, sessions: list{[]int{1000}, maxSessions}, canisters: list{[]int{1}, maxCanisters}, window: 8, polls: 2000}
	fs := flag.NewFlagSet("load "+mode, flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.IntVar(&s.runs, "runs", 5, "times that everything is measured; the tables have the medians")
	fs.BoolVar(&s.quick, "quick", false, "few sessions and a short time: shows that it works, and no numbers to go by; other flags win")
	fs.Uint64Var(&s.seed, "seed", 1, "of everything random except keys")
	fs.StringVar(&s.caddy, "caddy", "", "Caddy with the module to measure, as xcaddy builds it; default: it is built from this tree")
	fs.StringVar(&s.csv, "csv", "", "file for all figures, with least and most of the runs")
	fs.StringVar(&s.html, "html", "", "file for a page with the tables and growth curves")
	fs.StringVar(&s.profiles, "profiles", "", "directory for CPU and heap profiles of the gateway, for go tool pprof; profiling has its own cost")
	fs.StringVar(&s.only, "only", "", "measure only what has these words in its title")
	fs.DurationVar(&s.grace, "grace", 30*time.Second, "how long none of the messages on their way may come before they are lost")
	fs.DurationVar(&s.rest, "rest", 60*time.Second, "between the openings and the idle time: the polls of a canister slow down in 50 s")
	fs.DurationVar(&s.idle, "idle", 30*time.Second, "how long idle sessions are measured")
	fs.DurationVar(&s.talk, "duration", 60*time.Second, "how long sessions that send are measured")
	if mode == "scale" {
		fs.Var(&s.sessions, "sessions", "sessions at once, or several numbers separated by commas for a growth curve")
		fs.Var(&s.canisters, "canisters", "canisters that the sessions take in turn, or several numbers")
		fs.Float64Var(&s.rate, "rate", .1, "messages per second and session")
		fs.Float64Var(&s.opens, "opens", 1000, "sessions opened per second, at the beginning and after the restart; 0 for no limit")
		fs.Float64Var(&s.polls, "upstream-rate", s.polls, "the gateway's upstream_rate: polls per second of all canisters together")
		fs.IntVar(&s.size, "size", 64, "bytes of a message, at least 24")
		fs.DurationVar(&s.latency, "latency", 200*time.Millisecond, "time of an update call, a tenth of which is the time between blocks")
	}
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	s.command = "load " + mode
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) {
		given[f.Name] = true
		s.command += fmt.Sprintf(" -%s=%s", f.Name, f.Value)
	})
	if s.quick {
		s.hurry(fs, given)
	}
	switch {
	case fs.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	case s.runs < 1 || s.runs > maxRuns:
		return nil, fmt.Errorf("-runs %d: must be from 1 to %d", s.runs, maxRuns)
	case s.rest < 0 || s.idle <= 0 || s.talk <= 0 || s.grace <= 0:
		return nil, errors.New("-rest, -idle, -duration and -grace must be more than 0, or for -rest 0")
	case len(s.experiments()) == 0:
		return nil, fmt.Errorf("-only %q: no title has it in it", s.only)
	case mode == "bench":
		return s, nil
	case !perSecond(s.rate) || s.rate == 0:
		return nil, fmt.Errorf("-rate %v: must be from %g to %g", s.rate, leastPerSecond, mostPerSecond)
	case !perSecond(s.polls) || s.polls == 0:
		return nil, fmt.Errorf("-upstream-rate %v: must be from %g to %g", s.polls, leastPerSecond, mostPerSecond)
	case !perSecond(s.opens):
		return nil, fmt.Errorf("-opens %v: must be 0 or from %g to %g", s.opens, leastPerSecond, mostPerSecond)
	case s.size < payloadHead || s.size > 1<<20:
		return nil, fmt.Errorf("-size %d: must be from %d to 1 MiB", s.size, payloadHead)
	case s.latency < 0:
		return nil, fmt.Errorf("-latency %s: must not be negative", s.latency)
	}
	return s, nil
}

// hurry makes everything short that was not given.
func (s *scaleSettings) hurry(fs *flag.FlagSet, given map[string]bool) {
	for name, value := range map[string]string{
		"runs": "1", "rest": "0s", "idle": "500ms", "duration": "2s", "sessions": "20", "rate": "2", "opens": "0", "latency": "20ms",
	} {
		if fs.Lookup(name) != nil && !given[name] {
			if err := fs.Set(name, value); err != nil {
				panic(err) // they are constants
			}
		}
	}
}

// A list is one or several numbers of a flag.
type list struct {
	numbers []int
	most    int // that a number may be
}

// String implements flag.Value.
func (l *list) String() string {
	var parts []string
	for _, n := range l.numbers {
		parts = append(parts, strconv.Itoa(n))
	}
	return strings.Join(parts, ",")
}

// Set implements flag.Value.
func (l *list) Set(text string) error {
	l.numbers = nil
	for part := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil || n < 1 || n > l.most {
			return fmt.Errorf("must be numbers from 1 to %d", l.most)
		}
		l.numbers = append(l.numbers, n)
	}
	return nil
}

// most is the largest number of sessions that is asked for.
func (s *scaleSettings) most() (n int) {
	for _, e := range s.experiments() {
		n = max(n, e.course.sessions)
	}
	return n
}
