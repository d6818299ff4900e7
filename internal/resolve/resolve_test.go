package resolve

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shopspring/decimal"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/event"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/gateway"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A fakeGateway reads callbacks as the real client does and knows of orders what
// the test says.
type fakeGateway struct {
	gateway.Client
	lookup func(ctx context.Context, reference string) (gateway.Info, error)
	mu     sync.Mutex
	asked  int // questions so far
	// requests counts how often the gateway was called with them.
	requests int
}

// errUnknownOrder is the answer about an order that the gateway does not know.
var errUnknownOrder = errors.New("unknown order")

func (g *fakeGateway) Lookup(ctx context.Context, references []string) (map[string]gateway.Info, error) {
	infos := make(map[string]gateway.Info)
	g.mu.Lock()
	g.requests++
	g.asked += len(references)
	g.mu.Unlock()
	for _, reference := range references {
		info, err := g.lookup(ctx, reference)
		if errors.Is(err, errUnknownOrder) {
			continue
		}
		if err != nil {
			return nil, err
		}
		infos[reference] = info
	}
	return infos, nil
}

// A shop is a store with a resolver on it, one account, and two upstreams: "shop"
// takes everything, "books" what is about bills. It lives in a synctest bubble,
// where synctest.Wait returns when everything that is due was resolved.
type shop struct {
	t       *testing.T
	s       *store.Store
	path    string
	r       *Resolver
	gateway *fakeGateway
	account Account
	stop    func()
}

// inBubble runs a test in a bubble with a shop that resolves. The clock begins at
// midnight of 2000-01-01 and moves only while everybody waits.
func inBubble(t *testing.T, test func(t *testing.T, shop *shop)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		shop := newShop(t)
		shop.start()
		test(t, shop)
	})
}

func newShop(t *testing.T) *shop {
	t.Helper()
	shop := &shop{t: t, path: filepath.Join(t.TempDir(), "ccpayment.db"), stop: func() {}}
	shop.gateway = &fakeGateway{
		Client: gateway.NewV1(gateway.Config{}),
		lookup: func(_ context.Context, reference string) (gateway.Info, error) {
			t.Errorf("the gateway was asked about %s", reference)
			return gateway.Info{}, errUnknownOrder
		},
	}
	shop.account = Account{Name: "default", API: "v1", Client: shop.gateway, Upstreams: func(eventType string) []string {
		if strings.HasPrefix(eventType, "bill.") {
			return []string{"shop", "books"}
		}
		return []string{"shop"}
	}}
	var err error
	if shop.s, err = store.OpenSQLite(t.Context(), shop.path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		shop.stop()
		shop.s.Close()
	})
	return shop
}

// start starts a resolver, as the server does.
func (shop *shop) start() { shop.startAt(time.Now) }

// startAt starts a resolver with a clock of its own.
func (shop *shop) startAt(now func() time.Time) {
	shop.r = New(shop.s, now)
	shop.configure(shop.account)
	ctx, cancel := context.WithCancel(context.WithoutCancel(shop.t.Context()))
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		shop.r.Run(ctx)
	}()
	shop.stop = func() {
		cancel()
		<-stopped
	}
}

func (shop *shop) configure(accounts ...Account) {
	byName := make(map[string]Account)
	for _, a := range accounts {
		byName[a.Name] = a
	}
	shop.r.Configure(byName, zap.NewNop())
}

var trx = bill.Token{Crypto: "USDT", Network: "TRC20", Chain: "TRX", Contract: "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"}

// due is what every bill of these tests costs.
const due = "50.0137"

// open makes a bill that is valid for an hour.
func (shop *shop) open(reference string, change ...func(*bill.Bill)) {
	shop.t.Helper()
	now := time.Now()
	rec := &store.Record{
		Bill: &bill.Bill{
			Token: "token of " + reference, Reference: reference, Account: "default", OrderID: "order of " + reference,
			Items: []bill.Item{{ID: "field-guide", Name: "Field guide", Quantity: 2, Price: "25.00"}},
			Price: decimal.RequireFromString("50"), Currency: "USD", Method: "usdt-trc20",
			Pays: trx, Due: decimal.RequireFromString(due), CreatedAt: now, ExpiresAt: now.Add(time.Hour), Seq: 1,
		},
		Stage: store.Open, IdempotencyKey: "key of " + reference,
	}
	for _, f := range change {
		f(rec.Bill)
	}
	if err := shop.s.PutBill(shop.t.Context(), rec, now); err != nil {
		shop.t.Fatal(err)
	}
}

func hosted(b *bill.Bill) { b.Hosted, b.Pays, b.Due, b.Method = true, bill.Token{}, decimal.Zero, "" }

// fields are those of a callback, in the gateway's words. An empty one is left out.
type fields map[string]string

// deposit is a callback about a payment towards a bill in its own coin.
func deposit(reference, record, status, amount string, change ...fields) []byte {
	f := fields{
		"pay_status": status, "order_type": "API Deposit", "record_id": record, "order_id": "order of " + reference,
		"product_price": "50", "denominated_currency": "USD", "order_amount": due, "paid_amount": amount,
		"crypto": trx.Crypto, "chain": trx.Chain, "contract": trx.Contract, "txid": "tx of " + record,
	}
	for _, c := range change {
		maps.Copy(f, c)
	}
	body := map[string]any{"extend": map[string]string{"merchant_order_id": reference}}
	for name, value := range f {
		if value != "" {
			body[name] = value
		}
	}
	text, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	return text
}

// receive stores a callback in the inbox, as the webhook does.
func (shop *shop) receive(body []byte, change ...func(*store.Callback)) {
	shop.t.Helper()
	c := store.Callback{Account: "default", State: store.Received, SignedAt: time.Now(), ReceivedAt: time.Now(), Body: body}
	cb, err := shop.gateway.Client.ParseCallback(body)
	if err != nil {
		// Read when it came, and no more: the parser has changed since then.
		cb = gateway.Callback{Kind: gateway.KindOrder, RecordID: string(body), RawStatus: "success"}
	}
	c.RecordID = cb.RecordID
	c.Kind, c.Status = cb.Key()
	for _, f := range change {
		f(&c)
	}
	if _, err := shop.s.AddCallback(shop.t.Context(), c); err != nil {
		shop.t.Fatal(err)
	}
}

// stale is what the webhook says of a callback with an old signature.
func stale(c *store.Callback) {
	c.State, c.SignedAt = store.Quarantined, c.SignedAt.Add(-time.Hour)
}

// resolve receives callbacks one after the other and waits until they are resolved.
func (shop *shop) resolve(bodies ...[]byte) {
	shop.t.Helper()
	for _, body := range bodies {
		shop.receive(body)
		synctest.Wait()
	}
}

// told returns the events that were told about a subject, in their order.
func (shop *shop) told(subject string) (list []event.Envelope) {
	shop.t.Helper()
	for _, envelope := range column(shop, "SELECT envelope FROM events WHERE subject = ? ORDER BY number", subject) {
		var e event.Envelope
		if err := json.Unmarshal([]byte(envelope), &e); err != nil {
			shop.t.Fatal(err)
		}
		list = append(list, e)
	}
	return list
}

// story is what was told about a bill, in short: type and status of each event.
func (shop *shop) story(subject string) string {
	shop.t.Helper()
	var list []string
	for _, e := range shop.told(subject) {
		word := e.Type
		if e.Data.Bill != nil {
			word += " (" + string(e.Data.Bill.Status) + ")"
		}
		if e.Data.Late {
			word += " late"
		}
		list = append(list, word)
	}
	return strings.Join(list, ", ")
}

// expect compares the story of a bill with the one that should have been told.
func (shop *shop) expect(reference string, story ...string) {
	shop.t.Helper()
	if got, want := shop.story(reference), strings.Join(story, ", "); got != want {
		shop.t.Errorf("%s: told\n\t%s\nwant\n\t%s", reference, got, want)
	}
}

// bill returns a bill as a buyer sees it.
func (shop *shop) bill(reference string) (*bill.Bill, bill.State) {
	shop.t.Helper()
	rec, err := shop.s.BillByToken(shop.t.Context(), "default", "token of "+reference)
	if err != nil {
		shop.t.Fatal(err)
	}
	return rec.Bill, rec.StateAt(time.Now())
}

// inbox lists the callbacks with their states.
func (shop *shop) inbox() []string {
	shop.t.Helper()
	return column(shop, "SELECT record_id || ' ' || state FROM callbacks ORDER BY number")
}

// column reads one column of the file, as an operator would.
func column(shop *shop, query string, args ...any) (list []string) {
	shop.t.Helper()
	db, err := sql.Open("sqlite", "file:"+shop.path+"?mode=ro")
	if err != nil {
		shop.t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(context.WithoutCancel(shop.t.Context()), query, args...)
	if err != nil {
		shop.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			shop.t.Fatal(err)
		}
		list = append(list, s)
	}
	if err := rows.Err(); err != nil {
		shop.t.Fatal(err)
	}
	return list
}

func TestAnEventGoesToTheUpstreamsThatWantIt(t *testing.T) {
	inBubble(t, func(t *testing.T, shop *shop) {
		shop.open("a")
		shop.resolve(deposit("a", "1", "success", due), deposit("a", "2", "success", "1", fields{"crypto": "ETH"}))
		got := column(shop, "SELECT e.type || ' to ' || d.upstream FROM deliveries d JOIN events e ON e.id = d.event ORDER BY d.number")
		if want := []string{"bill.paid to shop", "bill.paid to books", "deposit.success to shop"}; !slices.Equal(got, want) {
			t.Errorf("deliveries are %q, want %q", got, want)
		}
	})
}

func TestWhatIsInTheInboxAtTheStartIsResolved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shop := newShop(t)
		shop.open("a")
		shop.receive(deposit("a", "1", "processing", "20"))
		shop.receive(deposit("a", "1", "success", "20"))
		shop.start()
		synctest.Wait()
		shop.stop()
		shop.receive(deposit("a", "2", "success", "30.0137"))
		shop.expect("a", "bill.confirming (awaiting_payment)", "bill.underpaid (underpaid)")

		shop.start()
		synctest.Wait()
		shop.expect("a", "bill.confirming (awaiting_payment)", "bill.underpaid (underpaid)", "bill.paid (paid)")
		if got, want := shop.inbox(), []string{"1 resolved", "1 resolved", "2 resolved"}; !slices.Equal(got, want) {
			t.Errorf("inbox is %q", got)
		}
	})
}

func TestMoreCallbacksThanOneTransactionTakes(t *testing.T) {
	inBubble(t, func(t *testing.T, shop *shop) {
		const parts = 3*batch + 7
		shop.stop()
		shop.open("a", func(b *bill.Bill) { b.Due = decimal.NewFromInt(parts) })
		for i := range parts {
			shop.receive(deposit("a", decimal.NewFromInt(int64(i)).String(), "success", "1"))
		}
		shop.start()
		synctest.Wait()
		events := shop.told("a")
		if len(events) != parts {
			t.Fatalf("%d events", len(events))
		}
		for i, e := range events {
			if want := decimal.NewFromInt(int64(i + 1)).String(); e.Data.Bill.Paid != want {
				t.Fatalf("after event %d %s is paid", i, e.Data.Bill.Paid)
			}
		}
		if last := events[parts-1].Type; last != event.BillPaid {
			t.Errorf("the last is %s", last)
		}
	})
}

// TestABillAndItsEventsAppearTogether: resolving breaks off between the bill and
// the event's deliveries, and leaves nothing of either.
func TestABillAndItsEventsAppearTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shop := newShop(t)
		var broken atomic.Bool
		broken.Store(true)
		upstreams := shop.account.Upstreams
		shop.account.Upstreams = func(eventType string) []string {
			if broken.Load() {
				panic("broken off")
			}
			return upstreams(eventType)
		}
		shop.open("a")
		shop.start()
		watcher := shop.s.Watch("token of a")
		defer shop.s.Unwatch(watcher)
		shop.resolve(deposit("a", "1", "success", due))
		if b, _ := shop.bill("a"); len(b.Payments) != 0 || b.Seq != 1 {
			t.Errorf("half of it is there: %+v", b)
		}
		shop.expect("a")
		select {
		case <-watcher.C:
			t.Error("a buyer was shown what was not stored")
		default:
		}

		broken.Store(false)
		time.Sleep(missing + time.Second)
		synctest.Wait()
		shop.expect("a", "bill.paid (paid)")
		if b := <-watcher.C; len(b.Payments) != 1 || b.Seq != 2 {
			t.Errorf("the buyer is shown %+v", b)
		}
	})
}

func TestACallbackThatCannotBeResolvedHoldsUpNoOther(t *testing.T) {
	for name, c := range map[string]struct {
		bad   []byte
		state func(*store.Callback)
	}{
		"it cannot be read":                 {[]byte(`{"order_type":"of another generation"}`), func(*store.Callback) {}},
		"it is no JSON":                     {[]byte(`success`), func(*store.Callback) {}},
		"reading it panics":                 {deposit("panic", "bad", "success", "1"), func(*store.Callback) {}},
		"writing it panics":                 {deposit("bad", "bad", "success", due, fields{"paid_amount": "1"}), func(*store.Callback) {}},
		"it is stale and cannot be read":    {[]byte(`{"order_type":"of another generation"}`), stale},
		"it is stale and reading it panics": {deposit("panic", "bad", "success", "1"), stale},
		"it is stale and writing it panics": {deposit("bad", "bad", "pending", "1"), stale},
		"its account is not configured":     {deposit("other", "bad", "success", "1"), func(c *store.Callback) { c.Account = "other" }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				shop := newShop(t)
				shop.gateway.lookup = func(context.Context, string) (gateway.Info, error) { return gateway.Info{}, nil }
				shop.account.Client = panickyParser{shop.gateway}
				upstreams := shop.account.Upstreams
				shop.account.Upstreams = func(eventType string) []string {
					if strings.HasPrefix(eventType, "bill.underpaid") || strings.HasPrefix(eventType, "bill.confirming") {
						panic("writing")
					}
					return upstreams(eventType)
				}
				shop.open("a")
				shop.open("b", func(b *bill.Bill) { b.ExpiresAt = time.Now().Add(3 * time.Second) })
				shop.open("bad")
				shop.receive(c.bad, c.state)
				shop.receive(deposit("a", "1", "success", due))
				shop.start()
				time.Sleep(5 * time.Second)
				synctest.Wait()
				shop.expect("a", "bill.paid (paid)")
				if got := shop.inbox(); strings.HasSuffix(got[0], store.Resolved) {
					t.Errorf("inbox is %q", got)
				}
				shop.expect("b", "bill.expired (expired)")
			})
		})
	}
}

// A panickyParser panics on some callbacks.
type panickyParser struct{ *fakeGateway }

func (p panickyParser) ParseCallback(body []byte) (gateway.Callback, error) {
	if strings.Contains(string(body), `"merchant_order_id":"panic"`) {
		panic("reading")
	}
	return p.fakeGateway.ParseCallback(body)
}

func TestACallbackOfAnAccountThatIsNotConfiguredWaitsForIt(t *testing.T) {
	inBubble(t, func(t *testing.T, shop *shop) {
		shop.receive(deposit("o", "1", "success", due), func(c *store.Callback) { c.Account = "other" })
		time.Sleep(time.Hour)
		shop.expect("o")
		if got, want := column(shop, "SELECT state || ': ' || problem FROM callbacks"), []string{`received: account "other" is not configured`}; !slices.Equal(got, want) {
			t.Errorf("inbox is %q", got)
		}
		other := shop.account
		other.Name = "other"
		shop.configure(shop.account, other)
		time.Sleep(missing)
		synctest.Wait()
		shop.expect("o", "bill.paid (paid)")
		if source := shop.told("o")[0].Source; source != "/ccpayment/other" {
			t.Errorf("source is %s", source)
		}
	})
}

func TestNothingIsResolvedBeforeAnythingIsConfigured(t *testing.T) {
	inBubble(t, func(t *testing.T, shop *shop) {
		shop.configure()
		shop.open("a")
		shop.resolve(deposit("a", "1", "success", due))
		time.Sleep(24 * time.Hour)
		if got, want := shop.inbox(), []string{"1 received"}; !slices.Equal(got, want) {
			t.Errorf("inbox is %q", got)
		}
		shop.configure(shop.account)
		synctest.Wait()
		shop.expect("a", "bill.paid (paid)")
	})
}

// TestTheConfigurationChangesWhileCallbacksCome is for the race detector.
func TestTheConfigurationChangesWhileCallbacksCome(t *testing.T) {
	inBubble(t, func(t *testing.T, shop *shop) {
		const parts = 100
		shop.open("a")
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 1000 {
				shop.configure(shop.account)
			}
		}()
		for i := range parts {
			shop.receive(deposit("a", decimal.NewFromInt(int64(i)).String(), "success", "1"))
		}
		<-done
		synctest.Wait()
		if _, state := shop.bill("a"); len(shop.told("a")) != parts || state.Paid.String() != "100" {
			t.Errorf("%d events, %s paid", len(shop.told("a")), state.Paid)
		}
	})
}
