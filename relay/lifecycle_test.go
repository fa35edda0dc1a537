package relay

import (
	"slices"
	"strings"
	"testing"
)

// Every registration and every event: what follows, as a table that a person can read.
const wantRegistrations = `
event            notSent     inFlight    registered  removed  closeSent
openGoesOut      inFlight    inFlight    registered  removed  closeSent
openNotTaken     notSent     notSent     registered  removed  closeSent
openAccepted     registered  registered  registered  removed  closeSent
openRefused      removed     removed     registered  removed  closeSent
firstMessage     registered  registered  registered  removed  closeSent
canisterRemoved  removed     removed     removed     removed  closeSent
sessionLeft      notSent     closeSent   closeSent   removed  closeSent
`

func TestRegistrations(t *testing.T) {
	states := map[string]registration{"notSent": notSent, "inFlight": inFlight, "registered": registered, "removed": removed, "closeSent": closeSent}
	events := map[string]registrationEvent{"openGoesOut": openGoesOut, "openNotTaken": openNotTaken, "openAccepted": openAccepted,
		"openRefused": openRefused, "firstMessage": firstMessage, "canisterRemoved": canisterRemoved, "sessionLeft": sessionLeft}
	if len(states) != int(registrationEnd) || len(events) != int(registrationEventEnd) {
		t.Fatalf("the table is about %d states and %d events, there are %d and %d", len(states), len(events), registrationEnd, registrationEventEnd)
	}
	lines := strings.Split(strings.TrimSpace(wantRegistrations), "\n")
	if len(lines) != len(events)+1 {
		t.Fatalf("%d lines for %d events", len(lines)-1, len(events))
	}
	from := strings.Fields(lines[0])[1:]
	for _, line := range lines[1:] {
		words := strings.Fields(line)
		e, known := events[words[0]]
		if !known || len(words) != len(states)+1 {
			t.Fatalf("the line of %q cannot be read", words[0])
		}
		for i, want := range words[1:] {
			if got := states[from[i]].after(e); got != states[want] {
				t.Errorf("%s after %s is %d, want %s", from[i], words[0], got, want)
			}
		}
	}
}

// Whatever happens in whatever order, ws_close is due at most once, never for a session whose ws_open no host can have taken,
// and always when a session leaves that the canister may have.
func TestRegistrationsOfAnyHistory(t *testing.T) {
	type history struct {
		at     registration
		sent   bool // ws_open went out, or the canister was heard
		closes int
	}
	seen := map[history]bool{}
	todo := []history{{}}
	paths := map[history][]registrationEvent{} // how each was reached first
	for len(todo) > 0 {
		h := todo[0]
		todo = todo[1:]
		if seen[h] {
			continue
		}
		seen[h] = true
		for e := range registrationEventEnd {
			next := history{at: h.at.after(e), sent: h.sent || e == openGoesOut || e == openAccepted || e == firstMessage, closes: h.closes}
			if next.at == closeSent && h.at != closeSent {
				next.closes++
			}
			path := append(slices.Clone(paths[h]), e)
			if _, reached := paths[next]; !reached {
				paths[next] = path
			}
			switch {
			case next.closes > 1:
				t.Fatalf("a second ws_close at %d after the events %d", h.at, path)
			case next.at == closeSent && !next.sent:
				t.Fatalf("ws_close for a session that was never sent, at %d after the events %d", h.at, path)
			case e == sessionLeft && next.at.mayBeKnown():
				t.Fatalf("a session left at %d, and the canister is not told, after the events %d", h.at, path)
			case h.at == removed && next.at != removed:
				t.Fatalf("the last of the events %d brings back a session that was removed", path)
			case h.at == registered && next.at == notSent, h.at == closeSent && next.at != closeSent:
				t.Fatalf("the last of the events %d leads from %d back to %d", path, h.at, next.at)
			}
			todo = append(todo, next)
		}
	}
	if len(seen) < int(registrationEnd) {
		t.Fatalf("only %d histories", len(seen))
	}
}
