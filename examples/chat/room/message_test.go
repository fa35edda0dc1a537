package room

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/icws-gateway/caddy-icws/verify"
)

// The encoding that @dfinity/candid 2.4.1 makes of the same record.
const golden = "4449444c016c05f3a90178cbe4fdc70471ad99e7e704718bd5ef9b076893e98ffb0f79" +
	"0100" + "0500000000000000" + "03416461" + "0368c3a9" + "010a80000000001000010101" + "07000000"

func TestMessageGolden(t *testing.T) {
	author, err := verify.ParsePrincipal("bkyz2-fmaaa-aaaaa-qaaaq-cai")
	if err != nil {
		t.Fatal(err)
	}
	want := Message{Author: author, Name: "Ada", Text: "hé", At: 5, Online: 7}
	raw, err := hex.DecodeString(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got := want.Encode(); !bytes.Equal(got, raw) {
		t.Errorf("Encode = %x, want %x", got, raw)
	}
	got, err := Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	if *got != want {
		t.Errorf("Decode = %+v, want %+v", *got, want)
	}
}

// Nothing that a client sends may panic, and nothing but a whole message passes.
func TestDecodeRefuses(t *testing.T) {
	raw, err := hex.DecodeString(golden)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(raw) {
		if _, err := Decode(raw[:n]); err == nil {
			t.Errorf("the first %d bytes pass", n)
		}
	}
	if _, err := Decode(append(raw, 0)); err == nil {
		t.Error("a trailing byte passes")
	}
	long := bytes.Clone(raw)
	copy(long[len(prefix)+8:], "\xff\xff\xff\xff\xff\xff\xff\xff\x7f") // a name of 2^63 bytes
	if _, err := Decode(long); err == nil {
		t.Error("a name longer than the message passes")
	}
}

func FuzzDecode(f *testing.F) {
	raw, err := hex.DecodeString(golden)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			return
		}
		again, err := Decode(m.Encode())
		if err != nil || *again != *m {
			t.Errorf("%+v does not survive its own encoding: %v", m, err)
		}
	})
}
