package main

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fence writes three backquotes for each ”', which a Go string cannot hold.
func fence(text string) string { return strings.ReplaceAll(text, "'''", "```") }

func TestParse(t *testing.T) {
	d, err := parse([]byte(fence("# One `two` -- three_4, [five](six.md)!\n" +
		"\n" +
		"Text with `<!-- ci: x -->`, `caddy icws\nstatus` and https://example.com/a.\n" +
		"\n" +
		"<!-- ci: first echo -->\n" +
		"<!-- ci: interrupt after \"it is \"here\"\" -->\n" +
		"'''sh\n" +
		"# One\n" +
		"'''\n" +
		"<!-- for people -->\n" +
		"'''text\n" +
		"[no](link)\n" +
		"'''\n" +
		"\n" +
		"* In a list, ![picture](p.png):\n" +
		"\n" +
		"  <!-- ci: needs a bigger\n" +
		"  boat -->\n" +
		"  ~~~~sh more\n" +
		"  ~~~\n" +
		"  ~~~~\n" +
		"\n" +
		"| a | b |\n" +
		"|---|---|\n" +
		"| `x` | [seven](#one) |\n" +
		"\n" +
		"One\n---\n" +
		"## One\n")))
	if err != nil {
		t.Fatal(err)
	}
	wantBlocks := []block{
		{line: 8, language: "sh", text: "# One\n", directive: directive{first: "echo", interrupt: `it is "here"`}},
		{line: 12, language: "text", text: "[no](link)\n", follows: true},
		{line: 20, language: "sh", text: "~~~\n", directive: directive{needs: "a bigger boat"}},
	}
	if !reflect.DeepEqual(d.blocks, wantBlocks) {
		t.Errorf("blocks\n%+v, want\n%+v", d.blocks, wantBlocks)
	}
	wantLinks := []span{{1, "six.md"}, {3, "https://example.com/a"}, {16, "p.png"}, {26, "#one"}}
	if !slices.Equal(d.links, wantLinks) {
		t.Errorf("links %v, want %v", d.links, wantLinks)
	}
	wantCode := []span{{1, "two"}, {3, "<!-- ci: x -->"}, {3, "caddy icws status"}, {26, "x"}}
	if !slices.Equal(d.code, wantCode) {
		t.Errorf("code %v, want %v", d.code, wantCode)
	}
	for _, anchor := range []string{"one-two----three_4-five", "one", "one-1"} {
		if !d.anchors[anchor] {
			t.Errorf("no anchor %s in %v", anchor, d.anchors)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"<!-- ci: skip -->\n'''sh\nx\n'''\n":                                                      "no directive",
		"<!-- ci needs x -->\n'''sh\nx\n'''\n":                                                    "no directive",
		"<!-- ci: needs -->\n'''sh\nx\n'''\n":                                                     "no directive",
		"<!-- ci: interrupt after words -->\n'''sh\nx\n'''\n":                                     "no directive",
		"<!-- ci: first a -->\n<!-- ci: first b -->\n'''sh\nx\n'''\n":                             "second first",
		"<!-- ci: needs a -->\n<!-- ci: first b -->\n'''sh\nx\n'''\n":                             "no other directive",
		"<!-- ci: beside a test -->\n'''sh\nx\n'''\n":                                             "no directive",
		"<!-- ci: beside the quickstart -->\n<!-- ci: interrupt after \"b\" -->\n'''sh\nx\n'''\n": "ends by itself",
		"<!-- ci: needs a -->\n<!-- ci: beside the quickstart -->\n'''sh\nx\n'''\n":               "no other directive",
		"<!-- ci: needs a -->\n\nText.\n\n'''sh\nx\n'''\n":                                        "line 1: a directive belongs in front of a block",
		"'''sh\nx\n'''\n<!-- ci: needs a -->\n":                                                   "line 4: a directive belongs in front of a block",
		"Text <!-- ci: needs a -->\n'''sh\nx\n'''\n":                                              "line 1: <!-- ci: needs a -->: a comment for CI begins a line",
		"<div>\n<!-- ci: needs a -->\n</div>\n\n'''sh\nx\n'''\n":                                  "a comment for CI begins a line",
		"'''sh\n'''\n":                "nothing in it",
		"Text.\n\n    xcaddy build\n": "line 3: a block by indentation",
	} {
		if d, err := parse([]byte(fence(text))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v, want %q", text, d, err, want)
		}
	}
}

func TestCommands(t *testing.T) {
	got := commands("# caddy no\nA=1 B=2 caddy icws probe wss://x --acks 6m   # caddy no\n" +
		"(cd a && go run ./b \\\n  -c) ; x=$(caddy icws status --once | jq -r .a) || caddy stop\nC=1\n")
	want := [][]string{
		{"caddy", "icws", "probe", "wss://x", "--acks", "6m"},
		{"cd", "a"}, {"go", "run", "./b", "-c"},
		{"caddy", "icws", "status", "--once"}, {"jq", "-r", ".a"}, {"caddy", "stop"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want\n%q", got, want)
	}
}

// here is a run whose clone is a directory with some files.
func here(t *testing.T) *readme {
	t.Helper()
	dir := t.TempDir()
	r := &readme{dir: dir, tree: filepath.Join(dir, "tree"), environment: os.Environ(), letGo: time.Minute, helped: map[string]string{}, stands: strings.NewReplacer("<id>", "aa")}
	for name, text := range map[string]string{
		"README.md":       "# A heading\n\n## A heading\n",
		"docs/other.md":   "# Über `uns`: alles\n\n# e\u0301\n",
		"docs/two words":  "1\n2\n",
		".ci/run":         "#!/bin/sh\nstep_unit() {\n\t:\n}\nstep_e2e() {\n\t:\n}\n",
		"go.mod":          "module " + module + "\n\ngo 1.26\n",
		"relay/relay.go":  "package relay\n\n// Gateway is one.\ntype Gateway struct{}\n\n// Close ends it.\nfunc (g *Gateway) Close() {}\n",
		"examples/x/x.go": "package main\n\nimport (\n\t\"flag\"\n\t\"os\"\n)\n\nfunc main() {\n\tflag.Int(\"port\", 1, \"a port\")\n\tif len(os.Args) > 1 && os.Args[1] == \"mode\" {\n\t\tos.Args = os.Args[1:]\n\t}\n\tflag.Parse()\n}\n",
		"examples/serve/main.go": "package main\n\nimport (\n\t\"fmt\"\n\t\"os\"\n\t\"os/signal\"\n\t\"strconv\"\n)\n\nfunc main() {\n" +
			"\tcode, err := strconv.Atoi(os.Args[1])\n\tif err != nil {\n\t\tpanic(err)\n\t}\n\tc := make(chan os.Signal, 1)\n\tsignal.Notify(c, os.Interrupt)\n" +
			"\tfmt.Println(\"ready\")\n\t<-c\n\tfmt.Println(\"bye\")\n\tos.Exit(code)\n}\n",
		"examples/quickstart/main.go": "package main\n\nimport (\n\t\"fmt\"\n\t\"os\"\n\t\"os/signal\"\n)\n\nfunc main() {\n" +
			"\tc := make(chan os.Signal, 1)\n\tsignal.Notify(c, os.Interrupt)\n" +
			"\tfmt.Println(\"  local network  http://net\\n  canister       aa-bb   (answers)\\n  gateway        wss://gw/ws\\n  certificates   its root: /root.crt\\n\\nround trip\")\n\t<-c\n}\n",
		"verify/x_test.go": "package x\n\nfunc TestX() {}\n",
		"../bin/caddy":     "#!/bin/sh\necho 'Usage:\n  caddy icws probe <url> [flags]\n\nFlags:\n      --acks duration   x\n  -h, --help   y'\n",
	} {
		path := filepath.Join(r.tree, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"init", "--quiet"}, {"add", "."}} {
		if out, err := r.command(t.Context(), r.tree, "git", args...); err != nil {
			t.Fatalf("git %s: %v\n%s", args, err, out)
		}
	}
	r.environment = append(r.environment, "PATH="+filepath.Join(dir, "bin")+string(os.PathListSeparator)+os.Getenv("PATH"))
	return r
}

func TestLinks(t *testing.T) {
	r := here(t)
	for to, want := range map[string]string{ // by a part of the error; empty where the link resolves
		"#a-heading":                              "",
		"#a-heading-1":                            "",
		"#a-heading-2":                            "no heading",
		"./other.md":                              "no .github/other.md",
		"../docs/other.md#über-uns-alles":         "",
		"../docs/other.md#%C3%BCber-uns-alles":    "",
		"../docs/other.md#e\u0301":                "",
		"../docs/other.md#uber":                   "no heading",
		"../docs/two%20words#L2":                  "",
		"../docs/two%20words#L1-L2":               "",
		"../docs/two%20words#L3":                  "has 2 lines",
		"../docs/two%20words#L1-L9":               "has 2 lines",
		"../docs/two%20words#words":               "has lines",
		"..":                                      "",
		"../docs/":                                "",
		"../docs/#x":                              "is a directory",
		"../../elsewhere":                         "leaves the repository",
		"/docs/other.md":                          "begins with /",
		"https://caddyserver.com/docs/?a=b#c":     "",
		"http://caddyserver.com":                  "want https",
		"https://localhost":                       "name of a host",
		"https://user@example.com":                "name of a host",
		"mailto:a@example.com":                    "want https",
		"https://exa mple.com":                    "invalid character",
		repository + "security/advisories/new":    "",
		repository + "blob/main/docs/other.md#no": "no heading",
		repository + "blob/main/README.md":        "",
		repository + "tree/main/docs":             "",
		repository + "tree/main":                  "",
		repository + "tree/main/nothing":          "no nothing",
		reference:                                 "no buildable Go",
		reference + "/relay":                      "",
		reference + "/relay#Gateway":              "",
		reference + "@v1.2.3/relay#Gateway.Close": "",
		reference + "/relay#Gate":                 "go doc",
		reference + "/nothing":                    "go doc",
	} {
		file := ".github/README.md"
		if strings.HasPrefix(to, "#") {
			file = "README.md"
		}
		err := r.link(t.Context(), file, to)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", to, err, want)
		}
	}
}

func TestKnown(t *testing.T) {
	r := here(t)
	for line, want := range map[string]string{
		"caddy":                              "",
		"caddy icws probe wss://x --acks 6m": "",
		"./caddy icws probe wss://x --acks=6m -h": "",
		"caddy icws probe wss://x --ack 6m":       "no flag --ack",
		"caddy icws prob wss://x":                 "no caddy icws prob",
		"go run ./examples/x -port 1":             "",
		"go run ./examples/x mode --port=1":       "",
		"go run ./examples/x -por 1":              "no flag -por",
		"go run ./examples/y":                     "examples/y",
		"go test -tags e2e ./relay/... ./...":     "",
		"go test ./relais/...":                    "no ./relais/...",
		".ci/run unit":                            "",
		".ci/run e2f":                             "no step e2f",
		".ci/run <step> e2e":                      "",
		".ci/run unit unity":                      "no step unity",
		"someone's --own":                         "",
	} {
		err := r.known(t.Context(), strings.Fields(line))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

func TestPaste(t *testing.T) {
	const serves = `trap 'echo "$AFTER"; exit "$CODE"' INT; echo ready; while :; do sleep 0.01; done`
	for name, c := range map[string]struct{ script, interrupt, out, err string }{
		"fine":                   {"echo a\necho b >&2", "", "a\nb\n", ""},
		"first line fails":       {"false\necho b", "", "", "exit status 1"},
		"pipe fails":             {"false | echo b", "", "b\n", "exit status 1"},
		"no standard input":      {"read -r x || echo nothing", "", "nothing\n", ""},
		"serves":                 {"AFTER=bye CODE=0; " + serves, "ready", "ready\nbye\n", ""},
		"a program that serves":  {`bash -c "AFTER=bye; CODE=0; $S"; echo next`, "ready", "ready\nbye\nnext\n", ""},
		"serves, ends badly":     {"AFTER=oh CODE=3; " + serves, "ready", "ready\noh\n", "exit status 3"},
		"go run":                 {"go run ./examples/serve 0", "ready", "ready\nbye\n", ""},
		"go run, ends badly":     {"go run ./examples/serve 3", "ready", "ready\nbye\nexit status 3\n", "exit status 1"},
		"go run, then another":   {"go run ./examples/serve 0 || exit 3", "ready", "ready\nbye\n", "exit status 3"},
		"go run, fails":          {"go run ./examples/serve x; exit 0", "never", "", "without printing"},
		"ends before it is read": {"echo other", "ready", "other\n", "without printing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := here(t)
			r.environment = append(r.environment, "S="+serves)
			out, err := r.paste(t.Context(), r.tree, c.script, c.interrupt)
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%v, want %q", err, c.err)
			}
			if c.out != "" && out != c.out {
				t.Errorf("printed %q, want %q", out, c.out)
			}
		})
	}
	t.Run("leaves something", func(t *testing.T) {
		r := here(t)
		r.letGo = 100 * time.Millisecond
		pipe := filepath.Join(r.dir, "pipe")
		if err := syscall.Mkfifo(pipe, 0o600); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { // reads until nobody is left who could write
			_, err := os.ReadFile(pipe)
			ended <- err
		}()
		if out, err := r.paste(t.Context(), r.tree, "sleep 1000 3>"+pipe+" &", ""); err == nil || !strings.Contains(err.Error(), "runs on") {
			t.Errorf("printed %q, %v", out, err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Run("the run ends", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if out, err := here(t).paste(ctx, t.TempDir(), "sleep 1000", ""); err == nil {
			t.Errorf("printed %q without an error", out)
		}
	})
}

// A block beside the quickstart is about what that runs, and fails as any other does; so does one whose quickstart says something else.
func TestBeside(t *testing.T) {
	r := here(t)
	b := block{language: "sh", directive: directive{beside: "the quickstart", first: "A=1"},
		text: "test \"$A $NODE_EXTRA_CA_CERTS $SSL_CERT_FILE\" = '1 /root.crt /root.crt'\necho " + theGateway + " " + theCanister + " " + theNetwork + " caddy icws probe x\n"}
	if _, out, err := r.check(t.Context(), r.tree, b, block{}, ""); err != nil || out != "wss://gw/ws aa-bb http://net caddy icws probe --network http://net x\n" {
		t.Errorf("printed %q, %v", out, err)
	}
	b.text = "exit 7\n"
	if _, _, err := r.check(t.Context(), r.tree, b, block{}, ""); err == nil || !strings.Contains(err.Error(), "exit status 7") {
		t.Error(err)
	}
	if _, err := ofQuickstart("", "round trip\n"); err == nil || !strings.Contains(err.Error(), "does not say") {
		t.Error(err)
	}
}

func TestCheck(t *testing.T) {
	r := here(t)
	sh := block{language: "sh"}
	for name, c := range map[string]struct {
		b, before     block
		printed, want string // want as above
	}{
		"run":                        {b: block{language: "sh", text: "test <id> = aa\n"}},
		"run and fails":              {b: block{language: "sh", text: "test <id> = bb\n"}, want: "exit status 1"},
		"first":                      {b: block{language: "sh", text: "test $A = 1\n", directive: directive{first: "A=1"}}},
		"not run":                    {b: block{language: "sh", text: "exit 1\n", directive: directive{needs: "x"}}},
		"not run, a test instead":    {b: block{language: "sh", text: "x\n", directive: directive{needs: "x: TestX and the step e2e"}}},
		"not run, no such test":      {b: block{language: "sh", text: "x\n", directive: directive{needs: "x: TestY"}}, want: "no TestY"},
		"not run, no such step":      {b: block{language: "sh", text: "x\n", directive: directive{needs: "x: the step uni"}}, want: "no step uni"},
		"not run, syntax":            {b: block{language: "sh", text: "if x\n", directive: directive{needs: "x"}}, want: "exit status"},
		"not run, flag":              {b: block{language: "sh", text: "caddy icws probe --no\n", directive: directive{needs: "x"}}, want: "no flag --no"},
		"no language":                {b: block{text: "x\n"}, want: "no language"},
		"some language":              {b: block{language: "cobol", text: "x\n"}, want: "nothing checks"},
		"directive for another":      {b: block{language: "text", text: "x\n", directive: directive{needs: "x"}}, want: "blocks of sh"},
		"a drawing":                  {b: block{language: "text", text: "x\n"}, before: sh},
		"output":                     {b: block{language: "text", text: "in 500ms; by ...\n\nend\n", follows: true}, before: sh, printed: "a\nin 1.25s; by me\nb\n\n end\n"},
		"output in another order":    {b: block{language: "text", text: "a\nb\n", follows: true}, before: sh, printed: "b\na\n", want: `did not print "b"`},
		"output, no duration":        {b: block{language: "text", text: "in 500ms\n", follows: true}, before: sh, printed: "in a moment\n", want: "did not print"},
		"output, dots elsewhere":     {b: block{language: "text", text: "1.2.3\n", follows: true}, before: sh, printed: "1x2x3\n", want: "did not print"},
		"env":                        {b: block{language: "dotenv", text: "A=b\n# c\n\nB_2=$A\n"}},
		"env without a value":        {b: block{language: "dotenv", text: "A=\n"}, want: "gives no value"},
		"dockerfile":                 {b: block{language: "dockerfile", text: "FROM a AS b\nRUN c && d\nFROM e\nCOPY --from=b f f\n"}},
		"dockerfile, stage":          {b: block{language: "dockerfile", text: "FROM a AS b\nCOPY --from=c f f\n"}, want: "no stage c"},
		"dockerfile, shell":          {b: block{language: "dockerfile", text: "RUN a &&\n"}, want: "exit status"},
		"dockerfile, no instruction": {b: block{language: "dockerfile", text: "FORM a\n"}, want: "FORM"},
		"json of nothing":            {b: block{language: "json", text: `{"a": 1}`}, want: "nothing can load it"},
		"json":                       {b: block{language: "json", text: `{`}, want: "unexpected end"},
		"yaml of nothing":            {b: block{language: "yaml", text: "a: 1\n"}, want: "no schema"},
		"yaml":                       {b: block{language: "yaml", text: "a: ]\n"}, want: "did not find"},
	} {
		_, _, err := r.check(t.Context(), r.tree, c.b, c.before, c.printed)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
