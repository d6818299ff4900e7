package ccpayment

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/gateway"
)

const (
	defaultTimeout = 10 * time.Second
	// weakSecret is the length below which a secret can be guessed from one
	// signature in reasonable time. Those of the gateway have 32 characters.
	weakSecret = 24
	// offersWait is how long a buyer whose order was refused waits for the gateway's list
	// of coins, which may say why.
	offersWait = 3 * time.Second
)

// Account is a merchant account at the gateway.
type Account struct {
	// The App ID from the gateway's dashboard. Placeholders like
	// {env.CCPAYMENT_APP_ID} are allowed.
	AppID string `json:"app_id,omitempty"`

	// The App Secret, newest first: the first signs, all verify. Use {file.…} or
	// {env.…}, which stay out of the configuration that Caddy shows and saves.
	AppSecret []string `json:"app_secret,omitempty"`

	// The generation of the gateway's API the account belongs to, "v1" or "v2". There
	// is no default, because the gateway binds each account to one generation.
	API string `json:"api,omitempty"`

	// Base URL of the API. http is accepted for loopback addresses only.
	// Default: the documented URL of the generation.
	Endpoint string `json:"endpoint,omitempty"`

	// How long one request to the gateway may take. Default: 10s
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// Unit of the timestamps with which the gateway signs callbacks, of API v2 only:
	// "s" for ten digits, "ms" for thirteen. Requests are always sent in seconds, as
	// the gateway documents it. Default: s
	TimestampUnit string `json:"timestamp_unit,omitempty"`

	name  string
	appID string
	// simulated is true for a gateway on this machine, where no money moves.
	simulated bool

	signer *signer
	client gateway.Client
}

// empty reports whether nothing was configured.
func (a *Account) empty() bool {
	return a.AppID == "" && len(a.AppSecret) == 0 && a.API == "" && a.Endpoint == "" && a.Timeout == 0 && a.TimestampUnit == ""
}

func (a *Account) provision(name string, transport http.RoundTripper, log *zap.Logger) error {
	a.name = name
	fail := func(format string, args ...any) error {
		return fmt.Errorf("ccpayment account %s: "+format, append([]any{name}, args...)...)
	}
	if a.API == "" {
		return fail("api is missing: v1 or v2, the generation the merchant account belongs to")
	}
	generation, ok := gateway.Generations[a.API]
	if !ok {
		return fail("unrecognized api %q; known: v1, v2", a.API)
	}
	switch a.TimestampUnit {
	case "", unitSeconds:
	case unitMilliseconds:
		if a.API != apiV2 {
			return fail("timestamp_unit ms is for api v2 only")
		}
	default:
		return fail("unrecognized timestamp_unit %q; known: s, ms", a.TimestampUnit)
	}
	if a.Timeout < 0 {
		return fail("timeout is negative")
	}
	if a.Timeout == 0 {
		a.Timeout = caddy.Duration(defaultTimeout)
	}

	endpoint, simulated, err := parseEndpoint(a.Endpoint, generation.Endpoint)
	if err != nil {
		return fail("endpoint: %v", err)
	}
	a.simulated = simulated
	if a.AppID == "" {
		return fail("app_id is missing")
	}
	if a.appID, err = expand("app_id", a.AppID); err != nil {
		return fail("%v", err)
	}
	secrets := make([]string, len(a.AppSecret))
	for i, s := range a.AppSecret {
		if secrets[i], err = expand("app_secret", s); err != nil {
			return fail("%v", err)
		}
		if secrets[i] == s && !simulated {
			log.Warn("app_secret is written out in the configuration, where Caddy shows and saves it; use {file.…} or {env.…}",
				zap.String("account", name))
		}
		if len(secrets[i]) < weakSecret {
			log.Warn("app_secret is short enough to be guessed", zap.String("account", name), zap.Int("characters", len(secrets[i])))
		}
	}
	if a.signer, err = newSigner(a.API, a.appID, secrets, now); err != nil {
		return fail("%v", err)
	}
	if a.TimestampUnit == unitMilliseconds {
		a.signer.digits = []int{millisecondsDigits}
	}
	a.client = generation.New(gateway.Config{
		Signer:    a.signer.forAnswers(),
		AppID:     a.appID,
		Endpoint:  endpoint,
		Timeout:   time.Duration(a.Timeout),
		Transport: transport,
		Observe:   observeGateway(name),
	})
	return nil
}

// expand replaces placeholders. One that is unset or unreadable is an error, so
// that a typo never becomes an empty secret.
func expand(option, value string) (string, error) {
	v, err := caddy.NewReplacer().ReplaceOrErr(value, true, true)
	if err != nil {
		return "", fmt.Errorf("%s: %v", option, err)
	}
	if v = strings.TrimSpace(v); v == "" {
		return "", fmt.Errorf("%s: %s is empty", option, value)
	}
	return v, nil
}

// parseEndpoint checks a base URL. Without TLS nobody could say who answers, so
// http is for a simulator on the same machine.
func parseEndpoint(s, fallback string) (endpoint string, local bool, err error) {
	if s == "" {
		return fallback, false, nil
	}
	if s, err = expand("endpoint", s); err != nil {
		return "", false, err
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", false, errors.New("not a base URL like https://host/path")
	}
	local = loopback(u.Hostname())
	if u.Scheme != "https" && (u.Scheme != "http" || !local) {
		return "", false, errors.New("must be https; http is for loopback addresses only")
	}
	return strings.TrimSuffix(u.String(), "/"), local, nil
}

// loopback reports whether a host is this machine.
func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || err == nil && ip.IsLoopback()
}

// explained adds to a refusal of an order what the gateway offers, if its list of coins
// lacks the method. The list is asked for only then, and never decides: it may be old.
func (a *Account) explained(ctx context.Context, m *Method, err error) error {
	g := new(gateway.Error)
	if !errors.As(err, &g) || g.Failure != gateway.Refused || g.Err != nil || g.RetryAfter() > 0 || gateway.IsDuplicate(err) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, offersWait)
	defer cancel()
	list, listErr := a.client.Tokens(ctx)
	if _, ok := list[m.tokenID()]; ok || listErr != nil || len(list) == 0 {
		return err
	}
	g.Hint = fmt.Sprintf("it does not offer '%s'; it offers %s", m.line(), offered(list, m))
	return err
}

// maxOffered bounds what an error lists.
const maxOffered = 20

// offered lists what the gateway offers in the words of the configuration: the chains of
// the coin, if it has the coin at all.
func offered(list map[string]gateway.Listed, m *Method) string {
	var same, all []string
	for id, l := range list {
		text := fmt.Sprintf("%s (%s)", id, l.Crypto)
		if l.Network != "" {
			text = fmt.Sprintf("%s (%s on %s)", id, l.Crypto, l.Network)
		}
		all = append(all, text)
		if m.CoinID != 0 && strings.HasPrefix(id, strconv.FormatInt(m.CoinID, 10)+" ") {
			same = append(same, text)
		}
	}
	if len(same) > 0 {
		all = same
	}
	slices.Sort(all)
	if more := len(all) - maxOffered; more > 0 {
		all = append(all[:maxOffered], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(all, ", ")
}
