package relay

import (
	"testing"
	"time"
)

func TestKeyNonce(t *testing.T) {
	for key, want := range map[string]uint64{
		"gateway_00000000000000000000": 0,
		"gateway_00000000000000000042": 42,
		"x_18446744073709551615":       1<<64 - 1,
	} {
		if n, ok := keyNonce([]byte(key)); !ok || n != want {
			t.Errorf("keyNonce(%q) = %d, %v", key, n, ok)
		}
	}
	for _, key := range []string{"", "1", "gateway_0000000000000000004x", "x_18446744073709551616", "x_99999999999999999999"} {
		if n, ok := keyNonce([]byte(key)); ok {
			t.Errorf("keyNonce(%q) = %d, want a refusal", key, n)
		}
	}
}

func TestPace(t *testing.T) {
	const ms = time.Millisecond
	for _, tc := range []struct{ silent, want time.Duration }{
		{0, 100 * ms},
		{29 * time.Second, 100 * ms},
		{30 * time.Second, 150 * ms},
		{36 * time.Second, 225 * ms},
		{41 * time.Second, 337*ms + 500*time.Microsecond},
		{50 * time.Second, 500 * ms},
		{time.Hour, 500 * ms},
	} {
		if got := pace(tc.silent, 100*ms, 500*ms); got != tc.want {
			t.Errorf("pace after %s = %s, want %s", tc.silent, got, tc.want)
		}
	}
}
