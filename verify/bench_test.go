package verify

import (
	"testing"

	"github.com/aviate-labs/agent-go/certification"
	"github.com/aviate-labs/agent-go/certification/hashtree"
	"github.com/fxamacker/cbor/v2"
)

// BenchmarkCertificate compares ways to verify the mainnet certificate with delegation. The bounds: at most 0.8 ms with the
// delegation cached, where agent-go takes 2 ms, and at most 10 µs if the state root was seen before.
func BenchmarkCertificate(b *testing.B) {
	raw := vector(b, "mainnet_certificate")
	canister := parsed(b, "ivg37-qiaaa-aaaab-aaaga-cai")
	b.Run("agent-go", func(b *testing.B) {
		id := agentPrincipal(canister)
		b.ReportAllocs()
		for b.Loop() {
			var cert certification.Certificate
			if err := cbor.Unmarshal(raw, &cert); err != nil {
				b.Fatal(err)
			}
			if err := certification.VerifyCertificate(cert, id, MainnetRootKey()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("nothing cached", func(b *testing.B) {
		a := authorityOf(b, MainnetRootKey())
		b.ReportAllocs()
		for b.Loop() {
			a.keys, a.polled = newMemo[*blsKey](1), newProofs(maxCBORValues)
			if _, err := a.Certificate(raw, canister, mainnetTime); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("delegation cached", func(b *testing.B) {
		a := authorityOf(b, MainnetRootKey())
		b.ReportAllocs()
		for b.Loop() {
			a.polled.roots = newMemo[struct{}](1)
			if _, err := a.Certificate(raw, canister, mainnetTime); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("root seen", func(b *testing.B) {
		a := authorityOf(b, MainnetRootKey())
		b.ReportAllocs()
		for b.Loop() {
			if _, err := a.Certificate(raw, canister, mainnetTime); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkPage verifies a page of 50 messages of 1 KiB.
func BenchmarkPage(b *testing.B) {
	q := newTestQueue(b, 50, 1024, 0)
	r, w := q.reply(), q.want(0)
	b.Run("one pairing check", func(b *testing.B) {
		a := q.authority()
		b.ReportAllocs()
		for b.Loop() {
			a.polled.roots = newMemo[struct{}](1)
			if _, err := a.Page(r, w, q.now); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("root seen", func(b *testing.B) {
		a := q.authority()
		b.ReportAllocs()
		for b.Loop() {
			if _, err := a.Page(r, w, q.now); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkFrames builds the 50 frames of a page, witnesses pruned.
func BenchmarkFrames(b *testing.B) {
	q := newTestQueue(b, 50, 1024, 0)
	p, err := q.authority().Page(q.reply(), q.want(0), q.now)
	if err != nil {
		b.Fatal(err)
	}
	size := 0
	for i := range p.Messages {
		size = max(size, p.FrameSize(i))
	}
	dst := make([]byte, 0, size)
	b.ReportAllocs()
	for b.Loop() {
		for i := range p.Messages {
			dst = p.AppendFrame(dst[:0], i)
		}
	}
}

// BenchmarkWitness parses and hashes the witness of 50 messages.
func BenchmarkWitness(b *testing.B) {
	node, keys := queueTree(50)
	raw := encodeTree(b, node)
	b.Run("agent-go", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			n, err := hashtree.Deserialize(raw)
			if err != nil {
				b.Fatal(err)
			}
			n.Reconstruct()
			for _, key := range keys {
				if _, err := hashtree.Lookup(n, hashtree.Label("websocket"), key); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("ours", func(b *testing.B) {
		var tree Tree
		label := []byte("websocket")
		b.ReportAllocs()
		for b.Loop() {
			if err := tree.Parse(raw); err != nil {
				b.Fatal(err)
			}
			for _, key := range keys {
				if _, r := tree.Lookup(label, key); r != Found {
					b.Fatal(r)
				}
			}
		}
	})
}
