// Package sandbox simulates the CCPayment gateway, so that a shop can be tried
// and tested without an account and without money. It is a Caddy module of its
// own: who does not import it does not carry it.
//
// The simulator is written from the gateway's documentation, not from a client,
// and it refuses what the gateway would refuse. Where the documentation is
// silent, the comment at that place says what was chosen.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.uber.org/zap"
)

func init() {
	caddy.RegisterModule(Sandbox{})
}

// Sandbox is a simulator of the CCPayment gateway (API v1 and v2) for demos and
// tests: no money moves. Requests must be signed as the gateway demands, answers
// and callbacks are signed as the gateway does, and a failed callback is tried
// again as the gateway would.
//
// Besides the API below `/ccpayment/v1` and `/ccpayment/v2` it serves a page with all orders and a
// button for everything that can happen to a payment (`/`), a hosted checkout
// page (`/pay`), the same actions for programs (`/sandbox/…`), and an inbox that
// receives events as a shop's backend would (`/inbox`).
//
// Orders and inbox are kept in memory, by app id: they survive a reload of the
// configuration and are gone when the last sandbox with that app id is.
type Sandbox struct {
	// The app id of the simulated merchant account. Required.
	AppID string `json:"app_id,omitempty"`

	// The secret that signs requests, answers and callbacks. Required.
	// Placeholders are supported.
	AppSecret string `json:"app_secret,omitempty"`

	// The generation of the API that the simulated account belongs to, `v1` or `v2`.
	// The other one refuses the account, as the gateway does. Default: both answer,
	// and an order gets the callbacks of the one that made it.
	API string `json:"api,omitempty"`

	// Where callbacks go, like the webhook URL of the gateway's dashboard. An
	// order's own `notify_url` takes its place. Default: none, which means that
	// orders without their own URL get no callbacks.
	NotifyURL string `json:"notify_url,omitempty"`

	// The secret (`whsec_…`) with which the inbox checks the Standard Webhooks
	// signature of events. Placeholders are supported. Default: none, which
	// means that the inbox takes every event and marks it as not verified.
	InboxSecret string `json:"inbox_secret,omitempty"`

	// Divides the waits between the tries of a callback, and the minute between
	// two calls of `webhook/resend`. Default: 1.
	Speed float64 `json:"speed,omitempty"`

	// Addresses to print on stderr once Caddy is up, so that a person who
	// started a demo knows where to click.
	Open []Link `json:"open,omitempty"`

	secret    string
	notifyURL string
	speed     float64
	inbox     *standardwebhooks.Webhook
	state     *state
	held      bool // state must be released
	logger    *zap.Logger
}

// Link is an address with a name.
type Link struct {
	// What is found there.
	Label string `json:"label,omitempty"`

	// The address.
	URL string `json:"url,omitempty"`
}

// maxSpeed keeps the shortest wait between two tries of a callback above the
// resolution of timers.
const maxSpeed = 1_000_000

// CaddyModule returns the Caddy module information.
func (Sandbox) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.ccpayment_sandbox",
		New: func() caddy.Module { return new(Sandbox) },
	}
}

// Provision resolves the settings and takes hold of the state that is shared
// with earlier configurations.
func (s *Sandbox) Provision(ctx caddy.Context) error {
	s.logger = ctx.Logger()

	if s.AppID == "" {
		return errors.New("app_id is required")
	}
	if s.AppSecret == "" {
		return errors.New("app_secret is required")
	}

	repl := caddy.NewReplacer()
	var err error
	if s.secret, err = repl.ReplaceOrErr(s.AppSecret, true, true); err != nil {
		return fmt.Errorf("resolving app_secret: %v", err)
	}
	if s.notifyURL, err = repl.ReplaceOrErr(s.NotifyURL, true, true); err != nil {
		return fmt.Errorf("resolving notify_url: %v", err)
	}
	if s.notifyURL != "" {
		if err := checkURL(s.notifyURL); err != nil {
			return fmt.Errorf("notify_url: %v", err)
		}
	}
	if s.InboxSecret != "" {
		secret, err := repl.ReplaceOrErr(s.InboxSecret, true, true)
		if err != nil {
			return fmt.Errorf("resolving inbox_secret: %v", err)
		}
		// The library would take any base64, also none at all.
		if !strings.HasPrefix(secret, "whsec_") || len(secret) == len("whsec_") {
			return errors.New("inbox_secret: must be whsec_ followed by base64")
		}
		if s.inbox, err = standardwebhooks.NewWebhook(secret); err != nil {
			return errors.New("inbox_secret: must be whsec_ followed by base64")
		}
	}

	s.speed = s.Speed
	if s.speed == 0 {
		s.speed = 1
	}

	// Subscriptions are only possible before the events app has started.
	if len(s.Open) > 0 {
		app, err := ctx.App("events")
		if err != nil {
			return fmt.Errorf("getting events app: %v", err)
		}
		events, ok := app.(*caddyevents.App)
		if !ok {
			return fmt.Errorf("events app has unexpected type %T", app)
		}
		if err := events.On("started", &announcement{sandbox: s, out: os.Stderr}); err != nil {
			return fmt.Errorf("subscribing to started: %v", err)
		}
	}

	// This comes last, so that whatever fails above has nothing to release.
	v, _, err := states.LoadOrNew(s.AppID, func() (caddy.Destructor, error) {
		return newState(), nil
	})
	if err != nil {
		return fmt.Errorf("loading state: %v", err)
	}
	s.state, s.held = v.(*state), true
	return nil
}

// Validate checks what Provision does not need to know.
func (s *Sandbox) Validate() error {
	if s.API != "" && generations[s.API] == nil {
		return errors.New("api must be v1 or v2")
	}
	if math.IsNaN(s.Speed) || s.Speed < 0 || s.Speed > maxSpeed {
		return fmt.Errorf("speed must be greater than 0 and at most %d", maxSpeed)
	}
	for _, l := range s.Open {
		if l.Label == "" || l.URL == "" {
			return errors.New("open needs a label and a url")
		}
	}
	return nil
}

// Cleanup releases the shared state. It also runs after a Provision that failed,
// possibly before the state was acquired.
func (s *Sandbox) Cleanup() error {
	if !s.held {
		return nil
	}
	s.held = false
	_, err := states.Delete(s.AppID)
	return err
}

// ServeHTTP answers everything that reaches it: the simulator has no next
// handler, unknown paths are 404.
func (s *Sandbox) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")

	path := r.URL.Path
	for api, g := range generations {
		if endpoint, ok := strings.CutPrefix(path, g.path); ok {
			return s.serveAPI(w, r, api, endpoint)
		}
	}
	if rest, ok := strings.CutPrefix(path, "/sandbox/orders/"); ok && rest != "" {
		return s.serveOrder(w, r, rest)
	}
	if name, ok := strings.CutPrefix(path, "/sandbox/logo/"); ok {
		return s.serveLogo(w, r, name)
	}
	switch path {
	case "/", "/sandbox", "/sandbox/":
		return s.serveIndex(w, r)
	case "/sandbox/orders":
		return s.serveOrders(w, r)
	case "/sandbox/faults":
		return s.serveFaults(w, r)
	case "/sandbox/probe":
		return s.serveProbe(w, r)
	case "/sandbox/style.css":
		return s.serveStyle(w, r)
	case "/pay":
		return s.servePay(w, r)
	case "/inbox":
		return s.serveInbox(w, r)
	case "/inbox/fail":
		return s.serveInboxFail(w, r)
	}
	return caddyhttp.Error(http.StatusNotFound, fmt.Errorf("the simulator has nothing at %q", path))
}

// allow refuses every method but those named.
func allow(w http.ResponseWriter, r *http.Request, methods ...string) error {
	if slices.Contains(methods, r.Method) {
		return nil
	}
	w.Header().Set("Allow", strings.Join(methods, ", "))
	return caddyhttp.Error(http.StatusMethodNotAllowed, fmt.Errorf("method %s is not allowed here", r.Method))
}

// prefix is what was cut off the path before the request got here, for instance
// by handle_path. Links must start with it.
func prefix(r *http.Request) string {
	orig, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	if !ok || orig.URL == nil {
		return ""
	}
	p, ok := strings.CutSuffix(orig.URL.Path, r.URL.Path)
	if !ok {
		return ""
	}
	return strings.TrimSuffix(p, "/")
}

// base is the address of the simulator as the client knows it.
func base(r *http.Request) string {
	u := url.URL{Scheme: "http", Host: r.Host, Path: prefix(r)}
	if r.TLS != nil {
		u.Scheme = "https"
	}
	return u.String()
}

// wantsJSON tells programs from people.
func wantsJSON(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "application/json")
}

// checkURL accepts what a callback or a link can go to.
func checkURL(s string) error {
	u, err := url.Parse(s)
	if err != nil {
		return errors.New("not a URL")
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return errors.New("must be an http or https URL")
	}
	return nil
}

// announcement prints the addresses of a demo. It has no exported fields because
// Caddy writes event handlers to its debug log.
type announcement struct {
	sandbox *Sandbox
	out     io.Writer
}

// Handle prints once Caddy is up. The event does not occur when a configuration
// is only validated. It does occur after a reload, which is why the same text is
// not printed a second time.
func (a *announcement) Handle(context.Context, caddy.Event) error {
	width := 0
	for _, l := range a.sandbox.Open {
		width = max(width, len(l.Label))
	}
	var b strings.Builder
	b.WriteString("\n  CCPayment sandbox is up. It is a simulator: no money moves.\n\n")
	for _, l := range a.sandbox.Open {
		fmt.Fprintf(&b, "    %-*s  %s\n", width, l.Label, l.URL)
	}
	b.WriteString("\n")

	if a.sandbox.state.announce(b.String()) {
		// Nobody can be told that stderr is not writable.
		_, _ = io.WriteString(a.out, b.String())
	}
	return nil
}

// Interface guards
var (
	_ caddy.Module                = (*Sandbox)(nil)
	_ caddy.Provisioner           = (*Sandbox)(nil)
	_ caddy.Validator             = (*Sandbox)(nil)
	_ caddy.CleanerUpper          = (*Sandbox)(nil)
	_ caddyhttp.MiddlewareHandler = (*Sandbox)(nil)
	_ caddyfile.Unmarshaler       = (*Sandbox)(nil)
	_ caddyevents.Handler         = (*announcement)(nil)
)
