package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// numberOf returns the number of an event's delivery to an upstream.
func numberOf(t *testing.T, s *Store, event, upstream string) int64 {
	t.Helper()
	list := column[int64](t, s, "SELECT number FROM deliveries WHERE event = ? AND upstream = ?", event, upstream)
	if len(list) != 1 {
		t.Fatalf("event %s has deliveries %v to %s", event, list, upstream)
	}
	return list[0]
}

func retry(t *testing.T, s *Store, number int64, upstream string, now time.Time) {
	t.Helper()
	if err := s.RetryDelivery(t.Context(), number, upstream, now); err != nil {
		t.Fatal(err)
	}
}

func TestARetriedDeliveryIsDueAtOnceWithAllItsTries(t *testing.T) {
	later := noon.Add(time.Hour)
	for _, state := range []string{Dead, Delivered, PendingDelivery} {
		t.Run(state, func(t *testing.T) {
			s, _ := open(t)
			addEvent(t, s, "a1", "a", "shop")
			try(t, s, "a1", "shop", state, noon.Add(24*time.Hour))
			<-s.Outbox
			retry(t, s, numberOf(t, s, "a1", "shop"), "", later)
			select {
			case <-s.Outbox:
			default:
				t.Error("it was not announced")
			}
			if before, then := due(t, s, "shop", later.Add(-time.Millisecond)), due(t, s, "shop", later); before != "" || then != "a1" {
				t.Errorf("due are %q, then %q", before, then)
			}
			list, err := s.DueDeliveries(t.Context(), "default", "shop", later, 1)
			if err != nil || list[0].Tries != 0 {
				t.Errorf("got %+v, %v", list, err)
			}
			// Why it failed stays to be seen.
			if got := column[string](t, s, "SELECT last_status || ' ' || last_error FROM deliveries"); got[0] != "500 answered 500" {
				t.Errorf("recorded is %q", got[0])
			}
		})
	}
}

func TestAnUnknownDeliveryCannotBeRetried(t *testing.T) {
	s, _ := open(t)
	if err := s.RetryDelivery(t.Context(), 7, "", noon); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

// An operator who has a delivery retried while a try of it is under way gets all its
// tries, whatever the outcome of that one.
func TestTheOutcomeOfATryFromBeforeARetryIsVoid(t *testing.T) {
	for _, state := range []string{Dead, Delivered, PendingDelivery} {
		s, _ := open(t)
		addEvent(t, s, "a1", "a", "shop")
		list, err := s.DueDeliveries(t.Context(), "default", "shop", noon, 10)
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		retry(t, s, list[0].Number, "", noon)
		if err := s.RecordTry(t.Context(), Try{Delivery: list[0].Number, Round: list[0].Round, State: state, DueAt: noon.Add(time.Hour)}, noon); err != nil {
			t.Fatal(err)
		}
		if got := due(t, s, "shop", noon); got != "a1" {
			t.Errorf("%s: due are %q", state, got)
		}
	}
}

func TestAnEventIsNotMovedToAnUpstreamThatHasIt(t *testing.T) {
	s, _ := open(t)
	addEvent(t, s, "a1", "a", "old", "new")
	taken := new(TakenError)
	err := s.RetryDelivery(t.Context(), numberOf(t, s, "a1", "old"), "new", noon)
	if !errors.As(err, &taken) || taken.Delivery != numberOf(t, s, "a1", "new") {
		t.Errorf("got %v", err)
	}
	if got := column[string](t, s, "SELECT upstream FROM deliveries ORDER BY number"); strings.Join(got, " ") != "old new" {
		t.Errorf("deliveries are to %v", got)
	}
}

func TestEventsAreDeliveredAgainInTheirOrder(t *testing.T) {
	s, _ := open(t)
	for _, id := range []string{"a1", "a2"} {
		addEvent(t, s, id, "a", "old")
		try(t, s, id, "old", Delivered, noon)
	}
	list := []Redelivery{{"a1", []string{"old", "new"}}, {"a2", []string{"old", "new"}}}
	if err := s.Redeliver(t.Context(), list, noon); err != nil {
		t.Fatal(err)
	}
	for _, upstream := range []string{"old", "new"} {
		for _, want := range []string{"a1", "a2", ""} {
			if got := due(t, s, upstream, noon); got != want {
				t.Errorf("%s: due are %q, want %q", upstream, got, want)
			}
			if want != "" {
				try(t, s, want, upstream, Delivered, noon)
			}
		}
	}
	if err := s.Redeliver(t.Context(), []Redelivery{{"nothing", []string{"old"}}}, noon); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown event: %v", err)
	}
}

func TestARetriedDeliveryKeepsTheOrderOfItsBill(t *testing.T) {
	s, _ := open(t)
	for _, id := range []string{"a1", "a2", "a3"} {
		addEvent(t, s, id, "a", "shop")
	}
	addEvent(t, s, "b1", "b", "shop")
	one, two := numberOf(t, s, "a1", "shop"), numberOf(t, s, "a2", "shop")
	try(t, s, "a1", "shop", Dead, noon)
	wait := noon.Add(time.Hour)
	try(t, s, "a2", "shop", PendingDelivery, wait)

	// The first is put before the second, which has failed and waits for its time.
	retry(t, s, one, "", noon)
	if got := due(t, s, "shop", wait); got != "b1 a1" && got != "a1 b1" {
		t.Errorf("due are %q", got)
	}
	// The second was under way meanwhile, and its failure does not put it beside the first.
	try(t, s, "a2", "shop", PendingDelivery, wait)
	if got := due(t, s, "shop", wait); got != "b1 a1" && got != "a1 b1" {
		t.Errorf("after a failure of the second: due are %q", got)
	}
	try(t, s, "a1", "shop", Delivered, noon)
	if got := due(t, s, "shop", noon); got != "a2 b1" {
		t.Errorf("after the first: due are %q", got)
	}
	// Behind another one it waits for its turn.
	try(t, s, "a2", "shop", Dead, noon)
	retry(t, s, one, "", noon)
	retry(t, s, two, "", noon)
	for _, want := range []string{"a1 b1", "a2 b1", "a3 b1"} {
		if got := due(t, s, "shop", noon); got != want {
			t.Errorf("due are %q, want %q", got, want)
		}
		try(t, s, want[:2], "shop", Delivered, noon)
	}
}

func TestDeliveriesOfAnUpstreamThatIsGoneMoveToAnother(t *testing.T) {
	s, _ := open(t)
	for _, id := range []string{"a1", "a2"} {
		addEvent(t, s, id, "a", "old")
	}
	addEvent(t, s, "a3", "a", "new")
	one, two := numberOf(t, s, "a1", "old"), numberOf(t, s, "a2", "old")

	retry(t, s, two, "new", noon)
	if old, now := due(t, s, "old", noon), due(t, s, "new", noon); old != "a1" || now != "a2" {
		t.Errorf("after moving the second, due are %q and %q", old, now)
	}
	// A try of the old upstream that ends now says nothing about the new one.
	err := s.RecordTry(t.Context(), Try{Delivery: two, State: Delivered}, noon)
	if got := due(t, s, "new", noon); err != nil || got != "a2" {
		t.Errorf("due are %q, %v", got, err)
	}
	retry(t, s, one, "new", noon)
	for _, want := range []string{"a1", "a2", "a3"} {
		if got := due(t, s, "new", noon); got != want {
			t.Errorf("due are %q, want %q", got, want)
		}
		try(t, s, want, "new", Delivered, noon)
	}
	if got := due(t, s, "old", noon); got != "" {
		t.Errorf("with the old one stay %q", got)
	}
}

func TestMovingTheFirstLetsTheSecondGo(t *testing.T) {
	s, _ := open(t)
	addEvent(t, s, "a1", "a", "old")
	addEvent(t, s, "a2", "a", "old")
	try(t, s, "a1", "old", PendingDelivery, noon.Add(time.Hour))
	retry(t, s, numberOf(t, s, "a1", "old"), "new", noon)
	if old, now := due(t, s, "old", noon), due(t, s, "new", noon); old != "a2" || now != "a1" {
		t.Errorf("due are %q and %q", old, now)
	}
}

// TestInEveryQueueTheFirstAloneIsDue does whatever can be done with deliveries in
// random order, outcomes of tries that were overtaken among it.
func TestInEveryQueueTheFirstAloneIsDue(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	s, _ := open(t)
	var (
		now      = noon
		underWay []Try
		added    int64
	)
	for step := range 800 {
		now = now.Add(time.Duration(random.IntN(60)) * time.Second)
		var did string
		switch n := random.IntN(10); {
		case n < 3:
			e := eventOf(fmt.Sprintf("e%d", step), pick("a", "b"))
			e.Account = pick("default", "other")
			upstreams := [][]string{{"x"}, {"y"}, {"x", "y"}}[random.IntN(3)]
			write(t, s, func(tx *Tx) error { return tx.AddEvent(e, upstreams, now) })
			added += int64(len(upstreams))
			did = "adding " + e.ID
		case n < 5:
			account, upstream := pick("default", "other"), pick("x", "y", "z")
			list, err := s.DueDeliveries(t.Context(), account, upstream, now, 10)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range list {
				underWay = append(underWay, Try{Delivery: d.Number, Round: d.Round})
			}
			did = "beginning tries"
		case n < 8:
			if len(underWay) == 0 {
				continue
			}
			i := random.IntN(len(underWay))
			try := underWay[i]
			underWay = slices.Delete(underWay, i, i+1)
			try.State = pick(Delivered, Dead, PendingDelivery)
			try.DueAt = now.Add(time.Duration(random.IntN(600)) * time.Second)
			if err := s.RecordTry(t.Context(), try, now); err != nil {
				t.Fatal(err)
			}
			did = fmt.Sprintf("recording %+v", try)
		default:
			if added == 0 {
				continue
			}
			number, upstream := 1+random.Int64N(added), pick("", "", "x", "y", "z")
			err := s.RetryDelivery(t.Context(), number, upstream, now)
			if errors.As(err, new(*TakenError)) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			did = fmt.Sprintf("retrying %d, %q", number, upstream)
			if got := column[string](t, s, "SELECT state || ' ' || tries FROM deliveries WHERE number = ?", number); got[0] != "pending 0" {
				t.Fatalf("step %d, %s: it is %s", step, did, got[0])
			}
		}
		wrong := column[int64](t, s, `SELECT number FROM deliveries d WHERE (due_at IS NOT NULL) <> (state = 'pending' AND NOT EXISTS
			(SELECT 1 FROM deliveries b WHERE b.account = d.account AND b.upstream = d.upstream AND b.subject = d.subject
				AND b.state = 'pending' AND b.number < d.number))`)
		if len(wrong) > 0 {
			t.Fatalf("step %d, %s: deliveries %v are due and should not be, or the reverse", step, did, wrong)
		}
	}
	// What is left can be delivered in its order.
	if len(underWay) == 0 {
		t.Error("nothing was overtaken")
	}
	last := make(map[string]int64)
	for range added + 1 {
		left := false
		for _, account := range []string{"default", "other"} {
			for _, upstream := range []string{"x", "y", "z"} {
				list, err := s.DueDeliveries(t.Context(), account, upstream, now.Add(time.Hour), 100)
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range list {
					key := account + upstream + d.Subject
					if left = true; d.Number <= last[key] {
						t.Fatalf("%s: %d comes after %d", key, d.Number, last[key])
					}
					last[key] = d.Number
					if err := s.RecordTry(t.Context(), Try{Delivery: d.Number, Round: d.Round, State: Delivered}, now); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		if !left {
			break
		}
	}
	if got := column[int](t, s, "SELECT count(*) FROM deliveries WHERE state = 'pending'"); got[0] != 0 {
		t.Errorf("%d deliveries are stuck", got[0])
	}
}
