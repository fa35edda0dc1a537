package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/icws-gateway/caddy-icws/examples/freeport"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// loadWithAdmin runs a configuration with an admin endpoint and returns its URL.
func loadWithAdmin(t testing.TB, sites string) string {
	t.Helper()
	port := freeport.ForTest(t)
	raw, err := adapt(fmt.Sprintf("{\n\tadmin 127.0.0.1:%d\n\tpersist_config off\n\tskip_install_trust\n}\n%s", port, sites))
	if err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t)
	if err := caddy.Load(raw, true); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("http://127.0.0.1:%d", port)
}

// call makes an admin request.
func call(t testing.TB, method, url string, into any) (int, string) {
	t.Helper()
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if into != nil {
		if err := json.Unmarshal(body, into); err != nil {
			t.Fatalf("%s %s: %v in %q", method, url, err, body)
		}
	}
	return resp.StatusCode, string(body)
}

func TestAdminAPI(t *testing.T) {
	w, port := newWorld(t, 2), freeport.ForTest(t)
	admin := loadWithAdmin(t, w.site(port, 0, "drain_timeout 1s"))
	url := fmt.Sprintf("ws://127.0.0.1:%d/ws", port)

	for path, want := range map[string]string{"/icws/sessions": "[]\n", "/icws/canisters": "[]\n", "/icws/closes": "[]\n"} {
		if status, body := call(t, "GET", admin+path, nil); status != 200 || body != want {
			t.Errorf("%s without sessions: %d %q", path, status, body)
		}
	}
	a, b := w.open(t, url, 0), w.open(t, url, 0)
	echo(t, a, "secret payload")
	echo(t, b, "secret payload")

	var gateways []gatewayStatus
	if status, _ := call(t, "GET", admin+"/icws/gateways", &gateways); status != 200 || len(gateways) != 1 {
		t.Fatalf("gateways: %d %+v", status, gateways)
	}
	if _, body := call(t, "GET", admin+"/icws/gateways", nil); !strings.Contains(body, `"root_hits":`) {
		t.Errorf("the caches have other names than everything else: %s", body)
	}
	g := gateways[0]
	if g.Principal != a.Gateway() || g.Sessions != 2 || g.Draining || g.Holders != 1 || len(g.Network) != 1 || g.Network[0] != w.url || g.Since.IsZero() {
		t.Errorf("gateway %+v", g)
	}
	var canisters []canisterStatus
	if status, _ := call(t, "GET", admin+"/icws/canisters", &canisters); status != 200 || len(canisters) != 1 {
		t.Fatalf("canisters: %d %+v", status, canisters)
	}
	if c := canisters[0]; c.Canister != w.canisters[0] || c.Sessions != 2 || c.Nonce != 4 || c.Gateway != g.Gateway {
		t.Errorf("canister %+v", c)
	}
	var sessions []sessionStatus
	if status, body := call(t, "GET", admin+"/icws/sessions", &sessions); status != 200 || len(sessions) != 2 {
		t.Fatalf("sessions: %d %+v", status, sessions)
	} else if strings.Contains(body, fmt.Sprint(a.Key().Nonce)) || strings.Contains(body, "secret") {
		t.Errorf("a client nonce or a payload is shown: %s", body)
	}
	if s := sessions[0]; s.State != "open" || s.FramesIn != 2 || s.FramesOut < 2 || s.ClientIP.String() != "127.0.0.1" {
		t.Errorf("session %+v", s)
	}
	for query, want := range map[string]int{
		"?limit=1": 1, "?canister_id=" + w.canisters[0].String(): 2, "?canister_id=" + w.canisters[1].String(): 0,
		"?gateway=" + g.Gateway: 2, "?gateway=none": 0,
	} {
		var some []sessionStatus
		if call(t, "GET", admin+"/icws/sessions"+query, &some); len(some) != want {
			t.Errorf("%s: %d sessions, want %d", query, len(some), want)
		}
	}

	// Health, wrong methods, wrong arguments.
	for _, path := range []string{"/icws/health/ready", "/icws/health/live"} {
		if status, body := call(t, "GET", admin+path, nil); status != 200 || !strings.Contains(body, `"ok":true`) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	for request, want := range map[string]int{
		"POST /icws/gateways": 405, "DELETE /icws/canisters": 405, "GET /icws/drain": 405, "POST /icws/health/ready": 405,
		"GET /icws/sessions?limit=0": 400, "GET /icws/sessions?limit=x": 400,
		"GET /icws/sessions?canister_id=x": 400, "GET /icws/sessions?canister_id=": 400, "GET /icws/sessions?canister=" + w.canisters[0].String(): 400,
		"DELETE /icws/sessions/" + g.Gateway + "/x": 400, "DELETE /icws/sessions/" + g.Gateway + "/999999": 404,
		"POST /icws/": 405, "POST /icws/closes": 405, "GET /icws/closes?limit=0": 400, "GET /icws/closes?canister_id=x": 400, "GET /icws/closes?reason=x": 400,
		"DELETE /icws/sessions/none/1": 404, "GET /icws/sessions/" + g.Gateway + "/1": 405, "GET /icws/other": 404,
	} {
		method, path, _ := strings.Cut(request, " ")
		if status, body := call(t, method, admin+path, nil); status != want {
			t.Errorf("%s: %d %s, want %d", request, status, body, want)
		}
	}

	// One session is closed, the other stays.
	first, other := a, b
	if sessions[0].Principal != a.Key().Principal {
		first, other = b, a
	}
	if status, body := call(t, "DELETE", fmt.Sprintf("%s/icws/sessions/%s/%d", admin, g.Gateway, sessions[0].ID), nil); status != 204 {
		t.Fatalf("closing a session: %d %s", status, body)
	}
	<-first.Done()
	if closed, ok := first.Err().(*client.CloseError); !ok || closed.Code != 1001 || !strings.Contains(closed.Text, "operator") {
		t.Errorf("closed with %v", first.Err())
	}
	echo(t, other, "still here")
	for query, want := range map[string]int{
		"": 1, "?limit=1": 1, "?canister_id=" + w.canisters[0].String(): 1, "?canister_id=" + w.canisters[1].String(): 0, "?gateway=" + g.Gateway: 1, "?gateway=none": 0,
	} {
		var closes []closeStatus
		if status, _ := call(t, "GET", admin+"/icws/closes"+query, &closes); status != 200 || len(closes) != want {
			t.Errorf("closes%s: %d %+v", query, status, closes)
		}
		for _, c := range closes {
			if c.Gateway != g.Gateway || c.ID != sessions[0].ID || c.Reason != "admin_closed" || c.Code != 1001 || c.Principal != sessions[0].Principal || c.Lasted <= 0 {
				t.Errorf("close %+v", c)
			}
		}
	}
	if call(t, "GET", admin+"/icws/gateways", &gateways); gateways[0].Opened != 2 || gateways[0].Closes["admin_closed"] != 1 || gateways[0].FramesIn != 5 {
		t.Errorf("counters %+v", gateways[0].TrafficSnapshot)
	}

	w.open(t, url, 0).Close()
	var all view
	eventually(t, "the newest close, first", func() bool {
		_, _ = call(t, "GET", admin+"/icws/status", &all)
		return len(all.Closes) == 2 && all.Closes[0].Reason == "client_closed" && all.Closes[1].Reason == "admin_closed"
	})
	if !all.Ready || all.Reason != "" || len(all.Gateways) != 1 || len(all.Canisters) != 1 || all.Canisters[0].Gateway != g.Gateway {
		t.Errorf("all in one: %+v", all)
	}

	// A drain: not ready at once, sessions closed, new ones refused, until a configuration is loaded.
	if status, _ := call(t, "POST", admin+"/icws/drain", &gateways); status != 202 || !gateways[0].Draining {
		t.Errorf("drain: %d %+v", status, gateways)
	}
	if status, body := call(t, "GET", admin+"/icws/health/ready", nil); status != 503 {
		t.Errorf("ready while draining: %d %s", status, body)
	}
	var drains view
	if status, _ := call(t, "GET", admin+"/icws/status", &drains); status != 200 || drains.Ready || drains.Reason == "" {
		t.Errorf("all in one, while draining: %d %+v", status, drains)
	}
	select {
	case <-other.Done():
	case <-time.After(hung):
		t.Fatal("the drain left a session")
	}
	if closed, ok := other.Err().(*client.CloseError); !ok || closed.Code != 1001 {
		t.Errorf("closed with %v", other.Err())
	}
	_, err := client.Dial(t.Context(), url, client.Options{Canister: w.canisters[0]})
	if refused, ok := err.(*client.UpgradeError); !ok || refused.Status != 503 || refused.Header.Get("Retry-After") == "" {
		t.Errorf("opening after the drain: %v", err)
	}
	waitDrained(t)
	if status, body := call(t, "GET", admin+"/icws/health/ready", nil); status != 503 {
		t.Errorf("ready after the drain: %d %s", status, body)
	}
	raw, err := adapt(fmt.Sprintf("{\n\tadmin %s\n\tpersist_config off\n}\n%s", strings.TrimPrefix(admin, "http://"), w.site(port, 0, "drain_timeout 1s")))
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.Load(raw, true); err != nil {
		t.Fatal(err)
	}
	echo(t, w.open(t, url, 0), "back in service")
	eventually(t, "readiness", func() bool {
		status, _ := call(t, "GET", admin+"/icws/health/ready", nil)
		return status == 200
	})
}

// TestMetricsAfterFailedReload makes sure that the admin endpoint goes on serving metrics when a configuration was refused.
func TestMetricsAfterFailedReload(t *testing.T) {
	w, port := newWorld(t, 1), freeport.ForTest(t)
	admin := loadWithAdmin(t, w.site(port, 0, "drain_timeout 100ms"))
	echo(t, w.open(t, fmt.Sprintf("ws://127.0.0.1:%d/ws", port), 0), "before")
	const want = "\ncaddy_icws_sessions 1\n"
	if _, body := call(t, "GET", admin+"/metrics", nil); !strings.Contains(body, want) {
		t.Fatalf("metrics lack %q", want)
	}
	raw, err := adapt(fmt.Sprintf("{\n\tadmin %s\n\tpersist_config off\n}\n%s", strings.TrimPrefix(admin, "http://"),
		w.site(port, 0, "identity file missing.pem")))
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.Load(raw, true); err == nil {
		t.Fatal("loaded")
	}
	if _, body := call(t, "GET", admin+"/metrics", nil); !strings.Contains(body, want) {
		t.Errorf("metrics lack %q after a configuration that failed", want)
	}
}

// TestAdminIndex asks for the list of what there is, as scripts and as browsers do.
func TestAdminIndex(t *testing.T) {
	port := freeport.ForTest(t)
	site := fmt.Sprintf("http://127.0.0.1:%d {\n\ticws %s\n}\n", freeport.ForTest(t), gateway())
	start := func(origins string) {
		t.Helper()
		raw, err := adapt(fmt.Sprintf("{\n\tadmin localhost:%d {\n\t\t%s\n\t}\n\tpersist_config off\n}\n%s", port, origins, site))
		if err != nil {
			t.Fatal(err)
		}
		if err := caddy.Load(raw, true); err != nil {
			t.Fatal(err)
		}
	}
	stopAtEnd(t)
	start("")
	base := fmt.Sprintf("http://localhost:%d", port)
	get := func(path string, header http.Header) *http.Response {
		t.Helper()
		r, err := http.NewRequest(http.MethodGet, base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = header
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}

	var list []endpoint
	if status, body := call(t, "GET", base+"/icws/", &list); status != 200 || len(list) != len(adminAPI{}.endpoints()) {
		t.Fatalf("%d %s", status, body)
	}
	for _, e := range list {
		if e.About == "" {
			t.Errorf("%s %s is for nothing", e.Method, e.Path)
		}
		if status, body := call(t, "GET", base+strings.NewReplacer("{gateway}", "g", "{id}", "1").Replace(e.Path), nil); (status == 200) != (e.Method == "GET") || status == 404 {
			t.Errorf("%s %s: %d %s", e.Method, e.Path, status, body)
		}
	}
	if resp := get("/icws", nil); resp.StatusCode != 200 || resp.Request.URL.Path != "/icws/" {
		t.Errorf("without the slash: %s at %s", resp.Status, resp.Request.URL)
	}

	browser := "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
	for accept, page := range map[string]bool{
		browser: true, "text/html": true, "TEXT/HTML; q=0.5": true, "application/json;q=0.5, text/html": true,
		"": false, "*/*": false, "text/*": false, "application/json": false, "application/json, text/html;q=0.9": false, "text/html;q=0": false, "text/html;=": false,
	} {
		resp := get("/icws/", http.Header{"Accept": {accept}})
		kind := resp.Header.Get("Content-Type")
		if resp.StatusCode != 200 || strings.HasPrefix(kind, "text/html") != page || !page && kind != "application/json" || resp.Header.Get("Vary") != "Accept" {
			t.Errorf("Accept %q: %s %s", accept, resp.Status, kind)
		}
		if policy := resp.Header.Get("Content-Security-Policy"); page && (!strings.HasPrefix(policy, "default-src 'none'; ") || resp.Header.Get("X-Content-Type-Options") != "nosniff") {
			t.Errorf("policy %q", policy)
		}
	}

	// A page that is opened by its address needs what README says; that of another site gets nothing even then.
	opened := http.Header{"Accept": {browser}, "Sec-Fetch-Mode": {"navigate"}}
	if resp := get("/icws/", opened); resp.StatusCode != 403 {
		t.Errorf("opened by its address without a word about origins: %s", resp.Status)
	}
	start(fmt.Sprintf(`origins localhost:%d ""`, port))
	// The endpoint before it may take one more connection.
	eventually(t, "the page, opened by its address", func() bool { return get("/icws/", opened).StatusCode == 200 })
	if resp := get("/icws/gateways", http.Header{"Sec-Fetch-Mode": {"cors"}, "Referer": {base + "/icws/"}}); resp.StatusCode != 200 {
		t.Errorf("asked by the page: %s", resp.Status)
	}
	for name, header := range map[string]http.Header{
		"linked":        {"Accept": {browser}, "Sec-Fetch-Mode": {"navigate"}, "Referer": {"https://evil.example/"}},
		"asked":         {"Sec-Fetch-Mode": {"cors"}, "Origin": {"https://evil.example"}},
		"asked blindly": {"Sec-Fetch-Mode": {"no-cors"}},
	} {
		if resp := get("/icws/", header); resp.StatusCode < 400 {
			t.Errorf("%s by another site: %s", name, resp.Status)
		}
	}
}

// TestAllCloses makes sure that the live page of many gateways has the closes of each: one that ended nothing lately is no reason to
// leave out what it ended before.
func TestAllCloses(t *testing.T) {
	const gateways, closes = 21, 50
	var directives strings.Builder
	for i := range gateways {
		fmt.Fprintf(&directives, "icws /%d %s {\n\t\t%s\n\t\tpoll_interval %dms\n\t}\n\t", i, testCanister, deadNetwork(), 100+i)
	}
	site := serve(t, directives.String())
	for i := range gateways {
		for range closes {
			ws, _, _ := site.open(t, fmt.Sprint("/", i), nil)
			ws.Close()
		}
	}
	var v view
	eventually(t, "the ends of all sessions", func() bool {
		w := httptest.NewRecorder()
		v = view{}
		if err := errors.Join(adminAPI{}.status(w, nil), json.Unmarshal(w.Body.Bytes(), &v)); err != nil {
			t.Fatal(err)
		}
		ended := uint64(0)
		for _, g := range v.Gateways {
			for _, n := range g.Closes {
				ended += n
			}
		}
		return ended == gateways*closes
	})
	if n := len(v.Closes); n != gateways*closes {
		t.Errorf("%d closes of %d", n, gateways*closes)
	}
}
