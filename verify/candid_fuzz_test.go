package verify

import (
	"bytes"
	"testing"

	"github.com/aviate-labs/agent-go/candid"
	"github.com/aviate-labs/agent-go/principal"
)

// candidSeeds are real messages, and a few that broke other decoders.
func candidSeeds(f *testing.F) [][]byte {
	f.Helper()
	var seeds [][]byte
	for _, in := range []string{
		goldenPollArg, goldenMessageArg, goldenResultOk, goldenResultErr, goldenReplyEmpty, goldenReplyEmptyOld, goldenReplyOne,
		goldenServiceTypes + "030200000000000000", goldenServiceTypes + "0200", "4449444c016c0100000100", "4449444c00",
		"4449444c03 6c01ef9999fe0978 6c00 6d01 020002 2a00000000000000 8094ebdc03",
	} {
		seeds = append(seeds, unhex(f, in))
	}
	for _, raw := range recordedSeeds(f, "query") {
		if q := must(ParseQueryReply(raw)); q.Replied {
			seeds = append(seeds, q.Arg)
		}
	}
	for _, e := range recordedEnvelopes(f) {
		seeds = append(seeds, e.Arg)
	}
	for _, frame := range recordedFrames(f) {
		if m, err := ParseContent(frame.Content); err == nil { // one is of the protocol of 2023
			seeds = append(seeds, m.Content)
		}
	}
	key := ClientKey{mustPrincipal(f, goldenClient), goldenNonce}
	return append(seeds, AppendOpenArg(nil, 1, key.Principal), AppendCloseArg(nil, key), AppendKeepAlive(nil, 3))
}

// FuzzReply decodes arbitrary bytes, and holds the decoder against agent-go on replies made from the input. (agent-go must
// not see arbitrary bytes: ten of them kill the process.)
func FuzzReply(f *testing.F) {
	for _, seed := range candidSeeds(f) {
		f.Add(seed, uint8(3), true, "text")
	}
	f.Fuzz(func(t *testing.T, data []byte, n uint8, end bool, text string) {
		var r Reply
		if err := r.Decode(data); err != nil {
			if CauseOf(err) != CauseMalformed || len(r.Messages) != 0 || r.Cert != nil || r.Failed {
				t.Fatalf("got %+v, %v", r, err)
			}
		} else if size := len(r.Cert) + len(r.Tree); size > len(data) || len(r.Messages)*minReplyMessage > len(data) {
			t.Fatalf("%d bytes gave %d messages and %d bytes of proof", len(data), len(r.Messages), size)
		}

		page := oraclePage{Cert: data, Tree: []byte(text), EndOfQueue: end}
		for i := range int(n) % 8 {
			raw := data[min(i, len(data)):min(len(data), i+i%30)]
			page.Messages = append(page.Messages, oracleMessage{
				oracleKey{principal.Principal{Raw: raw}, uint64(n) << i}, goldenGateway[i:], data[min(2*i, len(data)):],
			})
		}
		if len(data) > 4096 {
			return // agent-go takes a microsecond and two allocations per byte
		}
		arg, err := candid.Marshal([]any{oracleReply{Ok: &page}})
		if err != nil {
			return // not a value that agent-go encodes
		}
		if err := r.Decode(arg); err != nil {
			t.Fatalf("%v\n%x", err, arg)
		}
		if !bytes.Equal(r.Cert, page.Cert) || !bytes.Equal(r.Tree, page.Tree) || r.EndOfQueue != end || len(r.Messages) != len(page.Messages) {
			t.Fatalf("got %+v, want %+v", r, page)
		}
		for i, m := range r.Messages {
			want := page.Messages[i]
			if string(m.Key) != want.Key || !bytes.Equal(m.Content, want.Content) || m.Client.Nonce != want.Client.Nonce ||
				!bytes.Equal(m.Client.Principal.Bytes(), want.Client.Principal.Raw) {
				t.Fatalf("message %d: got %+v, want %+v", i, m, want)
			}
		}
		// Cut anywhere, it is refused.
		if cut := len(arg) - 1 - int(n)%len(arg); r.Decode(arg[:cut]) == nil {
			t.Fatalf("cut at %d: accepted", cut)
		}
	})
}

// FuzzOpenArg holds what is accepted as an argument of ws_open, ws_close or ws_get_messages against its canonical form,
// which agent-go reads too.
func FuzzOpenArg(f *testing.F) {
	for _, seed := range candidSeeds(f) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if nonce, gateway, err := DecodeOpenArg(data); err == nil {
			canonical := AppendOpenArg(nil, nonce, gateway)
			if n, g, err := DecodeOpenArg(canonical); n != nonce || g != gateway || err != nil {
				t.Fatalf("canonical form: got %d, %s, %v, want %d, %s", n, g, err, nonce, gateway)
			}
			var back struct {
				Nonce   uint64              `ic:"client_nonce"`
				Gateway principal.Principal `ic:"gateway_principal"`
			}
			if err := candid.Unmarshal(canonical, []any{&back}); err != nil || back.Nonce != nonce || !bytes.Equal(back.Gateway.Raw, gateway.Bytes()) {
				t.Fatalf("agent-go reads %+v, %v", back, err)
			}
		} else if CauseOf(err) != CauseMalformed {
			t.Fatal(err)
		}
		if key, err := DecodeCloseArg(data); err == nil {
			if again, err := DecodeCloseArg(AppendCloseArg(nil, key)); again != key || err != nil {
				t.Fatalf("ws_close: got %v, %v, want %v", again, err, key)
			}
		}
		if nonce, err := DecodePollArg(data); err == nil {
			if again, err := DecodePollArg(AppendPollArg(nil, nonce)); again != nonce || err != nil {
				t.Fatalf("ws_get_messages: got %d, %v, want %d", again, err, nonce)
			}
		}
		if text, ok, err := DecodeResult(data); err == nil && ok && text != "" {
			t.Fatalf("Ok with the text %q", text)
		}
	})
}

// FuzzMessageArg does the same for the arguments of ws_message, and decodes service messages.
func FuzzMessageArg(f *testing.F) {
	for _, seed := range candidSeeds(f) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, err := DecodeServiceMessage(data); (err == nil) != (m.Kind != "") {
			t.Fatalf("service message: got %+v, %v", m, err)
		}
		m, err := DecodeMessageArg(data)
		if err != nil {
			if CauseOf(err) != CauseMalformed {
				t.Fatal(err)
			}
			return
		}
		canonical := AppendMessageArg(nil, m)
		again, err := DecodeMessageArg(canonical)
		if err != nil || again.Client != m.Client || again.Sequence != m.Sequence || again.Timestamp != m.Timestamp ||
			again.Service != m.Service || !bytes.Equal(again.Content, m.Content) {
			t.Fatalf("canonical form: got %+v, %v, want %+v", again, err, m)
		}
		var back struct {
			Msg oracleWebsocketMessage `ic:"msg"`
		}
		var app *struct{}
		if err := candid.Unmarshal(canonical, []any{&back, &app}); err != nil || back.Msg.Sequence != m.Sequence || !bytes.Equal(back.Msg.Content, m.Content) {
			t.Fatalf("agent-go reads %+v, %v", back, err)
		}
	})
}
