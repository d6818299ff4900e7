package e2e

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const eventSecret = "whsec_c2ltdWxhdG9yLW9ubHktc2VjcmV0LTAxMjM0NTY3ODk="

// An arrival is one request that came to a receiver.
type arrival struct {
	id, subject string
	key         string // of the callback it tells of
	taken       bool   // it was answered with 2xx
}

// A receiver is an upstream as a merchant would write it: signatures are checked by
// the library of Standard Webhooks and events are read by the one of CloudEvents.
type receiver struct {
	*httptest.Server
	t    *testing.T
	hook *standardwebhooks.Webhook

	mu       sync.Mutex
	arrivals []arrival
	// answer decides what is answered, without it 200. 0 breaks the connection off, and a
	// negative one was answered already.
	answer func(arrival, http.ResponseWriter, *http.Request) int
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	hook, err := standardwebhooks.NewWebhook(eventSecret)
	if err != nil {
		t.Fatal(err)
	}
	u := &receiver{t: t, hook: hook}
	u.Server = httptest.NewServer(u)
	t.Cleanup(u.Close)
	return u
}

// block is the upstream's block in a Caddyfile.
func (u *receiver) block(name, options string) string {
	return "upstream " + u.URL + "/events {\nname " + name + "\nsecret " + eventSecret + "\n" + options + "\n}\n"
}

func (u *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the sender was killed
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	a, err := u.read(r, body)
	if err != nil {
		u.t.Errorf("the receiver refuses %s: %v", body, err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	u.mu.Lock()
	number := len(u.arrivals)
	u.arrivals = append(u.arrivals, a)
	answer := u.answer
	u.mu.Unlock()
	status := http.StatusOK
	if answer != nil {
		status = answer(a, w, r)
	}
	if status == 0 {
		panic(http.ErrAbortHandler)
	}
	u.mu.Lock()
	u.arrivals[number].taken = status >= 200 && status < 300 || status < 0
	u.mu.Unlock()
	if status > 0 {
		w.WriteHeader(status)
	}
}

func (u *receiver) read(r *http.Request, body []byte) (arrival, error) {
	if err := u.hook.Verify(body, r.Header); err != nil {
		return arrival{}, err
	}
	e, err := cehttp.NewEventFromHTTPRequest(r)
	if err != nil {
		return arrival{}, err
	}
	if err := e.Validate(); err != nil {
		return arrival{}, err
	}
	var data struct {
		Payment struct{ ID, Status string }
	}
	if err := e.DataAs(&data); err != nil {
		return arrival{}, err
	}
	if id := r.Header.Get("Webhook-Id"); id != e.ID() {
		u.t.Errorf("webhook-id is %s, id of the event is %s", id, e.ID())
	}
	return arrival{id: e.ID(), subject: e.Subject(), key: callback{record: data.Payment.ID, status: data.Payment.Status}.key()}, nil
}

// answering changes what is answered from now on.
func (u *receiver) answering(answer func(arrival, http.ResponseWriter, *http.Request) int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.answer = answer
}

func (u *receiver) got() []arrival {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.arrivals)
}

// check compares what has come with what was sent, each list of a bill in its order:
// everything has come, nothing else, one event has one id, and no event came before
// the one ahead of it was taken. It returns how many events came again after they
// had been taken.
func (u *receiver) check(sent map[string][]callback) (again int) {
	u.t.Helper()
	place := make(map[string]int) // of a callback in its bill's list
	total := 0
	for _, list := range sent {
		for i, c := range list {
			place[c.key()] = i
		}
		total += len(list)
	}
	ids, keys := make(map[string]string), make(map[string]string)
	taken := make(map[string]bool)
	next := make(map[string]int) // place of the first event of a bill that is not taken yet
	wrong := 0
	for _, a := range u.got() {
		i, known := place[a.key]
		if wrong > 10 {
			break
		}
		if !known {
			u.t.Errorf("%s of %s was never sent", a.key, a.subject)
			wrong++
			continue
		}
		if id, ok := ids[a.key]; ok && id != a.id {
			u.t.Errorf("%s came as %s and as %s", a.key, id, a.id)
			wrong++
		}
		if key, ok := keys[a.id]; ok && key != a.key {
			u.t.Errorf("%s is the id of %s and of %s", a.id, key, a.key)
			wrong++
		}
		ids[a.key], keys[a.id] = a.id, a.key
		if taken[a.key] {
			again++
		}
		// What was taken last may come again, when the program ended before it had
		// written down the answer. Older ones may not.
		if n := next[a.subject]; i != n && i != n-1 {
			u.t.Errorf("bill %s: event %d came when %d was to come", a.subject, i, n)
			wrong++
		}
		if a.taken {
			taken[a.key] = true
			next[a.subject] = i + 1
		}
	}
	if len(taken) != total {
		u.t.Errorf("%d events were taken, %d callbacks were sent", len(taken), total)
	}
	return again
}
