package sandbox

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/cloudevents/sdk-go/v2/event"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.uber.org/zap"
)

const (
	maxInboxEntries = 5000
	maxInboxBytes   = 32 << 20
	maxEvent        = 256 << 10
	maxInboxFails   = 1000
)

// inbox is the backend of a shop that has none: it keeps the events it receives.
type inbox struct {
	entries []*inboxEntry // oldest first
	byID    map[inboxKey]*inboxEntry
	bytes   int

	failStatus int
	retryAfter string
	failTimes  int // how often it will still refuse
	refused    int // how often it has refused because it was told to
}

// inboxKey keeps apart what carries the same id with and without a good signature:
// a forgery must not pass for a repetition.
type inboxKey struct {
	id       string
	verified bool
}

// inboxEntry is one event, however often it came.
type inboxEntry struct {
	ID         string          `json:"id"`
	Type       string          `json:"type"`
	Subject    string          `json:"subject"`
	Verified   bool            `json:"verified"`
	Times      int             `json:"times"`
	ReceivedAt time.Time       `json:"received_at"`
	Event      json.RawMessage `json:"event"`
}

func newInbox() inbox {
	return inbox{byID: make(map[inboxKey]*inboxEntry)}
}

// add keeps an event, and forgets the oldest when there are too many.
func (in *inbox) add(e *inboxEntry) {
	key := inboxKey{e.ID, e.Verified}
	if known := in.byID[key]; known != nil {
		known.Times++
		return
	}
	e.Times = 1
	in.byID[key] = e
	in.entries = append(in.entries, e)
	in.bytes += len(e.Event)
	for len(in.entries) > maxInboxEntries || in.bytes > maxInboxBytes {
		old := in.entries[0]
		in.entries[0] = nil
		in.entries = in.entries[1:]
		in.bytes -= len(old.Event)
		delete(in.byID, inboxKey{old.ID, old.Verified})
	}
}

// newest copies entries, the newest first.
func (in *inbox) newest(skip, limit int) []inboxEntry {
	list := []inboxEntry{}
	for i := len(in.entries) - 1 - skip; i >= 0 && len(list) < limit; i-- {
		list = append(list, *in.entries[i])
	}
	return list
}

// serveInbox receives an event or shows those received.
func (s *Sandbox) serveInbox(w http.ResponseWriter, r *http.Request) error {
	if err := allow(w, r, http.MethodGet, http.MethodHead, http.MethodPost); err != nil {
		return err
	}
	if r.Method == http.MethodPost {
		return s.receive(w, r)
	}
	if wantsJSON(r) {
		s.state.mu.Lock()
		list := s.state.inbox.newest(0, maxInboxEntries)
		s.state.mu.Unlock()
		return writeJSON(w, http.StatusOK, list)
	}
	return s.showInbox(w, r)
}

// receive does what the backend of a shop should do with an event: check the
// signature over the bytes as they came, then what it is, then whether it is known.
func (s *Sandbox) receive(w http.ResponseWriter, r *http.Request) error {
	body, err := readBody(w, r, maxEvent)
	if err != nil {
		return err
	}
	if s.failInbox(w) {
		return nil
	}

	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != event.ApplicationCloudEventsJSON {
		return caddyhttp.Error(http.StatusUnsupportedMediaType, fmt.Errorf("want %s", event.ApplicationCloudEventsJSON))
	}
	id := r.Header.Get(standardwebhooks.HeaderWebhookID)
	if id == "" || len(id) > maxName {
		return caddyhttp.Error(http.StatusUnauthorized, fmt.Errorf("webhook-id must have 1 to %d bytes", maxName))
	}
	var refusal error
	if s.inbox != nil {
		refusal = s.inbox.Verify(body, r.Header)
	}

	var e event.Event
	if err := json.Unmarshal(body, &e); err != nil {
		if refusal != nil {
			return caddyhttp.Error(http.StatusUnauthorized, refusal)
		}
		return caddyhttp.Error(http.StatusBadRequest, fmt.Errorf("parsing event: %v", err))
	}
	if err := e.Validate(); err != nil && refusal == nil {
		return caddyhttp.Error(http.StatusBadRequest, fmt.Errorf("validating event: %v", err))
	}

	// The body is kept as it came, but for whitespace.
	var compact bytes.Buffer
	if err := json.Compact(&compact, body); err != nil {
		return caddyhttp.Error(http.StatusBadRequest, fmt.Errorf("parsing event: %v", err))
	}
	s.state.mu.Lock()
	s.state.inbox.add(&inboxEntry{
		ID:         id,
		Type:       e.Type(),
		Subject:    e.Subject(),
		Verified:   s.inbox != nil && refusal == nil,
		ReceivedAt: s.state.now().UTC(),
		Event:      compact.Bytes(),
	})
	s.state.mu.Unlock()
	s.logger.Info("received event",
		zap.String("id", id),
		zap.String("type", e.Type()),
		zap.Bool("verified", s.inbox != nil && refusal == nil))

	if refusal != nil {
		return caddyhttp.Error(http.StatusUnauthorized, refusal)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// failInbox refuses a delivery if it was told to. It writes the answer itself: as
// an error, each of them would be in the log of the server.
func (s *Sandbox) failInbox(w http.ResponseWriter) bool {
	st := s.state
	st.mu.Lock()
	in := &st.inbox
	if in.failTimes == 0 {
		st.mu.Unlock()
		return false
	}
	in.failTimes--
	in.refused++
	status, retryAfter := in.failStatus, in.retryAfter
	st.mu.Unlock()

	if retryAfter != "" {
		w.Header().Set("Retry-After", retryAfter)
	}
	w.WriteHeader(status)
	return true
}

// serveInboxFail makes the inbox refuse what comes next.
func (s *Sandbox) serveInboxFail(w http.ResponseWriter, r *http.Request) error {
	if err := allow(w, r, http.MethodPost); err != nil {
		return err
	}
	if err := s.parseForm(w, r); err != nil {
		return err
	}
	status, err := strconv.Atoi(r.Form.Get("status"))
	if err != nil || status < 300 || status > 599 {
		return s.complain(w, r, http.StatusBadRequest, "status must be a number from 300 to 599")
	}
	times, err := strconv.Atoi(r.Form.Get("times"))
	if err != nil || times < 0 || times > maxInboxFails {
		return s.complain(w, r, http.StatusBadRequest, "times must be a number from 0 to "+strconv.Itoa(maxInboxFails))
	}
	retryAfter := r.Form.Get("retry_after")
	if retryAfter != "" {
		if n, err := strconv.Atoi(retryAfter); err != nil || n < 0 {
			return s.complain(w, r, http.StatusBadRequest, "retry_after must be a number of seconds")
		}
	}

	s.state.mu.Lock()
	s.state.inbox.failStatus = status
	s.state.inbox.failTimes = times
	s.state.inbox.retryAfter = retryAfter
	s.state.mu.Unlock()
	if wantsJSON(r) {
		return writeJSON(w, http.StatusOK, map[string]int{"status": status, "times": times})
	}
	http.Redirect(w, r, prefix(r)+"/inbox", http.StatusSeeOther)
	return nil
}
