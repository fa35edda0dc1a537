package upstream

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// Who configures a local replica as https reads what is wrong.
func TestHostThatSpeaksNoTLS(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	u := testNetwork(t, newTransport(10*time.Second), 1e6, strings.TrimPrefix(server.URL, "http://"))
	defer u.Close()
	if err := u.testQuery(t.Context()); !errors.Is(err, http.ErrSchemeMismatch) {
		t.Errorf("got %v, want %v", err, http.ErrSchemeMismatch)
	}
}
