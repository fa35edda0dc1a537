package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

const (
	module     = "github.com/icws-gateway/caddy-icws"
	repository = "https://" + module + "/"
	reference  = "https://pkg.go.dev/" + module
)

// link follows a link of a file of the tree. Of others' pages it looks at the form of the address only.
func (r *readme) link(ctx context.Context, file, to string) error {
	u, err := url.Parse(to)
	if err != nil {
		return err
	}
	if rest, ok := strings.CutPrefix(to, reference); ok {
		return r.goReference(ctx, strings.TrimPrefix(rest, "/"))
	}
	if rest, ok := strings.CutPrefix(to, repository); ok {
		if kind, rest, _ := strings.Cut(rest, "/"); kind == "blob" || kind == "tree" {
			_, inTree, ok := strings.Cut(rest, "/") // without the branch
			if !ok {
				return nil
			}
			return r.inTree(inTree)
		}
	}
	if u.Scheme != "" || u.Host != "" {
		if u.Scheme != "https" || !strings.Contains(u.Hostname(), ".") || u.User != nil {
			return errors.New("want https:// and the name of a host")
		}
		return nil
	}
	if u.Path == "" {
		return r.inTree(file + "#" + u.EscapedFragment())
	}
	if strings.HasPrefix(u.Path, "/") {
		return errors.New("begins with /, which is the root on GitHub and nowhere else")
	}
	return r.inTree(path.Join(path.Dir(file), u.EscapedPath()) + "#" + u.EscapedFragment())
}

var lineAnchor = regexp.MustCompile(`^L(\d+)(?:-L(\d+))?$`)

// inTree looks for a path of the tree, with a fragment where it has one. Both are escaped as in addresses.
func (r *readme) inTree(to string) error {
	u, err := url.Parse("./" + to)
	if err != nil {
		return err
	}
	name := path.Clean(u.Path)
	if !filepath.IsLocal(name) {
		return errors.New("leaves the repository")
	}
	if _, err := os.Stat(filepath.Join(r.tree, name)); err != nil {
		return fmt.Errorf("no %s", name)
	}
	if u.Fragment == "" {
		return nil
	}
	raw, err := os.ReadFile(filepath.Join(r.tree, name))
	if err != nil {
		return err
	}
	if path.Ext(name) != ".md" {
		lines := strings.Count(string(raw), "\n")
		m := lineAnchor.FindStringSubmatch(u.Fragment)
		if m == nil {
			return fmt.Errorf("%s has lines (#L1) and no #%s", name, u.Fragment)
		}
		for _, digits := range m[1:] {
			if n, err := strconv.Atoi(digits); digits != "" && (err != nil || n < 1 || n > lines) {
				return fmt.Errorf("%s has %d lines", name, lines)
			}
		}
		return nil
	}
	d, err := parse(raw)
	if err != nil {
		return err
	}
	if !d.anchors[u.Fragment] {
		return fmt.Errorf("%s has no heading for #%s", name, u.Fragment)
	}
	return nil
}

// goReference looks for a package of this module, and for what of it the fragment names.
func (r *readme) goReference(ctx context.Context, to string) error {
	name, symbol, _ := strings.Cut(to, "#")
	if before, rest, versioned := strings.Cut("/"+name, "@"); versioned {
		_, rest, _ = strings.Cut(rest, "/")
		name = path.Join(before, rest)
	}
	args := []string{"doc", "./" + strings.Trim(name, "/")}
	if symbol != "" {
		args = append(args, symbol)
	}
	if out, err := r.command(ctx, r.tree, "go", args...); err != nil {
		return fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(out))
	}
	return nil
}
