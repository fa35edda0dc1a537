// Package recorded finds the bytes that tests judge codecs by. Those that were derived from the network's own source with its
// serialiser lie in verify/testdata/recorded. Those that were recorded from the Internet Computer and from published clients
// belong to others and are no part of this repository: they are read from ../shared/recorded where that is.
package recorded

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// Artefact is a file of recorded bytes with what a correct reader must get from it. Unset fields say nothing.
type Artefact struct {
	// Dir is the folder that File is in.
	Dir string `json:"-"`
	// File is its name, Kind what it is, SHA256 its hash in hex.
	File, Kind, SHA256 string
	// Refuse is why it must be refused: a cause of package verify.
	Refuse string

	// Net names its root key: "mainnet", or a root-*.der beside it without the extension; otherwise it is not known.
	Net string
	// Canister is the one that it is about, "?" for any that the certificate is good for.
	Canister string
	// Gateway and Nonce are the queue and the place in it of a frame.
	Gateway string
	Nonce   uint64

	Replied, Rejected, Signed bool
	NSig                      *int   // number of node signatures
	RejectCode                uint64 `json:"reject_code"`
	ErrorCode                 string `json:"error_code"`

	Flat      *bool  // the layout of canister ranges
	Nodes     *int   // there are node keys
	RequestID string `json:"request_id"` // hex
	RequestOf string `json:"request_of"` // file of the envelope that has the request id
	Outcome   string
	Certified string // hex of the certified data
	Tree      string // file of the witness that is certified
	Key       string // file of the public key that signed
	Msg       string // hex of what it signed

	// Status and Headers are those of an HTTP answer.
	Status  int
	Headers string
}

// Dirs returns the folders with recorded bytes that are there. root is the module's root as seen from the test.
func Dirs(t testing.TB, root string) []string {
	t.Helper()
	dirs := []string{filepath.Join(root, "verify/testdata/recorded")}
	if beside := filepath.Join(root, "../shared/recorded"); isDir(beside) {
		dirs = append(dirs, beside)
	}
	return dirs
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// All returns the artefacts of all manifests, each file once. root is the module's root as seen from the test.
func All(t testing.TB, root string) []Artefact {
	t.Helper()
	var all []Artefact
	seen := make(map[string]bool)
	for _, dir := range Dirs(t, root) {
		manifests, err := filepath.Glob(filepath.Join(dir, "manifest*.json"))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range manifests {
			raw, err := os.ReadFile(m)
			if err != nil {
				t.Fatal(err)
			}
			var some []Artefact
			if err := json.Unmarshal(raw, &some); err != nil {
				t.Fatalf("%s: %v", m, err)
			}
			for _, a := range some {
				if a.Dir = dir; !seen[a.File] {
					seen[a.File] = true
					all = append(all, a)
				}
			}
		}
	}
	if len(all) == 0 {
		t.Fatal("no recorded bytes at all")
	}
	return all
}

// Named returns the bytes of one artefact, nil if it is not at hand. root is the module's root as seen from the test.
func Named(t testing.TB, root, file string) []byte {
	t.Helper()
	for _, a := range All(t, root) {
		if a.File == file {
			return a.Bytes(t)
		}
	}
	return nil
}

// Bytes returns the artefact's bytes.
func (a *Artefact) Bytes(t testing.TB) []byte {
	t.Helper()
	return a.Beside(t, a.File)
}

// Beside returns the bytes of another file in the artefact's folder.
func (a *Artefact) Beside(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(a.Dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
