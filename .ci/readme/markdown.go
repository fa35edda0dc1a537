package main

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/text"
)

// document is what is looked at in one Markdown file.
type document struct {
	blocks  []block
	links   []span
	code    []span // in backquotes, in running text
	anchors map[string]bool
}

// block is a fenced block.
type block struct {
	line      int    // of its fence
	language  string // as the fence names it
	text      string
	directive directive
	follows   bool // nothing stands between the block before and this one
}

// span is a part of running text.
type span struct {
	line int // of the paragraph or the cell that it stands in
	text string
}

// directive is what a comment in front of a block says to this program: <!-- ci: ... -->. Readers of the page do not see it.
type directive struct {
	needs     string // ci: needs <what CI has not>. The block does not run, and its line says why. Tests and steps it names exist.
	interrupt string // ci: interrupt after "<text>". The block serves; it gets an interrupt once it has printed the text.
	first     string // ci: first <command>. What a reader has done before, in the same shell.
	beside    string // ci: beside the quickstart. The block runs while that does, and talks to its gateway.
}

var (
	comment   = regexp.MustCompile(`(?s)^<!--\s*ci\b(.*)-->\s*$`)
	interrupt = regexp.MustCompile(`^interrupt after "(.+)"$`)
)

// add reads a block of HTML. One that says nothing to this program changes nothing.
func (d *directive) add(html string) error {
	m := comment.FindStringSubmatch(strings.TrimSpace(html))
	if m == nil {
		return alone(html)
	}
	said, ok := strings.CutPrefix(m[1], ":")
	said = strings.TrimSpace(said)
	verb, rest, _ := strings.Cut(said, " ")
	rest = strings.Join(strings.Fields(rest), " ")
	to := map[string]*string{"needs": &d.needs, "interrupt": &d.interrupt, "first": &d.first, "beside": &d.beside}[verb]
	if verb == "interrupt" {
		m := interrupt.FindStringSubmatch(said)
		if rest = ""; m != nil {
			rest = m[1]
		}
	}
	switch {
	case !ok, to == nil, rest == "", verb == "beside" && rest != "the quickstart":
		return fmt.Errorf(`%s is no directive: there are "ci: needs ...", "ci: interrupt after \"...\"", "ci: first ..." and "ci: beside the quickstart"`, strings.TrimSpace(html))
	case *to != "":
		return fmt.Errorf("a second %s for one block", verb)
	}
	*to = rest
	if d.needs != "" && (d.interrupt != "" || d.first != "" || d.beside != "") {
		return fmt.Errorf("a block that needs what CI has not does not run: no other directive can stand with it")
	}
	if d.interrupt != "" && d.beside != "" {
		return fmt.Errorf("a block that runs beside something else ends by itself")
	}
	return nil
}

// alone refuses HTML that has a directive in it.
func alone(html string) error {
	if strings.Contains(html, "<!-- ci") {
		return fmt.Errorf("%s: a comment for CI begins a line and stands alone", strings.TrimSpace(html))
	}
	return nil
}

// parse reads a Markdown file as GitHub does.
func parse(source []byte) (*document, error) {
	d := &document{anchors: map[string]bool{}}
	root := goldmark.New(goldmark.WithExtensions(extension.GFM)).Parser().Parse(text.NewReader(source))
	lineOf := func(offset int) int { return 1 + bytes.Count(source[:offset], []byte("\n")) }
	var (
		pending   directive
		last      ast.Node
		lastLine  int
		pendingAt int
	)
	err := ast.Walk(root, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		if n.Type() == ast.TypeBlock && n.Lines().Len() > 0 {
			lastLine = lineOf(n.Lines().At(0).Start)
		}
		switch n := n.(type) {
		case *ast.HTMLBlock:
			html := n.Lines().Value(source)
			if n.HasClosure() && !bytes.Contains(html, n.ClosureLine.Value(source)) {
				html = append(html, n.ClosureLine.Value(source)...)
			}
			before := pending
			if err := pending.add(string(html)); err != nil {
				return ast.WalkStop, fmt.Errorf("line %d: %w", lastLine, err)
			}
			if pending != before {
				pendingAt = lastLine
			}
			return ast.WalkContinue, nil // stands between nothing
		case *ast.FencedCodeBlock:
			if n.Lines().Len() == 0 {
				return ast.WalkStop, fmt.Errorf("line %d or behind it: a block with nothing in it", lastLine)
			}
			d.blocks = append(d.blocks, block{
				line: lastLine - 1, language: string(n.Language(source)), text: string(n.Lines().Value(source)),
				directive: pending, follows: last != nil && last.Kind() == ast.KindFencedCodeBlock,
			})
			pending, last = directive{}, n
			return ast.WalkSkipChildren, nil
		case *ast.CodeBlock:
			return ast.WalkStop, fmt.Errorf("line %d: a block by indentation has no language: put it between fences", lastLine)
		case *ast.Heading:
			d.anchor(plain(n, source))
		case *ast.Link:
			d.links = append(d.links, span{lastLine, string(n.Destination)})
		case *ast.Image:
			d.links = append(d.links, span{lastLine, string(n.Destination)})
		case *ast.AutoLink:
			if n.AutoLinkType == ast.AutoLinkURL {
				d.links = append(d.links, span{lastLine, string(n.URL(source))})
			}
		case *ast.RawHTML:
			if err := alone(string(n.Segments.Value(source))); err != nil {
				return ast.WalkStop, fmt.Errorf("line %d: %w", lastLine, err)
			}
		case *ast.CodeSpan:
			d.code = append(d.code, span{lastLine, plain(n, source)})
		}
		if n.Type() == ast.TypeBlock {
			if pending != (directive{}) {
				return ast.WalkStop, fmt.Errorf("line %d: a directive belongs in front of a block", pendingAt)
			}
			last = n
		}
		return ast.WalkContinue, nil
	})
	if err != nil {
		return nil, err
	}
	if pending != (directive{}) {
		return nil, fmt.Errorf("line %d: a directive belongs in front of a block", pendingAt)
	}
	return d, nil
}

// plain is the text of a node without its marks. A line end in it is a space.
func plain(n ast.Node, source []byte) string {
	var out strings.Builder
	_ = ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) { // without an error of its own
		if t, ok := n.(*ast.Text); ok && entering {
			out.Write(t.Segment.Value(source))
			if t.SoftLineBreak() {
				out.WriteByte(' ')
			}
		}
		return ast.WalkContinue, nil
	})
	return strings.ReplaceAll(out.String(), "\n", " ")
}

// anchor adds what GitHub calls a heading in addresses: lower case, hyphens for spaces, letters, digits, hyphens and underscores
// else, and a number where the name is taken.
func (d *document) anchor(heading string) {
	slug := strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-', r == '_', unicode.IsLetter(r), unicode.IsMark(r), unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, heading)
	name := slug
	for n := 1; d.anchors[name]; n++ {
		name = fmt.Sprintf("%s-%d", slug, n)
	}
	d.anchors[name] = true
}
