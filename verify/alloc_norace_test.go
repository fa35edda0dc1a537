//go:build !race

package verify

import "testing"

// The race detector makes sync.Pool forget at random, so this says something only without it.

func TestReplyDecodeAllocatesNothing(t *testing.T) {
	arg := unhex(t, goldenReplyOne)
	var r Reply
	if err := r.Decode(arg); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		if err := r.Decode(arg); err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
