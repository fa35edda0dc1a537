package verify

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// The vectors are those of PROTOCOL.md 2.4, 4.4 and 4.6: key, certificate, witness and content of one message, made by
// the Rust certification crate and accepted by the JavaScript SDK.
const (
	frameRootKey = "308182301d060d2b0601040182dc7c0503010201060c2b0601040182dc7c05030201036100b08fe5997b0df3a124c30966b6121f4784731dd214cb7642cce40ac3a1ccb11a60e10521b7478f39bb339037a1a27433185af8e1c601683c87a4635084a69b61e4bb29ec365a89b7b920ebb676a42567519e814b917d40f221bdc76aa3271855"
	frameCert    = "d9d9f7a26474726565830183024863616e697374657283024a8000000000100001010183024e6365727469666965645f6461746182035820dacc627163977de5b9fd01b044327fc06bc26a51426e98b5edffd78cad5dd45b83024474696d658203498080dc82ec8f9a8b18697369676e6174757265583095283f79121cc1a7136da7860788e723262cb229fb56471feb3d009efb751511ae571c99262722246616b60267a85747"
	frameTree    = "d9d9f7830249776562736f636b6574830182045820a1e9242d0010475ac0df2ab5a51ece424fd7f0114cd019ffb3de46b54a26ca7a830183025854696d376b732d70716261692d62716962692d67613465612d7363716c622d71677134642d797163656a2d62676661762d63796c72712d676932646d2d6f61655f303030303030303030303030303030303030303182035820d537b046e036921e5619152a93d711071415c880f75901ab49c0d3834e2ffc898204582010dd0c03b35a44bfc5643041af582a8ec181d2d8e620678b8e929b051a04298e"
	frameContent = "d9d9f7a56a636c69656e745f6b6579a270636c69656e745f7072696e636970616c581db6050c705d781193221234459d49948f6701c36d08f22b96a475228a026c636c69656e745f6e6f6e63651b01020304050607086c73657175656e63655f6e756d026974696d657374616d701b1816687ec05700007269735f736572766963655f6d657373616765f467636f6e74656e74524449444c016c01ad99e7e704710100026869"
	frameKey     = "im7ks-pqbai-bqibi-ga4ea-scqlb-qgq4d-yqcej-bgfav-cylrq-gi2dm-oae_00000000000000000001"
)

// frameTime is the time in the certificate.
var frameTime = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

type wireFrame struct {
	Key     string `cbor:"key"`
	Content []byte `cbor:"content"`
	Cert    []byte `cbor:"cert"`
	Tree    []byte `cbor:"tree"`
}

// goldenFrame is the frame of the vectors, after change, encoded by fxamacker.
func goldenFrame(t *testing.T, change func(*wireFrame)) []byte {
	t.Helper()
	w := wireFrame{Key: frameKey, Content: unhex(t, frameContent), Cert: unhex(t, frameCert), Tree: unhex(t, frameTree)}
	if change != nil {
		change(&w)
	}
	b, err := cbor.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func frameParties(t *testing.T) (a *Authority, canister, gateway Principal) {
	t.Helper()
	a, err := NewAuthority(unhex(t, frameRootKey))
	if err != nil {
		t.Fatal(err)
	}
	if canister, err = ParsePrincipal("bkyz2-fmaaa-aaaaa-qaaaq-cai"); err != nil {
		t.Fatal(err)
	}
	if gateway, err = ParsePrincipal("im7ks-pqbai-bqibi-ga4ea-scqlb-qgq4d-yqcej-bgfav-cylrq-gi2dm-oae"); err != nil {
		t.Fatal(err)
	}
	return a, canister, gateway
}

func TestVerifyFrame(t *testing.T) {
	a, canister, gateway := frameParties(t)
	for name, raw := range map[string][]byte{
		"untagged": goldenFrame(t, nil),
		"tagged":   append([]byte("\xd9\xd9\xf7"), goldenFrame(t, nil)...),
		"untagged tree": goldenFrame(t, func(w *wireFrame) {
			w.Tree = bytes.TrimPrefix(w.Tree, []byte("\xd9\xd9\xf7"))
		}),
	} {
		t.Run(name, func(t *testing.T) {
			f, err := ParseFrame(raw)
			if err != nil {
				t.Fatal(err)
			}
			v, err := a.VerifyFrame(f, canister, gateway, frameTime.Add(time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			m := v.Message
			if v.Nonce != 1 || !v.Time.Equal(frameTime) || v.Delegated || !v.Flat {
				t.Errorf("frame: %+v", v)
			}
			if m.Sequence != 2 || m.Service || m.Client.Nonce != 0x0102030405060708 || !bytes.HasSuffix(m.Content, []byte("hi")) ||
				m.Client.Principal.String() != "hdd57-x5wau-ghaxl-ycgjs-eerui-woutf-epm4a-4g3ii-6ivzn-jdvek-fae" {
				t.Errorf("message: %+v", m)
			}
		})
	}
}

func TestVerifyFrameRefuses(t *testing.T) {
	a, canister, gateway := frameParties(t)
	tests := []struct {
		name   string
		change func(*wireFrame)
		at     time.Duration
		with   func(canister, gateway *Principal)
		cause  Cause
	}{
		{name: "content altered", cause: CauseWitness, change: func(w *wireFrame) { w.Content[len(w.Content)-1]++ }},
		{name: "key of a pruned message", cause: CauseWitness, change: func(w *wireFrame) { w.Key = w.Key[:len(w.Key)-1] + "0" }},
		{name: "witness altered", cause: CauseCertifiedData, change: func(w *wireFrame) { w.Tree[len(w.Tree)-1]++ }},
		{name: "witness is not a tree", cause: CauseMalformed, change: func(w *wireFrame) { w.Tree = []byte{0x80} }},
		{name: "signature altered", cause: CauseSignature, change: func(w *wireFrame) { w.Cert[len(w.Cert)-1] ^= 1 }},
		{name: "certificate cut", cause: CauseMalformed, change: func(w *wireFrame) { w.Cert = w.Cert[:len(w.Cert)-1] }},
		{name: "six minutes old", cause: CauseCertificateOld, at: 6 * time.Minute},
		{name: "six minutes ahead", cause: CauseCertificateFuture, at: -6 * time.Minute},
		{name: "another canister", cause: CauseCertifiedData, with: func(c, _ *Principal) { *c, _ = PrincipalFromBytes([]byte{0, 0, 0, 0, 0, 16, 0, 2, 1, 1}) }},
		{name: "another gateway", cause: CauseKey, with: func(_, g *Principal) { *g = Anonymous }},
		{name: "nonce of 19 digits", cause: CauseKey, change: func(w *wireFrame) { w.Key = w.Key[:len(w.Key)-1] }},
		{name: "nonce with a sign", cause: CauseKey, change: func(w *wireFrame) { w.Key = w.Key[:64] + "+0000000000000000001" }},
		{name: "nonce out of range", cause: CauseKey, change: func(w *wireFrame) { w.Key = w.Key[:64] + "99999999999999999999" }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, err := ParseFrame(goldenFrame(t, tt.change))
			if err != nil {
				t.Fatal(err)
			}
			c, g := canister, gateway
			if tt.with != nil {
				tt.with(&c, &g)
			}
			if v, err := a.VerifyFrame(f, c, g, frameTime.Add(tt.at)); CauseOf(err) != tt.cause {
				t.Errorf("got %+v, %v, want cause %s", v, err, tt.cause)
			}
		})
	}
}

func TestParseFrameRefuses(t *testing.T) {
	for name, in := range map[string]string{
		"nothing":            "",
		"array":              "80",
		"no cert":            "a3 636b6579 6161 67636f6e74656e74 4161 6474726565 4161",
		"empty tree":         "a4 636b6579 6161 67636f6e74656e74 4161 6463657274 4161 6474726565 40",
		"indefinite content": "a4 636b6579 6161 67636f6e74656e74 5f4161ff 6463657274 4161 6474726565 4161",
		"text for bytes":     "a4 636b6579 6161 67636f6e74656e74 6161 6463657274 4161 6474726565 4161",
		"key twice":          "a5 636b6579 6161 636b6579 6161 67636f6e74656e74 4161 6463657274 4161 6474726565 4161",
		"trailing byte":      "a4 636b6579 6161 67636f6e74656e74 4161 6463657274 4161 6474726565 4161 00",
	} {
		if f, err := ParseFrame(unhex(t, in)); !errors.Is(err, ErrMalformed) || CauseOf(err) != CauseMalformed {
			t.Errorf("%s: got %+v, %v", name, f, err)
		}
	}
	in := "a5 66667574757265 8101 636b6579 6161 67636f6e74656e74 4162 6463657274 4163 6474726565 4164"
	f, err := ParseFrame(unhex(t, in))
	if err != nil || string(f.Key) != "a" || string(f.Content) != "b" || string(f.Cert) != "c" || string(f.Tree) != "d" {
		t.Errorf("with an unknown field: %+v, %v", f, err)
	}
}

func FuzzVerifyFrame(f *testing.F) {
	a, err := NewAuthority(unhex(f, frameRootKey))
	if err != nil {
		f.Fatal(err)
	}
	canister, _ := ParsePrincipal("bkyz2-fmaaa-aaaaa-qaaaq-cai")
	gateway, _ := ParsePrincipal("im7ks-pqbai-bqibi-ga4ea-scqlb-qgq4d-yqcej-bgfav-cylrq-gi2dm-oae")
	golden, err := cbor.Marshal(wireFrame{Key: frameKey, Content: unhex(f, frameContent), Cert: unhex(f, frameCert), Tree: unhex(f, frameTree)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	for _, raw := range recordedSeeds(f, "wsframe") {
		f.Add(raw)
	}
	cert := unhex(f, frameCert)
	f.Fuzz(func(t *testing.T, raw []byte) {
		frame, err := ParseFrame(raw)
		if err != nil {
			return
		}
		frame.Cert = cert // its root is remembered: a pairing under the fuzzer's instrumentation takes a second
		v, err := a.VerifyFrame(frame, canister, gateway, frameTime)
		if err != nil {
			return
		}
		// Nobody else holds the key, so what verifies says what the golden frame says.
		if v.Nonce != 1 || v.Message.Sequence != 2 || !bytes.Equal(frame.Content, unhex(t, frameContent)) {
			t.Errorf("forged: %+v", v)
		}
	})
}

// A client's cost per message, with the state root verified before.
func BenchmarkVerifyFrame(b *testing.B) {
	a, err := NewAuthority(unhex(b, frameRootKey))
	if err != nil {
		b.Fatal(err)
	}
	canister, _ := ParsePrincipal("bkyz2-fmaaa-aaaaa-qaaaq-cai")
	gateway, _ := ParsePrincipal("im7ks-pqbai-bqibi-ga4ea-scqlb-qgq4d-yqcej-bgfav-cylrq-gi2dm-oae")
	raw, err := cbor.Marshal(wireFrame{Key: frameKey, Content: unhex(b, frameContent), Cert: unhex(b, frameCert), Tree: unhex(b, frameTree)})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		f, err := ParseFrame(raw)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := a.VerifyFrame(f, canister, gateway, frameTime); err != nil {
			b.Fatal(err)
		}
	}
}
