package quiet

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/icws-gateway/caddy-icws/relay"
)

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		began := time.Now()
		at := func() float64 { return time.Since(began).Seconds() }
		var said []string
		Watch(ctx, Patience, func() uint64 { // arrives until 2 s, and once at 12 s
			switch s := at(); {
			case s < 2:
				return uint64(s * 10)
			case s < 12:
				return 20
			}
			return 21
		}, func() string {
			switch s := at(); {
			case s < 6:
				return ""
			case s < 8:
				return "one"
			}
			return "two"
		}, func(text string) { said = append(said, fmt.Sprintf("%.1f %s", at(), text)) })
		if want := []string{"6.0 one", "8.0 two", "15.0 two"}; !slices.Equal(said, want) {
			t.Errorf("said %q, want %q", said, want)
		}
		if at() != 20 {
			t.Errorf("ended at %.1f s", at())
		}
	})
}

func TestTrouble(t *testing.T) {
	good := relay.CanisterSnapshot{LastError: "of long ago"}
	bad := relay.CanisterSnapshot{LastError: "now", Failures: 1}
	refused := relay.CanisterSnapshot{CallError: "slow down"}
	for _, test := range []struct {
		canisters []relay.CanisterSnapshot
		want      string
	}{
		{nil, ""}, {[]relay.CanisterSnapshot{good}, ""}, {[]relay.CanisterSnapshot{good, bad}, "the gateway's polls fail: now"},
		{[]relay.CanisterSnapshot{good, refused}, "the gateway's polls are answered, but not its calls: slow down"},
		{[]relay.CanisterSnapshot{refused, bad}, "the gateway's polls fail: now"},
	} {
		if got := Trouble(relay.Snapshot{}, relay.Snapshot{Canisters: test.canisters}); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}
