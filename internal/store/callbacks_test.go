package store

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestACallbackThatComesManyTimesAtOnceIsAddedOnce(t *testing.T) {
	s, path := open(t)
	var (
		wg    sync.WaitGroup
		added atomic.Int32
	)
	for range 100 {
		wg.Go(func() {
			ok, err := s.AddCallback(t.Context(), callback("1"))
			if err != nil {
				t.Error(err)
			}
			if ok {
				added.Add(1)
			}
		})
	}
	wg.Wait()
	if got := added.Load(); got != 1 {
		t.Errorf("added %d times", got)
	}
	closeStore(t, s)
	if got := column[int](t, openAt(t, path), "SELECT count(*) FROM callbacks"); got[0] != 1 {
		t.Errorf("%d are there", got[0])
	}
}

func TestCallbacksAreTheSameByAccountKindRecordAndStatus(t *testing.T) {
	s, _ := open(t)
	for _, c := range []struct {
		name   string
		change func(*Callback)
		added  bool
	}{
		{"the first", func(*Callback) {}, true},
		{"the same", func(*Callback) {}, false},
		{"with another body and time", func(c *Callback) { c.Body, c.ReceivedAt = []byte("{}"), noon.Add(time.Hour) }, false},
		{"of another account", func(c *Callback) { c.Account = "other" }, true},
		{"of another kind", func(c *Callback) { c.Kind = "deposit" }, true},
		{"of another record", func(c *Callback) { c.RecordID = "2" }, true},
		{"with another status", func(c *Callback) { c.Status = "processing" }, true},
	} {
		cb := callback("1")
		c.change(&cb)
		if added, err := s.AddCallback(t.Context(), cb); added != c.added || err != nil {
			t.Errorf("%s: %v, %v", c.name, added, err)
		}
	}
	if got := column[[]byte](t, s, "SELECT body FROM callbacks ORDER BY number"); !bytes.Equal(got[0], callback("1").Body) {
		t.Errorf("the first copy was overwritten with %s", got[0])
	}
}

// TestAFreshCopyOfADoubtedCallbackIsBelieved: a stale copy waits for the gateway's
// word, or did not get it. A copy that comes in time needs none.
func TestAFreshCopyOfADoubtedCallbackIsBelieved(t *testing.T) {
	for _, state := range []string{Quarantined, Refuted} {
		t.Run(state, func(t *testing.T) {
			s, _ := open(t)
			stale := callback("1")
			stale.State, stale.SignedAt = Quarantined, noon.Add(-time.Hour)
			if _, err := s.AddCallback(t.Context(), stale); err != nil {
				t.Fatal(err)
			}
			if state == Refuted {
				write(t, s, func(tx *Tx) error { return tx.FinishCallback(1, Refuted, "not listed", noon) })
			}
			if _, err := s.AddCallback(t.Context(), callback("1")); err != nil {
				t.Fatal(err)
			}
			got, err := s.Unresolved(t.Context(), Received, noon, 10)
			if err != nil || len(got) != 1 || got[0].State != Received {
				t.Errorf("to be resolved: %+v, %v", got, err)
			}
		})
	}
}

func TestACallbackThatIsAddedIsAnnounced(t *testing.T) {
	s, _ := open(t)
	for i, want := range []bool{true, false} {
		if _, err := s.AddCallback(t.Context(), callback("1")); err != nil {
			t.Fatal(err)
		}
		select {
		case <-s.Inbox:
			if !want {
				t.Errorf("copy %d was announced", i)
			}
		default:
			if want {
				t.Errorf("copy %d was not announced", i)
			}
		}
	}
}

func TestEveryFieldOfACallbackSurvives(t *testing.T) {
	want := Callback{
		Number: 1, Account: "default", Kind: "unknown/API Deposit é", RecordID: "r", Status: "success", State: Quarantined,
		Asked: 2, Denied: 1, SignedAt: noon.Add(-time.Hour), ReceivedAt: noon, Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Body: []byte("{\"a\":\"\x00\xff\"}"),
	}
	everyFieldSet(t, want)
	s, _ := open(t)
	if _, err := s.AddCallback(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	write(t, s, func(tx *Tx) error { return tx.PostponeCallback(1, "later", noon) })
	write(t, s, func(tx *Tx) error { return tx.CountQuestion(1, false) })
	write(t, s, func(tx *Tx) error { return tx.CountQuestion(1, true) })
	got, err := s.Unresolved(t.Context(), Quarantined, noon, 10)
	if err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	if got, want := text(t, got[0]), text(t, want); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestCallbacksAreResolvedOldestFirstAndWhenTheyAreDue(t *testing.T) {
	s, _ := open(t)
	for i, due := range []time.Duration{2 * time.Second, time.Second, time.Second, time.Hour, 0, 0} {
		c := callback(fmt.Sprint(i + 1))
		c.ReceivedAt = noon.Add(due)
		if _, err := s.AddCallback(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	write(t, s, func(tx *Tx) error { return tx.FinishCallback(5, Resolved, "", noon) })
	write(t, s, func(tx *Tx) error { return tx.FinishCallback(6, Refuted, "not listed", noon) })
	write(t, s, func(tx *Tx) error { return tx.PostponeCallback(1, "later", noon.Add(3*time.Second)) })

	if next, ok, err := s.NextUnresolved(t.Context(), Received); err != nil || !ok || !next.Equal(noon.Add(time.Second)) {
		t.Errorf("next is %v, %v, %v", next, ok, err)
	}
	for _, c := range []struct {
		after time.Duration
		limit int
		want  []int64
	}{
		{time.Second - time.Millisecond, 10, nil},
		{time.Second, 10, []int64{2, 3}},
		{time.Second, 1, []int64{2}},
		{3 * time.Second, 10, []int64{2, 3, 1}},
	} {
		list, err := s.Unresolved(t.Context(), Received, noon.Add(c.after), c.limit)
		if err != nil {
			t.Fatal(err)
		}
		var got []int64
		for _, cb := range list {
			got = append(got, cb.Number)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("after %v, at most %d: %v, want %v", c.after, c.limit, got, c.want)
		}
	}
}
