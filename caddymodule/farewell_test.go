package caddymodule

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/icws-gateway/caddy-icws/examples/freeport"
)

// TestFarewell ends a process cleanly, then by force: the next start knows which, and the word for it is used up by then.
func TestFarewell(t *testing.T) {
	t.Parallel()
	w, port, dir := newWorld(t, 1), freeport.ForTest(t), t.TempDir()
	start := func(clean bool) *process {
		t.Helper()
		p := runCaddy(t, "", w.site(port, 0, "drain_timeout 500ms"), "XDG_DATA_HOME="+dir)
		if want := fmt.Sprintf(`"after_clean_stop":%v`, clean); !strings.Contains(p.text(), want) {
			t.Fatalf("the start does not say %s", want)
		}
		echo(t, w.open(t, fmt.Sprintf("ws://127.0.0.1:%d/ws", port), 0), "hi")
		return p
	}
	left := func() int {
		t.Helper()
		words, err := filepath.Glob(filepath.Join(dir, "caddy", "icws", "farewells", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(words)
	}
	first := start(false)
	if n := len(w.cdks[0].Clients()); n != 1 {
		t.Fatalf("%d clients", n)
	}
	first.terminate(t)
	if n := left(); n != 1 {
		t.Errorf("after a clean stop there are %d words", n)
	}
	second := start(true)
	if n := left(); n != 0 {
		t.Errorf("after a start there are %d words", n)
	}
	if err := second.Process.Signal(os.Kill); err != nil {
		t.Fatal(err)
	}
	<-second.done
	start(false)
}
