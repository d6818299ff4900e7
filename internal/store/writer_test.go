package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// hold keeps the writing goroutine busy until it is released, so that operations
// pile up behind it and then share a commit.
func hold(t *testing.T, s *Store) (release func()) {
	t.Helper()
	held, free := make(chan struct{}), make(chan struct{})
	go func() {
		_ = s.Write(context.WithoutCancel(t.Context()), func(*Tx) error {
			close(held)
			<-free
			return nil
		})
	}()
	<-held
	return sync.OnceFunc(func() { close(free) })
}

// together runs n operations that wait at the same time, in their order, and
// returns their outcomes. It must be called in a synctest bubble.
func together(t *testing.T, s *Store, n int, run func(i int) error) []error {
	t.Helper()
	release := hold(t, s)
	outcome := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { outcome[i] = run(i) })
		synctest.Wait() // it is queued before the next one
	}
	release()
	wg.Wait()
	return outcome
}

// mark is an operation that leaves a trace: an event of its own.
func mark(id string) func(*Tx) error {
	return func(tx *Tx) error {
		return tx.AddEvent(Event{ID: id, Account: "default", Type: "bill.paid", Subject: id, OccurredAt: noon, Envelope: []byte(`{}`)}, nil, noon)
	}
}

func marks(t *testing.T, s *Store) []string {
	t.Helper()
	return column[string](t, s, "SELECT id FROM events ORDER BY id")
}

func TestOperationsThatWaitTogetherShareCommits(t *testing.T) {
	for n, most := range map[int]int{2: 1, 100: 1, maxGroup + 44: 2} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, path := open(t)
				before := commits(t, path)
				for i, err := range together(t, s, n, func(i int) error {
					_, err := s.AddCallback(t.Context(), callback(strconv.Itoa(i)))
					return err
				}) {
					if err != nil {
						t.Errorf("operation %d: %v", i, err)
					}
				}
				if got := commits(t, path) - before; got == 0 || got > most {
					t.Errorf("%d operations took %d commits, want at most %d", n, got, most)
				}
				if got := column[int](t, s, "SELECT count(*) FROM callbacks"); got[0] != n {
					t.Errorf("%d of %d are there", got[0], n)
				}
			})
		})
	}
}

func TestALoneOperationIsCommittedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, path := open(t)
		before, began := commits(t, path), time.Now()
		for i := range 10 {
			if _, err := s.AddCallback(t.Context(), callback(strconv.Itoa(i))); err != nil {
				t.Fatal(err)
			}
			if err := s.WriteInBackground(t.Context(), mark(strconv.Itoa(i))); err != nil {
				t.Fatal(err)
			}
			if got := commits(t, path) - before; got != 2*i+2 {
				t.Fatalf("%d commits after %d operations", got, 2*i+2)
			}
		}
		// In the bubble time passes only while everybody waits for it.
		if waited := time.Since(began); waited != 0 {
			t.Errorf("it waited %v for others", waited)
		}
	})
}

func TestOperationsTakeEffectInTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := open(t)
		together(t, s, 50, func(i int) error {
			return s.Write(t.Context(), mark(fmt.Sprintf("%02d", i)))
		})
		got := column[string](t, s, "SELECT id FROM events ORDER BY number")
		if len(got) != 50 || !slices.IsSorted(got) {
			t.Errorf("order is %q", got)
		}
	})
}

// failures are the ways in which an operation can fail halfway.
var failures = map[string]func(*Tx) error{
	"error":        func(*Tx) error { return errors.New("no") },
	"panic":        func(*Tx) error { panic("no") },
	"nil function": func(*Tx) error { return new(op).do(nil) },
	"bad query":    func(tx *Tx) error { return tx.exec("INSERT INTO nowhere VALUES (1)") },
	"constraint": func(tx *Tx) error {
		return tx.exec("INSERT INTO deliveries (event, account, upstream, subject, state, created_at, updated_at) VALUES ('none', '', '', '', '', 0, 0)")
	},
}

func TestAnOperationThatFailsIsUndoneAlone(t *testing.T) {
	for name, fail := range failures {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, path := open(t)
				before := commits(t, path)
				halfway := func(id string) func(*Tx) error {
					return func(tx *Tx) error { return errors.Join(mark(id)(tx), fail(tx)) }
				}
				outcome := together(t, s, 5, func(i int) error {
					switch i {
					case 1, 3:
						return s.Write(t.Context(), halfway("half"))
					case 2:
						_, err := s.AddCallback(t.Context(), callback("whole"))
						return err
					default:
						return s.Write(t.Context(), mark("whole "+strconv.Itoa(i)))
					}
				})
				for i, err := range outcome {
					if failed := err != nil; failed != (i == 1 || i == 3) {
						t.Errorf("operation %d: %v", i, err)
					}
				}
				if got := marks(t, s); !slices.Equal(got, []string{"whole 0", "whole 4"}) {
					t.Errorf("traces of %q", got)
				}
				if got := column[int](t, s, "SELECT count(*) FROM callbacks"); got[0] != 1 {
					t.Error("the callback between the failures is not there")
				}
				if got := commits(t, path) - before; got != 1 {
					t.Errorf("%d commits", got)
				}

				// Without company it leaves nothing either, and the store goes on.
				if err := s.Write(t.Context(), halfway("half")); err == nil {
					t.Error("alone: no error")
				}
				write(t, s, mark("whole 5"))
				if got := marks(t, s); !slices.Equal(got, []string{"whole 0", "whole 4", "whole 5"}) {
					t.Errorf("alone: traces of %q", got)
				}
			})
		})
	}
}

func TestAPanicInAnOperationIsReportedWithItsPlace(t *testing.T) {
	s, _ := open(t)
	err := s.Write(t.Context(), failures["nil function"])
	if err == nil || !strings.Contains(err.Error(), "nil pointer") || !strings.Contains(err.Error(), "writer_test.go") {
		t.Errorf("error is %v", err)
	}
}

func TestAnOperationThatFailsAnnouncesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := open(t)
		rec := opened("1")
		watcher := s.Watch(rec.Token)
		defer s.Unwatch(watcher)
		together(t, s, 2, func(i int) error {
			return s.Write(t.Context(), func(tx *Tx) error {
				if i == 1 {
					return mark("whole")(tx)
				}
				return errors.Join(tx.SaveBill(&rec, noon), errors.New("no"))
			})
		})
		select {
		case <-watcher.C:
			t.Error("a bill that was not stored was shown")
		default:
		}
	})
}

func TestACallerWhoLeavesLearnsTheTruthAboutAQueuedOperation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := open(t)
		release := hold(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		outcome := make(chan error, 1)
		go func() { outcome <- s.Write(ctx, mark("queued")) }()
		synctest.Wait()
		cancel()
		synctest.Wait()
		select {
		case err := <-outcome:
			t.Fatalf("told %v before it was known", err)
		default:
		}
		release()
		if err := <-outcome; err != nil {
			t.Errorf("it was committed and reported as %v", err)
		}
		if got := marks(t, s); len(got) != 1 {
			t.Errorf("traces of %q", got)
		}
	})
}

func TestACallerWhoLeavesBeforeTheQueueHasRoomLeavesNothing(t *testing.T) {
	for name, write := range writes {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, _ := open(t)
				release := hold(t, s)
				var queued sync.WaitGroup
				for range maxGroup {
					queued.Go(func() { _ = write(s, t.Context(), func(*Tx) error { return nil }) })
				}
				synctest.Wait()
				ctx, cancel := context.WithCancel(t.Context())
				outcome := make(chan error, 1)
				go func() { outcome <- write(s, ctx, mark("not queued")) }()
				synctest.Wait()
				cancel()
				if err := <-outcome; !errors.Is(err, context.Canceled) {
					t.Errorf("error is %v", err)
				}
				release()
				queued.Wait()
				if got := marks(t, s); len(got) != 0 {
					t.Errorf("traces of %q", got)
				}
			})
		})
	}
}

// writes are the two ways to run an operation.
var writes = map[string]func(*Store, context.Context, func(*Tx) error) error{
	"urgent": (*Store).Write, "background": (*Store).WriteInBackground,
}

func TestUrgentAndBackgroundOperationsShareACommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, path := open(t)
		before := commits(t, path)
		for i, err := range together(t, s, 20, func(i int) error {
			if i%2 == 0 {
				return s.WriteInBackground(t.Context(), mark(strconv.Itoa(i)))
			}
			return s.Write(t.Context(), mark(strconv.Itoa(i)))
		}) {
			if err != nil {
				t.Errorf("operation %d: %v", i, err)
			}
		}
		if got := commits(t, path) - before; got != 1 || len(marks(t, s)) != 20 {
			t.Errorf("%d operations in %d commits", len(marks(t, s)), got)
		}
	})
}

func TestBackgroundOperationsDoNotStandStillWhileUrgentOnesKeepComing(t *testing.T) {
	s, _ := open(t)
	ctx, cancel := context.WithCancel(context.Background())
	var urgent sync.WaitGroup
	for w := range 8 {
		urgent.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if err := s.Write(context.Background(), mark(fmt.Sprintf("urgent %d/%d", w, i))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 20 {
		if err := s.WriteInBackground(t.Context(), mark(fmt.Sprintf("background %d", i))); err != nil {
			t.Error(err)
		}
	}
	cancel()
	urgent.Wait()
	if got := column[int](t, s, "SELECT count(*) FROM events WHERE id LIKE 'background %'"); got[0] != 20 {
		t.Errorf("%d are there", got[0])
	}
}

// TestClosingUnderLoad closes while operations come in from all sides. Whatever
// was reported as done must be there afterwards, whatever was refused must not.
func TestClosingUnderLoad(t *testing.T) {
	const writers = 32
	s, path := open(t)
	var (
		mu            sync.Mutex
		done, refused []string
		wg            sync.WaitGroup
	)
	for w := range writers {
		wg.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d/%d", w, i)
				err := s.Write(context.Background(), mark(id))
				mu.Lock()
				if err == nil {
					done = append(done, id)
				} else {
					refused = append(refused, id)
				}
				mu.Unlock()
				if errors.Is(err, ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for progress := 0; progress < 20*writers; { // it is well under way
		runtime.Gosched()
		mu.Lock()
		progress = len(done)
		mu.Unlock()
	}
	closeStore(t, s)
	wg.Wait()

	slices.Sort(done)
	got := marks(t, openAt(t, path))
	slices.Sort(got)
	if !slices.Equal(got, done) {
		t.Errorf("%d operations were reported as done and %d are there", len(done), len(got))
	}
	if len(refused) != writers {
		t.Errorf("%d of %d writers were refused", len(refused), writers)
	}
}

func TestClosingCommitsWhatWaitsAndHangsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "ccpayment.db")
		s := openAt(t, path)
		release := hold(t, s)
		const n = 2*maxGroup + 50 // more than the queues take
		outcome := make([]error, n)
		var wg sync.WaitGroup
		for i := range n {
			write := s.Write
			if i%3 == 0 {
				write = s.WriteInBackground
			}
			wg.Go(func() { outcome[i] = write(t.Context(), mark(strconv.Itoa(i))) })
		}
		synctest.Wait()
		closed := make(chan error, 1)
		go func() { closed <- s.Close() }()
		synctest.Wait()
		release()
		wg.Wait()
		if err := <-closed; err != nil {
			t.Fatal(err)
		}

		s = openAt(t, path)
		there := make(map[string]bool)
		for _, id := range marks(t, s) {
			there[id] = true
		}
		done := 0
		for i, err := range outcome {
			if err == nil {
				done++
			} else if !errors.Is(err, ErrClosed) {
				t.Errorf("operation %d: %v", i, err)
			}
			if there[strconv.Itoa(i)] != (err == nil) {
				t.Errorf("operation %d was reported as %v and is there: %v", i, err, there[strconv.Itoa(i)])
			}
		}
		if done < maxGroup {
			t.Errorf("%d operations were done, though %d had been accepted", done, maxGroup)
		}
	})
}

// limitPages bounds the size of the database, as a full disk does, to what it has
// now and some pages more. With a negative number there is no bound.
func limitPages(t *testing.T, s *Store, more int) {
	t.Helper()
	write(t, s, func(tx *Tx) error {
		var pages, limit int
		if err := tx.queryRow("PRAGMA page_count").Scan(&pages); err != nil {
			return err
		}
		if more < 0 {
			pages, more = 1<<30, 0
		}
		return tx.queryRow(fmt.Sprintf("PRAGMA max_page_count = %d", pages+more)).Scan(&limit)
	})
}

// large is a callback that needs pages of its own.
func large(record string) Callback {
	c := callback(record)
	c.Body = []byte(strings.Repeat("x", 40<<10))
	return c
}

// sale is an operation on three tables: a bill with its event and delivery.
func sale(reference, note string) func(*Tx) error {
	return func(tx *Tx) error {
		if err := tx.AddEvent(eventOf(reference, reference), []string{"shop"}, noon); err != nil {
			return err
		}
		rec := opened(reference)
		rec.Note = note
		return tx.SaveBill(&rec, noon)
	}
}

func TestOnAFullDiskALoneOperationFailsAndLeavesNothing(t *testing.T) {
	s, _ := open(t)
	limitPages(t, s, 30)
	var done []string
	var full error
	for i := 0; full == nil && i < 100; i++ {
		record := fmt.Sprintf("%02d", i)
		var added bool
		if added, full = s.AddCallback(t.Context(), large(record)); full == nil {
			if !added {
				t.Fatalf("callback %s: not added", record)
			}
			done = append(done, record)
		}
	}
	if full == nil || !strings.Contains(full.Error(), "full") {
		t.Errorf("the operator is told: %v", full)
	}
	records := "SELECT record_id FROM callbacks ORDER BY record_id"
	if got := column[string](t, s, records); len(done) == 0 || !slices.Equal(got, done) {
		t.Errorf("reported as done: %q; there: %q", done, got)
	}
	if err := s.Write(t.Context(), sale("half", string(large("").Body))); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("an operation of several statements: %v", err)
	}
	if got := marks(t, s); len(got) != 0 {
		t.Errorf("half an operation is there: %q", got)
	}

	limitPages(t, s, -1)
	if added, err := s.AddCallback(t.Context(), large("later")); !added || err != nil {
		t.Errorf("with room again: %v, %v", added, err)
	}
	write(t, s, sale("whole", ""))
}

// TestOnAFullDiskAGroupLosesNothing is about SQLite's own rollback: the statement
// that finds no room undoes the whole transaction, also what operations before it
// in the group have done. What is reported as done must be there all the same. What
// is reported as failed may be there too, but whole: the gateway and the workers
// come again, and find it.
func TestOnAFullDiskAGroupLosesNothing(t *testing.T) {
	for name, tooLarge := range map[string][]int{
		"first": {0}, "in the middle": {7}, "last": {19}, "several": {3, 4, 11}, "most": {0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 16, 17, 18},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, _ := open(t)
				const n = 20
				run := func(i int) error {
					record := strconv.Itoa(i)
					switch {
					case slices.Contains(tooLarge, i) && i%2 == 0:
						_, err := s.AddCallback(t.Context(), large(record))
						return err
					case slices.Contains(tooLarge, i):
						return s.Write(t.Context(), sale(record, string(large(record).Body)))
					case i%2 == 0:
						_, err := s.AddCallback(t.Context(), callback(record))
						return err
					default:
						return s.Write(t.Context(), sale(record, ""))
					}
				}
				// there tells how much of an operation can be seen: a row, or three.
				there := func(i int) (parts, whole int) {
					for _, n := range column[int](t, s, `SELECT count(*) FROM callbacks WHERE record_id = ?1
						UNION ALL SELECT count(*) FROM bills WHERE reference = ?1
						UNION ALL SELECT count(*) FROM events WHERE id = ?1
						UNION ALL SELECT count(*) FROM deliveries WHERE event = ?1`, strconv.Itoa(i)) {
						parts += n
					}
					return parts, 1 + i%2*2
				}

				limitPages(t, s, 6)
				outcome := together(t, s, n, run)
				failed := 0
				var unexplained error
				for i, err := range outcome {
					parts, whole := there(i)
					switch {
					case err == nil && parts != whole:
						t.Errorf("operation %d is reported as done, and %d of its %d parts are there", i, parts, whole)
					case parts != 0 && parts != whole:
						t.Errorf("operation %d is there by half", i)
					case err != nil && !strings.Contains(err.Error(), "full"):
						unexplained = err
					}
					if err != nil {
						failed++
					}
				}
				if unexplained != nil {
					t.Errorf("the operator is not told why: %v", unexplained)
				}
				if failed < len(tooLarge) {
					t.Errorf("%d operations failed, though %d have no room", failed, len(tooLarge))
				}

				limitPages(t, s, -1)
				for i, err := range outcome {
					if err == nil {
						continue
					}
					if err := run(i); err != nil {
						t.Errorf("operation %d, again: %v", i, err)
					}
				}
				for i := range n {
					if parts, whole := there(i); parts != whole {
						t.Errorf("in the end %d of %d parts of operation %d are there", parts, whole, i)
					}
				}
			})
		})
	}
}
