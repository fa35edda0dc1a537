package relay

import (
	"net/http"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

// An outcome asks for a poll unless a page has brought what the canister had by then.
func TestOutcomesThatAPageCovers(t *testing.T) {
	g := gatewayAnswered(t, http.StatusBadGateway, "", "")
	defer g.Close()
	page := time.Now()
	p := newPoller(newCanister(g, verify.Principal{}))
	c := p.c
	asks := func() bool {
		select {
		case <-c.wake:
			return true
		default:
			return false
		}
	}
	c.nudge(page)
	if !asks() || !c.demand.any {
		t.Fatal("the first outcome asks for nothing")
	}
	p.usual = page.Add(testInterval)
	p.due = page
	p.noteComplete(page.Add(-1))
	if !c.demand.any || !p.due.Equal(page) {
		t.Error("an older page is taken for the answer")
	}
	p.noteComplete(page)
	if c.demand.any || !p.due.Equal(p.usual) {
		t.Errorf("the page that is complete leaves %+v, and a poll %s before its time", c.demand, p.usual.Sub(p.due))
	}
	c.nudge(page)
	if asks() {
		t.Error("an outcome of the same block asks for another poll")
	}
	c.nudge(page.Add(1))
	if !asks() {
		t.Error("an outcome of a later block asks for nothing")
	}
	c.nudge(time.Time{})
	if p.noteComplete(page.Add(time.Hour)); !asks() || !c.demand.any {
		t.Error("what has no certified time is taken to be in a page")
	}
}
