// Command caddy is an ordinary Caddy with the gateway, as xcaddy builds it. The modes scale and bench of examples/load build and
// measure it.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/icws-gateway/caddy-icws"
)

func main() { caddycmd.Main() }
