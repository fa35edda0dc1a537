package verify

import (
	"bytes"
	"crypto/ed25519"
	_ "embed"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/aviate-labs/agent-go/identity"
)

//go:embed testdata/vectors.txt
var vectorsText string

// vector returns one of the vectors in testdata/vectors.txt, in memory of its own.
func vector(t testing.TB, name string) []byte {
	t.Helper()
	for line := range strings.Lines(vectorsText) {
		if text, ok := strings.CutPrefix(line, name+" "); ok {
			b, err := hex.DecodeString(strings.TrimSpace(text))
			if err != nil {
				t.Fatalf("vector %s: %v", name, err)
			}
			return b
		}
	}
	t.Fatalf("no vector %s", name)
	return nil
}

// Times and identities that the vectors are about.
var (
	flatTime    = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	mainnetTime = time.Unix(0, 1645601880652705250)
	sampleTime  = time.Date(2022, 1, 26, 14, 21, 15, 0, time.UTC)
)

const (
	vectorCanister = "bkyz2-fmaaa-aaaaa-qaaaq-cai"
	vectorGateway  = "im7ks-pqbai-bqibi-ga4ea-scqlb-qgq4d-yqcej-bgfav-cylrq-gi2dm-oae"
	vectorClient   = "hdd57-x5wau-ghaxl-ycgjs-eerui-woutf-epm4a-4g3ii-6ivzn-jdvek-fae"
)

// parsed returns the principal with the given text.
func parsed(t testing.TB, text string) Principal {
	t.Helper()
	p, err := ParsePrincipal(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return p
}

func ed25519FromSeed(t testing.TB, b byte) *identity.Ed25519Identity {
	t.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, 32))
	id, err := identity.NewEd25519Identity(key.Public().(ed25519.PublicKey), key)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
