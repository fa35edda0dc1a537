package caddymodule

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/icws-gateway/caddy-icws/examples/freeport"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// TestAutomaticHTTPS lets a Caddy with a gateway obtain its certificate by ACME from another Caddy, and renew it while
// sessions are open.
func TestAutomaticHTTPS(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	caPort, httpPort, httpsPort := freeport.ForTest(t), freeport.ForTest(t), freeport.ForTest(t)
	ca := runCaddy(t, "auto_https disable_redirects",
		fmt.Sprintf("https://localhost:%d {\n\ttls internal\n\tacme_server {\n\t\tlifetime 5m\n\t}\n}", caPort), fmt.Sprintf("%s=%d", alpnPortEnv, httpsPort))
	trustInternal(t, filepath.Join(ca.dir, "data", "caddy"), caPort)
	root := filepath.Join(ca.dir, "data", "caddy", "pki", "authorities", "local", "root.crt")
	raw, err := os.ReadFile(root)
	if err != nil {
		t.Fatal(err)
	}
	trust := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "localhost"}
	trust.RootCAs.AppendCertsFromPEM(raw)

	runCaddy(t, fmt.Sprintf("http_port %d\n\thttps_port %d\n\tauto_https disable_redirects\n\trenew_interval 500ms\n\trenewal_window_ratio 0.99", httpPort, httpsPort),
		fmt.Sprintf(`https://localhost:%d {
	tls {
		issuer acme {
			dir https://localhost:%d/acme/local/directory
			trusted_roots %s
			disable_http_challenge
		}
	}
	icws /ws %s {
		%s
		drain_timeout 1s
	}
}`, httpsPort, caPort, root, w.canisters[0], w.network()))

	// serial returns the serial number of the certificate that new clients see.
	serial := func() string {
		conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", httpsPort), trust)
		if err != nil {
			return ""
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	var first string
	eventually(t, "a certificate", func() bool {
		first = serial()
		return first != ""
	})
	url := fmt.Sprintf("wss://localhost:%d/ws", httpsPort)
	open := func() *client.Client {
		return w.open(t, url, 0, func(o *client.Options) { o.TLS = trust.Clone() })
	}
	sessions := []*client.Client{open(), open(), open()}
	eventually(t, "a renewed certificate", func() bool {
		for _, c := range sessions {
			echo(t, c, "message")
		}
		now := serial()
		return now != "" && now != first
	})
	for _, c := range append(sessions, open()) {
		echo(t, c, "after the renewal")
	}
}
