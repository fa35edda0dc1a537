package client

import "testing"

// A client that reads the newer layout of certificates says so in its URL, beside what is there; another asks as ever.
func TestAddress(t *testing.T) {
	for _, tt := range []struct {
		sharded    bool
		base, want string
	}{
		{false, "wss://example.com/ws", "wss://example.com/ws"},
		{false, "wss://example.com/ws?room=a%20b", "wss://example.com/ws?room=a%20b"},
		{true, "wss://example.com/ws", "wss://example.com/ws?ranges=sharded"},
		{true, "wss://example.com/ws?room=a%20b&x", "wss://example.com/ws?room=a%20b&x&ranges=sharded"},
		{true, "wss://[::1", "wss://[::1"},
	} {
		if got := (&Options{AllowSharded: tt.sharded}).address(tt.base); got != tt.want {
			t.Errorf("sharded %v, %q: %q, want %q", tt.sharded, tt.base, got, tt.want)
		}
	}
}
