package relay

import (
	"net/url"
	"strings"
)

// The network certifies which canisters a subnet hosts in two layouts: at /subnet/<id>/canister_ranges, which all clients
// read, and at /canister_ranges/<id>/<shard>, which @dfinity/agent 2 and what is built on it refuse. Clients get the first
// as long as it can be had, see upstream.Delegation. A gateway cannot see which of them a client reads, so a client that reads the
// second says so.

// RangesSharded is the query of the URL at which a client opens its WebSocket if it also reads certificates that have the
// canister ranges in the newer, sharded layout only. Gateways that do not know it ignore it.
const RangesSharded = "ranges=sharded"

// Heed reads what a client says of itself in the URL of its opening. It has its effect before [Ticket.Serve].
func (t *Ticket) Heed(u *url.URL) {
	for part := range strings.SplitSeq(u.RawQuery, "&") {
		t.sharded = t.sharded || part == RangesSharded
	}
}
