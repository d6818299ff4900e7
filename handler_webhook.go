package ccpayment

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"golang.org/x/net/http/httpguts"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/forward"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/gateway"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/store"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/trace"
)

const (
	defaultTolerance       = 2 * time.Minute
	defaultMaxBody         = 64 << 10
	defaultUpstreamTimeout = 15 * time.Second
)

// Webhook receives the gateway's callbacks. It verifies each, writes it to disk,
// and only then answers "success"; what follows from a callback is told to the
// upstreams, again and again until they have taken it.
type Webhook struct {
	// The merchant account whose callbacks come here. Default: the account that is
	// configured without a name.
	Account string `json:"account,omitempty"`

	// Who is told the account's events. Each upstream has a queue of its own.
	Upstreams []*Upstream `json:"upstream,omitempty"`

	// How old a callback may be, and how far its clock may be ahead. An older one
	// with a valid signature is kept, but counts only after the gateway, when
	// asked, has confirmed it. Default: 2m
	Tolerance caddy.Duration `json:"tolerance,omitempty"`

	// The largest body of a callback, in bytes. Default: 65536 (64KiB)
	MaxBody int64 `json:"max_body,omitempty"`

	// Source addresses and networks from which callbacks are taken. Default: any
	AllowIP []string `json:"allow_ip,omitempty"`

	app     *App
	account *Account
	allowed []netip.Prefix
	log     *zap.Logger
}

// Upstream receives events by HTTP POST.
type Upstream struct {
	// Address: http://…, https://… or unix//path/to.sock
	URL string `json:"url,omitempty"`

	// Identity of the queue; it must stay the same when the address changes.
	// Default: host and path of the address
	Name string `json:"name,omitempty"`

	// Standard Webhooks secrets ("whsec_" and base64). Each signs, so that a
	// receiver can change over from one to the next. Default: events are not signed
	Secret []string `json:"secret,omitempty"`

	// Patterns of event types, like "bill.*". Default: all
	Types []string `json:"types,omitempty"`

	// How long one try may take. Default: 15s
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// Further request headers. Placeholders are allowed.
	Header http.Header `json:"header,omitempty"`

	// Waits between the tries after the first, which is immediate.
	// Default: 5s 5m 30m 2h 5h 10h 14h 20h 24h
	Retry []caddy.Duration `json:"retry,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (Webhook) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.ccpayment_webhook",
		New: func() caddy.Module { return new(Webhook) },
	}
}

// Provision sets up the handler.
func (h *Webhook) Provision(ctx caddy.Context) (err error) {
	h.log = ctx.Logger()
	if h.app, err = appOf(ctx, "ccpayment_webhook"); err != nil {
		return err
	}
	if h.account, err = h.app.account(h.Account); err != nil {
		return err
	}
	if h.Tolerance == 0 {
		h.Tolerance = caddy.Duration(defaultTolerance)
	}
	if h.MaxBody == 0 {
		h.MaxBody = defaultMaxBody
	}
	for _, s := range h.AllowIP {
		prefix, err := parsePrefix(s)
		if err != nil {
			return fmt.Errorf("allow_ip: %v", err)
		}
		h.allowed = append(h.allowed, prefix)
	}
	for _, u := range h.Upstreams {
		target, err := u.provision(h.account.name)
		if err != nil {
			return err
		}
		if err := h.app.addUpstream(target); err != nil {
			return err
		}
	}
	return nil
}

// Validate checks the handler's settings.
func (h *Webhook) Validate() error {
	if h.Tolerance < 0 {
		return errors.New("tolerance is negative")
	}
	if h.MaxBody < 0 {
		return errors.New("max_body is negative")
	}
	return nil
}

// provision turns an upstream's settings into what the forwarder works with.
func (u *Upstream) provision(account string) (*forward.Upstream, error) {
	address, err := expand("upstream", u.URL)
	if err != nil {
		return nil, err
	}
	name, err := forward.ParseURL(address)
	if err != nil {
		return nil, err
	}
	if u.Name != "" {
		name = u.Name
	}
	fail := func(format string, args ...any) (*forward.Upstream, error) {
		return nil, fmt.Errorf("upstream %s: "+format, append([]any{name}, args...)...)
	}
	target := &forward.Upstream{
		Account: account,
		Name:    name,
		URL:     address,
		Types:   u.Types,
		Timeout: time.Duration(u.Timeout),
		Header:  make(http.Header, len(u.Header)),
		Retry:   forward.DefaultRetry,
	}
	for _, s := range u.Secret {
		if s, err = expand("secret", s); err != nil {
			return fail("%v", err)
		}
		secret, err := forward.ParseSecret(s)
		if err != nil {
			return fail("%v", err)
		}
		target.Secrets = append(target.Secrets, secret)
	}
	for _, pattern := range u.Types {
		if _, err := path.Match(pattern, ""); err != nil {
			return fail("types: %q is not a pattern", pattern)
		}
	}
	if u.Timeout < 0 {
		return fail("timeout is negative")
	}
	if u.Timeout == 0 {
		target.Timeout = defaultUpstreamTimeout
	}
	for field, values := range u.Header {
		for _, v := range values {
			if v, err = expand("header "+field, v); err != nil {
				return fail("%v", err)
			}
			if !httpguts.ValidHeaderFieldName(field) || !httpguts.ValidHeaderFieldValue(v) {
				return fail("header %q is not a header", field)
			}
			target.Header.Add(field, v)
		}
	}
	if len(u.Retry) > 0 {
		target.Retry = make([]time.Duration, len(u.Retry))
		for i, d := range u.Retry {
			if target.Retry[i] = time.Duration(d); d < 0 {
				return fail("retry: %s is negative", time.Duration(d))
			}
		}
	}
	return target, nil
}

// ServeHTTP takes one callback. Every refusal has an empty body, so that nobody
// learns from it how far they have come.
func (h *Webhook) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	// 1. Is it a callback at all?
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return h.refuse(w, r, http.StatusMethodNotAllowed, "not a POST", nil)
	}
	if !h.allows(r) {
		return h.refuse(w, r, http.StatusUnauthorized, "source address is not in allow_ip", nil)
	}
	if !isJSON(r.Header) {
		return h.refuse(w, r, http.StatusUnsupportedMediaType, "Content-Type is not application/json", nil)
	}
	if len(r.Header.Values("Content-Encoding")) > 0 {
		return h.refuse(w, r, http.StatusUnsupportedMediaType, "body is encoded", nil)
	}
	body, err := readBody(http.MaxBytesReader(w, r.Body, h.MaxBody), r.ContentLength, h.MaxBody)
	if err != nil {
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			return h.refuse(w, r, http.StatusRequestEntityTooLarge, "body is larger than max_body", nil)
		}
		return h.refuse(w, r, http.StatusBadRequest, "body was not received whole", nil)
	}

	// 2. Did the gateway make it?
	signedAt, err := h.verify(r.Header, body)
	if err != nil {
		return h.refuse(w, r, http.StatusUnauthorized, err.Error(), body)
	}
	cb, err := h.account.client.ParseCallback(body)
	if err != nil {
		return h.refuse(w, r, http.StatusBadRequest, err.Error(), body)
	}

	if cb.Kind == gateway.KindProbe {
		// It is about no payment, and its answer is the one that others have found out.
		h.count(cb.Kind, "answered")
		h.log.Info("answering the gateway's question whether somebody is there", zap.String("account", h.account.name))
		w.Header().Set("Content-Type", "application/json")
		_, err = io.WriteString(w, `{"msg":"success"}`)
		return err
	}

	// 3. Keep it. A stale one is kept apart until the gateway has confirmed it.
	received := now()
	kind, status := cb.Key()
	c := store.Callback{
		Account:    h.account.name,
		Kind:       kind,
		RecordID:   cb.RecordID,
		Status:     status,
		State:      store.Received,
		SignedAt:   signedAt,
		ReceivedAt: received,
		Trace:      trace.Parent(r.Context()),
		Body:       body,
	}
	if age := received.Sub(signedAt).Abs(); age > time.Duration(h.Tolerance) {
		c.State = store.Quarantined
		h.log.Warn("keeping stale callback until the gateway confirms it",
			zap.String("kind", c.Kind), zap.Duration("age", received.Sub(signedAt)), zap.String("client_ip", clientIP(r)))
	}
	added := false
	s, err := h.app.store()
	if err == nil {
		added, err = s.AddCallback(r.Context(), c)
	}
	if err != nil {
		h.count(cb.Kind, "not_stored")
		h.log.Error("storing callback", zap.Error(err), zap.String("client_ip", clientIP(r)))
		w.WriteHeader(http.StatusServiceUnavailable)
		return nil
	}

	// 4. It is on disk, so the gateway may forget it.
	switch {
	case !added:
		h.count(cb.Kind, "duplicate")
	case c.State == store.Quarantined:
		h.count(cb.Kind, "quarantined")
	default:
		h.count(cb.Kind, "stored")
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, err = io.WriteString(w, "success")
	return err
}

// readBody reads a body whole, into one piece of memory if its length was announced.
func readBody(r io.Reader, length, limit int64) ([]byte, error) {
	if length <= 0 || length > limit {
		return io.ReadAll(r)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	return body, nil
}

// verify checks the three headers and the signature. Each header must be there
// exactly once: of two, this program and a proxy could each believe another.
func (h *Webhook) verify(header http.Header, body []byte) (time.Time, error) {
	var values [3]string
	for i, name := range [...]string{"Appid", "Timestamp", "Sign"} {
		list := header.Values(name)
		if len(list) != 1 || list[0] == "" {
			return time.Time{}, fmt.Errorf("header %s is not there exactly once", name)
		}
		values[i] = list[0]
	}
	return h.account.signer.Verify(values[0], values[1], values[2], body)
}

// refuse answers with a bare status and tells the operator why: Caddy itself logs
// refusals at level DEBUG only. A fingerprint stands for the body, so that equal
// ones can be told without showing any.
func (h *Webhook) refuse(w http.ResponseWriter, r *http.Request, status int, reason string, body []byte) error {
	fields := []zap.Field{zap.Int("status", status), zap.String("reason", reason), zap.String("client_ip", clientIP(r))}
	if body != nil {
		sum := sha256.Sum256(body)
		fields = append(fields, zap.String("body_sha256_prefix", hex.EncodeToString(sum[:4])))
	}
	h.log.Warn("refusing callback", fields...)
	h.count(unverified, refusals[status])
	w.WriteHeader(status)
	return nil
}

// unverified stands in the metrics for the kind of a callback that nobody has
// vouched for.
const unverified gateway.Kind = "unverified"

// refusals names in the metrics what a callback was refused with.
var refusals = map[int]string{
	http.StatusMethodNotAllowed:      "unsupported",
	http.StatusUnsupportedMediaType:  "unsupported",
	http.StatusRequestEntityTooLarge: "too_large",
	http.StatusUnauthorized:          "unauthorized",
	http.StatusBadRequest:            "malformed",
}

func (h *Webhook) count(kind gateway.Kind, result string) {
	metrics.callbacks.WithLabelValues(h.account.name, string(kind), result).Inc()
}

func (h *Webhook) allows(r *http.Request) bool {
	if len(h.allowed) == 0 {
		return true
	}
	ip, err := netip.ParseAddr(clientIP(r))
	if err != nil {
		return false
	}
	ip = ip.Unmap().WithZone("")
	return slices.ContainsFunc(h.allowed, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// clientIP is the client's address as Caddy has found it out, trusted proxies
// considered.
func clientIP(r *http.Request) string {
	ip, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	return ip
}

func isJSON(h http.Header) bool {
	list := h.Values("Content-Type")
	if len(list) != 1 {
		return false
	}
	if list[0] == "application/json; charset=utf-8" { // as the gateway writes it
		return true
	}
	mediaType, params, err := mime.ParseMediaType(list[0])
	if err != nil || mediaType != "application/json" {
		return false
	}
	return len(params) == 0 || len(params) == 1 && strings.EqualFold(params["charset"], "utf-8")
}

// parsePrefix takes an address or a network.
func parsePrefix(s string) (netip.Prefix, error) {
	if ip, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(ip.Unmap(), ip.Unmap().BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("%q is neither an address nor a network in CIDR form", s)
	}
	return p.Masked(), nil
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Webhook)(nil)
	_ caddy.Validator             = (*Webhook)(nil)
	_ caddyhttp.MiddlewareHandler = (*Webhook)(nil)
	_ caddyfile.Unmarshaler       = (*Webhook)(nil)
)
