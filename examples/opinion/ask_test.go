//go:build e2e

package opinion

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

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

// endedProcess is the verdict of a case that ended the process it was put to.
const endedProcess = "ended the process"

// errEnded says that a process ended before it had answered all.
var errEnded = errors.New("the process ended")

// ask puts the cases to one process after the other: another one follows where a case ended one.
func (o opinions) ask(cases []*testCase, got func(id int, verdicts map[string]string)) error {
	asked := make([]*testCase, 0, len(cases))
	for _, c := range cases {
		if o.want(c) {
			asked = append(asked, c)
		}
	}
	for isFirst := true; len(asked) > 0; isFirst = false {
		answered, err := o.askProcess(asked, got)
		if !errors.Is(err, errEnded) || isFirst && answered == 0 {
			return err
		}
		verdicts := map[string]string{}
		for name := range strings.SplitSeq(o.name, ", ") {
			verdicts[name] = endedProcess
		}
		got(asked[answered].number, verdicts)
		asked = asked[answered+1:]
	}
	return nil
}

// askProcess puts cases to one process. It returns how many were answered.
func (o opinions) askProcess(cases []*testCase, got func(id int, verdicts map[string]string)) (answered int, err error) {
	path := o.args[0]
	if strings.HasPrefix(path, "./") {
		path = filepath.Join(o.dir, path) // relative to where the test runs, not to where the process will
		if path, err = filepath.Abs(path); err != nil {
			return 0, err
		}
	}
	cmd := exec.Command(path, o.args[1:]...)
	cmd.Dir, cmd.Env = o.dir, append(os.Environ(), o.env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	go func() {
		defer in.Close()
		for _, c := range cases {
			if _, err := in.Write(c.line()); err != nil {
				return // the process ended; what it did not answer is missed
			}
		}
	}()
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var v struct {
			ID       int               `json:"id"`
			Verdicts map[string]string `json:"verdicts"`
		}
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil || answered == len(cases) || v.ID != cases[answered].number {
			_ = cmd.Process.Kill() // it would wait for a reader
			return answered, errors.Join(fmt.Errorf("answer %q: %v", lines.Text(), err), cmd.Wait())
		}
		got(v.ID, v.Verdicts)
		answered++
	}
	_, _ = io.Copy(io.Discard, out)
	err = cmd.Wait()
	if answered < len(cases) {
		return answered, fmt.Errorf("%w at case %d of %d: %v\n%s", errEnded, answered+1, len(cases), err, stderr.String())
	}
	return answered, err
}
