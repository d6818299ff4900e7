package ccpayment

import "runtime/debug"

const modulePath = "github.com/caddy-ccpayment/caddy-ccpayment"

// version is the version of this module in the running program, "dev" in a build
// of its own checkout.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "dev"
	}
	for _, m := range append(info.Deps, &info.Main) {
		if m.Path == modulePath && m.Version != "" && m.Version != "(devel)" {
			return m.Version
		}
	}
	return "dev"
}
