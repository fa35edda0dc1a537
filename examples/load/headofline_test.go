package main

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/verify"
)

func TestHeadOfLine(t *testing.T) {
	// The latency is long against the time to the next block and the next poll, in which a message is lucky or not.
	r, code := inFakeTime(t, "headofline", "-clients", "40", "-stalled", "4", "-rate", "0.5", "-opens", "0", "-duration", "3m", "-latency", "1s", "-progress", "0")
	if code != 0 || len(r.Violations) > 0 {
		t.Errorf("exit code %d, violations %q", code, r.Violations)
	}
	if r.Delivered == 0 || r.Delivered != r.Sent*36 {
		t.Errorf("sent %d, delivered %d to 36 listeners", r.Sent, r.Delivered)
	}
	checkBooks(t, r)
}

// What comes in between is a failure of the run and not of who called it, and the report says what it was.
func TestInterrupted(t *testing.T) {
	for _, after := range []time.Duration{time.Millisecond, 500 * time.Millisecond, 20 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), after)
			defer cancel()
			var stdout, stderr bytes.Buffer
			s, err := parse([]string{"headofline", "-clients", "4", "-stalled", "1", "-opens", "0", "-duration", "1m", "-latency", "10ms", "-progress", "0"}, &stderr)
			if err != nil {
				t.Fatal(err)
			}
			s.memory = true
			if code := s.run(ctx, &stdout, &stderr); code != 1 || !strings.Contains(stdout.String(), "not finished") || strings.Contains(stdout.String(), "messages lost") {
				t.Errorf("after %s: exit code %d\n%s\n%s", after, code, &stderr, &stdout)
			}
		})
	}
}

// hush is a broadcast that closes its speaker with the third message.
type hush struct {
	localnet.Broadcast
	heard int
}

func (a *hush) OnMessage(ctx *localnet.AppContext, from verify.Principal, payload []byte) error {
	if a.heard++; a.heard == 3 {
		return ctx.Close(from)
	}
	return a.Broadcast.OnMessage(ctx, from, payload)
}

// What a speaker who was cut off said last may not have gone out: it is not lost but unresolved.
func TestSpeakerIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, err := newWorld(worldOptions{memory: true, latency: 10 * time.Millisecond, cdk: localnet.CDKOptions{App: new(hush)}})
		if err != nil {
			t.Fatal(err)
		}
		defer w.close()
		s, err := parse([]string{"headofline", "-clients", "4", "-stalled", "1", "-opens", "0", "-progress", "0"}, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		rec := newRecorder(newConsole(io.Discard), s)
		h := &hall{world: w, fleet: newFleet(w.target(), s.plan()), settings: s}
		stop := rec.start(h.fleet.stats)
		err = h.run(t.Context(), rec)
		stop()
		r := h.fleet.stats.report("headofline", time.Second)
		checkBooks(t, r)
		if err == nil || !strings.Contains(err.Error(), "the speaker cannot send") || r.Delivered != 2*3 || r.Lost != 0 || r.Unresolved == 0 {
			t.Errorf("%v; due %d, delivered %d, lost %d, unresolved %d", err, r.Due, r.Delivered, r.Lost, r.Unresolved)
		}
	})
}
