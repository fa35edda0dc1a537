package upstream

import (
	"context"
	"sync"
	"sync/atomic"
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

// As many silent canisters as there is capacity for are each polled within 15 s, however much the others want, and
// those with traffic get the rest.
func TestBudgetGuaranteesEveryCanisterAShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate = 20
		b := newBudget(rate)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		var wg sync.WaitGroup
		var busy atomic.Int64
		var longest atomic.Int64
		poll := func(canister byte, cl Class) {
			wg.Go(func() {
				for ctx.Err() == nil {
					waited, err := b.wait(ctx, testPrincipal(canister), cl)
					if err != nil {
						return
					}
					if cl == ClassBusy {
						busy.Add(1)
					} else {
						longest.Store(max(longest.Load(), int64(waited)))
					}
					time.Sleep(10 * time.Millisecond)
				}
			})
		}
		for i := range capacity(rate) - 30 {
			poll(byte(i), ClassIdle)
		}
		for i := range 30 {
			poll(byte(200+i), ClassBusy)
		}
		wg.Wait()
		if got := time.Duration(longest.Load()); got > overdueAfter*3/2 {
			t.Errorf("a silent canister waited %s for its poll", got)
		}
		if got := busy.Load(); got < 5*60*rate/3 {
			t.Errorf("%d of %d requests were for those with traffic", got, 5*60*rate)
		}
	})
}

// Who waits for longest goes first among those that wait for too long, and one whose context has ended takes no turn.
func TestBudgetServesTheOverdue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(0.125)
		b.tokens = 0
		done := make(chan string, 9)
		wait := func(ctx context.Context, name string, canister byte, cl Class) {
			go func() {
				if _, err := b.wait(ctx, testPrincipal(canister), cl); err == nil {
					done <- name
				}
			}()
			synctest.Wait()
			time.Sleep(time.Second)
		}
		leaving, leave := context.WithCancel(t.Context())
		wait(leaving, "gone", 1, ClassIdle)
		wait(t.Context(), "idle", 2, ClassIdle)
		wait(t.Context(), "busy", 3, ClassBusy)
		wait(t.Context(), "read", 4, ClassRead)
		leave()
		for i, want := range []string{"read", "idle", "busy"} { // the first token comes after 8 s
			if got := <-done; got != want {
				t.Errorf("number %d is %s, want %s", i, got, want)
			}
		}
	})
}
