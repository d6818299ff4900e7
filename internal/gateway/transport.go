package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
	"unicode"
)

// Limits of an answer. The list of coins is by far the longest one.
const (
	maxAnswer = 1 << 20
	maxList   = 16 << 20
)

// errUnusable is why an answer that came is none.
var errUnusable = errors.New("the answer is not usable")

// codeSuccess is the only code that says success, in both generations.
const codeSuccess = 10000

// A Signer makes and checks the signatures of one account.
type Signer interface {
	Sign(body []byte) (appID, timestamp, sign string)
	Verify(appID, timestamp, sign string, body []byte) (time.Time, error)
}

// Config is what a client needs.
type Config struct {
	Signer Signer
	AppID  string
	// Endpoint is the base URL, without a slash at its end.
	Endpoint string
	// Timeout bounds one request with its answer.
	Timeout time.Duration
	// Transport is shared by the clients of a configuration, so that connections
	// are reused.
	Transport http.RoundTripper
	// Observe is told of every request; nil for nobody.
	Observe Observer
}

// NewTransport returns a transport with bounded connections. It follows the
// proxy settings of the environment, since merchants with an allow-list of
// addresses at the gateway need a fixed one.
func NewTransport() *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:    5 * time.Second,
		MaxIdleConnsPerHost:    8,
		MaxConnsPerHost:        32,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		ForceAttemptHTTP2:      true,
	}
}

// transport posts signed requests and takes signed answers.
type transport struct {
	Config
	client *http.Client
	// unsigned answers are taken too, where signing them is not documented. An answer
	// that is signed must still be signed rightly.
	unsigned bool
}

func newTransport(c Config) *transport {
	return &transport{
		Config: c,
		client: &http.Client{
			Transport: c.Transport,
			Timeout:   c.Timeout,
			// A redirect would carry the signature to another place.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// envelope is what every answer begins with. Data follows in a second decoding,
// after the signature was checked.
type envelope struct {
	Code   *int `json:"code"`
	Msg    text `json:"msg"`
	Reason text `json:"reason"`
}

// post sends one request and decodes the data of its answer into out, which is a
// struct with the field "data". Requests are sent once; net/http itself repeats
// one only if no byte of it was written.
func (t *transport) post(ctx context.Context, path string, body []byte, limit int64, out any) error {
	began := time.Now()
	err := t.exchange(ctx, path, body, limit, out)
	if t.Observe != nil {
		result := "success"
		if e := new(Error); errors.As(err, &e) {
			result = string(e.Failure)
		}
		t.Observe(path, result, time.Since(began))
	}
	return err
}

func (t *transport) exchange(ctx context.Context, path string, body []byte, limit int64, out any) error {
	fail := func(f Failure, err error) error { return &Error{Failure: f, Endpoint: path, Err: err} }

	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.Endpoint+path, bytes.NewReader(body))
	if err != nil {
		return fail(Unreachable, err)
	}
	appID, timestamp, sign := t.Signer.Sign(body)
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Appid", appID)
	req.Header.Set("Timestamp", timestamp)
	req.Header.Set("Sign", sign)

	resp, err := t.client.Do(req)
	if err != nil {
		return fail(Unreachable, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return fail(Unreachable, fmt.Errorf("reading the answer: %w", err))
	case int64(len(answer)) > limit:
		return fail(Unreachable, fmt.Errorf("the answer is larger than %d bytes", limit))
	case resp.StatusCode != http.StatusOK:
		// The gateway answers refusals with 200 too; anything else is not its word.
		return fail(Unreachable, fmt.Errorf("the gateway answered with HTTP status %d", resp.StatusCode))
	}

	var e envelope
	if err := decode(answer, &e); err != nil {
		return fail(Unreachable, fmt.Errorf("%w: %v", errUnusable, err))
	}
	if e.Code == nil {
		return fail(Unreachable, errors.New("the answer has no code, so it is not the gateway's"))
	}
	if *e.Code != codeSuccess {
		// Refusals are not signed, so their words are only ever shown, never acted on.
		return &Error{Failure: Refused, Endpoint: path, Code: *e.Code, Msg: printable(string(e.Msg)), Reason: printable(string(e.Reason))}
	}
	if err := t.verify(resp.Header, answer); err != nil {
		return fail(BadSignature, fmt.Errorf("the answer's signature is not valid: %w", err))
	}
	if err := decode(answer, out); err != nil {
		return fail(Unreachable, fmt.Errorf("%w: %v", errUnusable, err))
	}
	return nil
}

// verify checks the signature of a successful answer with the configured app id:
// the one in the answer says nothing about who made it. How old an answer may be is
// not documented, so its age is not judged; that it is the answer to this request
// is checked by its content and guarded by TLS.
func (t *transport) verify(h http.Header, answer []byte) error {
	timestamp, sign := h.Values("Timestamp"), h.Values("Sign")
	if t.unsigned && len(timestamp) == 0 && len(sign) == 0 {
		return nil
	}
	if len(timestamp) != 1 || len(sign) != 1 {
		return errors.New("the headers Timestamp and Sign are not there once each")
	}
	_, err := t.Signer.Verify(t.AppID, timestamp[0], sign[0], answer)
	return err
}

// printable makes the gateway's words fit for a log line and an error page.
func printable(s string) string {
	const most = 200
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return s
}
