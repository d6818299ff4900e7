package sandbox

import (
	"strconv"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("ccpayment_sandbox", parseCaddyfile)
	httpcaddyfile.RegisterDirectiveOrder("ccpayment_sandbox", httpcaddyfile.Before, "handle")
}

// knownOptions is what the block of the directive may hold, for error messages.
const knownOptions = "app_id, app_secret, api, notify_url, inbox_secret, speed, open"

func parseCaddyfile(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	s := new(Sandbox)
	if err := s.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	return s, nil
}

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens. Syntax:
//
//	ccpayment_sandbox [<matcher>] {
//		app_id       <id>
//		app_secret   <secret>
//		api          v1|v2
//		notify_url   <url>
//		inbox_secret <whsec_...>
//		speed        <factor>
//		open         <label> <url>
//	}
//
// app_id and app_secret are required. open may be repeated.
func (s *Sandbox) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume directive name
	if d.NextArg() {
		return d.ArgErr()
	}

	seen := make(map[string]bool)
	for d.NextBlock(0) {
		option := d.Val()
		if seen[option] && option != "open" {
			return d.Errf("ccpayment_sandbox option '%s' is given twice; known: %s", option, knownOptions)
		}
		seen[option] = true

		switch option {
		case "app_id":
			if err := text(d, &s.AppID); err != nil {
				return err
			}
		case "app_secret":
			if err := text(d, &s.AppSecret); err != nil {
				return err
			}
		case "api":
			if err := text(d, &s.API); err != nil {
				return err
			}
			if generations[s.API] == nil {
				return d.Errf("api '%s' must be v1 or v2", s.API)
			}
		case "notify_url":
			if err := text(d, &s.NotifyURL); err != nil {
				return err
			}
		case "inbox_secret":
			if err := text(d, &s.InboxSecret); err != nil {
				return err
			}
		case "speed":
			var v string
			if err := text(d, &v); err != nil {
				return err
			}
			f, err := strconv.ParseFloat(v, 64)
			if err != nil || !(f > 0 && f <= maxSpeed) {
				return d.Errf("speed '%s' must be a number greater than 0 and at most %d", v, maxSpeed)
			}
			s.Speed = f
		case "open":
			var l Link
			if !d.AllArgs(&l.Label, &l.URL) {
				return d.ArgErr()
			}
			if l.Label == "" || l.URL == "" {
				return d.ArgErr()
			}
			s.Open = append(s.Open, l)
		default:
			return d.Errf("unrecognized ccpayment_sandbox option '%s'; known: %s", option, knownOptions)
		}
		if d.NextBlock(1) {
			return d.Errf("ccpayment_sandbox option '%s' has no block", option)
		}
	}

	for _, required := range []string{"app_id", "app_secret"} {
		if !seen[required] {
			return d.Errf("ccpayment_sandbox needs the option '%s'; known: %s", required, knownOptions)
		}
	}
	return nil
}

// text reads the one argument of an option. An empty one is as good as none: an
// unset environment variable must not become an empty secret.
func text(d *caddyfile.Dispenser, dst *string) error {
	if !d.AllArgs(dst) || *dst == "" {
		return d.ArgErr()
	}
	return nil
}
