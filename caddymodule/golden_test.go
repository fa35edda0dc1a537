package caddymodule

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
)

var update = flag.Bool("update", false, "rewrite the expected half of the golden files")

const goldenSeparator = "\n----------\n"

// golden runs f over every file of a directory: input above the separator, expected output below.
func golden(t *testing.T, pattern string, f func(t *testing.T, input string) string) {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files at %s (%v)", pattern, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), filepath.Ext(file)), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			input, want, found := strings.Cut(string(raw), goldenSeparator)
			got := f(t, input)
			if *update {
				if err := os.WriteFile(file, []byte(strings.TrimRight(input, "\n")+goldenSeparator+got+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if !found {
				t.Fatal("no expected output: run with -update and review it")
			}
			if strings.TrimSpace(want) != strings.TrimSpace(got) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// adapt turns a Caddyfile into JSON as `caddy adapt` does. Warnings are errors here: ours is to be read without any.
func adapt(caddyfile string) ([]byte, error) {
	raw, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	return raw, err
}

// TestAdapt holds the Caddyfile form against the JSON form: the short one, the full one, each knob and each error.
func TestAdapt(t *testing.T) {
	golden(t, "testdata/adapt/*.caddyfiletest", func(t *testing.T, input string) string {
		raw, err := adapt(input)
		if err != nil {
			return err.Error()
		}
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, raw, "", "\t"); err != nil {
			t.Fatal(err)
		}
		return pretty.String()
	})
}

// TestValidate holds what `caddy validate` says to configurations that parse but cannot work.
func TestValidate(t *testing.T) {
	golden(t, "testdata/validate/*.caddyfiletest", func(t *testing.T, input string) string {
		raw, err := adapt(input)
		if err != nil {
			t.Fatalf("does not adapt: %v", err)
		}
		if err := validate(raw); err != nil {
			// Caddy puts the path through its modules in front, which is not ours to test.
			_, ours, _ := strings.Cut(err.Error(), "http.handlers.icws: ")
			return ours
		}
		return "valid"
	})
}

// TestValidateJSON holds what `caddy validate` says to handlers in JSON, where nothing has read the settings before.
func TestValidateJSON(t *testing.T) {
	golden(t, "testdata/validate/*.jsontest", func(t *testing.T, input string) string {
		err := validate([]byte(`{"apps":{"http":{"servers":{"s":{"listen":["127.0.0.1:1"],"routes":[{"handle":[` + input + `]}]}}}}}`))
		if err == nil {
			return "valid"
		}
		_, ours, _ := strings.Cut(err.Error(), "position 0: ")
		_, ours, found := strings.Cut(ours, "http.handlers.icws: ")
		if !found {
			return err.Error() // Caddy did not get as far as our module
		}
		return ours
	})
}

// validate does what `caddy validate` does.
func validate(raw []byte) error {
	cfg := new(caddy.Config)
	if err := caddy.StrictUnmarshalJSON(raw, cfg); err != nil {
		return err
	}
	return caddy.Validate(cfg)
}

// TestJSONParity makes sure that what the Caddyfile produces is what the documented JSON names say, in both directions:
// every knob of the full Caddyfile is a JSON field of the same name, and no JSON field lacks a subdirective.
func TestJSONParity(t *testing.T) {
	raw, err := os.ReadFile("testdata/adapt/full.caddyfiletest")
	if err != nil {
		t.Fatal(err)
	}
	input, _, _ := strings.Cut(string(raw), goldenSeparator)
	adapted, err := adapt(input)
	if err != nil {
		t.Fatal(err)
	}
	handler := findHandler(t, adapted)
	delete(handler, "handler")
	delete(handler, "discover") // the last word of network
	for name := range subdirectives {
		if _, ok := handler[name]; !ok {
			t.Errorf("subdirective %s of the full form is not in the JSON", name)
		}
		delete(handler, name)
	}
	for name := range handler {
		t.Errorf("JSON field %s has no subdirective", name)
	}
	if len(subdirectives) != 26 {
		t.Errorf("%d subdirectives: add the new one to the full golden file", len(subdirectives))
	}
}

// findHandler returns the first icws handler anywhere in an adapted configuration.
func findHandler(t *testing.T, raw []byte) map[string]any {
	t.Helper()
	var root any
	if err := json.Unmarshal(raw, &root); err != nil {
		t.Fatal(err)
	}
	var find func(any) map[string]any
	find = func(v any) map[string]any {
		switch v := v.(type) {
		case map[string]any:
			if v["handler"] == "icws" {
				return v
			}
			for _, child := range v {
				if h := find(child); h != nil {
					return h
				}
			}
		case []any:
			for _, child := range v {
				if h := find(child); h != nil {
					return h
				}
			}
		}
		return nil
	}
	h := find(root)
	if h == nil {
		t.Fatal("no icws handler in the configuration")
	}
	return h
}

// TestDirectiveOrder makes sure that the handler stands before reverse_proxy without an order line.
func TestDirectiveOrder(t *testing.T) {
	raw, err := adapt(":8080 {\n\treverse_proxy localhost:9000\n\ticws bkyz2-fmaaa-aaaaa-qaaaq-cai\n}")
	if err != nil {
		t.Fatal(err)
	}
	if icws, proxy := strings.Index(string(raw), `"icws"`), strings.Index(string(raw), `"reverse_proxy"`); icws < 0 || icws > proxy {
		t.Errorf("icws at %d, reverse_proxy at %d", icws, proxy)
	}
}
