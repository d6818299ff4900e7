package forward

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/store"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/trace"
)

const (
	// maxAnswer is how much of an answer is read, so that the connection can be
	// used again; nothing in it matters.
	maxAnswer = 64 << 10
	// longestRetryAfter bounds what an upstream may ask for.
	longestRetryAfter = 24 * time.Hour
)

// send tries a delivery once and says what follows from the outcome. The error is
// that of ctx: such a try says nothing about the upstream and is not counted.
func (w *worker) send(ctx context.Context, s *session, d store.Delivery) (store.Try, error) {
	status, retryAfter, err := w.post(ctx, s, d)
	switch {
	case err == nil && status >= 200 && status < 300:
		return store.Try{Delivery: d.Number, State: store.Delivered, Status: status}, nil
	case err == nil:
		return w.failed(s, d, status, retryAfter, fmt.Sprintf("answered with HTTP status %d", status)), nil
	case ctx.Err() != nil:
		return store.Try{}, ctx.Err()
	default:
		return w.failed(s, d, 0, 0, cause(err)), nil
	}
}

// failed says when a failed delivery is tried again, if ever.
func (w *worker) failed(s *session, d store.Delivery, status int, retryAfter time.Duration, problem string) store.Try {
	try := store.Try{Delivery: d.Number, State: store.Dead, Status: status, Error: problem}
	if status == http.StatusGone {
		try.Error += ", which asks for no more tries of this event"
		return try
	}
	if d.Tries >= len(s.Retry) {
		return try
	}
	wait := s.Retry[d.Tries]
	if retryAfter > 0 && (status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable) {
		// Never sooner than planned: an upstream in maintenance that always asks for
		// a second would use up all tries in no time.
		wait = max(wait, min(retryAfter, longestRetryAfter))
	}
	// Failures come in groups. Jitter is only ever added, so that no try comes
	// before its time.
	wait += time.Duration(rand.Float64() * 0.1 * float64(wait))
	try.State, try.DueAt = store.PendingDelivery, w.now().Add(wait)
	return try
}

func (w *worker) post(ctx context.Context, s *session, d store.Delivery) (status int, retryAfter time.Duration, err error) {
	req, err := http.NewRequestWithContext(trace.WithParent(ctx, d.Trace), http.MethodPost, s.target, bytes.NewReader(d.Envelope))
	if err != nil {
		return 0, 0, err
	}
	now := w.now()
	maps.Copy(req.Header, s.Header)
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	req.Header.Set("Content-Type", "application/cloudevents+json")
	req.Header.Set("User-Agent", w.userAgent)
	req.Header.Set("Webhook-Id", d.Event)
	req.Header.Set("Webhook-Timestamp", strconv.FormatInt(now.Unix(), 10))
	if len(s.Secrets) > 0 {
		req.Header.Set("Webhook-Signature", signatures(s.Secrets, d.Event, now, d.Envelope))
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	// The status is the answer. A body that drips or breaks off takes nothing back.
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
	return resp.StatusCode, parseRetryAfter(resp.Header.Get("Retry-After"), now), nil
}

// signatures signs a message as Standard Webhooks does, once with each secret.
// Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
func signatures(secrets [][]byte, id string, at time.Time, body []byte) string {
	list := make([]string, len(secrets))
	for i, secret := range secrets {
		mac := hmac.New(sha256.New, secret)
		fmt.Fprintf(mac, "%s.%d.", id, at.Unix())
		mac.Write(body)
		list[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return strings.Join(list, " ")
}

// parseRetryAfter reads seconds or a date; anything else is no wish at all.
func parseRetryAfter(s string, now time.Time) time.Duration {
	if s == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(s, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil {
		return t.Sub(now)
	}
	return 0
}

// cause says why there was no answer, without the URL, which may hold a key.
func cause(err error) string {
	var (
		u *url.Error
		o *net.OpError
	)
	if errors.As(err, &u) {
		if u.Timeout() {
			return "no answer in time"
		}
		err = u.Err
	}
	if errors.Is(err, errSpecialAddress) {
		return errSpecialAddress.Error()
	}
	if errors.As(err, &o) {
		if sys := new(os.SyscallError); errors.As(o.Err, &sys) {
			return o.Op + ": " + sys.Err.Error()
		}
		return o.Op + ": " + o.Err.Error()
	}
	return err.Error()
}
