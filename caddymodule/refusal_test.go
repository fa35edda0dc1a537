package caddymodule

import (
	"fmt"
	"testing"
)

// TestRefusalWithoutHandleErrors has the answer that nobody dresses; TestRefusals has those with handle_errors.
func TestRefusalWithoutHandleErrors(t *testing.T) {
	site := serve(t, fmt.Sprintf("icws %s {\n\t%s\n\tmax_sessions 1\n\t}", testCanister, deadNetwork()))
	ws, _, _ := site.open(t, "/", nil)
	greeted(t, ws)
	if _, resp, body := site.open(t, "/", nil); resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "5" || body != "" {
		t.Errorf("%d %q, Retry-After %q", resp.StatusCode, body, resp.Header.Get("Retry-After"))
	}
}
