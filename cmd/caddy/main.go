// Command caddy is Caddy with this plugin and the gateway simulator, for the demo
// and for tests. A production build takes the plugin alone: see "Put it in front of
// your shop" in the README.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-ccpayment/caddy-ccpayment"
	_ "github.com/caddy-ccpayment/caddy-ccpayment/sandbox"
)

func main() {
	caddycmd.Main()
}
