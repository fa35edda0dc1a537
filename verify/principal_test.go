package verify

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/aviate-labs/agent-go/principal"
)

func TestPrincipalText(t *testing.T) {
	for text, raw := range map[string]string{
		"aaaaa-aa":                    "",
		"2vxsx-fae":                   "04",
		"bkyz2-fmaaa-aaaaa-qaaaq-cai": "80000000001000010101",
		"hdd57-x5wau-ghaxl-ycgjs-eerui-woutf-epm4a-4g3ii-6ivzn-jdvek-fae": "b6050c705d781193221234459d49948f6701c36d08f22b96a475228a02",
		"im7ks-pqbai-bqibi-ga4ea-scqlb-qgq4d-yqcej-bgfav-cylrq-gi2dm-oae": "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c02",
	} {
		p, err := ParsePrincipal(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if want := unhex(t, raw); !bytes.Equal(p.Bytes(), want) {
			t.Errorf("%s: got %x", text, p.Bytes())
		}
		q, err := PrincipalFromBytes(unhex(t, raw))
		if err != nil || q != p || q.String() != text {
			t.Errorf("%s: from bytes: %v, %v", text, q, err)
		}
	}
	if (Principal{}).String() != "aaaaa-aa" || !Anonymous.IsAnonymous() || (Principal{}).IsAnonymous() {
		t.Error("management canister and anonymous principal")
	}
}

func TestPrincipalTextRefused(t *testing.T) {
	for name, text := range map[string]string{
		"empty":             "",
		"checksum only":     "aaaaa",
		"checksum wrong":    "bkyz3-fmaaa-aaaaa-qaaaq-cai",
		"upper case":        "BKYZ2-FMAAA-AAAAA-QAAAQ-CAI",
		"no dashes":         "bkyz2fmaaaaaaaaqaaaqcai",
		"dash at the end":   "bkyz2-fmaaa-aaaaa-qaaaq-cai-",
		"dash moved":        "bkyz2f-maaa-aaaaa-qaaaq-cai",
		"stray bits":        "2vxsx-faf",
		"not base32":        "bkyz2-fmaaa-aaaaa-qaaaq-ca1",
		"new line":          "2vxsx-fae\n",
		"longer than 29":    "im7ks-pqbai-bqibi-ga4ea-scqlb-qgq4d-yqcej-bgfav-cylrq-gi2dm-oae-aa",
		"unbounded":         strings.Repeat("a", 1<<20),
		"sixty-three of it": strings.Repeat("a", 63),
	} {
		if p, err := ParsePrincipal(text); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %v, %v", name, p, err)
		}
	}
	if _, err := PrincipalFromBytes(make([]byte, 30)); !errors.Is(err, ErrMalformed) {
		t.Errorf("30 bytes: %v", err)
	}
}

// agent-go is the second opinion on text, derivation and order.
func TestPrincipalAgainstAgentGo(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var ours []Principal
	for n := range 30 {
		raw := make([]byte, n)
		for i := range raw {
			raw[i] = byte(rng.Uint32())
		}
		p, err := PrincipalFromBytes(raw)
		if err != nil {
			t.Fatal(err)
		}
		if want := (principal.Principal{Raw: raw}).Encode(); p.String() != want {
			t.Errorf("%x: got %s, want %s", raw, p, want)
		}
		if q, err := ParsePrincipal(p.String()); err != nil || q != p {
			t.Errorf("%s: %v, %v", p, q, err)
		}
		if got, want := SelfAuthenticating(raw).Bytes(), principal.NewSelfAuthenticating(raw).Raw; !bytes.Equal(got, want) {
			t.Errorf("self-authenticating %x: got %x, want %x", raw, got, want)
		}
		ours = append(ours, p)
	}
	slices.SortFunc(ours, Principal.Compare)
	if !slices.IsSortedFunc(ours, func(p, q Principal) int { return bytes.Compare(p.Bytes(), q.Bytes()) }) {
		t.Error("Compare is not the order of byte strings")
	}
}

func TestPrincipalJSON(t *testing.T) {
	var m map[string]Principal
	const text = `{"canister":"bkyz2-fmaaa-aaaaa-qaaaq-cai"}`
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	if out, err := json.Marshal(m); err != nil || string(out) != text {
		t.Errorf("got %s, %v", out, err)
	}
	if err := json.Unmarshal([]byte(`{"canister":"bkyz2"}`), &m); !errors.Is(err, ErrMalformed) {
		t.Errorf("bad text: %v", err)
	}
}

func TestClientKeyText(t *testing.T) {
	p, err := ParsePrincipal("2vxsx-fae")
	if err != nil {
		t.Fatal(err)
	}
	if s := (ClientKey{p, 72623859790382856}).String(); s != "2vxsx-fae_72623859790382856" {
		t.Errorf("got %s", s)
	}
}

func TestCauseOf(t *testing.T) {
	if CauseOf(nil) != "" || CauseOf(errors.New("x")) != CauseOther || CauseOf(errCBORShort) != CauseMalformed {
		t.Error("cause of errors that are not *Error")
	}
	err := failWith(CauseWitness, "checking page", fail(CauseKey, "key is not ours"))
	if CauseOf(err) != CauseKey || err.Error() != "checking page: key is not ours" {
		t.Errorf("got %s, %v", CauseOf(err), err)
	}
}
