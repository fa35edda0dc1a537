package upstream

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/icws-gateway/caddy-icws/verify"
)

func testPrincipal(n byte) verify.Principal {
	p, err := verify.PrincipalFromBytes([]byte{n, 1})
	if err != nil {
		panic(err)
	}
	return p
}

func TestBudgetKeepsTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(100)
		began := time.Now()
		for range 210 { // the burst is 10
			if _, err := b.wait(t.Context(), testPrincipal(1), ClassBusy); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took < 1990*time.Millisecond || took > 2100*time.Millisecond {
			t.Errorf("210 requests at 100 per second with a burst of 10 took %s, want about 2 s", took)
		}
	})
}

func TestBudgetSharesByClassAndCanister(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(10)
		b.tokens = 0
		var order []string
		done := make(chan string)
		ask := func(name string, canister byte, cl Class) {
			go func() {
				b.wait(context.Background(), testPrincipal(canister), cl)
				done <- name
			}()
			synctest.Wait()
		}
		for range 20 {
			ask("loud", 1, ClassCall)
		}
		ask("quiet", 2, ClassCall)
		for range 10 {
			ask("busy", 3, ClassBusy)
		}
		ask("idle", 4, ClassIdle)
		for range 32 {
			order = append(order, <-done)
		}
		at := func(name string) int {
			for i, n := range order {
				if n == name {
					return i
				}
			}
			return -1
		}
		if i := at("quiet"); i > 1 {
			t.Errorf("the quiet canister was served as number %d behind a loud one, want 0 or 1", i)
		}
		if i := at("idle"); i > 14 {
			t.Errorf("the idle class was served as number %d, want within one round of 15", i)
		}
		if i := at("busy"); i > 8 {
			t.Errorf("the busy class was first served as number %d, want 8", i)
		}
	})
}

func TestBudgetForgetsTheGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(1)
		b.tokens = 0
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error, 1)
		go func() {
			_, err := b.wait(ctx, testPrincipal(1), ClassCall)
			gone <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-gone; err == nil {
			t.Fatal("a wait whose context ended succeeded")
		}
		began := time.Now()
		if _, err := b.wait(t.Context(), testPrincipal(2), ClassCall); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 1100*time.Millisecond {
			t.Errorf("the next one waited %s: the token went to the one that had gone", took)
		}
	})
}
