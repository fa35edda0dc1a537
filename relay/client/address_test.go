package client

import "testing"

// A client that reads the newer layout of certificates says so in its URL, beside what is there; another asks as ever. One
// whose URL says so reads it.
func TestAddress(t *testing.T) {
	for _, tt := range []struct {
		sharded    bool
		base, want string
		reads      bool // sharded ranges
	}{
		{false, "wss://example.com/ws", "wss://example.com/ws", false},
		{false, "wss://example.com/ws?room=a%20b", "wss://example.com/ws?room=a%20b", false},
		{true, "wss://example.com/ws", "wss://example.com/ws?ranges=sharded", true},
		{true, "wss://example.com/ws?room=a%20b&x", "wss://example.com/ws?room=a%20b&x&ranges=sharded", true},
		{true, "wss://example.com/ws?ranges=sharded&x", "wss://example.com/ws?ranges=sharded&x", true},
		{false, "wss://example.com/ws?ranges=sharded", "wss://example.com/ws?ranges=sharded", true},
		{true, "wss://[::1", "wss://[::1", true},
	} {
		o := &Options{AllowSharded: tt.sharded}
		if got := o.address(tt.base); got != tt.want || o.AllowSharded != tt.reads {
			t.Errorf("sharded %v, %q: %q, want %q; reads them %v", tt.sharded, tt.base, got, tt.want, o.AllowSharded)
		}
	}
}
