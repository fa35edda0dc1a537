package main

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
)

// identityPage speaks to the page that opened it as signers do: ICRC-29 for the
// channel, ICRC-34 for the delegation.
//
//go:embed identity.html
var identityPage []byte

// longestDelegation is what Internet Identity grants at most.
const longestDelegation = 30 * 24 * time.Hour

// identityProvider is an Internet Identity on the local network: its signatures
// are canister signatures, as the real one's. It asks for a name and believes it.
type identityProvider struct {
	network *localnet.Network
	ii      *localnet.II
}

// serveIdentity starts one on loopback. It returns the address of its page, and
// what ends it.
func serveIdentity(network *localnet.Network) (url string, stop func() error, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	p := &identityProvider{network: network, ii: network.InstallII(localnet.OnSubnet(1))}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /authorize", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write(identityPage) // what cannot be written has gone
	})
	mux.HandleFunc("POST /delegate", p.delegate)
	server := &http.Server{Handler: http.NewCrossOriginProtection().Handler(mux), ReadTimeout: time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	return "http://" + l.Addr().String() + "/authorize", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err := server.Shutdown(ctx)
		if end := <-ended; !errors.Is(end, http.ErrServerClosed) {
			err = errors.Join(err, end)
		}
		return err
	}, nil
}

// delegate answers the page with the result of an icrc34_delegation. Each site
// gets a principal of its own for the same name.
func (p *identityProvider) delegate(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		Name, Origin  string
		PublicKey     []byte // base64 in JSON
		MaxTimeToLive string // nanoseconds
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 16<<10)).Decode(&ask); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	life, err := strconv.ParseInt(cmp.Or(ask.MaxTimeToLive, "0"), 10, 64)
	if err != nil || life < 0 || ask.Name == "" || ask.Origin == "" || len(ask.PublicKey) == 0 {
		http.Error(w, "a name, an origin, a public key and a time to live are wanted", http.StatusBadRequest)
		return
	}
	life = min(cmp.Or(life, int64(longestDelegation)), int64(longestDelegation))
	root, d := p.ii.Delegate(fmt.Sprintf("%s at %s", ask.Name, ask.Origin), ask.PublicKey, p.network.Now().Add(time.Duration(life)))
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{ // what cannot be written has gone
		"publicKey": root,
		"signerDelegation": []any{map[string]any{
			"delegation": map[string]any{"pubkey": d.PublicKey, "expiration": strconv.FormatInt(d.Expiration.UnixNano(), 10)},
			"signature":  d.Signature,
		}},
	})
}
