//go:build e2e

package opinion

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
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
