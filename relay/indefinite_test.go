package relay_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/icws-gateway/caddy-icws/verify"
)

// The .NET client (ICP.NET) writes the map of an envelope in the form of indefinite length. It opens as any other.
func TestEnvelopeOfIndefiniteLength(t *testing.T) {
	inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
		raw := r.raw(r.options())
		frame, err := raw.Composer().Open(raw.Gateway(), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(frame, []byte("envelope")) + len("envelope")
		if frame[at] != 0xa3 {
			t.Fatalf("the envelope begins with %x, want a map of three", frame[at])
		}
		frame[at] = 0xbf
		if err := raw.Write(t.Context(), websocket.BinaryMessage, append(frame, 0xff)); err != nil {
			t.Fatal(err)
		}
		_, got, err := raw.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if f, err := verify.ParseFrame(got); err != nil {
			t.Errorf("first frame: %v", err)
		} else if _, err := r.authority.VerifyFrame(f, r.canister, raw.Gateway(), time.Now()); err != nil {
			t.Errorf("first frame: %v", err)
		}
	})
}
