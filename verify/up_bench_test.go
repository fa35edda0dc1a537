package verify

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/aviate-labs/agent-go/candid"
)

// benchReply is a page of n messages of 1 KiB, encoded by agent-go.
func benchReply(b *testing.B, n int) []byte {
	b.Helper()
	page := oraclePage{Cert: make([]byte, 1500), Tree: make([]byte, 6300), EndOfQueue: true}
	for i := range n {
		page.Messages = append(page.Messages, oracleMessage{
			toOracleKey(goldenKey(b)), fmt.Sprintf("%s_%020d", goldenGateway, i), bytes.Repeat([]byte{byte(i)}, 1024),
		})
	}
	return mustMarshal(b, oracleReply{Ok: &page})
}

func BenchmarkReplyDecode(b *testing.B) {
	for _, n := range []int{0, 1, 50} {
		arg := benchReply(b, n)
		b.Run(fmt.Sprintf("%dx1KiB/own", n), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(arg)))
			var r Reply
			for b.Loop() {
				if err := r.Decode(arg); err != nil || len(r.Messages) != n {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("%dx1KiB/agent-go", n), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(arg)))
			for b.Loop() {
				var r oracleReply
				if err := candid.Unmarshal(arg, []any{&r}); err != nil || len(r.Ok.Messages) != n {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParseContent(b *testing.B) {
	content := unhex(b, goldenContent)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseContent(content); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEnvelope is what one client message costs: parsed and hashed, and verified with its chain known or not.
func BenchmarkEnvelope(b *testing.B) {
	for name, golden := range map[string]string{"secp256k1": goldenOpenFrame, "ed25519-delegated": goldenDelegatedFrame} {
		frame := unhex(b, golden)
		chain, err := VerifySender(mustParse(b, frame), goldenTime, nil, nil)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name+"/parse", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseClientFrame(frame); err != nil {
					b.Fatal(err)
				}
			}
		})
		for what, cached := range map[string]*SenderChain{"new": nil, "cached": chain} {
			b.Run(name+"/"+what, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					e, err := ParseClientFrame(frame)
					if err != nil {
						b.Fatal(err)
					}
					if _, err := VerifySender(e, goldenTime, nil, cached); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkSignature is one check by each kind of key. A canister signature needs a pairing when the state root is new,
// and two when the subnet is new too.
func BenchmarkSignature(b *testing.B) {
	n := newTestNet(b)
	ii := newCanisterSigner(n)
	message := requestMessage([32]byte{1})
	signers := map[string]Signer{"canister": ii}
	for name, id := range identities(b) {
		signers[name] = id
	}
	for name, key := range authenticators(b) {
		signers["webauthn-"+name] = key
	}
	for name, s := range signers {
		sig, err := s.Sign(message)
		if err != nil {
			b.Fatal(err)
		}
		key, err := parsePublicKey(s.PublicKey())
		if err != nil {
			b.Fatal(err)
		}
		check := func(b *testing.B, authority func() *Authority, sig func() []byte) {
			b.ReportAllocs()
			for b.Loop() {
				if err := key.verify(message, sig(), authority(), goldenTime); err != nil {
					b.Fatal(err)
				}
			}
		}
		a := n.authority()
		known := func() *Authority { return a }
		same := func() []byte { return sig }
		if name != "canister" {
			b.Run(name, func(b *testing.B) { check(b, known, same) })
			continue
		}
		b.Run("canister/root-known", func(b *testing.B) { check(b, known, same) })
		b.Run("canister/root-new", func(b *testing.B) {
			// Signatures of many times under one delegation, more than the cache of roots holds.
			value := ii.delegation()
			ii.delegation = func() any { return value }
			var sigs [][]byte
			for i := range maxRoots + 1 {
				ii.at = ii.at.Add(time.Duration(i) * time.Second)
				sig, err := ii.Sign(message)
				if err != nil {
					b.Fatal(err)
				}
				sigs = append(sigs, sig)
			}
			i := 0
			check(b, known, func() []byte { i++; return sigs[i%len(sigs)] })
		})
		b.Run("canister/subnet-new", func(b *testing.B) { check(b, n.authority, same) })
	}
}
