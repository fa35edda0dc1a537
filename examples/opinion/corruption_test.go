//go:build e2e

package opinion

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/recorded"
	"github.com/icws-gateway/caddy-icws/verify"
)

// recording is a session, such as the SDK's authors recorded.
type recording struct {
	world  *world
	now    time.Time
	frames [][]byte
}

// corruptions are what can happen to one byte of a frame, and to all that follow it.
var corruptions = []struct {
	how   string
	spoil func(good []byte, i int) []byte
}{
	{"flip", func(good []byte, i int) []byte {
		b := bytes.Clone(good)
		b[i] ^= 1 << (i % 8)
		return b
	}},
	{"drop", func(good []byte, i int) []byte { return slices.Delete(bytes.Clone(good), i, i+1) }},
	{"twice", func(good []byte, i int) []byte { return slices.Insert(bytes.Clone(good), i, good[i]) }},
	{"cut", func(good []byte, i int) []byte { return good[:i] }},
}

// corrupted makes cases of a session whose last frame is good, and ones in which one thing happened to that frame, at every byte or,
// with a stride, at one out of so many.
func corrupted(r recording, stride int) (cases []*testCase) {
	last := len(r.frames) - 1
	good := r.frames[last]
	add := func(kind, how string, frame []byte) {
		cases = append(cases, &testCase{kind: kind, part: "frame", how: how, world: r.world, now: r.now, earlier: r.frames[:last], frame: frame, reply: &verify.Reply{}})
	}
	add("good", "", good)
	for k, c := range corruptions {
		for i := k * stride / len(corruptions); i < len(good); i += stride {
			add("damage", fmt.Sprint(c.how, " at ", i), c.spoil(good, i))
		}
	}
	return cases
}

// recordings reads the sessions that lie beside the checkout: those whose frames begin with the OpenMessage.
func recordings(t *testing.T) (all []recording) {
	t.Helper()
	for _, dir := range recorded.Dirs(t, "../..") {
		files, err := filepath.Glob(filepath.Join(dir, "ws-frame-*-open.bin"))
		must(err)
		for _, first := range files {
			prefix := strings.TrimSuffix(first, "open.bin")
			root, err := os.ReadFile(filepath.Join(dir, "root-sdkjs-"+strings.TrimSuffix(strings.TrimPrefix(filepath.Base(prefix), "ws-frame-"), "-")+".der"))
			must(err)
			r := recording{}
			for _, name := range []string{"open", "ack", "app", "close"} {
				raw, err := os.ReadFile(prefix + name + ".bin")
				if os.IsNotExist(err) {
					break
				}
				must(err)
				frame, err := verify.ParseFrame(raw)
				must(err)
				m, err := verify.ParseContent(frame.Content)
				must(err)
				if r.world == nil {
					text, _, _ := strings.Cut(string(frame.Key), "_")
					gateway, err := verify.ParsePrincipal(text)
					must(err)
					r.world = &world{root: &blsKey{der: root}, canister: principal([]byte{0x80, 0, 0, 0, 0, 0x10, 0, 0, 1, 1}), gateway: gateway, client: m.Client,
						seed: make([]byte, 32), handshake: verify.AppendHandshake(nil, gateway)}
					r.now = time.Unix(0, int64(m.Timestamp)).Add(2 * time.Second)
				} else if m.Client != r.world.client {
					break // of another session
				}
				r.frames = append(r.frames, raw)
			}
			all = append(all, r)
		}
	}
	return all
}
