package sandbox

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const testEvent = `{
  "specversion": "1.0", "id": "evt_1", "source": "/ccpayment/default", "type": "bill.paid",
  "subject": "ref-1", "time": "2026-01-02T15:30:00Z", "datacontenttype": "application/json",
  "data": {"bill": {"paid": "50.0137"}}
}`

func eventRequest(t *testing.T, id, body string, at time.Time) *http.Request {
	t.Helper()
	wh, err := standardwebhooks.NewWebhook(testInbox)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := wh.Sign(id, at, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodPost, "http://backend.test/inbox", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/cloudevents+json")
	r.Header.Set("webhook-id", id)
	r.Header.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
	r.Header.Set("webhook-signature", signature)
	return r
}

func listInbox(t *testing.T, s *Sandbox) []map[string]any {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "http://backend.test/inbox", nil)
	r.Header.Set("Accept", "application/json")
	var list []map[string]any
	if err := json.Unmarshal(serve(s, r).Body.Bytes(), &list); err != nil {
		t.Fatal(err)
	}
	return list
}

func TestInbox(t *testing.T) {
	for name, tc := range map[string]struct {
		body   string
		change func(*http.Request)
		want   int
		kept   bool
	}{
		"good":        {testEvent, func(*http.Request) {}, 204, true},
		"charset":     {testEvent, func(r *http.Request) { r.Header.Set("Content-Type", "application/cloudevents+json; charset=utf-8") }, 204, true},
		"two secrets": {testEvent, func(r *http.Request) { r.Header.Set("webhook-signature", "v1,AAAA "+r.Header.Get("webhook-signature")) }, 204, true},
		"other id":    {testEvent, func(r *http.Request) { r.Header.Set("webhook-id", "evt_2") }, 401, true},
		"no id":       {testEvent, func(r *http.Request) { r.Header.Del("webhook-id") }, 401, false},
		"no sign":     {testEvent, func(r *http.Request) { r.Header.Del("webhook-signature") }, 401, true},
		"other sign":  {testEvent, func(r *http.Request) { r.Header.Set("webhook-signature", "v1,AAAA") }, 401, true},
		"other time":  {testEvent, func(r *http.Request) { r.Header.Set("webhook-timestamp", "1700000000") }, 401, true},
		"plain JSON":  {testEvent, func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }, 415, false},
		"not JSON":    {"{", func(*http.Request) {}, 400, false},
		"no type":     {strings.Replace(testEvent, `"type"`, `"kind"`, 1), func(*http.Request) {}, 400, false},
		"no source":   {strings.Replace(testEvent, `"/ccpayment/default"`, `""`, 1), func(*http.Request) {}, 400, false},
		"no id attr":  {strings.Replace(testEvent, `"evt_1"`, `""`, 1), func(*http.Request) {}, 400, false},
		"old version": {strings.Replace(testEvent, `"1.0"`, `"0.2"`, 1), func(*http.Request) {}, 400, false},
		"no version":  {strings.Replace(testEvent, `"specversion": "1.0",`, ``, 1), func(*http.Request) {}, 400, false},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newTestSandbox(t)
			r := eventRequest(t, "evt_1", tc.body, time.Now())
			tc.change(r)
			if w := serve(s, r); w.Code != tc.want {
				t.Errorf("got status %d, want %d", w.Code, tc.want)
			}
			list := listInbox(t, s)
			if (len(list) == 1) != tc.kept {
				t.Fatalf("kept %v", list)
			}
			if tc.kept && list[0]["verified"] != (tc.want == 204) {
				t.Errorf("got %v", list[0])
			}
		})
	}
}

func TestInboxList(t *testing.T) {
	s, _ := newTestSandbox(t)
	for _, id := range []string{"evt_1", "evt_2", "evt_1"} {
		if w := serve(s, eventRequest(t, id, testEvent, time.Now())); w.Code != http.StatusNoContent {
			t.Fatalf("status %d", w.Code)
		}
	}
	// A forgery with a known id does not count as a repetition.
	forged := eventRequest(t, "evt_1", testEvent, time.Now())
	forged.Header.Set("webhook-signature", "v1,AAAA")
	serve(s, forged)

	list := listInbox(t, s)
	if len(list) != 3 || list[0]["verified"] != false || list[1]["id"] != "evt_2" || list[2]["id"] != "evt_1" || list[2]["times"] != 2.0 {
		t.Fatalf("got %v", list)
	}
	e := list[2]
	if len(e) != 7 || e["type"] != "bill.paid" || e["subject"] != "ref-1" || e["received_at"] == "" {
		t.Errorf("got %v", e)
	}
	if paid := e["event"].(map[string]any)["data"].(map[string]any)["bill"].(map[string]any)["paid"]; paid != "50.0137" {
		t.Errorf("got %v", paid)
	}

	page := serve(s, httptest.NewRequest(http.MethodGet, "http://backend.test/inbox", nil)).Body.String()
	for _, want := range []string{"verified", "not verified", "came 2 times", "bill.paid", "&#34;paid&#34;: &#34;50.0137&#34;"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

// TestInboxWithoutSecret takes what it cannot verify, and says so.
func TestInboxWithoutSecret(t *testing.T) {
	s, _ := newTestSandbox(t)
	s.inbox = nil
	r := eventRequest(t, "evt_1", testEvent, time.Now())
	r.Header.Del("webhook-signature")
	if w := serve(s, r); w.Code != http.StatusNoContent {
		t.Errorf("status %d", w.Code)
	}
	if list := listInbox(t, s); len(list) != 1 || list[0]["verified"] != false {
		t.Errorf("got %v", list)
	}
}

func TestInboxFail(t *testing.T) {
	s, _ := newTestSandbox(t)
	set := func(form url.Values) int {
		r := httptest.NewRequest(http.MethodPost, "http://backend.test/inbox/fail", strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Accept", "application/json")
		return serve(s, r).Code
	}
	for _, form := range []url.Values{
		{"times": {"1"}},
		{"status": {"503"}},
		{"status": {"200"}, "times": {"1"}},
		{"status": {"503"}, "times": {"-1"}},
		{"status": {"503"}, "times": {"1"}, "retry_after": {"x"}},
	} {
		if code := set(form); code != http.StatusBadRequest {
			t.Errorf("%v: status %d", form, code)
		}
	}
	if code := set(url.Values{"status": {"503"}, "times": {"2"}, "retry_after": {"7"}}); code != http.StatusOK {
		t.Fatalf("status %d", code)
	}
	for i, want := range []int{503, 503, 204} {
		w := serve(s, eventRequest(t, "evt_1", testEvent, time.Now()))
		if w.Code != want || (want == 503) != (w.Header().Get("Retry-After") == "7") {
			t.Errorf("delivery %d: status %d, headers %v", i, w.Code, w.Header())
		}
	}
	if list := listInbox(t, s); len(list) != 1 || list[0]["times"] != 1.0 {
		t.Errorf("got %v", list)
	}
}

func TestBoundedInbox(t *testing.T) {
	in := newInbox()
	for i := range maxInboxEntries + 10 {
		in.add(&inboxEntry{ID: fmt.Sprint(i), Event: json.RawMessage(`{}`)})
	}
	if len(in.entries) != maxInboxEntries || len(in.byID) != maxInboxEntries || in.bytes != 2*maxInboxEntries {
		t.Errorf("%d entries, %d ids, %d bytes", len(in.entries), len(in.byID), in.bytes)
	}
	big := json.RawMessage(strings.Repeat(" ", maxEvent))
	for i := range 2 * maxInboxBytes / maxEvent {
		in.add(&inboxEntry{ID: fmt.Sprint("big", i), Event: big})
	}
	if in.bytes > maxInboxBytes || len(in.entries) != maxInboxBytes/maxEvent {
		t.Errorf("%d entries, %d bytes", len(in.entries), in.bytes)
	}
}
