package ccpayment

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/checkout"
)

const (
	// beatEvery keeps a stream alive through proxies and tells a page that it is.
	beatEvery = 25 * time.Second
	// reconnect is what a page waits before it opens a broken stream again.
	reconnect = 3 * time.Second
	// streamFor is how long a stream lasts. Pages open another by themselves.
	streamFor = time.Hour
	// streamWrite bounds one write to a stream. A reader that has gone away must
	// not hold its place for long.
	streamWrite = 10 * time.Second
)

// links is where pages of a bill lead and what this shop calls things.
func (h *Bill) links(b *bill.Bill, prefix string) checkout.Links {
	l := checkout.Links{Prefix: prefix, ReturnURL: h.ReturnURL, SupportURL: h.SupportURL, Test: h.account.simulated}
	if m := h.methods[b.Method]; m != nil {
		l.Network = m.Network
	}
	return l
}

// private marks an answer as meant for the holder of the bill's token alone.
func private(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("X-Robots-Tag", "noindex, nofollow")
}

// writeBill writes a bill as JSON.
func (h *Bill) writeBill(w http.ResponseWriter, status int, b *bill.Bill, prefix string) error {
	private(w)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Add("Vary", "Accept")
	w.WriteHeader(status)
	return json.NewEncoder(w).Encode(checkout.Describe(b, now(), h.links(b, prefix)))
}

// load finds the bill of a route. A token that is unknown, wrong or of another
// account gives the same answer.
func (h *Bill) load(r *http.Request, rt route) (*bill.Bill, error) {
	s, err := h.app.store()
	if err != nil {
		return nil, err
	}
	rec, err := s.BillByToken(r.Context(), h.account.name, rt.name)
	if err != nil {
		return nil, err
	}
	return rec.Bill, nil
}

// serveBill shows a bill as JSON or as a page.
func (h *Bill) serveBill(w http.ResponseWriter, r *http.Request, rt route) error {
	b, err := h.load(r, rt)
	if err != nil {
		return err
	}
	if wantsJSON(r) {
		return h.writeBill(w, http.StatusOK, b, rt.prefix)
	}
	private(w)
	w.Header().Add("Vary", "Accept, Accept-Language")
	if seconds, err := strconv.Atoi(r.URL.Query().Get("refresh")); err == nil && seconds >= 10 && seconds <= 600 {
		// Only for those who ask for it: a page that moves by itself is a hindrance.
		w.Header().Set("Refresh", strconv.Itoa(seconds))
	}
	l := h.links(b, rt.prefix)
	l.Language = checkout.Language(r.Header.Values("Accept-Language"))
	return checkout.WritePage(w, checkout.Describe(b, now(), l), l)
}

// serveQR draws the QR code of a bill's payment.
func (h *Bill) serveQR(w http.ResponseWriter, r *http.Request, rt route) error {
	b, err := h.load(r, rt)
	if err != nil {
		return err
	}
	payload := checkout.Payload(b, now())
	if payload == "" {
		return errNotFound
	}
	private(w)
	return checkout.WriteQR(w, payload, rt.format)
}

// serveMethods lists what can be paid with, named as the gateway names it.
func (h *Bill) serveMethods(w http.ResponseWriter, r *http.Request) error {
	type method struct {
		Method  string `json:"method"`
		Label   string `json:"label"`
		Crypto  string `json:"crypto"`
		Network string `json:"network"`
		Logo    string `json:"logo"`
	}
	tokens, err := h.account.client.Tokens(r.Context())
	if err != nil {
		return err
	}
	list := make([]method, 0, len(h.Methods))
	for _, m := range h.Methods {
		t, listed := tokens[m.tokenID()]
		if !listed && m.missed.CompareAndSwap(false, true) {
			h.log.Error("gateway does not offer a method of the configuration", zap.String("account", h.account.name),
				zap.String("line", m.line()), zap.String("offered", offered(tokens, m)))
		}
		if !t.Usable {
			h.log.Debug("gateway does not offer a method at present", zap.String("method", m.Name), zap.String("account", h.account.name))
			continue
		}
		out := method{Method: m.Name, Label: m.Label, Crypto: t.Crypto, Network: t.Network, Logo: t.Logo}
		if m.Network != "" {
			out.Network = m.Network
		}
		if out.Label == "" {
			out.Label = fmt.Sprintf("%s (%s)", out.Crypto, out.Network)
		}
		list = append(list, out)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "public, max-age=300")
	return json.NewEncoder(w).Encode(list)
}

// serveEvents streams a bill: whole at once, and whole again after every change,
// until nothing can change any more.
func (h *Bill) serveEvents(w http.ResponseWriter, r *http.Request, rt route) error {
	s, err := h.app.store()
	if err != nil {
		return err
	}
	// Watching begins before the bill is read, so that no change can fall between.
	watcher := s.Watch(rt.name)
	if watcher == nil {
		return &problem{
			status:     http.StatusTooManyRequests,
			code:       "rate_limited",
			retryable:  true,
			retryAfter: time.Minute,
			detail:     "Too many pages follow this bill. Please check again later.",
		}
	}
	defer s.Unwatch(watcher)
	b, err := h.load(r, rt)
	if err != nil {
		return err
	}
	if b.StateAt(now()).Final && r.Header.Get("Last-Event-ID") == strconv.FormatInt(b.Seq, 10) {
		// The page has seen the end. 204 tells it not to come back.
		w.WriteHeader(http.StatusNoContent)
		return nil
	}

	metrics.sseClients.Inc()
	defer metrics.sseClients.Dec()
	private(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store, no-transform")
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	stream := http.NewResponseController(w)
	defer func() { _ = stream.SetWriteDeadline(time.Time{}) }() // the connection lives on
	send := func(format string, args ...any) bool {
		_ = stream.SetWriteDeadline(time.Now().Add(streamWrite))
		if _, err := fmt.Fprintf(w, format, args...); err != nil {
			return false
		}
		return stream.Flush() == nil
	}
	snapshot := func() bool {
		data, err := json.Marshal(checkout.Describe(b, now(), h.links(b, rt.prefix)))
		return err == nil && send("event: bill\nid: %d\ndata: %s\n\n", b.Seq, data)
	}
	if !send("retry: %d\n\n", reconnect.Milliseconds()) || !snapshot() {
		return nil
	}
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	end := time.NewTimer(streamFor)
	defer end.Stop()
	final := b.StateAt(now()).Final
	for !final {
		select {
		case <-r.Context().Done():
			return nil
		case <-end.C:
			return nil // a page that is still there comes back
		case <-h.stopping:
			return nil // the page comes back to the server that follows
		case next := <-watcher.C:
			if next.Seq <= b.Seq {
				continue
			}
			if b = next; !snapshot() {
				return nil
			}
			final = b.StateAt(now()).Final
		case <-beat.C:
			if final = b.StateAt(now()).Final; final {
				snapshot() // the clock alone has ended it
			} else if !send("event: beat\ndata: {}\n\n") {
				return nil
			}
		}
	}
	return nil
}

// serveAsset serves the files of the checkout.
func serveAsset(w http.ResponseWriter, r *http.Request, rt route) error {
	if !checkout.WriteAsset(w, r, rt.name) {
		return errNotFound
	}
	return nil
}
