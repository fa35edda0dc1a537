// Package icws is the plugin under the module's own name. Importing it registers everything that package caddymodule has,
// so that
//
//	xcaddy build --with github.com/icws-gateway/caddy-icws
//
// works from a tag, and with =. at its end from a clone. It exports nothing: who embeds the gateway in Go imports
// caddymodule, or relay to have it without Caddy.
package icws

import _ "github.com/icws-gateway/caddy-icws/caddymodule" // registers the modules and the commands
