//go:build e2e

package opinion

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// testCase is one question to all opinions, and our answers to it.
type testCase struct {
	number          int
	kind, part, how string
	directed        bool // made to show one thing: everybody is asked
	world           *world
	now             time.Time

	// a page
	nonce   uint64 // of the first message
	reply   *verify.Reply
	message int // which one is judged
	layout  string

	// an envelope
	envelope []byte

	earlier [][]byte // frames that the client has got before this one

	accepted    error  // of the certificate or the envelope: nil if it is accepted here
	undelivered error  // of the page: nil if the message would go to the client
	frame       []byte // which the client gets; also of a message that is certified but not fit for delivery
	payload     []byte // of the message
}

func (c *testCase) name() string {
	return strings.TrimSpace(fmt.Sprintf("%s, %s, %s, layout %s", c.kind, c.part, c.how, c.layout))
}

// judge is our opinion.
func (c *testCase) judge(a *verify.Authority) {
	if c.envelope != nil {
		c.accepted = c.judgeEnvelope(a)
		return
	}
	_, c.accepted = a.Certificate(c.reply.Cert, c.world.canister, c.now)
	p, err := a.Page(c.reply, verify.Want{Canister: c.world.canister, Gateway: c.world.gateway, Nonce: c.nonce}, c.now)
	if err == nil && !p.Flat {
		err = c.flatten(a, p)
	}
	switch {
	case err != nil:
		c.undelivered = err
	case p.Messages[c.message].Poison != nil:
		c.undelivered = p.Messages[c.message].Poison
	default:
		c.payload = p.Messages[c.message].Payload
	}
	if err == nil {
		c.frame = p.AppendFrame(nil, c.message)
	}
}

// flatten gives the page a delegation that clients in use can verify, as the gateway does.
func (c *testCase) flatten(a *verify.Authority, p *verify.Page) error {
	cert, err := verify.ReplaceDelegation(p.Certificate(), c.world.donor)
	if err != nil {
		return err
	}
	if _, err := a.Certificate(cert, c.world.canister, c.now); err != nil {
		return err
	}
	p.SetCertificate(cert)
	return nil
}

var errAnother = errors.New("not a call of the canister")

// line is the case as others are told it.
func (c *testCase) line() []byte {
	w := c.world
	m := map[string]any{
		"id": c.number, "now": strconv.FormatInt(c.now.UnixNano(), 10), "root": hex.EncodeToString(w.root.der),
		"canister": hex.EncodeToString(w.canister.Bytes()), "nonce": strconv.FormatUint(w.client.Nonce, 10),
		"seed": hex.EncodeToString(w.seed), "principal": hex.EncodeToString(w.client.Principal.Bytes()),
		"handshake": hex.EncodeToString(w.handshake),
	}
	if c.earlier != nil {
		var earlier []string
		for _, frame := range c.earlier {
			earlier = append(earlier, hex.EncodeToString(frame))
		}
		m["earlier"] = earlier
	}
	if c.envelope != nil {
		m["envelope"] = hex.EncodeToString(c.envelope)
	} else {
		m["certificate"], m["frame"] = hex.EncodeToString(c.reply.Cert), hex.EncodeToString(c.frame)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		panic(err) // a map of texts and numbers
	}
	return append(raw, '\n')
}

// report prints what it takes to see the case again, and how many others break the same rule in the same way.
func (c *testCase) report(t *testing.T, seed uint64, rules string, verdicts map[string]string, alike int) {
	t.Helper()
	t.Errorf("%s\ncase %d of seed %d: %s (%d cases like it)\nhere: accepted %v, delivered %v\nothers: %q\n%s",
		rules, c.number, seed, c.name(), alike, c.accepted, c.undelivered, verdicts, c.line())
}

// opinions are those of one process, which answers each line of a case with a line of verdicts.
type opinions struct {
	name string
	dir  string
	args []string
	env  []string
	want func(*testCase) bool // which cases it is asked about
}

func aboutFrames(c *testCase) bool { return c.frame != nil && (c.undelivered == nil || c.directed) }

// others are all processes. The two of the newer agents share the work.
var others = append([]opinions{
	{"sdk", "sdk", []string{"node", "opinion.mjs"}, nil, aboutFrames},
	{"agent3, core5", "modern", []string{"node", "opinion.mjs", "agent3", "core5"}, nil, aboutFrames},
	{"core6", "modern", []string{"node", "opinion.mjs", "core6"}, nil, aboutFrames},
	{"network", "rust", []string{"./target/release/opinion"}, nil, func(*testCase) bool { return true }},
}, ourClient(aboutFrames)...)

// ourClient is the client of this repository on each version of its peer.
func ourClient(want func(*testCase) bool) (both []opinions) {
	for name, core := range map[string]string{"client5": "core5", "client6": "@icp-sdk/core"} {
		both = append(both, opinions{name, "../client", []string{"node", "--import", "./test/core.mjs", "test/opinion.mjs", name}, []string{"ICWS_CORE=" + core}, want})
	}
	return both
}

// ask has all cases judged by everybody else, and returns the verdicts by the number of the case and the name of the opinion.
// An empty verdict accepts, a missing one was not asked for.
func ask(t *testing.T, cases []*testCase) []map[string]string {
	t.Helper()
	verdicts := askOf(t, cases, others)
	for i, c := range cases {
		if c.envelope == nil {
			verdicts[i]["agent-go"] = agentGo(c)
		}
	}
	return verdicts
}

// askOf has all cases judged by some.
func askOf(t *testing.T, cases []*testCase, others []opinions) []map[string]string {
	t.Helper()
	verdicts := make([]map[string]string, len(cases))
	for i := range cases {
		verdicts[i] = map[string]string{}
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, o := range others {
		all.Go(func() {
			err := o.ask(cases, func(id int, given map[string]string) {
				mu.Lock()
				defer mu.Unlock()
				for name, verdict := range given {
					verdicts[id][name] = verdict
				}
			})
			if err != nil {
				t.Errorf("%s: %v", o.name, err)
			}
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return verdicts
}

// ask runs one process over its cases.
func (o opinions) ask(cases []*testCase, got func(id int, verdicts map[string]string)) error {
	path := o.args[0]
	if strings.HasPrefix(path, "./") {
		path = filepath.Join(o.dir, path) // relative to where the test runs, not to where the process will
		var err error
		if path, err = filepath.Abs(path); err != nil {
			return err
		}
	}
	cmd := exec.Command(path, o.args[1:]...)
	cmd.Dir, cmd.Env = o.dir, append(os.Environ(), o.env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	asked := 0
	for _, c := range cases {
		if o.want(c) {
			asked++
		}
	}
	go func() {
		defer in.Close()
		for _, c := range cases {
			if o.want(c) {
				if _, err := in.Write(c.line()); err != nil {
					return // the process ended; what it did not answer is missed below
				}
			}
		}
	}()
	answered := 0
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var v struct {
			ID       int               `json:"id"`
			Verdicts map[string]string `json:"verdicts"`
		}
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil || v.ID < 0 || v.ID >= len(cases) {
			return fmt.Errorf("answer %q: %v", lines.Text(), err)
		}
		got(v.ID, v.Verdicts)
		answered++
	}
	_, _ = io.Copy(io.Discard, out)
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%w\n%s", err, stderr.String())
	}
	if answered != asked {
		return fmt.Errorf("%d of %d cases were answered\n%s", answered, asked, stderr.String())
	}
	return nil
}

// run runs a command in a directory.
func run(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s in %s: %v\n%s", strings.Join(args, " "), dir, err, out)
	}
}

// prepareClients fetches and builds the SDK and the client of this repository, unless that is done.
func prepareClients(t *testing.T) {
	t.Helper()
	fetch(t, "sdk", "../client")
	run(t, "../client", "npm", "run", "build")
}

// fetch fetches what the package of each directory needs, unless that is done.
func fetch(t *testing.T, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Join(dir, "node_modules")); err != nil {
			run(t, dir, "npm", "ci", "--ignore-scripts", "--no-fund", "--no-audit")
		}
	}
}

// prepare fetches and builds what the other opinions consist of, unless that is done.
func prepare(t *testing.T) {
	t.Helper()
	prepareClients(t)
	fetch(t, "modern")
	run(t, "rust", "cargo", "build", "--quiet", "--release", "--locked")
}

// number reads a number from the environment.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestSecondOpinion has random cases judged by everybody and holds the rules.
func TestSecondOpinion(t *testing.T) {
	prepare(t)
	seed, n := number(t, "ICWS_OPINION_SEED", 20261126), int(number(t, "ICWS_OPINION_N", 1500))
	w := newWorld()
	a, err := verify.NewAuthority(w.root.der)
	if err != nil {
		t.Fatal(err)
	}
	var cases []*testCase
	for i := uint64(0); len(cases) < n; i++ {
		cases = append(cases, randomPage(w, rand.New(rand.NewPCG(seed, i)))...)
	}
	t.Run("pages", func(t *testing.T) { compare(t, a, seed, cases) })
	cases = make([]*testCase, 2*n) // these are judged by fewer and faster
	for i := range cases {
		cases[i] = randomEnvelope(w, rand.New(rand.NewPCG(seed, uint64(i))))
	}
	t.Run("envelopes", func(t *testing.T) { compare(t, a, seed, cases) })
}

// compare has cases judged by everybody and holds the rules.
func compare(t *testing.T, a *verify.Authority, seed uint64, cases []*testCase) {
	for i, c := range cases {
		c.number = i
		c.judge(a)
	}
	tally(t, seed, cases, ask(t, cases))
}

// tally holds the rules over the verdicts and prints what was compared.
func tally(t *testing.T, seed uint64, cases []*testCase, verdicts []map[string]string) {
	asked, accepted, listed := map[string]int{}, map[string]int{}, map[string]int{}
	type alike struct{ name, rules string }
	first, count := map[alike]int{}, map[alike]int{}
	var order []alike
	for i, c := range cases {
		for name, verdict := range verdicts[i] {
			asked[name]++
			if verdict == "" {
				accepted[name]++
			}
		}
		var rules []string
		for _, v := range c.broken(verdicts[i]) {
			if d := difference(c, v); d != nil {
				listed[d.name]++
			} else {
				rules = append(rules, v.rule)
			}
		}
		if len(rules) == 0 {
			continue
		}
		slices.Sort(rules)
		key := alike{c.name(), strings.Join(rules, "\n")}
		if count[key]++; count[key] == 1 {
			first[key] = i
			order = append(order, key)
		}
	}
	for _, key := range order {
		i := first[key]
		cases[i].report(t, seed, key.rules, verdicts[i], count[key])
	}
	t.Logf("asked %v\naccepted %v\nlisted differences met %v", asked, accepted, listed)
}

// violation is a rule that a case breaks, and whose opinion it is that differs.
type violation struct{ rule, opinion string }

// broken returns the rules that the case breaks.
func (c *testCase) broken(verdicts map[string]string) (out []violation) {
	if c.envelope != nil {
		if verdict, ok := verdicts["network"]; c.accepted != nil && ok && verdict == "" {
			out = append(out, violation{"the network accepts an envelope that is refused here", "network"})
		}
		if c.kind == "good" && (c.accepted != nil || verdicts["network"] != "") {
			out = append(out, violation{"a good envelope is refused", "any"})
		}
		return out
	}
	for name, verdict := range verdicts {
		switch name {
		case "network", "agent-go":
			if c.accepted == nil && verdict != "" {
				out = append(out, violation{"a certificate that is accepted here is refused by " + name, name})
			}
		default:
			if c.undelivered == nil && verdict != "" {
				out = append(out, violation{"a frame that would be delivered is refused by " + name, name})
			}
		}
	}
	if c.kind == "good" && (c.accepted != nil || c.undelivered != nil) {
		out = append(out, violation{"a good page is refused", "any"})
	}
	return out
}
