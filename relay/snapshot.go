package relay

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/icws-gateway/caddy-icws/relay/internal/upstream"
	"github.com/icws-gateway/caddy-icws/verify"
)

// Snapshot is the state of a gateway at one moment, for people and health checks. It holds no secrets: no client
// nonces, keys or payloads.
type Snapshot struct {
	Principal verify.Principal      `json:"gateway_principal"`
	Draining  bool                  `json:"draining"`
	RootKey   bool                  `json:"root_key_known"`
	Sessions  int                   `json:"sessions"`
	Canisters []CanisterSnapshot    `json:"canisters"`
	Hosts     []HostSnapshot        `json:"hosts"`
	Caches    verify.AuthorityStats `json:"caches"`
	TrafficSnapshot
}

// CanisterSnapshot is the state of one canister's poller.
type CanisterSnapshot struct {
	Canister     verify.Principal `json:"canister_id"`
	Sessions     int              `json:"sessions"`
	Nonce        uint64           `json:"nonce"`                  // of the next message in the gateway's queue
	LastPoll     time.Time        `json:"last_poll"`              // last good answer
	Certified    time.Time        `json:"certified"`              // time of the newest certificate
	LastTraffic  time.Time        `json:"last_traffic"`           // either way
	Failures     int              `json:"failures"`               // polls in a row
	FailingSince time.Time        `json:"failing_since,omitzero"` // when they began
	LastError    string           `json:"last_error,omitempty"`   // of the last of them
	CallError    string           `json:"call_error,omitempty"`   // of the last call of a client, if that has failed so far
	AckOverdue   bool             `json:"ack_overdue"`            // the canister sends no acks
}

// HostSnapshot is the health of one boundary node.
type HostSnapshot struct {
	Host     string        `json:"host"`
	Healthy  bool          `json:"healthy"`
	Latency  time.Duration `json:"latency_ns"` // moving average
	Failures int           `json:"failures"`   // in a row
	// Discovered says that the network lists the host in its certified state, and the configuration does not.
	Discovered bool   `json:"discovered,omitempty"`
	LastError  string `json:"last_error,omitempty"`
}

// SessionSnapshot is the state of one session.
type SessionSnapshot struct {
	ID        uint64           `json:"id"` // for CloseSession
	Canister  verify.Principal `json:"canister_id"`
	Principal verify.Principal `json:"client_principal"`
	ClientIP  netip.Addr       `json:"client_ip"` // empty if the client has none
	State     string           `json:"state"`     // connected, opening, open, ended
	Started   time.Time        `json:"started"`
	FramesIn  int64            `json:"frames_in"`
	BytesIn   int64            `json:"bytes_in"`
	FramesOut int64            `json:"frames_out"`
	BytesOut  int64            `json:"bytes_out"`
	Outbox    int              `json:"outbox"` // frames that wait for the client
	Inbox     int              `json:"inbox"`  // envelopes that wait for the canister
}

var stateNames = [...]string{stateConnected: "connected", stateOpening: "opening", stateOpen: "open",
	stateEnded: "ended", stateClosed: "ended"}

// Snapshot returns the present state, canisters and hosts in order of their names.
func (g *Gateway) Snapshot() Snapshot {
	snap := Snapshot{Principal: g.Principal(), RootKey: g.up.KnownAuthority() != nil, Caches: g.up.Stats(), TrafficSnapshot: g.trafficSnapshot(),
		Canisters: []CanisterSnapshot{}, Hosts: []HostSnapshot{}}
	g.mu.Lock()
	snap.Draining, snap.Sessions = g.refusing != nil, len(g.sessions)
	canisters := make([]*canister, 0, len(g.canisters))
	for _, c := range g.canisters {
		canisters = append(canisters, c)
	}
	g.mu.Unlock()
	for _, c := range canisters {
		snap.Canisters = append(snap.Canisters, c.snapshot())
	}
	slices.SortFunc(snap.Canisters, func(a, b CanisterSnapshot) int { return a.Canister.Compare(b.Canister) })
	for _, h := range g.up.Hosts() {
		snap.Hosts = append(snap.Hosts, hostSnapshot(h.State()))
	}
	slices.SortFunc(snap.Hosts, func(a, b HostSnapshot) int { return cmp.Compare(a.Host, b.Host) })
	return snap
}

func (c *canister) snapshot() CanisterSnapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	failures, since, _ := c.queue.Failing()
	return CanisterSnapshot{
		Canister: c.id, Sessions: len(c.sessions), Nonce: c.queue.Position(),
		LastPoll: c.lastPoll, Certified: c.queue.Certified(), LastTraffic: c.active,
		Failures: failures, FailingSince: since, LastError: c.lastError, CallError: c.callError, AckOverdue: c.acksMissing,
	}
}

func hostSnapshot(h upstream.HostState) HostSnapshot {
	return HostSnapshot{Host: h.Name, Healthy: h.Failures == 0, Latency: h.Latency, Failures: h.Failures, LastError: h.LastError,
		Discovered: h.Discovered}
}

// Sessions lists the sessions, oldest first.
func (g *Gateway) Sessions() []SessionSnapshot {
	g.mu.Lock()
	all := g.snapshotSessions()
	g.mu.Unlock()
	list := make([]SessionSnapshot, 0, len(all))
	for _, s := range all {
		list = append(list, s.snapshot())
	}
	slices.SortFunc(list, func(a, b SessionSnapshot) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// CloseSession ends one session and reports whether there was one with that id.
func (g *Gateway) CloseSession(id uint64) bool {
	g.mu.Lock()
	all := g.snapshotSessions()
	g.mu.Unlock()
	for _, s := range all {
		if s.id == id {
			s.end(newClosing(AdminClosed, ""))
			return true
		}
	}
	return false
}
