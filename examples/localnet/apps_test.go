package localnet

import (
	"bytes"
	"slices"
	"testing"

	"github.com/icws-gateway/caddy-icws/verify"
)

func TestApplications(t *testing.T) {
	t.Run("ping pong", func(t *testing.T) {
		d := newDesk(t, CDKOptions{App: PingPong{}})
		who := newIdentity(t)
		d.wantText(d.open(who, 1), "")
		text := "ping"
		for i := range 5 {
			r := d.poll(uint64(i + 1))
			got, ok := ParseTextPayload(message(t, r.Messages[0]).Content)
			if !ok || got != text {
				t.Fatalf("%q, want %q", got, text)
			}
			d.wantText(d.send(who, 1, uint64(i+1), false, TextPayload(got)), "")
			text += "-pong"
		}
		d.wantText(d.send(who, 1, 6, false, TextPayload("close")), "")
		r := d.poll(7)
		if s := service(t, r.Messages[0]); s.Kind != verify.ServiceClose || s.Reason != verify.ReasonClosedByApplication {
			t.Errorf("%+v", s)
		}
		d.wantText(d.close(d.gateway, key(who, 1)), "Client with key "+key(who, 1).String()+" doesn't have an open connection")
	})
	t.Run("broadcast", func(t *testing.T) {
		d := newDesk(t, CDKOptions{App: Broadcast{}})
		a, b := newIdentity(t), newIdentity(t)
		d.wantText(d.open(a, 1), "")
		d.wantText(d.open(b, 1), "")
		d.wantText(d.send(a, 1, 1, false, []byte("all")), "")
		var to []verify.Principal
		for _, m := range d.poll(2).Messages {
			to = append(to, m.Client.Principal)
		}
		if !slices.Equal(to, []verify.Principal{principalOf(a), principalOf(b)}) {
			t.Errorf("sent to %v", to)
		}
	})
}

func TestTextPayload(t *testing.T) {
	for _, text := range []string{"", "hi", string(bytes.Repeat([]byte("x"), 300))} {
		if got, ok := ParseTextPayload(TextPayload(text)); !ok || got != text {
			t.Errorf("%q is read as %q, %v", text, got, ok)
		}
	}
	hi := string(TextPayload("hi"))
	head := hi[:15] // up to the length
	for _, bad := range []string{"", "DIDL", hi[:16], hi + "\x00", head + "\xff\xff\xff\xff\xff\xff", head + "\x01\xff"} {
		if text, ok := ParseTextPayload([]byte(bad)); ok {
			t.Errorf("%x is read as %q", bad, text)
		}
	}
}
