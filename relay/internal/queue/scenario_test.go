package queue

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/relay/internal/quorum"
	"github.com/icws-gateway/caddy-icws/verify"
)

var update = flag.Bool("update", false, "write the decisions of the scenarios anew")

// TestScenarios tells the stories in testdata. A line is a step; the indented lines below it say what the queue decides, and
// are written anew with -update. The steps:
//
//	wait 2s                   time passes
//	await x [executed 5]      the canister accepted client x; it had done so by 5 s on its clock
//	forget x                  its first message came, or it has gone
//	suspect                   there is a reason to think that the queue began anew
//	bookmark                  the position is noted
//	rewind                    messages are to be read again from there on
//	a: ANSWER                 host a answers the next question; "a!" answers alone
//	from 5 a: ANSWER          host a answers a question for news that asked from 5, when that was the position
//	look a: ANSWER            host a answers the look at the queue that is due
//	looks                     whether one is due
//
// and the answers:
//
//	empty [signed n1 at 60]               nothing, signed by node n1 at 60 s
//	0..4 @10 [for x [from 2]] [at 12] [poison 2 [as y]] [more]
//	                                      messages 0 to 4, made at 10 s and then each second, for client x and numbered from 2
//	                                      on (from 1 if not said), certified at 12 s (now if not said), message 2 with another
//	                                      routing key, that of client y if said
//	repeated                              nothing that was not passed before
//	unreachable | refused | stopped | trapped | never | notfound | unverified
//
// each with "install 8 asof 9" behind it if the install time was read, or "install failed", and "retry 5s".
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenarios: ", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := tell(t, string(text))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want := strings.Split(string(text), "\n")
			for i, line := range strings.Split(got, "\n") {
				if i >= len(want) || line != want[i] {
					t.Fatalf("line %d: decided\n%s\nwant\n%s", i+1, line, strings.Join(want[min(i, len(want)):min(i+1, len(want))], ""))
				}
			}
		})
	}
}

// tell runs the steps of a scenario and returns it with its decisions.
func tell(t *testing.T, text string) string {
	var out strings.Builder
	var s *story
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		if strings.HasPrefix(line, "\t") {
			continue
		}
		out.WriteString(line + "\n")
		switch {
		case strings.HasPrefix(line, "#"):
			s = nil // a new story
		case line != "":
			if s == nil {
				s = &story{t: t, q: New(2 * time.Minute), now: clock(100)}
			}
			s.step(&out, line)
		}
	}
	return out.String()
}

// clock is a time of a story, in seconds.
func clock(seconds int64) time.Time { return time.Unix(seconds, 0) }

type story struct {
	t           *testing.T
	q           *Queue
	now, active time.Time
	bookmark    Bookmark
}

func (s *story) step(out *strings.Builder, line string) {
	words := strings.Fields(line)
	head, rest, answers := strings.Cut(line, ": ")
	switch {
	case words[0] == "wait":
		d, err := time.ParseDuration(words[1])
		if err != nil {
			s.t.Fatal(line, ": ", err)
		}
		s.now = s.now.Add(d)
	case words[0] == "await":
		executed := time.Time{}
		if len(words) == 4 {
			executed = clock(s.number(words[3]))
		}
		s.q.Await(client(words[1]), s.now, executed)
	case words[0] == "forget":
		s.q.Forget(client(words[1]))
	case words[0] == "suspect":
		s.q.Suspect(s.now)
	case words[0] == "bookmark":
		s.bookmark = s.q.Bookmark()
	case words[0] == "rewind":
		s.q.Rewind(s.bookmark)
	case words[0] == "looks":
		if ask, due := s.q.Check(s.now, s.active, true); due {
			fmt.Fprintf(out, "\tyes: %s\n", s.question(&ask))
		} else {
			out.WriteString("\tno\n")
		}
	case answers && strings.HasPrefix(head, "look "):
		ask, due := s.q.Check(s.now, s.active, true)
		if !due {
			out.WriteString("\tno look is due\n")
			return
		}
		s.answer(out, ask, s.q.Nonce(&ask), strings.TrimPrefix(head, "look "), rest)
	case answers && strings.HasPrefix(head, "from "):
		s.answer(out, Question{}, uint64(s.number(words[1])), strings.TrimSuffix(words[2], ":"), rest)
	case answers:
		ask := s.q.Next()
		s.answer(out, ask, s.q.Nonce(&ask), head, rest)
	default:
		s.t.Fatalf("no such step: %s", line)
	}
}

// question describes a poll.
func (s *story) question(ask *Question) string {
	text := [...]string{News: "news", Beginning: "beginning", Newest: "newest", Head: "head", Past: "past"}[ask.Purpose]
	text = fmt.Sprintf("%s from %d", text, s.q.Nonce(ask))
	if ask.Avoid != "" {
		text += ", avoid " + string(ask.Avoid)
		if ask.Lightly {
			text += " if others are well"
		}
	}
	if ask.Install {
		text += ", with install time"
		if ask.InstallAvoid != "" {
			text += " not from " + string(ask.InstallAvoid)
		}
	}
	return text
}

func (s *story) answer(out *strings.Builder, ask Question, nonce uint64, host, text string) {
	if ask.Purpose != News || ask.Avoid != "" {
		fmt.Fprintf(out, "\tasked: %s\n", s.question(&ask))
	}
	a := &Answer{Question: &ask, Nonce: nonce}
	name, alone := strings.CutSuffix(host, "!")
	a.Vote = quorum.Vote{Host: quorum.Host(name), Alone: alone}
	words := strings.Fields(text)
	for len(words) > 0 {
		words = s.read(a, words)
	}
	d := s.q.Step(s.now, a)
	if d.Do == Deliver {
		s.active = s.now
	}
	fmt.Fprintf(out, "\t%s\n", describe(&d, a, s.q))
}

// read takes the first part of an answer off words.
func (s *story) read(a *Answer, words []string) []string {
	word, words := words[0], words[1:]
	take := func() string {
		if len(words) == 0 {
			s.t.Fatalf("%q lacks a word", word)
		}
		w := words[0]
		words = words[1:]
		return w
	}
	kinds := map[string]Kind{"unreachable": Unreachable, "unverified": Unverified, "refused": Refused, "trapped": Trapped, "never": Never, "notfound": NotFound}
	first, last, isPage := strings.Cut(word, "..")
	switch {
	case word == "empty":
	case word == "repeated":
		a.Repeated = true
	case kinds[word] != None:
		a.Failure.Kind = kinds[word]
	case word == "stopped":
		a.Failure = Failure{Kind: Refused, Stopped: true}
	case word == "retry":
		d, err := time.ParseDuration(take())
		if err != nil {
			s.t.Fatal(err)
		}
		a.Failure.RetryAfter = d
	case word == "signed":
		a.Signature = &Signature{Nodes: 4}
		a.Signature.Node, _ = verify.PrincipalFromBytes([]byte(take()))
		take() // at
		a.Signature.Time = clock(s.number(take()))
	case word == "install":
		a.Install = &InstallReading{Host: a.Vote.Host}
		switch w := take(); w {
		case "failed":
			a.Install.Failed = true
		case "unheard":
			a.Install.Unheard = true
		default:
			if n := s.number(w); n > 0 {
				a.Install.At = clock(n)
			}
			take() // asof
			a.Install.AsOf = clock(s.number(take()))
		}
	case isPage:
		made, ok := strings.CutPrefix(take(), "@")
		if !ok {
			s.t.Fatalf("%q lacks when it was made", word)
		}
		a.Page = &verify.Page{Time: s.now}
		for n := s.number(first); n <= s.number(last); n++ {
			stamp := uint64(clock(s.number(made) + n - s.number(first)).UnixNano())
			a.Page.Messages = append(a.Page.Messages, verify.PageMessage{Nonce: uint64(n), Timestamp: stamp})
		}
	case word == "for":
		c, number := client(take()), uint64(1)
		if len(words) > 0 && words[0] == "from" {
			take()
			number = uint64(s.number(take()))
		}
		for i := range a.Page.Messages {
			a.Page.Messages[i].Client, a.Page.Messages[i].Sequence = c, number+uint64(i)
		}
	case word == "at":
		a.Page.Time = clock(s.number(take()))
	case word == "poison":
		m := &a.Page.Messages[uint64(s.number(take()))-a.Page.Messages[0].Nonce]
		m.Poison = &verify.Error{Cause: verify.CauseClientKey}
		if len(words) > 0 && words[0] == "as" {
			take()
			m.Routing = client(take())
		}
	case word == "more":
		a.More = true
	default:
		s.t.Fatalf("no such answer: %q", word)
	}
	return words
}

func (s *story) number(word string) int64 {
	n, err := strconv.ParseInt(word, 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// client is the key of a client with this name.
func client(name string) verify.ClientKey {
	p, _ := verify.PrincipalFromBytes([]byte(name))
	return verify.ClientKey{Principal: p}
}

// describe says what was decided.
func describe(d *Decision, a *Answer, q *Queue) string {
	text := [...]string{Nothing: "nothing new", Deliver: "deliver", AskOther: "ask another", AskOn: "ask on", Begin: "begin",
		Rewind: "rewind", Restart: "restart", Skip: "skip", TryAgain: "try again", GiveUp: "give up"}[d.Do]
	switch d.Do {
	case Deliver:
		text += fmt.Sprintf(" %d..%d", a.Page.Messages[d.From].Nonce, a.Page.Messages[len(a.Page.Messages)-1].Nonce)
	case Begin:
		text += fmt.Sprintf(" after what begins at %d", d.Oldest)
	case Skip:
		text += fmt.Sprintf(" %d", d.Skipped)
	case Restart:
		text += ", " + [...]string{Younger: "a message is younger than one behind it", Installed: "installed since",
			Absent: "nodes sign that the newest message is gone"}[d.Reset.Why]
		text += ", " + [...]string{Unknown: "cause unknown", Upgrade: "an upgrade", Eviction: "no upgrade"}[d.Reset.Cause]
		text += fmt.Sprintf(", floor %ss", strconv.FormatFloat(float64(d.Reset.Floor)/1e9, 'f', -1, 64))
		if n := len(d.Reset.Forgotten); n > 0 {
			text += fmt.Sprintf(", %d waiting forgotten", n)
		}
	}
	if d.Stale {
		text += ", stale"
	}
	if d.Pause > 0 {
		text += " after " + d.Pause.String()
	}
	if d.Missing > 0 {
		text += fmt.Sprintf(", %d missing", d.Missing)
	}
	if len(d.Poisoned) > 0 {
		text += fmt.Sprintf(", %d cannot be used", len(d.Poisoned))
	}
	if d.Recovered {
		text += ", works again"
	}
	return fmt.Sprintf("%s; next is %d", text, q.Position())
}
