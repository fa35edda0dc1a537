package localnet

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"github.com/icws-gateway/caddy-icws/verify"
)

// The vectors of the protocol reference, which the published SDK, its Candid
// library and the Rust crates produced.
func TestGoldenEncodings(t *testing.T) {
	sender, err := verify.ParsePrincipal("hdd57-x5wau-ghaxl-ycgjs-eerui-woutf-epm4a-4g3ii-6ivzn-jdvek-fae")
	if err != nil {
		t.Fatal(err)
	}
	key := verify.ClientKey{Principal: sender, Nonce: 0x0102030405060708}
	const (
		table     = "4449444c066c02fa80a2940568bbd1eacd0e786c01ebb49ce903006c01d888abb90a786b04cdc2dabb047fc9c68ea0057fd7aba29c0a7f999dafab0d7f6c01c49ff4e40f036b04fdbd95cc0101bfd397b409028ff2d1ef0a049eb7f0ad0b020105"
		principal = "1db6050c705d781193221234459d49948f6701c36d08f22b96a475228a02"
		types     = "4449444c066d7b6c02fa80a2940568bbd1eacd0e786c039f93c60271b99adecb0100ebb49ce903016d026c04ccb1f7a70303e4cdf48d0400deb28ee80400829c8df40d7e6b02bc8a0104c5fed201710105"
	)
	content := func(payload []byte) []byte {
		c := &CDK{}
		return c.appendContent(nil, &cdkClient{key: key, outgoing: 2}, 0x1816687ec0570000, false, payload)
	}(TextPayload("hi"))
	message := cdkMessage{client: verify.ClientKey{Principal: sender, Nonce: 0x0102030405060708}, key: "k_00000000000000000001", content: []byte{1, 2}}
	for _, tt := range []struct {
		name string
		got  []byte
		want string
	}{
		{"content", content, "d9d9f7a56a636c69656e745f6b6579a270636c69656e745f7072696e636970616c58" + principal + "6c636c69656e745f6e6f6e63651b01020304050607086c73657175656e63655f6e756d026974696d657374616d701b1816687ec05700007269735f736572766963655f6d657373616765f467636f6e74656e74524449444c016c01ad99e7e704710100026869"},
		{"open message", appendOpenMessage(nil, key), table + "0001" + principal + "0807060504030201"},
		{"ack message", appendAckMessage(nil, 2), table + "030200000000000000"},
		{"close message", appendCloseMessage(nil, "ClosedByApplication"), table + "0200"},
		{"ok", resultOk(), "4449444c016b02bc8a017fc5fed20171010000"},
		{"err", resultErr("x"), "4449444c016b02bc8a017fc5fed201710100010178"},
		{"empty page", (&page{endOfQueue: true}).appendCandid(nil), types + "0000000001"},
		{"empty page of old", (&page{noEndOfQueue: true}).appendCandid(nil), "4449444c066d7b6c02fa80a2940568bbd1eacd0e786c039f93c60271b99adecb0100ebb49ce903016d026c03ccb1f7a70303e4cdf48d0400deb28ee804006b02bc8a0104c5fed20171010500000000"},
		{"page of one", (&page{messages: []cdkMessage{message}, cert: []byte{0xc1}, tree: []byte{0xc2}}).appendCandid(nil),
			types + "0001166b5f3030303030303030303030303030303030303031020102011db6050c705d781193221234459d49948f6701c36d08f22b96a475228a02080706050403020101c101c200"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if want := unhex(t, tt.want); !bytes.Equal(tt.got, want) {
				t.Errorf("\n%x, want\n%x", tt.got, want)
			}
		})
	}
	if h := sha256.Sum256(content); !bytes.Equal(h[:], unhex(t, "d537b046e036921e5619152a93d711071415c880f75901ab49c0d3834e2ffc89")) {
		t.Errorf("hash of the content is %x", h)
	}
	g, err := verify.ParsePrincipal("im7ks-pqbai-bqibi-ga4ea-scqlb-qgq4d-yqcej-bgfav-cylrq-gi2dm-oae")
	if err != nil {
		t.Fatal(err)
	}
	if got := messageKey(g, 1); got != g.String()+"_00000000000000000001" || len(got) != 84 {
		t.Errorf("key %s", got)
	}
}

// Every close reason and the Motoko order of types, by the reading of package
// verify, whose decoder is held against the reference vectors on its own.
func TestEncodingsAreRead(t *testing.T) {
	for reason := range closeReasons {
		m, err := verify.DecodeServiceMessage(appendCloseMessage(nil, reason))
		if err != nil || m.Kind != verify.ServiceClose || m.Reason != reason {
			t.Errorf("%s is read as %+v, %v", reason, m, err)
		}
	}
	p := &page{messages: []cdkMessage{{key: "k", content: []byte("c"), client: verify.ClientKey{Principal: canisterID(3), Nonce: 4}}},
		cert: []byte("cert"), tree: []byte("tree"), endOfQueue: true, motoko: true}
	var r verify.Reply
	if err := r.Decode(p.appendCandid(nil)); err != nil {
		t.Fatal(err)
	}
	m := r.Messages[0]
	if string(m.Key) != "k" || string(m.Content) != "c" || m.Client != p.messages[0].client || string(r.Cert) != "cert" || string(r.Tree) != "tree" || !r.EndOfQueue {
		t.Errorf("%+v", r)
	}
}
