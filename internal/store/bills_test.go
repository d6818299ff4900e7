package store

import (
	"encoding/json"
	"errors"
	"reflect"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
)

var trx = bill.Token{Crypto: "USDT", Network: "TRC20", Chain: "TRX", Contract: "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"}

// reservation is a bill before the gateway knows of it, with a key of its own.
func reservation(reference string) Record {
	return Record{
		Bill: &bill.Bill{
			Token:     "token of " + reference,
			Reference: reference,
			Account:   "default",
			Items:     []bill.Item{{ID: "field-guide", Name: "Field guide", Quantity: 2, Price: "25.00"}},
			Price:     decimal.RequireFromString("50"),
			Currency:  "USD",
			CreatedAt: noon,
			ExpiresAt: noon.Add(time.Hour),
		},
		Stage:          Reserved,
		IdempotencyKey: "key of " + reference,
		RequestHash:    "two field guides",
	}
}

// opened is a bill that can be paid.
func opened(reference string) Record {
	r := reservation(reference)
	r.Stage, r.OrderID, r.Pays, r.Due, r.Seq = Open, "order of "+reference, trx, decimal.RequireFromString("50.0137"), 1
	return r
}

func put(t *testing.T, s *Store, r Record) {
	t.Helper()
	if err := s.PutBill(t.Context(), &r, noon); err != nil {
		t.Fatal(err)
	}
}

func payment(id, amount string, arrived time.Time) bill.Payment {
	return bill.Payment{ID: id, Status: bill.Success, Amount: decimal.RequireFromString(amount), Token: trx, ArrivedAt: arrived}
}

func TestEveryFieldOfABillSurvives(t *testing.T) {
	r := Record{
		Bill: &bill.Bill{
			Token: "q3Zr", Reference: "r-1", Account: "default", OrderID: "202302200951001627606736097771520",
			Items: []bill.Item{
				{ID: "field-guide", Name: `Field "guide" – é`, Quantity: 2, Price: "25.00"},
				{ID: "map", Name: "Map", Quantity: 1, Price: "0.01"},
			},
			Note: "for Ada\nand Bob", Price: decimal.RequireFromString("50.01"), Currency: "USD",
			Hosted: true, PaymentURL: "https://cwallet.com/pay/1",
			Method: "usdt-trc20", TokenID: "0912e09a", Pays: trx, Address: "TX1", Memo: "1234",
			Due:         decimal.RequireFromString("100000000000000000000.000000000000000001"),
			AcceptShort: decimal.RequireFromString("0.125"),
			Payments: []bill.Payment{
				{
					ID: "p-1", Status: bill.Success, Amount: decimal.RequireFromString("0.000000000000000000000001"),
					Token: trx, TxID: "internal transfer", ServiceFee: "0.10", Risky: true, ArrivedAt: noon.Add(time.Millisecond),
				},
				{
					ID: "p-2", Status: bill.Processing, Amount: decimal.RequireFromString("33333333333333333333.333333333333333333"),
					Token: bill.Token{Crypto: "ETH", Network: "ERC20", Chain: "ETH", Contract: "0xAb"}, TxID: "0x1", ArrivedAt: noon.Add(time.Minute),
				},
			},
			CreatedAt: noon, ExpiresAt: noon.Add(time.Hour + 7*time.Millisecond), Seq: 1 << 40,
		},
		Stage: Open, Problem: "none yet", IdempotencyKey: "buyer:1", RequestHash: "5f",
	}
	r.Status = r.StateAt(noon).Status // follows from the rest
	everyFieldSet(t, *r.Bill)
	everyFieldSet(t, r.Payments[0])
	everyFieldSet(t, r)

	s, path := open(t)
	put(t, s, r)
	byToken, err := s.BillByToken(t.Context(), r.Account, r.Token)
	if err != nil {
		t.Fatal(err)
	}
	byKey, err := s.BillByKey(t.Context(), r.Account, r.IdempotencyKey)
	if err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	var byReference *Record
	write(t, openAt(t, path), func(tx *Tx) (err error) {
		byReference, err = tx.Bill(r.Account, r.Reference)
		return err
	})
	for way, got := range map[string]*Record{"token": byToken, "key": byKey, "reference, after reopening": byReference} {
		if got, want := text(t, got), text(t, r); got != want {
			t.Errorf("by %s: got\n%s\nwant\n%s", way, got, want)
		}
	}
}

// everyFieldSet fails if a field of v is zero: one that was added to the type and
// forgotten here.
func everyFieldSet(t *testing.T, v any) {
	t.Helper()
	for field, value := range reflect.ValueOf(v).Fields() {
		if value.IsZero() {
			t.Errorf("%T.%s is not set in this test", v, field.Name)
		}
	}
}

// text writes a value down with its amounts and times to the last digit. Amounts
// that are equal are written alike.
func text(t *testing.T, v any) string {
	t.Helper()
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestABillIsShownToItsOwnAccountAndOnlyWhileOpen(t *testing.T) {
	s, _ := open(t)
	put(t, s, opened("1"))
	put(t, s, reservation("2"))
	for _, c := range []struct {
		account, token string
		want           error
	}{
		{"default", "token of 1", nil},
		{"other", "token of 1", ErrNotFound},
		{"default", "token of 2", ErrNotFound},
		{"default", "", ErrNotFound},
	} {
		if _, err := s.BillByToken(t.Context(), c.account, c.token); !errors.Is(err, c.want) {
			t.Errorf("%q, %q: %v, want %v", c.account, c.token, err, c.want)
		}
	}
}

func TestATokenBelongsToOneBill(t *testing.T) {
	s, _ := open(t)
	put(t, s, opened("1"))
	other := opened("2")
	other.Token = "token of 1"
	if err := s.PutBill(t.Context(), &other, noon); err == nil {
		t.Error("two bills have one token")
	}
}

func TestNoMoreBillsAreOpenThanAllowed(t *testing.T) {
	const buyers, most = 50, 10
	s, _ := open(t)
	var (
		wg       sync.WaitGroup
		reserved atomic.Int32
	)
	for i := range buyers {
		wg.Go(func() {
			switch existing, err := s.Reserve(t.Context(), reservation(strconv.Itoa(i)), most, noon); {
			case err == nil && existing == nil:
				reserved.Add(1)
			case !errors.Is(err, ErrTooManyOpen):
				t.Errorf("buyer %d: %v, %v", i, existing, err)
			}
		})
	}
	wg.Wait()
	if got := reserved.Load(); got != most {
		t.Errorf("%d bills were reserved", got)
	}
	if got := column[int](t, s, "SELECT count(*) FROM bills"); got[0] != most {
		t.Errorf("%d bills are there", got[0])
	}
}

func TestWhichBillsCountAsOpen(t *testing.T) {
	const most = 3
	for name, c := range map[string]struct {
		change func(*Record)
		counts bool
	}{
		"reserved":             {func(r *Record) { *r = reservation(r.Reference) }, true},
		"open":                 {func(*Record) {}, true},
		"paid in part":         {func(r *Record) { r.Payments = []bill.Payment{payment(r.Reference, "20", noon)} }, true},
		"paid":                 {func(r *Record) { r.Payments = []bill.Payment{payment(r.Reference, "50.0137", noon)} }, false},
		"overpaid":             {func(r *Record) { r.Payments = []bill.Payment{payment(r.Reference, "51", noon)} }, false},
		"expired":              {func(r *Record) { r.ExpiresAt = noon }, false},
		"abandoned":            {func(r *Record) { r.Stage = Abandoned }, false},
		"of another account":   {func(r *Record) { r.Account = "other" }, false},
		"to expire in a blink": {func(r *Record) { r.ExpiresAt = noon.Add(time.Millisecond) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := open(t)
			for i := range most {
				r := opened(strconv.Itoa(i))
				c.change(&r)
				put(t, s, r)
			}
			_, err := s.Reserve(t.Context(), reservation("new"), most, noon)
			if full := errors.Is(err, ErrTooManyOpen); full != c.counts || !full && err != nil {
				t.Errorf("one more: %v", err)
			}
		})
	}
}

func TestAnIdempotencyKeyGivesTheSameBill(t *testing.T) {
	const most = 1
	again := func(hash string) Record {
		r := reservation("again")
		r.IdempotencyKey, r.RequestHash = "key of first", hash
		return r
	}
	interrupted := func(now time.Time) (Record, time.Time) { return reservation("first"), now }
	for name, c := range map[string]struct {
		first    func(now time.Time) (Record, time.Time)
		hash     string
		want     error
		existing bool
	}{
		"of an open bill": {
			func(now time.Time) (Record, time.Time) { return opened("first"), now }, "two field guides", nil, true,
		},
		"of an expired bill": {
			func(now time.Time) (Record, time.Time) { return opened("first"), now.Add(2 * time.Hour) }, "two field guides", nil, true,
		},
		"of an open bill, with another cart": {
			func(now time.Time) (Record, time.Time) { return opened("first"), now }, "a map", ErrOtherCart, false,
		},
		"of an interrupted reservation":                    {interrupted, "two field guides", nil, false},
		"of an interrupted reservation, with another cart": {interrupted, "a map", ErrOtherCart, false},
		"of a reservation whose order is known": {
			func(now time.Time) (Record, time.Time) {
				r := reservation("first")
				r.OrderID = "order of first"
				return r, now
			}, "two field guides", nil, true,
		},
		"of a reservation whose order is known and has expired": {
			func(now time.Time) (Record, time.Time) {
				r := reservation("first")
				r.OrderID = "order of first"
				return r, now.Add(2 * time.Hour)
			}, "two field guides", nil, false,
		},
		"of an abandoned bill": {
			func(now time.Time) (Record, time.Time) {
				r := reservation("first")
				r.Stage = Abandoned
				return r, now
			}, "a map", nil, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := open(t)
			first, now := c.first(noon)
			put(t, s, first)
			existing, err := s.Reserve(t.Context(), again(c.hash), most, now)
			if !errors.Is(err, c.want) || (existing != nil) != c.existing {
				t.Fatalf("got %v, %v", existing, err)
			}
			if existing != nil && existing.Reference != "first" {
				t.Errorf("got bill %s", existing.Reference)
			}

			// A key has one bill that is not abandoned: the old one, or the new one.
			want := "first"
			if c.want == nil && !c.existing {
				want = "again"
			}
			if got, err := s.BillByKey(t.Context(), "default", "key of first"); err != nil || got.Reference != want {
				t.Errorf("the key leads to %+v, %v; want %s", got, err, want)
			}
			if want == "again" {
				if got := column[string](t, s, "SELECT stage FROM bills WHERE reference = 'first'"); got[0] != Abandoned {
					t.Errorf("the first bill is %s", got[0])
				}
			}
		})
	}
}

func TestOneKeyUsedByManyAtOnceMakesOneBill(t *testing.T) {
	s, _ := open(t)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			r := opened(strconv.Itoa(i)) // as if the gateway had answered at once
			r.IdempotencyKey = "double click"
			if _, err := s.Reserve(t.Context(), r, 1000, noon); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := column[int](t, s, "SELECT count(*) FROM bills"); got[0] != 1 {
		t.Errorf("%d bills", got[0])
	}
}

func TestKeysOfDifferentAccountsAreApart(t *testing.T) {
	s, _ := open(t)
	put(t, s, opened("1"))
	other := reservation("2")
	other.Account, other.IdempotencyKey, other.RequestHash = "other", "key of 1", "a map"
	if existing, err := s.Reserve(t.Context(), other, 10, noon); existing != nil || err != nil {
		t.Errorf("got %v, %v", existing, err)
	}
}

func TestExpiredBillsAreListedUntilTheyAreMarked(t *testing.T) {
	s, _ := open(t)
	for reference, change := range map[string]func(*Record){
		"first":     func(r *Record) { r.ExpiresAt = noon.Add(-time.Minute) },
		"second":    func(r *Record) { r.ExpiresAt = noon },
		"later":     func(r *Record) { r.ExpiresAt = noon.Add(time.Millisecond) },
		"paid":      func(r *Record) { r.Payments = []bill.Payment{payment("p", "50.0137", noon.Add(-time.Hour))} },
		"reserved":  func(r *Record) { r.Stage = Reserved },
		"abandoned": func(r *Record) { r.Stage = Abandoned },
		"other":     func(r *Record) { r.Account = "other" },
	} {
		r := opened(reference)
		r.ExpiresAt = noon
		change(&r)
		if err := s.PutBill(t.Context(), &r, noon.Add(-2*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if next, ok, err := s.NextExpiry(t.Context(), "default"); err != nil || !ok || !next.Equal(noon.Add(-time.Minute)) {
		t.Errorf("next is %v, %v, %v", next, ok, err)
	}
	for _, c := range []struct {
		limit int
		want  []string
	}{{10, []string{"first", "second"}}, {1, []string{"first"}}} {
		if got, err := s.ExpiredBills(t.Context(), "default", noon, c.limit); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("with limit %d: %q, %v", c.limit, got, err)
		}
	}

	write(t, s, func(tx *Tx) error {
		rec, err := tx.Bill("default", "first")
		if err != nil {
			return err
		}
		return tx.SaveBill(rec, noon)
	})
	if got, err := s.ExpiredBills(t.Context(), "default", noon, 10); err != nil || !reflect.DeepEqual(got, []string{"second"}) {
		t.Errorf("after the first was marked: %q, %v", got, err)
	}
	if _, ok, err := s.NextExpiry(t.Context(), "nobody"); ok || err != nil {
		t.Errorf("an account without bills: %v, %v", ok, err)
	}
}
