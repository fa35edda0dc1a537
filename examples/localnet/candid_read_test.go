package localnet

import (
	"bytes"
	"testing"

	agentcandid "github.com/aviate-labs/agent-go/candid"
	"github.com/aviate-labs/agent-go/principal"

	"github.com/icws-gateway/caddy-icws/examples/localnet/candid"
	"github.com/icws-gateway/caddy-icws/verify"
)

// The arguments that the published SDK and the Candid library of JavaScript
// wrote; see the protocol reference.
func TestReadsArguments(t *testing.T) {
	sender, err := verify.ParsePrincipal("hdd57-x5wau-ghaxl-ycgjs-eerui-woutf-epm4a-4g3ii-6ivzn-jdvek-fae")
	if err != nil {
		t.Fatal(err)
	}
	gateway, err := verify.ParsePrincipal("im7ks-pqbai-bqibi-ga4ea-scqlb-qgq4d-yqcej-bgfav-cylrq-gi2dm-oae")
	if err != nil {
		t.Fatal(err)
	}
	key := verify.ClientKey{Principal: sender, Nonce: 0x0102030405060708}
	const p = "1db6050c705d781193221234459d49948f6701c36d08f22b96a475228a02"
	if n, err := readPollArg(unhex(t, "4449444c016c01ef9999fe097801003300000000000000")); err != nil || n != 51 {
		t.Errorf("nonce %d, %v", n, err)
	}
	n, g, err := readOpenArg(unhex(t, "4449444c016c02f3eec6b40268bbd1eacd0e780100011d0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c020807060504030201"))
	if err != nil || n != key.Nonce || g != gateway {
		t.Errorf("open %d %s, %v", n, g, err)
	}
	k, err := readCloseArg(unhex(t, "4449444c026c02fa80a2940568bbd1eacd0e786c01ebb49ce90300010101"+p+"0807060504030201"))
	if err != nil || k != key {
		t.Errorf("close %v, %v", k, err)
	}
	const message = "4449444c056d7b6c02fa80a2940568bbd1eacd0e786c0588ecfba70178b99adecb0100ebb49ce90301d6a9bbae0a78e8f5c3be0a7e6c01c1b4cc02026e7f02030401" +
		"00000000000000124449444c016c01ad99e7e7047101000268690" + "11db6050c705d781193221234459d49948f6701c36d08f22b96a475228a02080706050403020100" + "0057c07e6816180000"
	m, err := readMessageArg(unhex(t, message))
	if err != nil || m.Client != key || m.Sequence != 1 || m.Service || !bytes.Equal(m.Content, TextPayload("hi")) {
		t.Errorf("%+v, %v", m, err)
	}
	for content, want := range map[string]bool{
		string(verify.AppendKeepAlive(nil, 7)):                     true,
		string(appendAckMessage(nil, 7)):                           false,
		string(appendCloseMessage(nil, "ClosedByApplication")):     false,
		string(appendOpenMessage(nil, key)):                        false,
		string(mustCandid(t, struct{ KeepAliveMessage uint64 }{})): false,
	} {
		if alive, err := readKeepAlive([]byte(content)); alive != want || err != nil && want {
			t.Errorf("%x is read as %t, %v", content, alive, err)
		}
	}
}

// What agent-go writes, whose Candid shares nothing with ours.
func TestReadsAgentGo(t *testing.T) {
	type clientKey struct {
		Principal principal.Principal `ic:"client_principal"`
		Nonce     uint64              `ic:"client_nonce"`
	}
	type msg struct {
		Key       clientKey `ic:"client_key"`
		Sequence  uint64    `ic:"sequence_num"`
		Timestamp uint64    `ic:"timestamp"`
		Service   bool      `ic:"is_service_message"`
		Content   []byte    `ic:"content"`
		More      *string   `ic:"a_field_of_tomorrow"`
	}
	id := principal.Principal{Raw: canisterID(9).Bytes()}
	text := "newer"
	for _, service := range []bool{false, true} {
		for _, more := range []*string{nil, &text} {
			arg := mustCandid(t, struct {
				Msg msg `ic:"msg"`
			}{msg{clientKey{id, 1<<64 - 1}, 2, 3, service, []byte{4, 5}, more}})
			m, err := readMessageArg(arg)
			if err != nil || m.Client != (verify.ClientKey{Principal: canisterID(9), Nonce: 1<<64 - 1}) || m.Sequence != 2 ||
				m.Timestamp != 3 || m.Service != service || !bytes.Equal(m.Content, []byte{4, 5}) {
				t.Errorf("%+v, %v", m, err)
			}
			for cut := range arg {
				if _, err := readMessageArg(arg[:cut]); err == nil {
					t.Errorf("read although cut at %d of %d", cut, len(arg))
				}
			}
		}
	}
}

func mustCandid(t testing.TB, v any) []byte {
	t.Helper()
	b, err := agentcandid.Marshal([]any{v})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Arguments that cost a naive reader its stack, its memory or its time.
func TestHostileArguments(t *testing.T) {
	for _, a := range candidAttacks() {
		if a.arg == nil {
			continue
		}
		arg := a.arg(nil, []byte("DIDL"))
		if _, err := readPollArg(arg); err == nil {
			t.Errorf("%s is read", a.Name)
		}
		if _, err := readMessageArg(arg); err == nil {
			t.Errorf("%s is read", a.Name)
		}
	}
	for name, arg := range map[string]string{
		"fields in disorder":      "DIDL\x01\x6c\x02\x02\x7f\x01\x7f\x01\x00",
		"field twice":             "DIDL\x01\x6c\x02\x01\x7f\x01\x7f\x01\x00",
		"type of no table":        "DIDL\x00\x01\x05",
		"bool that is two":        "DIDL\x00\x01\x7e\x02",
		"text that is not UTF-8":  "DIDL\x00\x01\x71\x02\xc3\x28",
		"opaque principal":        "DIDL\x00\x01\x68\x00",
		"option that is two":      "DIDL\x01\x6e\x7f\x01\x00\x02",
		"signed number too long":  "DIDL\x00\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
		"a vector of many nulls":  "DIDL\x01\x6d\x7f\x01\x00\xff\xff\xff\xff\x0f",
		"more behind the value":   "DIDL\x00\x01\x7e\x01\x01",
		"no argument":             "DIDL\x00\x00",
		"another magic":           "DIDM\x00\x01\x7f",
		"variant without its arm": "DIDL\x01\x6b\x01\x00\x7f\x01\x00\x01",
	} {
		if v, err := candid.Read([]byte(arg)); err == nil {
			t.Errorf("%s is read as %v", name, v)
		}
	}
}
