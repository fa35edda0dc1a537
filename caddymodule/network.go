package caddymodule

import (
	"bytes"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/icws-gateway/caddy-icws/verify"
)

const (
	// networkMainnet is the value of `network` that stands for the Internet Computer itself.
	networkMainnet = "mainnet"
	// networkDiscover is the last word of a `network` line that also asks for the boundary nodes that the network lists.
	networkDiscover = "discover"
	// rootKeyFetch is the value of `root_key` that asks the network for its own key.
	rootKeyFetch = "fetch"

	// maxRootKeyFile bounds what is read of a root key file. A key is 133 bytes.
	maxRootKeyFile = 16 << 10
	// maxHosts bounds the boundary nodes of one gateway: their health is kept and compared on every request.
	maxHosts = 64
)

// mainnetHosts are what `network mainnet` stands for, in order of preference: the API domain first, then the two
// domains that serve canisters, which accept API calls too.
var mainnetHosts = []string{"https://icp-api.io", "https://icp0.io", "https://ic0.app"}

// mainnetDomains are the domains under which every host is a boundary node of mainnet. The pinned key is the only one
// that may ever be used for them.
var mainnetDomains = []string{"icp-api.io", "icp0.io", "ic0.app", "internetcomputer.org", "icp.net"}

// network is the resolved form of the `network` and `root_key` knobs.
type network struct {
	hosts   []*url.URL
	mainnet string // a value that stands for mainnet, if there is one
	local   string // a host that cannot be mainnet's, if there is one
	rootKey []byte // DER; nil when fetched
	fetch   bool
}

// resolveNetwork turns the two knobs, placeholders already replaced, into hosts and the key that their certificates are
// checked with. It reads the root key file, if that is what is configured, and contacts nobody.
func resolveNetwork(values []string, rootKey string) (*network, error) {
	n, err := parseNetwork(values)
	if err != nil {
		return nil, err
	}
	if err := n.resolveRootKey(rootKey); err != nil {
		return nil, err
	}
	return n, nil
}

// parseNetwork reads the `network` knob alone; the key is not set.
func parseNetwork(values []string) (*network, error) {
	if len(values) == 0 {
		values = []string{networkMainnet}
	}
	if len(values) > maxHosts {
		return nil, fmt.Errorf("network has %d URLs: use at most %d", len(values), maxHosts)
	}
	if slices.Contains(values, networkDiscover) {
		return nil, fmt.Errorf("network %q is no host: in a Caddyfile it is the last word, not in a placeholder, and in JSON a field of its own", networkDiscover)
	}
	n := new(network)
	for _, value := range values {
		if value == networkMainnet {
			if len(values) > 1 {
				return nil, errors.New("network mainnet already includes its boundary nodes: remove the URLs, or list URLs only")
			}
			for _, host := range mainnetHosts {
				u, err := parseHost(host)
				if err != nil {
					return nil, err
				}
				n.hosts = append(n.hosts, u)
			}
			n.mainnet = value
			continue
		}
		u, err := parseHost(value)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(n.hosts, func(o *url.URL) bool { return *o == *u }) {
			return nil, fmt.Errorf("network %s is given twice: remove one of them", u)
		}
		n.hosts = append(n.hosts, u)
		switch {
		case isMainnet(u.Hostname()):
			n.mainnet = u.String()
			if u.Scheme != "https" {
				return nil, fmt.Errorf("network %s must be https: mainnet is reached over TLS only", u)
			}
		case isLocal(u.Hostname()):
			n.local = u.String()
		}
	}
	if n.mainnet != "" && n.local != "" {
		return nil, fmt.Errorf("network mixes %s, which is mainnet, with %s, which is not: they have different root keys, remove one of them", n.mainnet, n.local)
	}
	return n, nil
}

// resolveRootKey handles the `root_key` knob, which has to fit the hosts.
func (n *network) resolveRootKey(value string) error {
	pinned := verify.MainnetRootKey()
	switch {
	case value == "" && n.local != "":
		return fmt.Errorf("network %s is not mainnet, so root_key is needed: its file, its DER in hexadecimal, or `fetch` for development", n.local)
	case value == "":
		// Boundary nodes have names of their own; unless told otherwise, whatever they answer must be mainnet's.
		n.rootKey = pinned
		return nil
	case value == rootKeyFetch && n.mainnet != "":
		return fmt.Errorf("root_key fetch is refused for %s: mainnet's key is built in, remove the line", n.mainnet)
	case value == rootKeyFetch:
		n.fetch = true
		return nil
	}
	key, err := loadRootKey(value)
	if err != nil {
		return err
	}
	if n.mainnet != "" && !bytes.Equal(key, pinned) {
		return fmt.Errorf("root_key is not the key of %s: mainnet's key is built in, remove the line", n.mainnet)
	}
	n.rootKey = key
	return nil
}

// parseHost checks one URL of `network` and brings it into one spelling, so that equal hosts are equal strings.
func parseHost(value string) (*url.URL, error) {
	u, err := url.Parse(value)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("network %q is not a URL: write mainnet or a URL like http://localhost:8000", value)
	}
	u.Scheme = strings.ToLower(u.Scheme)
	if u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("network %q must start with https:// or http://", value)
	}
	if u.User != nil {
		return nil, fmt.Errorf("network %s must not hold credentials", u.Redacted())
	}
	if u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return nil, fmt.Errorf("network %q must have no query and no fragment: the gateway appends the path of each call", value)
	}
	// Mainnet has to be recognized however its hosts are spelled.
	host, err := normalHost(u.Hostname())
	if err != nil {
		return nil, fmt.Errorf("network %q cannot be reached: its host %q %w", value, u.Hostname(), err)
	}
	host = strings.TrimSuffix(host, ".")
	port := u.Port()
	if port != "" {
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil || number == 0 {
			return nil, fmt.Errorf("network %q cannot be reached: its port is not one from 1 to 65535", value)
		}
		port = strconv.FormatUint(number, 10)
	}
	if port == webPorts[u.Scheme] {
		port = ""
	}
	return &url.URL{Scheme: u.Scheme, Host: joinHost(host, port), Path: strings.TrimRight(u.Path, "/")}, nil
}

// isMainnet reports whether a normalized host name belongs to mainnet.
func isMainnet(host string) bool {
	return slices.ContainsFunc(mainnetDomains, func(domain string) bool {
		return host == domain || strings.HasSuffix(host, "."+domain)
	})
}

// isLocal reports whether a normalized host can only be a replica of one's own: names and addresses that the public
// Internet does not route.
func isLocal(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		addr = addr.Unmap()
		return addr.IsLoopback() || addr.IsPrivate() || addr.IsLinkLocalUnicast() || addr.IsUnspecified()
	}
	return !strings.Contains(host, ".") || strings.HasSuffix(host, ".localhost") || strings.HasSuffix(host, ".local") ||
		strings.HasSuffix(host, ".internal")
}

// loadRootKey reads a root key given as hexadecimal DER, as PEM, or as the path of a file that holds PEM, DER or hexadecimal.
func loadRootKey(value string) ([]byte, error) {
	if key, ok := hexRootKey(value); ok {
		return checkRootKey(key, "root_key")
	}
	if block, _ := pem.Decode([]byte(value)); block != nil {
		return checkRootKey(block.Bytes, "root_key") // a {file.*} placeholder brings the content
	}
	raw, err := readBounded(value, maxRootKeyFile)
	if err != nil {
		return nil, fmt.Errorf("root_key is neither %s nor hexadecimal DER, and reading it as a file failed: %w", rootKeyFetch, err)
	}
	name := "root_key " + value
	if block, _ := pem.Decode(raw); block != nil {
		return checkRootKey(block.Bytes, name)
	}
	if key, err := hex.DecodeString(string(bytes.TrimSpace(raw))); err == nil {
		return checkRootKey(key, name)
	}
	return checkRootKey(raw, name)
}

// hexRootKey decodes a key that is written out. What is too short to be one may be the name of a file.
func hexRootKey(value string) ([]byte, bool) {
	key, err := hex.DecodeString(value)
	return key, err == nil && len(key) >= 64
}

// checkRootKey refuses what no certificate could ever be verified with.
func checkRootKey(der []byte, name string) ([]byte, error) {
	if _, err := verify.NewAuthority(der); err != nil {
		return nil, fmt.Errorf("%s is not a DER-encoded BLS12-381 key of an Internet Computer: %w", name, err)
	}
	return der, nil
}

// readBounded reads a regular file of at most limit bytes. Anything else could be without end, or hold up the
// configuration until somebody writes to it.
func readBounded(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return raw, nil
}
