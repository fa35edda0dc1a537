package caddymodule

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
)

// livePage is the page that GET /icws/ answers browsers with. It shows what the other endpoints say, and needs nothing else.
//
//go:embed page.html
var livePage []byte

// pagePolicy lets the page run its own script, with its own style, and talk to the admin endpoint that it came from. What a browser
// is made to believe otherwise, it neither runs nor loads.
var pagePolicy = fmt.Sprintf("default-src 'none'; script-src %s; style-src %s; connect-src 'self'; img-src data:; "+
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'", hashOf("script"), hashOf("style"))

// hashOf is the source expression for the only element of livePage with that name (Content Security Policy level 3, section 2.3.1).
func hashOf(element string) string {
	_, rest, _ := bytes.Cut(livePage, []byte("<"+element+">"))
	text, _, _ := bytes.Cut(rest, []byte("</"+element+">"))
	sum := sha256.Sum256(text)
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

func servePage(w http.ResponseWriter) error {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin") // without a referrer the admin endpoint would refuse what the page asks for
	h.Set("Cache-Control", "no-store")
	_, err := w.Write(livePage)
	return err
}

// wantsHTML reports whether a request asks for text/html, as browsers do, and not for JSON more than for that. Anything will do for
// curl: */* is not enough.
func wantsHTML(r *http.Request) bool {
	weight := func(wanted string) float64 {
		for _, part := range strings.Split(strings.Join(r.Header.Values("Accept"), ","), ",") {
			kind, params, err := mime.ParseMediaType(part)
			if err != nil || kind != wanted {
				continue
			}
			if q, err := strconv.ParseFloat(params["q"], 64); err == nil {
				return q
			}
			return 1
		}
		return 0
	}
	html := weight("text/html")
	return html > 0 && html >= weight("application/json")
}
