package verify

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

func TestContentGolden(t *testing.T) {
	b := unhex(t, goldenContent)
	hash := sha256.Sum256(b)
	wantHex(t, "hash", hash[:], "d537b046e036921e5619152a93d711071415c880f75901ab49c0d3834e2ffc89")
	m, err := ParseContent(b)
	if err != nil {
		t.Fatal(err)
	}
	if m.Client != goldenKey(t) || m.Sequence != 2 || m.Timestamp != 1735689600000000000 || m.Service ||
		hex.EncodeToString(m.Content) != "4449444c016c01ad99e7e704710100026869" {
		t.Errorf("got %+v", m)
	}
	wantHex(t, "encoded again", AppendContent(nil, &m), goldenContent)
	untagged, err := ParseContent(b[3:]) // the Motoko kit
	if err != nil || untagged.Client != m.Client || !bytes.Equal(untagged.Content, m.Content) {
		t.Errorf("untagged: got %+v, %v", untagged, err)
	}
	for n := range b {
		if _, err := ParseContent(b[:n]); !errors.Is(err, ErrMalformed) || CauseOf(err) != CauseMalformed {
			t.Fatalf("cut at %d: got %v", n, err)
		}
	}
	if _, err := ParseContent(append(b, 0)); !errors.Is(err, ErrMalformed) {
		t.Errorf("trailing byte: got %v", err)
	}
}

func TestContentFields(t *testing.T) {
	key := map[string]any{"client_principal": []byte{4}, "client_nonce": uint64(1)}
	whole := func() map[string]any {
		return map[string]any{
			"client_key": key, "sequence_num": uint64(2), "timestamp": uint64(3), "is_service_message": true, "content": []byte("c"),
		}
	}
	parse := func(m map[string]any) (WebsocketMessage, error) {
		b, err := cbor.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return ParseContent(b)
	}
	m := whole()
	m["later"] = map[string]any{"a": []any{-1, nil, "x", true}}
	got, err := parse(m)
	want := WebsocketMessage{Client: ClientKey{Anonymous, 1}, Sequence: 2, Timestamp: 3, Service: true}
	if err != nil || got.Client != want.Client || got.Sequence != 2 || got.Timestamp != 3 || !got.Service || string(got.Content) != "c" {
		t.Errorf("got %+v, %v", got, err)
	}
	for name := range whole() {
		m := whole()
		delete(m, name)
		if _, err := parse(m); !errors.Is(err, ErrMalformed) {
			t.Errorf("without %s: got %v", name, err)
		}
		m[name] = "text"
		if _, err := parse(m); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s as text: got %v", name, err)
		}
	}
	for name, odd := range map[string]any{ // what a client's decoder refuses or misreads
		"float": 1.5, "tag": cbor.Tag{Number: 32, Content: 1}, "indefinite list": cbor.RawMessage("\x9f\xff"),
		"length of 64 bits": cbor.RawMessage("\x9b\x00\x00\x00\x00\x00\x00\x00\x00"),
	} {
		m := whole()
		m["later"] = odd
		if _, err := parse(m); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	m = whole()
	m["timestamp"] = cbor.RawMessage("\x1b\x00\x00\x00\x00\x00\x00\x00\x03") // wide integers are no trouble
	if got, err := parse(m); err != nil || got.Timestamp != 3 {
		t.Errorf("wide integer: got %+v, %v", got, err)
	}
	for _, in := range []string{
		"d9d9f7d9d9f7a0", "a0", "80", "f6", "bfff", "a1",
		"a267636f6e74656e744061674061", "a267636f6e74656e744067636f6e74656e7440", "a167636f6e74656e745a7fffffff",
	} {
		if _, err := ParseContent(unhex(t, in)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %v", in, err)
		}
	}
}

func TestHandshakeGolden(t *testing.T) {
	gateway := mustPrincipal(t, goldenGateway)
	wantHex(t, "handshake", AppendHandshake(nil, gateway), goldenHandshake)
	frame := unhex(t, goldenHandshake)
	for _, in := range [][]byte{frame, frame[3:], unhex(t, "a26161f671676174657761795f7072696e636970616c4104")} {
		got, err := ParseHandshake(in)
		if err != nil || got != gateway && got != Anonymous {
			t.Errorf("%x: got %s, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "a0", "a171676174657761795f7072696e636970616c40", "a171676174657761795f7072696e636970616c6161", goldenHandshake + "00"} {
		if _, err := ParseHandshake(unhex(t, in)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %v", in, err)
		}
	}
	for n := range frame {
		if _, err := ParseHandshake(frame[:n]); !errors.Is(err, ErrMalformed) {
			t.Errorf("cut at %d: got %v", n, err)
		}
	}
}
