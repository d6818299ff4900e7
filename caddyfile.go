package ccpayment

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/dustin/go-humanize"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("ccpayment", parseApp)
	httpcaddyfile.RegisterHandlerDirective("ccpayment_bill", parseBill)
	httpcaddyfile.RegisterHandlerDirective("ccpayment_webhook", parseWebhook)
	httpcaddyfile.RegisterDirectiveOrder("ccpayment_bill", httpcaddyfile.Before, "handle")
	httpcaddyfile.RegisterDirectiveOrder("ccpayment_webhook", httpcaddyfile.Before, "handle")
}

// parseApp parses the global options:
//
//	ccpayment {
//		app_id     <id>
//		app_secret <secret> [<older>...]
//		api        v1|v2
//		endpoint   <url>
//		timeout    <duration>
//		timestamp_unit s|ms
//		store      <module> ...
//		retain     <duration>
//		reconcile  off|<duration>
//		catch_up
//		account <name> {
//			app_id ... app_secret ... api ... endpoint ... timeout ... timestamp_unit ...
//		}
//	}
func parseApp(d *caddyfile.Dispenser, existing any) (any, error) {
	if existing != nil {
		d.Next()
		return nil, d.Err("ccpayment is configured twice")
	}
	app := new(App)
	if err := app.UnmarshalCaddyfile(d); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "ccpayment", Value: caddyconfig.JSON(app, nil)}, nil
}

// parseBill parses ccpayment_bill; see [Bill.UnmarshalCaddyfile].
func parseBill(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	b := new(Bill)
	return b, b.UnmarshalCaddyfile(h.Dispenser)
}

// parseWebhook parses ccpayment_webhook; see [Webhook.UnmarshalCaddyfile].
func parseWebhook(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	w := new(Webhook)
	return w, w.UnmarshalCaddyfile(h.Dispenser)
}

// options are what a block may hold, by name.
type options map[string]option

// option parses the arguments of one option.
type option struct {
	parse func(d *caddyfile.Dispenser) error
	again bool // may be repeated
}

// parse goes through a block. Options that are unknown or repeated are errors,
// since a setting about money must not be dropped in silence.
func (o options) parse(d *caddyfile.Dispenser, directive string) error {
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		opt, ok := o[name]
		if !ok {
			return d.Errf("unrecognized %s option '%s'; known: %s", directive, name, strings.Join(slices.Sorted(maps.Keys(o)), ", "))
		}
		if seen[name] && !opt.again {
			return d.Errf("%s option '%s' is there twice", directive, name)
		}
		seen[name] = true
		if err := opt.parse(d); err != nil {
			return err
		}
	}
	return nil
}

// accountOptions are those of an account, whether it has a name or not.
func accountOptions(a *Account) options {
	return options{
		"app_id":         {parse: intoText(&a.AppID)},
		"app_secret":     {parse: intoTexts(&a.AppSecret)},
		"api":            {parse: intoOneOf(&a.API, apiV1, apiV2)},
		"endpoint":       {parse: intoText(&a.Endpoint)},
		"timeout":        {parse: intoDuration(&a.Timeout)},
		"timestamp_unit": {parse: intoOneOf(&a.TimestampUnit, unitSeconds, unitMilliseconds)},
	}
}

// UnmarshalCaddyfile parses the global options.
func (a *App) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the option's name
	if d.NextArg() {
		return d.ArgErr()
	}
	o := accountOptions(&a.Account)
	o["store"] = option{parse: func(d *caddyfile.Dispenser) error {
		if !d.NextArg() {
			return d.ArgErr()
		}
		name := d.Val()
		unm, err := caddyfile.UnmarshalModule(d, "ccpayment.stores."+name)
		if err != nil {
			return err
		}
		a.StoreRaw = caddyconfig.JSONModuleObject(unm, "module", name, nil)
		return nil
	}}
	o["retain"] = option{parse: intoDuration(&a.Retain)}
	o["reconcile"] = option{parse: func(d *caddyfile.Dispenser) (err error) {
		var arg string
		if !d.AllArgs(&arg) {
			return d.ArgErr()
		}
		if arg == "off" {
			a.Reconcile = -1
			return nil
		}
		a.Reconcile, err = parseDuration(d, arg)
		return err
	}}
	o["catch_up"] = option{parse: intoFlag(&a.CatchUp)}
	o["account"] = option{again: true, parse: func(d *caddyfile.Dispenser) error {
		var name string
		if !d.AllArgs(&name) {
			return d.ArgErr()
		}
		if _, twice := a.Accounts[name]; twice || name == defaultAccount {
			return d.Errf("account '%s' is there twice", name)
		}
		account := new(Account)
		if err := accountOptions(account).parse(d, "account"); err != nil {
			return err
		}
		if a.Accounts == nil {
			a.Accounts = make(map[string]*Account)
		}
		a.Accounts[name] = account
		return nil
	}}
	return o.parse(d, "ccpayment")
}

// UnmarshalCaddyfile parses the store of a single instance:
//
//	store sqlite [<path>]
func (s *SQLite) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	if d.NextArg() {
		s.Path = d.Val()
	}
	if d.NextArg() {
		return d.ArgErr()
	}
	return options{}.parse(d, "store sqlite")
}

// UnmarshalCaddyfile parses the directive:
//
//	ccpayment_bill [<matcher>] {
//		account       <name>
//		catalog       <file>
//		product       <id> <price> [<name>]
//		currency      <code>
//		method        <name> <token_id>|<coin_id> <chain> {
//			label         <text>
//			network       <text>
//			memo_required
//		}
//		checkout      native|hosted
//		valid_for     <duration>
//		accept_short  <percent>
//		notify_url    <url>
//		return_url    <url>
//		support_url   <url>
//		max_quantity  <n>
//		rate_limit    <n>/<duration> [<burst>]
//		max_open      <n>
//		allow_origin  <origin>...
//		remark        <text>
//	}
func (h *Bill) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	if d.NextArg() {
		return d.ArgErr()
	}
	return options{
		"account":  {parse: intoText(&h.Account)},
		"catalog":  {parse: intoText(&h.Catalog)},
		"currency": {parse: intoText(&h.Currency)},
		"product": {again: true, parse: func(d *caddyfile.Dispenser) error {
			args := d.RemainingArgs()
			if len(args) < 2 || len(args) > 3 {
				return d.ArgErr()
			}
			p := Product{ID: args[0], Price: args[1]}
			if len(args) == 3 {
				p.Name = args[2]
			}
			h.Products = append(h.Products, p)
			return nil
		}},
		"method": {again: true, parse: func(d *caddyfile.Dispenser) error {
			m := new(Method)
			// Which of the two forms is right depends on the account, which is not known
			// before all of the configuration is read.
			switch args := d.RemainingArgs(); len(args) {
			case 2:
				m.Name, m.TokenID = args[0], args[1]
			case 3:
				id, err := strconv.ParseInt(args[1], 10, 64)
				if err != nil || id < 1 {
					return d.Errf("method coin_id '%s' is not a number above zero", args[1])
				}
				m.Name, m.CoinID, m.Chain = args[0], id, args[2]
			default:
				return d.ArgErr()
			}
			h.Methods = append(h.Methods, m)
			return options{
				"label":         {parse: intoText(&m.Label)},
				"network":       {parse: intoText(&m.Network)},
				"memo_required": {parse: intoFlag(&m.MemoRequired)},
			}.parse(d, "method")
		}},
		"checkout":     {parse: intoOneOf(&h.Checkout, checkoutNative, checkoutHosted)},
		"valid_for":    {parse: intoDuration(&h.ValidFor)},
		"accept_short": {parse: intoText(&h.AcceptShort)},
		"notify_url":   {parse: intoText(&h.NotifyURL)},
		"return_url":   {parse: intoText(&h.ReturnURL)},
		"support_url":  {parse: intoText(&h.SupportURL)},
		"max_quantity": {parse: intoNumber(&h.MaxQuantity)},
		"max_open":     {parse: intoNumber(&h.MaxOpen)},
		"allow_origin": {parse: intoTexts(&h.AllowOrigin)},
		"remark":       {parse: intoText(&h.Remark)},
		"rate_limit": {parse: func(d *caddyfile.Dispenser) (err error) {
			h.RateLimit, err = parseRateLimit(d)
			return err
		}},
	}.parse(d, "ccpayment_bill")
}

// parseRateLimit parses <n>/<duration> [<burst>].
func parseRateLimit(d *caddyfile.Dispenser) (*RateLimit, error) {
	args := d.RemainingArgs()
	if len(args) < 1 || len(args) > 2 {
		return nil, d.ArgErr()
	}
	l := new(RateLimit)
	events, window, ok := strings.Cut(args[0], "/")
	n, err := strconv.Atoi(events)
	if !ok || err != nil || n < 1 {
		return nil, d.Errf("rate_limit '%s' is not of the form 10/1m", args[0])
	}
	dur, err := caddy.ParseDuration(window)
	if err != nil || dur <= 0 {
		return nil, d.Errf("rate_limit '%s' is not of the form 10/1m", args[0])
	}
	l.Events, l.Window = n, caddy.Duration(dur)
	if len(args) == 2 {
		if l.Burst, err = strconv.Atoi(args[1]); err != nil || l.Burst < 1 {
			return nil, d.Errf("rate_limit burst '%s' is not a number above zero", args[1])
		}
	}
	return l, nil
}

// UnmarshalCaddyfile parses the directive:
//
//	ccpayment_webhook [<matcher>] {
//		account   <name>
//		upstream  <url> {
//			name    <name>
//			secret  <whsec_...> [<older>...]
//			types   <pattern>...
//			timeout <duration>
//			header  <name> <value>
//			retry   <duration>...
//		}
//		tolerance <duration>
//		max_body  <size>
//		allow_ip  <cidr>...
//	}
func (h *Webhook) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	if d.NextArg() {
		return d.ArgErr()
	}
	return options{
		"account":   {parse: intoText(&h.Account)},
		"tolerance": {parse: intoDuration(&h.Tolerance)},
		"max_body":  {parse: intoSize(&h.MaxBody)},
		"allow_ip":  {parse: intoTexts(&h.AllowIP)},
		"upstream": {again: true, parse: func(d *caddyfile.Dispenser) error {
			u := new(Upstream)
			if !d.AllArgs(&u.URL) {
				return d.ArgErr()
			}
			h.Upstreams = append(h.Upstreams, u)
			return u.unmarshalBlock(d)
		}},
	}.parse(d, "ccpayment_webhook")
}

func (u *Upstream) unmarshalBlock(d *caddyfile.Dispenser) error {
	return options{
		"name":    {parse: intoText(&u.Name)},
		"secret":  {parse: intoTexts(&u.Secret)},
		"types":   {parse: intoTexts(&u.Types)},
		"timeout": {parse: intoDuration(&u.Timeout)},
		"header": {again: true, parse: func(d *caddyfile.Dispenser) error {
			var name, value string
			if !d.AllArgs(&name, &value) {
				return d.ArgErr()
			}
			if u.Header == nil {
				u.Header = make(http.Header)
			}
			u.Header.Add(name, value)
			return nil
		}},
		"retry": {parse: func(d *caddyfile.Dispenser) error {
			args := d.RemainingArgs()
			if len(args) == 0 {
				return d.ArgErr()
			}
			for _, arg := range args {
				wait, err := parseDuration(d, arg)
				if err != nil {
					return err
				}
				u.Retry = append(u.Retry, wait)
			}
			return nil
		}},
	}.parse(d, "upstream")
}

// The following return parsers of one option into a field.

func intoText(to *string) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		if !d.AllArgs(to) {
			return d.ArgErr()
		}
		return nil
	}
}

func intoTexts(to *[]string) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		if *to = d.RemainingArgs(); len(*to) == 0 {
			return d.ArgErr()
		}
		return nil
	}
}

func intoFlag(to *bool) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		if d.NextArg() {
			return d.ArgErr()
		}
		*to = true
		return nil
	}
}

func intoOneOf(to *string, known ...string) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		option := d.Val()
		if !d.AllArgs(to) {
			return d.ArgErr()
		}
		if !slices.Contains(known, *to) {
			return d.Errf("unrecognized %s '%s'; known: %s", option, *to, strings.Join(known, ", "))
		}
		return nil
	}
}

func intoNumber(to *int) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		option := d.Val()
		var arg string
		if !d.AllArgs(&arg) {
			return d.ArgErr()
		}
		n, err := strconv.Atoi(arg)
		if err != nil || n < 1 {
			return d.Errf("%s '%s' is not a number above zero", option, arg)
		}
		*to = n
		return nil
	}
}

func intoSize(to *int64) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		option := d.Val()
		var arg string
		if !d.AllArgs(&arg) {
			return d.ArgErr()
		}
		n, err := humanize.ParseBytes(arg)
		if err != nil || n < 1 || n > 1<<30 {
			return d.Errf("%s '%s' is not a size like 64KiB, at most 1GiB", option, arg)
		}
		*to = int64(n)
		return nil
	}
}

func intoDuration(to *caddy.Duration) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) (err error) {
		var arg string
		if !d.AllArgs(&arg) {
			return d.ArgErr()
		}
		*to, err = parseDuration(d, arg)
		return err
	}
}

func parseDuration(d *caddyfile.Dispenser, arg string) (caddy.Duration, error) {
	dur, err := caddy.ParseDuration(arg)
	if err != nil || dur <= 0 {
		return 0, d.Errf("'%s' is not a duration above zero, like %s", arg, 90*time.Second)
	}
	return caddy.Duration(dur), nil
}

// Interface guards
var (
	_ caddyfile.Unmarshaler = (*App)(nil)
	_ caddyfile.Unmarshaler = (*SQLite)(nil)
)
