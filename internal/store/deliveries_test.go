package store

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func eventOf(id, subject string) Event {
	return Event{
		ID: id, Account: "default", Type: "bill.paid", Subject: subject, Origin: "callback", OccurredAt: noon,
		Envelope: []byte(`{"id":"` + id + `"}`),
	}
}

func addEvent(t *testing.T, s *Store, id, subject string, upstreams ...string) {
	t.Helper()
	write(t, s, func(tx *Tx) error { return tx.AddEvent(eventOf(id, subject), upstreams, noon) })
}

// due lists the events whose delivery to an upstream is due.
func due(t *testing.T, s *Store, upstream string, now time.Time) string {
	t.Helper()
	list, err := s.DueDeliveries(t.Context(), "default", upstream, now, 100)
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]string, len(list))
	for i, d := range list {
		ids[i] = d.Event
	}
	return strings.Join(ids, " ")
}

// try records a try of an event's delivery to an upstream.
func try(t *testing.T, s *Store, event, upstream, state string, next time.Time) {
	t.Helper()
	number := column[int64](t, s, "SELECT number FROM deliveries WHERE event = ? AND upstream = ?", event, upstream)
	if len(number) != 1 {
		t.Fatalf("event %s has deliveries %v to %s", event, number, upstream)
	}
	round := column[int](t, s, "SELECT round FROM deliveries WHERE number = ?", number[0])
	if err := s.RecordTry(t.Context(), Try{Delivery: number[0], Round: round[0], State: state, DueAt: next, Status: 500, Error: "answered 500"}, noon); err != nil {
		t.Fatal(err)
	}
}

func TestOnlyTheFirstPendingDeliveryOfABillIsDue(t *testing.T) {
	s, _ := open(t)
	for _, id := range []string{"a1", "a2", "a3"} {
		addEvent(t, s, id, "a", "shop")
	}
	addEvent(t, s, "b1", "b", "shop")
	later := noon.Add(5 * time.Second)

	for _, step := range []struct {
		name string
		do   func()
		now  time.Time
		due  string
	}{
		{name: "at first", now: noon, due: "a1 b1"},
		{name: "before the next try", do: func() { try(t, s, "a1", "shop", PendingDelivery, later) }, now: noon, due: "b1"},
		{name: "at the next try", now: later, due: "b1 a1"},
		{name: "after the first was delivered", do: func() { try(t, s, "a1", "shop", Delivered, noon) }, now: noon, due: "a2 b1"},
		{name: "after the second was given up", do: func() { try(t, s, "a2", "shop", Dead, noon) }, now: noon, due: "a3 b1"},
		{name: "after the last of the bill", do: func() { try(t, s, "a3", "shop", Delivered, noon) }, now: noon, due: "b1"},
		{name: "with a new one behind none", do: func() { addEvent(t, s, "a4", "a", "shop") }, now: noon, due: "b1 a4"},
	} {
		if step.do != nil {
			step.do()
		}
		if got := due(t, s, "shop", step.now); got != step.due {
			t.Errorf("%s: due are %q, want %q", step.name, got, step.due)
		}
	}
}

func TestAnEventAddedBehindARetriedDeliveryWaits(t *testing.T) {
	s, _ := open(t)
	addEvent(t, s, "a1", "a", "shop")
	try(t, s, "a1", "shop", PendingDelivery, noon.Add(time.Hour))
	addEvent(t, s, "a2", "a", "shop")
	if got := due(t, s, "shop", noon.Add(24*time.Hour)); got != "a1" {
		t.Errorf("due are %q", got)
	}
	next, ok, err := s.NextDelivery(t.Context(), "default", "shop", noon)
	if err != nil || !ok || !next.Equal(noon.Add(time.Hour)) {
		t.Errorf("next is %v, %v, %v", next, ok, err)
	}
}

func TestUpstreamsDoNotWaitForEachOther(t *testing.T) {
	s, _ := open(t)
	addEvent(t, s, "a1", "a", "shop", "books")
	addEvent(t, s, "a2", "a", "shop", "books")
	addEvent(t, s, "a3", "a", "books")
	try(t, s, "a1", "shop", Delivered, noon)
	if shop, books := due(t, s, "shop", noon), due(t, s, "books", noon); shop != "a2" || books != "a1" {
		t.Errorf("due are %q and %q", shop, books)
	}
	try(t, s, "a1", "books", Delivered, noon)
	try(t, s, "a2", "books", Delivered, noon)
	if got := due(t, s, "books", noon); got != "a3" {
		t.Errorf("due are %q", got)
	}
}

func TestAccountsDoNotWaitForEachOther(t *testing.T) {
	s, _ := open(t)
	addEvent(t, s, "a1", "a", "shop")
	other := eventOf("o1", "a")
	other.Account = "other"
	write(t, s, func(tx *Tx) error { return tx.AddEvent(other, []string{"shop"}, noon) })
	if got, err := s.DueDeliveries(t.Context(), "other", "shop", noon, 10); err != nil || len(got) != 1 || got[0].Event != "o1" {
		t.Errorf("due are %+v, %v", got, err)
	}
}

func TestAnEventAddedTwiceIsOneEventWithOneDeliveryForEachUpstream(t *testing.T) {
	s, _ := open(t)
	addEvent(t, s, "a1", "a", "shop", "books")
	try(t, s, "a1", "shop", Delivered, noon)
	addEvent(t, s, "a1", "a", "shop", "books", "new")
	write(t, s, func(tx *Tx) error { // also within one transaction
		return errors.Join(tx.AddEvent(eventOf("b1", "b"), []string{"shop"}, noon), tx.AddEvent(eventOf("b1", "b"), []string{"shop"}, noon))
	})
	if got := marks(t, s); !slices.Equal(got, []string{"a1", "b1"}) {
		t.Errorf("events are %q", got)
	}
	want := []string{"a1 books pending", "a1 shop delivered", "b1 shop pending"}
	if got := column[string](t, s, "SELECT event || ' ' || upstream || ' ' || state FROM deliveries ORDER BY 1"); !slices.Equal(got, want) {
		t.Errorf("deliveries are %q, want %q", got, want)
	}
}

func TestOnlyTheFirstOutcomeOfAFinishedDeliveryCounts(t *testing.T) {
	for _, over := range []string{Delivered, Dead} {
		t.Run(over, func(t *testing.T) {
			s, _ := open(t)
			for _, id := range []string{"a1", "a2", "a3"} {
				addEvent(t, s, id, "a", "shop")
			}
			try(t, s, "a1", "shop", over, noon)
			for _, state := range []string{Delivered, Dead, PendingDelivery} {
				try(t, s, "a1", "shop", state, noon)
			}
			if got := column[string](t, s, "SELECT state || ' ' || tries FROM deliveries WHERE event = 'a1'"); got[0] != over+" 1" {
				t.Errorf("it is %s", got[0])
			}
			if got := due(t, s, "shop", noon); got != "a2" {
				t.Errorf("due are %q", got)
			}
		})
	}
}

func TestATryIsRecorded(t *testing.T) {
	s, _ := open(t)
	addEvent(t, s, "a1", "a", "shop")
	for range 3 {
		try(t, s, "a1", "shop", PendingDelivery, noon)
	}
	list, err := s.DueDeliveries(t.Context(), "default", "shop", noon, 10)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	want := Delivery{Number: 1, Event: "a1", Type: "bill.paid", Subject: "a", Tries: 3, Envelope: []byte(`{"id":"a1"}`)}
	if got, want := text(t, list[0]), text(t, want); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := column[string](t, s, "SELECT last_status || ' ' || last_error FROM deliveries"); got[0] != "500 answered 500" {
		t.Errorf("recorded %q", got[0])
	}
}

func TestDeliveriesAreAnnouncedWhenTheyBecomeDue(t *testing.T) {
	s, _ := open(t)
	for _, step := range []struct {
		name string
		do   func()
		want bool
	}{
		{"an event", func() { addEvent(t, s, "a1", "a", "shop") }, true},
		{"one that waits", func() { addEvent(t, s, "a2", "a", "shop") }, true},
		{"one for nobody", func() { addEvent(t, s, "a3", "a") }, false},
		{"one that is there", func() { addEvent(t, s, "a1", "a", "shop") }, false},
		{"a delivery with a successor", func() { try(t, s, "a1", "shop", Delivered, noon) }, true},
		{"a delivery without", func() { try(t, s, "a2", "shop", Delivered, noon) }, false},
	} {
		step.do()
		select {
		case <-s.Outbox:
			if !step.want {
				t.Errorf("%s was announced", step.name)
			}
		default:
			if step.want {
				t.Errorf("%s was not announced", step.name)
			}
		}
	}
}

func TestTheQueueOutlivesAReopening(t *testing.T) {
	s, path := open(t)
	addEvent(t, s, "a1", "a", "shop")
	addEvent(t, s, "a2", "a", "shop")
	closeStore(t, s)
	s = openAt(t, path)
	if got := due(t, s, "shop", noon); got != "a1" {
		t.Errorf("due are %q", got)
	}
	addEvent(t, s, "a3", "a", "shop")
	try(t, s, "a1", "shop", Delivered, noon)
	if got := due(t, s, "shop", noon); got != "a2" {
		t.Errorf("then due are %q", got)
	}
}
