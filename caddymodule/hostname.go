package caddymodule

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// browserIDNA maps international names as browsers do (URL standard, "domain to ASCII"). Which ASCII characters may be in a
// name is for checkName to say.
var browserIDNA = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.BidiRule(), idna.StrictDomainName(false), idna.CheckHyphens(false))

// normalHost brings the host of a URL, a name or an address without its brackets, into the one form that browsers, HTTP
// clients and certificates use: names in lower case and ASCII, addresses in their shortest form. A dot at the end of a name
// stays. Underscores and double hyphens are in no rule for host names, but in those of containers and of previews.
//
// The error continues a sentence that begins with the host.
func normalHost(host string) (string, error) {
	if strings.Contains(host, ":") {
		addr, err := netip.ParseAddr(host)
		if err != nil {
			return "", errors.New("is not an IPv6 address")
		}
		return addr.String(), nil
	}
	name := strings.ToLower(host)
	if strings.IndexFunc(host, func(r rune) bool { return r >= 0x80 }) >= 0 {
		ascii, err := browserIDNA.ToASCII(host)
		if err != nil || !utf8.ValidString(host) {
			return "", errors.New("is not a valid international name")
		}
		name = strings.ToLower(ascii)
	}
	bare := strings.TrimSuffix(name, ".")
	if err := checkName(bare); err != nil {
		return "", err
	}
	if !endsInNumber(bare) {
		return name, nil
	}
	addr, err := netip.ParseAddr(bare)
	if err != nil {
		return "", errors.New("ends in a number and is not an IPv4 address like 127.0.0.1")
	}
	return addr.String(), nil
}

// joinHost is the host of a URL with its port, if it has one.
func joinHost(host, port string) string {
	switch {
	case port != "":
		return net.JoinHostPort(host, port)
	case strings.Contains(host, ":"):
		return "[" + host + "]"
	}
	return host
}

// checkName refuses names that no resolver can find.
func checkName(name string) error {
	if len(name) > 253 {
		return errors.New("is longer than 253 bytes")
	}
	for label := range strings.SplitSeq(name, ".") {
		switch {
		case label == "":
			return errors.New("has an empty part")
		case len(label) > 63:
			return errors.New("has a part of more than 63 bytes")
		case strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "":
			return errors.New("has a character that is in no host name")
		}
	}
	return nil
}

// endsInNumber reports whether browsers take a name for an IPv4 address (URL standard, "ends in a number checker").
func endsInNumber(name string) bool {
	label := name[strings.LastIndexByte(name, '.')+1:]
	hex, isHex := strings.CutPrefix(label, "0x")
	return strings.Trim(label, "0123456789") == "" || isHex && strings.Trim(hex, "0123456789abcdef") == ""
}
