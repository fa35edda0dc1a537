package quorum

import (
	"strings"
	"testing"
	"time"
)

// Each line is a history of votes and whether the claim is believed after the last one. "a" is a vote of host a, "a!" one
// given alone, "?" a useless answer of another host that was asked instead of a, "-" a contradiction, "+500ms" the time that passes.
const histories = `
                                        no   nobody has said anything
a                                       no   one host
a a a a a a                             no   one host, however often
a +1h a +1h a                           no   one host, for however long
a b                                     yes  two hosts
a a a b                                 yes  two hosts, one of them several times
a! b                                    yes  two hosts, the first of them alone
a b!                                    yes  two hosts, the second of them alone
a! b!                                   yes  two hosts that are reached in turn
a!                                      no   alone, once
a! a! a!                                no   alone, three times at once
a! +1s a! +1s                           no   alone, twice
a! +1s a! +1s a!                        yes  alone, three times over two seconds
a! +750ms a! +750ms a!                  yes  alone, at the pause that is meant for it
a! +700ms a! +700ms a!                  no   alone, three times in too short a time
a! +10ms a! +10ms a! +2s a!             yes  alone, and the last vote is late enough
a +1s a +1s a! +1s a                    no   alone once, the others could have been asked the other times
a! +1s a +1s a! +1s a!                  yes  votes that are not given alone count for nothing
a -                                     no   a contradiction
a - b                                   no   a second host after a contradiction is the first one again
a b -                                   no   a contradiction of two hosts
a! +1s a! - +1s a!                      no   a contradiction between lone votes
a ? +1s a ? +1s a ? +1s a               yes  one host, and whoever else is asked talks nonsense
a ? ? ? +2s a                           no   the same, and it has said so twice only
a +1s a ? +1s a                         no   the others were asked once
b ? +1s b ? +1s b ? b                   no   those that were asked instead of another
a - b a                                 yes  two hosts after a contradiction
`

func TestClaim(t *testing.T) {
	for line := range strings.SplitSeq(strings.TrimSpace(histories), "\n") {
		history, rest := line, ""
		for _, verdict := range []string{" yes ", " no "} {
			if h, r, ok := strings.Cut(" "+line, verdict); ok {
				history, rest = h, strings.TrimSpace(verdict)+" "+strings.TrimSpace(r)
				break
			}
		}
		want, name, _ := strings.Cut(rest, " ")
		t.Run(name, func(t *testing.T) {
			now := time.Unix(1_000_000, 0)
			start := now
			var c Claim
			for _, word := range strings.Fields(history) {
				host, alone := strings.CutSuffix(word, "!")
				switch {
				case word == "-":
					c.Contradict()
				case word == "?":
					c.Unanswered("a", "c")
				case strings.HasPrefix(word, "+"):
					d, err := time.ParseDuration(word[1:])
					if err != nil {
						t.Fatal(err)
					}
					now = now.Add(d)
				default:
					if got := c.Add(Vote{Host(host), alone}, now); got != c.Believed() {
						t.Errorf("Add says %t and Believed %t", got, c.Believed())
					}
				}
			}
			if got := c.Believed(); got != (want == "yes") {
				t.Errorf("%s: believed %t, want %s", history, got, want)
			}
			if c.Made() && c.Since().Before(start) || c.Made() == c.Since().IsZero() {
				t.Errorf("made %t, since %s", c.Made(), c.Since())
			}
		})
	}
}
