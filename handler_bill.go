package ccpayment

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/shopspring/decimal"
	"go.uber.org/zap"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/catalog"
)

const (
	defaultCurrency    = "USD"
	defaultValidFor    = time.Hour
	maxValidFor        = 10 * 24 * time.Hour // the gateway's limit
	defaultMaxQuantity = 99
	defaultMaxOpen     = 1000
)

// Ways in which a bill is shown.
const (
	checkoutNative = "native"
	checkoutHosted = "hosted"
)

// Bill sells what is in the shop's price list. It prices a cart, makes a bill at
// the gateway and shows the buyer a checkout that follows the payment.
type Bill struct {
	// The merchant account that is paid. Default: the account that is configured
	// without a name.
	Account string `json:"account,omitempty"`

	// File with the price list, in JSON. It is read again when it changes; a broken
	// new file is logged, and the last good list stays in force.
	Catalog string `json:"catalog,omitempty"`

	// Further entries of the price list.
	Products []Product `json:"product,omitempty"`

	// Denominated currency of all prices. Default: that of the catalog, else USD
	Currency string `json:"currency,omitempty"`

	// What buyers may pay with. At least one, unless checkout is hosted.
	Methods []*Method `json:"method,omitempty"`

	// "native" shows the buyer a page of this server, "hosted" leads to the
	// gateway's own page. Default: native
	Checkout string `json:"checkout,omitempty"`

	// How long a bill is valid; at most 240h. Default: 1h
	ValidFor caddy.Duration `json:"valid_for,omitempty"`

	// A bill paid short by at most this share, in percent, counts as paid. It
	// covers what wallets and exchanges take off. Default: 0
	AcceptShort string `json:"accept_short,omitempty"`

	// Address for the gateway's callbacks about these bills. Default: the one set
	// in the gateway's dashboard
	NotifyURL string `json:"notify_url,omitempty"`

	// Where the page of a paid bill leads. Default: nowhere
	ReturnURL string `json:"return_url,omitempty"`

	// Where buyers find help; shown on every checkout. Default: not shown
	SupportURL string `json:"support_url,omitempty"`

	// The largest quantity of one product, unless the price list has another for
	// it. Default: 99
	MaxQuantity int `json:"max_quantity,omitempty"`

	// New bills of one client IP address. Default: 10 in 1m, burst 5
	RateLimit *RateLimit `json:"rate_limit,omitempty"`

	// The most open bills of the account at a time. Default: 1000
	MaxOpen int `json:"max_open,omitempty"`

	// Other origins whose pages may use the endpoint, like https://example.com.
	// Default: none
	AllowOrigin []string `json:"allow_origin,omitempty"`

	// Remark that the gateway keeps with the order, of API v1 only. Placeholders are
	// allowed. Default: none
	Remark string `json:"remark,omitempty"`

	app         *App
	account     *Account
	prices      func() *catalog.List
	methods     map[string]*Method
	acceptShort decimal.Decimal
	notifyURL   string
	limiter     *limiter
	log         *zap.Logger

	// stopping is closed when a server of this handler begins to shut down, which
	// would otherwise wait for streams without end.
	stopping chan struct{}
	stop     func()
}

// Product is an entry of the price list.
type Product struct {
	// What the shop's page names it by.
	ID string `json:"id,omitempty"`
	// Price in the denominated currency, like "25.00".
	Price string `json:"price,omitempty"`
	// Name on the bill. Default: the id
	Name string `json:"name,omitempty"`
}

// Method is something buyers may pay with: a coin on a network.
type Method struct {
	// What the shop's page names it by.
	Name string `json:"name,omitempty"`
	// The gateway's id of the coin on the network, for accounts of API v1.
	TokenID string `json:"token_id,omitempty"`
	// The gateway's number of the coin, for accounts of API v2.
	CoinID int64 `json:"coin_id,omitempty"`
	// The gateway's name of the network, like TRX, for accounts of API v2.
	Chain string `json:"chain,omitempty"`
	// What buyers read. Default: coin and network as the gateway names them
	Label string `json:"label,omitempty"`
	// Name of the network that buyers read. Default: as the gateway names it
	Network string `json:"network,omitempty"`
	// Refuse a bill for which the gateway gives no memo. Default: false
	MemoRequired bool `json:"memo_required,omitempty"`

	// missed is set once it was told that the gateway does not offer the method.
	missed *atomic.Bool
}

// RateLimit bounds how often something may happen.
type RateLimit struct {
	// How many times in a window.
	Events int `json:"events,omitempty"`
	// The window. Default: 1m
	Window caddy.Duration `json:"window,omitempty"`
	// How many at once. Default: 5
	Burst int `json:"burst,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (Bill) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.ccpayment_bill",
		New: func() caddy.Module { return new(Bill) },
	}
}

// Provision sets up the handler.
func (h *Bill) Provision(ctx caddy.Context) (err error) {
	h.log = ctx.Logger()
	if h.app, err = appOf(ctx, "ccpayment_bill"); err != nil {
		return err
	}
	if h.account, err = h.app.account(h.Account); err != nil {
		return err
	}
	h.setDefaults()
	if err := h.check(); err != nil {
		return err
	}
	if err := h.loadPrices(); err != nil {
		return err
	}
	if h.Remark != "" && h.account.API == apiV2 {
		h.log.Warn("remark has no effect, because orders of API v2 have none", zap.String("account", h.account.name))
	}
	h.limiter = newLimiter(*h.RateLimit)

	h.stopping = make(chan struct{})
	h.stop = sync.OnceFunc(func() { close(h.stopping) })
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok {
		server.RegisterOnShutdown(h.stop)
	}
	return nil
}

// Cleanup ends the streams that are still open.
func (h *Bill) Cleanup() error {
	if h.stop != nil {
		h.stop()
	}
	return nil
}

func (h *Bill) setDefaults() {
	if h.Checkout == "" {
		h.Checkout = checkoutNative
	}
	if h.ValidFor == 0 {
		h.ValidFor = caddy.Duration(defaultValidFor)
	}
	if h.MaxQuantity == 0 {
		h.MaxQuantity = defaultMaxQuantity
	}
	if h.MaxOpen == 0 {
		h.MaxOpen = defaultMaxOpen
	}
	if h.RateLimit == nil {
		h.RateLimit = &RateLimit{Events: 10}
	}
	if h.RateLimit.Window == 0 {
		h.RateLimit.Window = caddy.Duration(time.Minute)
	}
	if h.RateLimit.Burst == 0 {
		h.RateLimit.Burst = 5
	}
}

var (
	methodName   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	currencyCode = regexp.MustCompile(`^[A-Z]{3}$`)
)

// check looks at the settings that do not depend on anything outside.
func (h *Bill) check() (err error) {
	switch {
	case h.Catalog == "" && len(h.Products) == 0:
		return errors.New("ccpayment_bill has nothing to sell: it needs catalog or product")
	case h.Checkout != checkoutNative && h.Checkout != checkoutHosted:
		return fmt.Errorf("checkout: unrecognized %q; known: native, hosted", h.Checkout)
	case len(h.Methods) == 0 && h.Checkout == checkoutNative:
		return fmt.Errorf("ccpayment_bill needs at least one method, like: method usdt-trc20 %s", methodForms[h.account.API])
	case h.ValidFor < caddy.Duration(time.Minute) || h.ValidFor > caddy.Duration(maxValidFor):
		return errors.New("valid_for must be between 1m and 240h")
	case h.Currency != "" && !currencyCode.MatchString(h.Currency):
		return fmt.Errorf("currency: %q is not a code like USD", h.Currency)
	case h.MaxQuantity < 1 || h.MaxQuantity > 999999:
		return errors.New("max_quantity must be between 1 and 999999")
	case h.MaxOpen < 1:
		return errors.New("max_open must be at least 1")
	case h.RateLimit.Events < 1 || h.RateLimit.Burst < 1 || h.RateLimit.Window <= 0:
		return errors.New("rate_limit must be at least 1 in a window that is longer than zero")
	}

	h.methods = make(map[string]*Method, len(h.Methods))
	for _, m := range h.Methods {
		switch {
		case !methodName.MatchString(m.Name):
			return fmt.Errorf("method %q: a name is 1 to 64 letters, digits, dots, dashes and underscores", m.Name)
		case h.methods[m.Name] != nil:
			return fmt.Errorf("method %s: listed twice", m.Name)
		}
		if err := m.check(h.account.API); err != nil {
			return err
		}
		m.missed = new(atomic.Bool)
		h.methods[m.Name] = m
	}

	if h.AcceptShort != "" {
		h.acceptShort, err = bill.ParseAmount(strings.TrimSuffix(h.AcceptShort, "%"))
		if err != nil || h.acceptShort.GreaterThanOrEqual(decimal.NewFromInt(100)) {
			return errors.New("accept_short must be a percentage from 0 to below 100, like 0.5")
		}
	}
	if h.NotifyURL != "" {
		if h.notifyURL, err = expand("notify_url", h.NotifyURL); err != nil {
			return err
		}
		if u, err := url.Parse(h.notifyURL); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			return errors.New("notify_url is not an address like https://shop.example.com/hooks/ccpayment")
		}
	}
	for option, address := range map[string]string{"return_url": h.ReturnURL, "support_url": h.SupportURL} {
		// These become links on a page.
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "" && u.Scheme != "https" && u.Scheme != "http" && u.Scheme != "mailto" {
			return fmt.Errorf("%s is not an http, https or mailto address or a path", option)
		}
	}
	for _, origin := range h.AllowOrigin {
		u, err := url.Parse(origin)
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.Scheme+"://"+u.Host != origin || strings.ToLower(origin) != origin ||
			u.Port() == map[string]string{"http": "80", "https": "443"}[u.Scheme] {
			return fmt.Errorf("allow_origin: %q is not an origin as browsers write it, like https://example.com", origin)
		}
	}
	return nil
}

// loadPrices reads the price list.
func (h *Bill) loadPrices() error {
	products := make([]catalog.Product, len(h.Products))
	for i, p := range h.Products {
		var err error
		if products[i], err = catalog.NewProduct(p.ID, p.Price, p.Name); err != nil {
			return err
		}
	}
	currency := h.Currency
	if h.Catalog == "" {
		if currency == "" {
			currency = defaultCurrency
		}
		list, err := catalog.New(currency, products)
		if err != nil {
			return err
		}
		h.prices = func() *catalog.List { return list }
	} else {
		file, err := catalog.Open(h.Catalog, currency, products, func(err error) {
			h.log.Error("rereading price list, keeping the old one", zap.Error(err))
		})
		if err != nil {
			return err
		}
		h.prices = file.List
	}
	if h.Checkout == checkoutHosted && h.account.API == apiV1 && h.prices().Currency != defaultCurrency {
		return errors.New("checkout hosted: the gateway's page of API v1 is priced in USD only")
	}
	return nil
}

// ServeHTTP finds out what is asked for. The path is looked at from its end, so
// that the handler works below any prefix, stripped or not.
func (h *Bill) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	rt, ok := findRoute(r)
	if !ok {
		return h.fail(w, r, errNotFound)
	}
	if !h.checkOrigin(w, r) {
		return h.fail(w, r, errOrigin)
	}
	if r.Method == http.MethodOptions {
		return h.preflight(w, r, rt)
	}
	allowed := rt.kind.methods()
	for _, m := range allowed {
		if r.Method == m {
			if err := h.serve(w, r, rt); err != nil {
				return h.fail(w, r, err)
			}
			return nil
		}
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	return h.fail(w, r, errMethod)
}

func (h *Bill) serve(w http.ResponseWriter, r *http.Request, rt route) error {
	switch rt.kind {
	case routeBills:
		return h.serveCreate(w, r, rt)
	case routeBill:
		return h.serveBill(w, r, rt)
	case routeEvents:
		return h.serveEvents(w, r, rt)
	case routeQR:
		return h.serveQR(w, r, rt)
	case routeMethods:
		return h.serveMethods(w, r)
	default:
		return serveAsset(w, r, rt)
	}
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Bill)(nil)
	_ caddy.CleanerUpper          = (*Bill)(nil)
	_ caddyhttp.MiddlewareHandler = (*Bill)(nil)
	_ caddyfile.Unmarshaler       = (*Bill)(nil)
)
