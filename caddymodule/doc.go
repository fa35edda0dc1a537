// Package caddymodule makes the IC WebSocket gateway of package relay a part of Caddy: the HTTP handler
// http.handlers.icws with its Caddyfile directive and JSON form, the pool that lets sessions outlive a configuration,
// the gateway's identity in Caddy's storage, metrics, traces, the admin endpoints and the commands.
//
// Nothing of the protocol itself lives here. A request passes through these files in order: handler.go decides whether
// it opens a WebSocket, origin.go whether its page may do so, relay's limits whether there is room, upgrade.go (HTTP/1.1)
// or connect.go (HTTP/2 and HTTP/3) makes it a connection, and relay takes the connection over.
//
// What is refused on the way is answered and logged in refusal.go. Before that, at Provision, tryfiles.go sees to it that openings
// get to the handler, and placement.go warns where none can.
//
// Life of a configuration: Provision reads and checks everything that can be checked without a network and without
// writing to disk, because `caddy validate` provisions too. The gateway itself is acquired from the pool when the
// configuration starts (app.go), so that a configuration that is only validated, or that fails to provision, never
// creates an identity or a gateway. When the process ends, farewell.go leaves word for the next one.
package caddymodule
