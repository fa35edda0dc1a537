package caddymodule

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gorilla/websocket"

	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// adviceError is an error with a remedy.
type adviceError struct {
	err    error
	advice string
}

func (e *adviceError) Error() string { return e.err.Error() + ": " + e.advice }
func (e *adviceError) Unwrap() error { return e.err }

func advise(err error, format string, args ...any) error {
	return &adviceError{err: err, advice: fmt.Sprintf(format, args...)}
}

// remedy says on a line of its own, below the step that failed, what to do about err.
func (p *prober) remedy(err error) {
	var advised *adviceError
	if errors.As(err, &advised) {
		p.line("do  ", "", "%s", advised.advice)
	}
}

// explain says what an error of the session means and what to do about it.
func (p *prober) explain(err error) error {
	var upgrade *client.UpgradeError
	var closed *client.CloseError
	switch {
	case errors.As(err, &upgrade):
		p.bad("upgrade", "HTTP status %d", upgrade.Status)
		return advise(err, "%s", p.adviceForStatus(upgrade))
	case errors.Is(err, errNoGreeting):
		p.bad("handshake", "none within %s", cmp.Or(p.greeting, greetingPatience))
		return advise(err, "the server at %s speaks WebSocket but does not greet as a gateway does: is another program or a proxy at this path, and does it pass frames on at once?", p.path())
	case strings.Contains(err.Error(), `malformed HTTP response "\x15\x03`): // a TLS alert
		p.bad("upgrade", "the answer is not HTTP but TLS")
		return advise(err, "%s", p.adviceForTLS())
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, client.ErrOpenTimeout):
		p.bad("session", "no answer within %s", p.timeout)
		return advise(err, "%s", p.adviceForSilence())
	case errors.As(err, &closed):
		p.bad("session", "closed with %d %q", closed.Code, closed.Text)
		switch advice := adviceFor(closed); {
		case closed.Text == relay.ClientOutdated.Text():
			return advise(err, "clients that read sharded ranges, as @dfinity/agent 3 does, open at the same URL with %s behind a question mark: probe that", relay.RangesSharded)
		case p.lacks != "" && closed.Code == websocket.CloseInternalServerErr:
			return advise(err, "%s", p.lacks)
		case advice != "":
			return advise(err, "%s", advice)
		}
		return err
	}
	p.bad("session", "%v", err)
	return err
}

// adviceForStatus says what to do about a server that answers an opening in another way than by a WebSocket.
func (p *prober) adviceForStatus(answer *client.UpgradeError) string {
	header := answer.Header
	page := strings.HasPrefix(header.Get("Content-Type"), "text/html")
	var advice string
	switch answer.Status {
	case http.StatusBadRequest:
		if strings.Contains(answer.Body, "HTTPS") { // as servers in Go and nginx say it
			return p.adviceForTLS()
		}
		advice = "something in front of the gateway answers: does it pass WebSocket upgrades on?"
	case http.StatusForbidden:
		advice = "the origin is not on the gateway's list, try --origin"
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		advice = fmt.Sprintf("a limit of the gateway is reached or it is draining, Retry-After %.40q", header.Get("Retry-After"))
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return fmt.Sprintf("it redirects to %q, which WebSocket clients do not follow: probe that, with wss:// for https://", header.Get("Location"))
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		return "a proxy in front does not reach the gateway: is Caddy running behind it?"
	case http.StatusOK, http.StatusNotFound:
		if page {
			return fmt.Sprintf("a page answers in place of the gateway. In the Caddyfile, give icws a block of its own, `handle %s { icws ... }`, "+
				"and put the lines that serve pages (try_files, rewrite, respond, file_server) into `handle { ... }`", p.path())
		}
		return "no gateway answers at this path: does the icws matcher cover it, and does no handle, route or respond of the site come first?"
	default:
		advice = "something in front of the gateway answers: does it pass WebSocket upgrades on?"
	}
	if page {
		advice += fmt.Sprintf("; the answer is a page, so look also at what stands in front of the gateway (Server: %.40q)", header.Get("Server"))
	}
	return advice
}

// adviceForTLS is for a port that wants TLS from the first byte.
func (p *prober) adviceForTLS() string {
	return "this port speaks TLS: probe it with wss:// in place of ws://, as pages have to open it"
}

// path is the path of the URL that is probed.
func (p *prober) path() string {
	if u, err := url.Parse(p.url); err == nil && u.Path != "" {
		return u.Path
	}
	return "/"
}

// adviceForSilence says what is known about a first message that did not come.
func (p *prober) adviceForSilence() string {
	seen := p.seen.Load()
	switch {
	case p.lacks != "":
		return p.lacks
	case p.openSent.IsZero():
		return "the gateway is too slow, try a longer --timeout"
	case seen != nil:
		return "ws_open was sent and nothing came back; " + *seen
	}
	return "ws_open was sent and nothing came back: look at the gateway's log and at caddy icws status, or try a longer --timeout"
}

// adviceFor turns how a session was closed into what to do. It is empty where the text of the close says so already.
func adviceFor(closed *client.CloseError) string {
	switch {
	case errors.Is(closed, client.ErrHandshake):
		return "the server speaks WebSocket but is no IC WebSocket gateway"
	case errors.Is(closed, client.ErrVerification):
		return "the messages are not certified by this network: check --network or --root-key, and this machine's clock (" + time.Now().UTC().Format(time.RFC3339) + ")"
	case closed.Local:
		return "the gateway or the canister breaks the protocol"
	}
	switch closed.Code {
	case 1001:
		return "the gateway is shutting down or was reconfigured, try again"
	case 1006:
		return "the connection broke without a reason: look for a proxy with a timeout in between"
	case 1008:
		return "the gateway refuses this session: is the canister on its list, and is this machine's clock right (" + time.Now().UTC().Format(time.RFC3339) + ")?"
	case 1011:
		return "the canister refuses or its answers cannot be verified: is it an IC WebSocket canister, and is it the network that the gateway uses?"
	case 1012, 1013:
		if closed.Text != "" {
			return "" // a canister that is out of cycles is not helped by another try
		}
		return "the canister or its network cannot be reached now, try again later"
	}
	return "see the text of the close"
}
