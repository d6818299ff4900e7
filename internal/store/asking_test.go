package store

import (
	"slices"
	"testing"
	"time"
)

// records names what a list of callbacks is about.
func records(list []Callback) (names []string) {
	for _, c := range list {
		names = append(names, c.RecordID)
	}
	return names
}

func TestCallbacksThatAreAskedAboutAreDueByAccount(t *testing.T) {
	s, path := open(t)
	for _, record := range []string{"1", "2", "3", "of another account"} {
		c := callback(record)
		if record == "of another account" {
			c.Account = "other"
		}
		if _, err := s.AddCallback(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	write(t, s, func(tx *Tx) error {
		for number, due := range map[int64]time.Time{1: noon.Add(time.Minute), 2: noon, 4: noon} {
			if err := tx.AskAboutCallback(number, due); err != nil {
				return err
			}
		}
		return tx.CountQuestion(1, true)
	})
	closeStore(t, s)
	s = openAt(t, path)
	for _, test := range []struct {
		account string
		after   time.Duration
		limit   int
		want    []string
	}{
		{"default", 0, 9, []string{"2"}},
		{"default", time.Minute, 9, []string{"2", "1"}},
		{"default", time.Hour, 1, []string{"2"}},
		{"default", -time.Second, 9, nil},
		{"other", 0, 9, []string{"of another account"}},
		{"unknown", time.Hour, 9, nil},
	} {
		list, err := s.AskingCallbacks(t.Context(), test.account, noon.Add(test.after), test.limit)
		if got := records(list); err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%+v: got %q, %v", test, got, err)
		}
		for _, c := range list {
			if want := c.RecordID == "1"; c.State != Asking || (c.Asked == 1) != want || (c.Denied == 1) != want || len(c.Body) == 0 {
				t.Errorf("got %+v", c)
			}
		}
	}
	if due, ok, err := s.NextAsking(t.Context(), "default"); err != nil || !ok || !due.Equal(noon) {
		t.Errorf("next is due at %v, %v, %v", due, ok, err)
	}
	if _, ok, err := s.NextAsking(t.Context(), "unknown"); err != nil || ok {
		t.Errorf("an unknown account has something to ask: %v", err)
	}
	// They are not resolved as others are, a copy changes nothing, and they are kept.
	if list, err := s.Unresolved(t.Context(), Received, noon.Add(time.Hour), 9); err != nil || !slices.Equal(records(list), []string{"3"}) {
		t.Errorf("to be resolved: %q, %v", records(list), err)
	}
	if added, err := s.AddCallback(t.Context(), callback("2")); err != nil || added {
		t.Errorf("a copy was added: %v", err)
	}
	write(t, s, func(tx *Tx) error { return tx.FinishCallback(3, Resolved, "", noon) })
	if _, err := s.Prune(t.Context(), noon.Add(time.Hour), 99); err != nil {
		t.Fatal(err)
	}
	if got := column[string](t, s, "SELECT record_id FROM callbacks ORDER BY number"); !slices.Equal(got, []string{"1", "2", "of another account"}) {
		t.Errorf("kept %q", got)
	}
}
