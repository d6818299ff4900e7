package ccpayment

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/catalog"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/checkout"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/gateway"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/store"
)

// A problem is an answer other than what was asked for. Its code is part of the
// storefront API; its detail is for people.
type problem struct {
	status     int
	code       string
	detail     string
	retryable  bool
	retryAfter time.Duration
	gateway    *gatewayWords
}

// gatewayWords are the gateway's own words on a refusal.
type gatewayWords struct {
	Code int    `json:"code"`
	Msg  string `json:"msg"`
}

func (p *problem) Error() string { return p.code + ": " + p.detail }

var (
	errNotFound = &problem{status: 404, code: "not_found", detail: "There is no such page or bill."}
	errOrigin   = &problem{status: 403, code: "origin_not_allowed", detail: "This page may not use the shop's checkout."}
	errMethod   = &problem{status: 405, code: "method_not_allowed", detail: "The address does not take this kind of request."}
	errTooLarge = &problem{status: 413, code: "too_large", detail: "The order is too large."}
	errType     = &problem{status: 415, code: "unsupported_type", detail: "An order is a form or JSON."}
)

func badRequest(format string, args ...any) error {
	return &problem{status: 400, code: "bad_request", detail: fmt.Sprintf(format, args...)}
}

// refusalStatus has the status of the catalog's refusals.
const refusalStatus = http.StatusUnprocessableEntity

// problemOf turns an error into what a buyer is told. What went wrong inside is
// for the log only.
func problemOf(err error) *problem {
	var (
		p       *problem
		refusal *catalog.Refusal
		g       *gateway.Error
	)
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &refusal):
		return &problem{status: refusalStatus, code: refusal.Code, detail: refusal.Detail}
	case errors.Is(err, store.ErrNotFound):
		return errNotFound
	case errors.Is(err, store.ErrOtherCart):
		return &problem{status: 422, code: "idempotency_conflict", detail: "This idempotency key was used for another order."}
	case errors.Is(err, store.ErrTooManyOpen):
		return &problem{status: 409, code: "too_many_open_bills", retryable: true, detail: "The shop has too many unpaid orders at the moment. Please try again later."}
	case errors.As(err, &g):
		p := &problem{status: 502, code: string(g.Failure), retryable: g.Retryable(), retryAfter: g.RetryAfter()}
		switch g.Failure {
		case gateway.Refused:
			switch {
			case p.retryAfter > 0:
				p.detail = "The payment gateway has too many orders at the moment. Please try again in a minute."
			case g.OtherMethod():
				p.detail = "The payment gateway does not take this coin at the moment. Please choose another way to pay."
			default:
				p.detail = "The payment gateway has refused the order."
			}
			if g.Err == nil {
				p.gateway = &gatewayWords{Code: g.Code, Msg: g.Msg}
			}
		case gateway.BadSignature:
			p.detail = "The answer of the payment gateway could not be verified, so it is not shown. Nothing was charged."
		default:
			p.detail = "The payment gateway cannot be reached at the moment. Nothing was charged; please try again."
		}
		return p
	default:
		return &problem{status: 503, code: "store_unavailable", retryable: true, detail: "The shop cannot take orders at the moment. Please try again."}
	}
}

// fail answers with a problem. The site's handle_errors comes first, so that a shop
// can give its own pages; where it leaves the body empty, the plugin's own is sent.
func (h *Bill) fail(w http.ResponseWriter, r *http.Request, err error) error {
	if r.Context().Err() != nil {
		h.log.Debug("client has left", zap.String("client_ip", clientIP(r)))
		return nil
	}
	p := problemOf(err)
	if p.status >= 500 {
		h.log.Error("answering with an error", zap.String("code", p.code), zap.Error(err), zap.String("client_ip", clientIP(r)))
	} else {
		h.log.Debug("refusing request", zap.String("code", p.code), zap.String("client_ip", clientIP(r)))
	}
	w.Header().Set("Cache-Control", "no-store")
	if p.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(p.retryAfter.Seconds()))))
	}

	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if server == nil || server.Errors == nil || len(server.Errors.Routes) == 0 {
		return h.writeProblem(w, r, p)
	}

	// Caddy would end an error that no route handles with a bare status, after this
	// handler has returned. So the site's routes are run here, in the state in which
	// Caddy runs them, and what they leave undone is done after.
	handlerErr := caddyhttp.Error(p.status, p)
	handlerErr.ID = ""
	own := r
	r = server.Errors.WithError(r.Clone(r.Context()), handlerErr)
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && original.URL != nil {
		u := *original.URL
		r.Method, r.RequestURI, r.URL = original.Method, original.RequestURI, &u
	}
	held := &heldWriter{ResponseWriter: w, expected: p.status, header: w.Header().Clone()}
	if err := server.Errors.Routes.Compile(caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })).ServeHTTP(held, r); err != nil && !held.wrote {
		h.log.Error("handling an error with the site's error routes", zap.Error(err))
	}
	if held.wrote {
		return nil
	}
	return h.writeProblem(w, own, p)
}

// writeProblem writes the plugin's own answer: RFC 9457 for programs, a page for
// browsers.
func (h *Bill) writeProblem(w http.ResponseWriter, r *http.Request, p *problem) error {
	w.Header().Add("Vary", "Accept, Accept-Language")
	if !wantsJSON(r) && !sendsJSON(r) {
		return checkout.WriteProblem(w, checkout.Problem{
			Status:     p.status,
			Code:       p.code,
			Detail:     p.detail,
			Retryable:  p.retryable,
			SupportURL: h.SupportURL,
			Prefix:     prefixOf(r),
			Language:   checkout.Language(r.Header.Values("Accept-Language")),
		})
	}
	body := struct {
		Type      string        `json:"type"`
		Title     string        `json:"title"`
		Status    int           `json:"status"`
		Detail    string        `json:"detail"`
		Code      string        `json:"code"`
		Retryable bool          `json:"retryable"`
		Gateway   *gatewayWords `json:"gateway,omitempty"`
	}{"about:blank", http.StatusText(p.status), p.status, p.detail, p.code, p.retryable, p.gateway}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(p.status)
	return json.NewEncoder(w).Encode(body)
}

// heldWriter holds back an answer that is no more than the status of the error, so
// that a body can still follow from somebody else. Another status, like that of a
// redirect, is an answer.
type heldWriter struct {
	http.ResponseWriter
	expected int
	header   http.Header // what was set so far, forgotten if no answer comes of it
	status   int
	wrote    bool
}

func (w *heldWriter) Header() http.Header {
	if w.wrote {
		return w.ResponseWriter.Header()
	}
	return w.header
}

func (w *heldWriter) WriteHeader(status int) {
	switch {
	case w.wrote || status >= 100 && status < 200:
		w.ResponseWriter.WriteHeader(status)
	case w.status == 0:
		if w.status = status; status != w.expected {
			w.release()
		}
	}
}

func (w *heldWriter) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	w.release()
	return w.ResponseWriter.Write(p)
}

// FlushError sends what there is, the status at least.
func (w *heldWriter) FlushError() error {
	w.release()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// release lets the answer begin.
func (w *heldWriter) release() {
	if w.wrote {
		return
	}
	w.wrote = true
	own := w.ResponseWriter.Header()
	clear(own)
	maps.Copy(own, w.header)
	if w.status != 0 {
		w.ResponseWriter.WriteHeader(w.status)
	}
}

// Unwrap gives http.ResponseController what it needs.
func (w *heldWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
