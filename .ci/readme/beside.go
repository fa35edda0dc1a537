package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// What texts say where a reader has something of their own.
const (
	theGateway  = "wss://example.com/ws"
	theCanister = "bkyz2-fmaaa-aaaaa-qaaaq-cai"
	theNetwork  = "https://icp-api.io"
)

// beside runs a block while the quickstart runs, with the gateway, the canister and the network of that in place of those that the
// text has.
func (r *readme) beside(ctx context.Context, dir string, b block) (out string, err error) {
	said, ended := r.serve(ctx, r.tree, "go run ./examples/quickstart", "round trip", func(printed string) {
		var script string
		if script, err = ofQuickstart(b.text, printed); err == nil {
			out, err = r.paste(ctx, dir, b.directive.first+"\n"+script, "")
		}
	})
	if ended != nil {
		err = errors.Join(err, fmt.Errorf("the quickstart: %w\n%s", ended, said))
	}
	return out, err
}

var quickstartSays = regexp.MustCompile(`(?s)\blocal network +(\S+)\n.*\bcanister +(\S+) .*\bgateway +(\S+)\n.*\bits root: (\S+)\n`)

// ofQuickstart is a script for what the quickstart says that it runs. Its certificates are trusted, and the probe is told of its network
// as every other network than mainnet is.
func ofQuickstart(script, printed string) (string, error) {
	m := quickstartSays.FindStringSubmatch(printed)
	if m == nil {
		return "", fmt.Errorf("the quickstart does not say what it runs, but\n%s", printed)
	}
	network, canister, gateway, root := m[1], m[2], m[3], m[4]
	script = strings.NewReplacer(theGateway, gateway, theCanister, canister, theNetwork, network, "icws probe ", "icws probe --network "+network+" ").Replace(script)
	return fmt.Sprintf("export SSL_CERT_FILE=%s NODE_EXTRA_CA_CERTS=%[1]s\n%s", root, script), nil
}
