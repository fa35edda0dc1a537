// Package quorum decides when to believe what boundary nodes say without proof.
//
// What is certified needs no vote. The rest does: that messages are missing, that a canister does not exist, that a request
// is refused. One boundary node may be wrong about it, or lie, however often it says so. So two must say it. Where only one
// gives any answer at all, because the others are dead or a firewall admits one name only, its word is believed in the end.
package quorum

import "time"

// Host names a boundary node. To this package it is an opaque id.
type Host string

const (
	// LoneVotes is how often a host must say something that no other host can be asked about.
	LoneVotes = 3
	// LonePatience is how far apart the first and the last of these votes must be. The other hosts are asked before each of
	// them, so this is also how long all of them must have failed: longer than a restart of a proxy or a broken connection
	// lasts, and less than a person waits for a page.
	LonePatience = 1500 * time.Millisecond
	// LonePause is the pause between votes of a lone host that makes them no more than are needed.
	LonePause = LonePatience / (LoneVotes - 1)
)

// Vote is one host's word.
type Vote struct {
	Host Host
	// Alone says that all other hosts were asked in the same request and gave no answer. It is always true where the network
	// has one host.
	Alone bool
}

// Claim counts the votes for one statement. The zero value is a statement that nobody has made. It has a fixed size. It is
// not safe for concurrent use.
type Claim struct {
	host     Host // who said so first
	since    time.Time
	second   bool // another host says so, too
	lone     int  // votes of lone hosts
	silence  bool // others were asked since the last vote, and gave no answer to go by
	loneFrom time.Time
	loneTo   time.Time
}

// Add counts a vote given at now, and reports whether the claim is believed.
func (c *Claim) Add(v Vote, now time.Time) bool {
	if !c.Made() {
		c.host, c.since = v.Host, now
	}
	c.second = c.second || v.Host != c.host
	alone := v.Alone || c.silence
	c.silence = false
	if alone {
		if c.lone == 0 {
			c.loneFrom = now
		}
		c.lone = min(c.lone+1, LoneVotes)
		c.loneTo = now
	}
	return c.Believed()
}

// Unanswered notes that hosts other than avoided were asked about it, and that answer gave one that is none to go by, such as
// one that does not verify. If avoided is who said so, its next vote is given alone.
func (c *Claim) Unanswered(avoided, answer Host) {
	c.silence = c.silence || c.Made() && avoided == c.host && answer != c.host && answer != ""
}

// Believed reports whether two hosts have said so, or a lone one LoneVotes times over LonePatience.
func (c *Claim) Believed() bool {
	return c.second || c.lone >= LoneVotes && c.loneTo.Sub(c.loneFrom) >= LonePatience
}

// Made reports whether anybody has said so.
func (c *Claim) Made() bool { return !c.since.IsZero() }

// Since returns when it was said first, zero if it was not.
func (c *Claim) Since() time.Time { return c.since }

// Contradict forgets the votes: a host has shown the opposite.
func (c *Claim) Contradict() { *c = Claim{} }
