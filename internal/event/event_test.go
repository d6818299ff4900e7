package event_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/event"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/gateway"
)

func amount(s string) decimal.Decimal { return decimal.RequireFromString(s) }

func TestTheSameArgumentsGiveTheSameIDOnEveryNode(t *testing.T) {
	// Receivers tell repetitions by this very text, so it may not change from one
	// version to the next.
	const want = "evt_ct73dnht7vwosbuo22gfbkmh7d436swc"
	for range 2 {
		if got := event.ID("default", "API Deposit", "202302201213531627642695975706624", "success"); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestEveryArgumentOfAnIDMatters(t *testing.T) {
	seen := map[string][4]string{}
	for _, args := range [][4]string{
		{"default", "API Deposit", "r1", "success"},
		{"other", "API Deposit", "r1", "success"},
		{"default", "Invoice", "r1", "success"},
		{"default", "API Deposit", "r2", "success"},
		{"default", "API Deposit", "r1", "pending"},
		{"default", "API Deposit", "r1", "Success"},
		{"default", "API Deposit", "R1", "success"},
		{"default", "API Deposit", "r1", ""},
		{"default", "API Deposit", "", "success"},
		{"", "", "", ""},
		// the same bytes, divided in another way
		{"defaultA", "PI Deposit", "r1", "success"},
		{"default", "API Deposi", "tr1", "success"},
		{"default", "API Deposit", "r1s", "uccess"},
		{"default", "API Depositr1", "", "success"},
		{"default", "", "API Depositr1", "success"},
		{"defaultAPI Depositr1success", "", "", ""},
		{"", "", "", "defaultAPI Depositr1success"},
		{"default", "API Deposit", "r1.success", ""},
		{"default.API Deposit", "", "r1", "success"},
	} {
		id := event.ID(args[0], args[1], args[2], args[3])
		if other, twice := seen[id]; twice {
			t.Errorf("%q and %q share %s", args, other, id)
		}
		seen[id] = args
		// Standard Webhooks signs id, time and body with dots between them.
		if !regexp.MustCompile(`^evt_[a-z0-9]{32}$`).MatchString(id) {
			t.Errorf("%q: id is %s", args, id)
		}
	}
}

// encode returns an event as a receiver reads it.
func encode(t *testing.T, data event.Data) map[string]any {
	t.Helper()
	at := time.Date(2026, 1, 2, 16, 30, 0, 0, time.FixedZone("CET", 3600))
	envelope, err := event.Encode("evt_1", event.BillPaid, "o1", at, data)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(envelope, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// keys lists the paths of all members of an object, without those below raw.
func keys(object map[string]any, prefix string) []string {
	var list []string
	for name, value := range object {
		list = append(list, prefix+name)
		if inner, ok := value.(map[string]any); ok && name != "raw" {
			list = append(list, keys(inner, prefix+name+".")...)
		}
	}
	slices.Sort(list)
	return list
}

var (
	someBill = bill.Bill{
		Reference: "o1", OrderID: "g1", Account: "default",
		Items: []bill.Item{{ID: "field-guide", Name: "Field guide", Quantity: 2, Price: "25.00"}},
		Price: amount("50"), Currency: "USD", Due: amount("50.0137"),
		Pays:      bill.Token{Crypto: "USDT", Network: "TRC20", Chain: "TRX"},
		ExpiresAt: time.Date(2026, 1, 2, 16, 0, 0, 0, time.UTC),
	}
	someCallback = gateway.Callback{
		Kind: gateway.KindOrder, RecordID: "r1", RawStatus: "success", Status: bill.Success,
		Amount: amount("30.0137"), Token: bill.Token{Crypto: "USDT", Chain: "TRX", Contract: "TR7"}, TxID: "0xabc",
	}
)

func dataOf(b *bill.Bill, cb gateway.Callback, raw string) event.Data {
	return event.Data{
		Account: "default", API: "v1", Origin: event.FromCallback,
		Bill:    event.OfBill(b, b.StateAt(b.ExpiresAt.Add(-time.Minute)), true, ""),
		Payment: event.OfPayment(cb, "TRC20"),
		Raw:     json.RawMessage(raw),
	}
}

func TestAnEventIsACloudEventOfTheDocumentedForm(t *testing.T) {
	got := encode(t, dataOf(&someBill, someCallback, `{}`))

	// The example of the contract, with its values.
	var want map[string]any
	if err := json.Unmarshal([]byte(`{
		"specversion": "1.0", "id": "evt_1", "source": "/ccpayment/default", "type": "bill.paid",
		"subject": "o1", "time": "2026-01-02T15:30:00Z", "datacontenttype": "application/json",
		"data": {
			"account": "default", "api": "v1", "origin": "callback",
			"bill": {"reference": "o1", "order_id": "g1", "known": true, "status": "awaiting_payment",
			         "items": [{"id": "field-guide", "name": "Field guide", "quantity": 2, "price": "25.00"}],
			         "price": {"amount": "50.00", "currency": "USD"},
			         "due": "50.0137", "paid": "0", "crypto": "USDT", "network": "TRC20", "custom_value": ""},
			"payment": {"id": "r1", "status": "success", "amount": "30.0137", "crypto": "USDT", "network": "TRC20", "chain": "TRX",
			            "contract": "TR7", "txid": "0xabc", "service_fee": null, "risky": false},
			"raw": {}
		}
	}`), &want); err != nil {
		t.Fatal(err)
	}
	if g, w := keys(got, ""), keys(want, ""); !slices.Equal(g, w) {
		t.Errorf("members are\n%q, want\n%q", g, w)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got\n%v, want\n%v", got, want)
	}
}

func TestABillWithoutItemsHasAnEmptyList(t *testing.T) {
	b := someBill
	b.Items = nil
	data := encode(t, dataOf(&b, someCallback, `{}`))["data"].(map[string]any)
	if items, ok := data["bill"].(map[string]any)["items"].([]any); !ok || len(items) != 0 {
		t.Errorf("items are %v", data["bill"])
	}
}

func TestTheCallbackIsHandedOnAsItWas(t *testing.T) {
	const raw = `{"record_id":"r1","paid_amount":100000000000000000000.000000000000000001,"extend":{"note":"<b>é</b>\u0000","list":[null,true]},"memo":""}`
	envelope, err := event.Encode("evt_1", event.BillPaid, "o1", time.Now(), dataOf(&someBill, someCallback, raw))
	if err != nil {
		t.Fatal(err)
	}
	var out struct {
		Data struct{ Raw json.RawMessage }
	}
	if err := json.Unmarshal(envelope, &out); err != nil {
		t.Fatal(err)
	}
	got, err := gateway.Reserialize(out.Data.Raw)
	if err != nil || string(got) != raw {
		t.Errorf("got  %s, %v\nwant %s", got, err, raw)
	}
	if _, err := event.Encode("evt_1", event.BillPaid, "o1", time.Now(), dataOf(&someBill, someCallback, `{"a":`)); err == nil {
		t.Error("a raw callback that is no JSON is handed on")
	}
}

func TestAnEventWithoutBillOrPaymentSaysNull(t *testing.T) {
	data := encode(t, event.Data{Account: "default", API: "v1", Origin: event.FromTimer})["data"].(map[string]any)
	for _, name := range []string{"bill", "payment"} {
		if value, ok := data[name]; !ok || value != nil {
			t.Errorf("%s is %v", name, value)
		}
	}
	if _, ok := data["late"]; ok {
		t.Error("a message that was not overtaken is marked as late")
	}
}

func TestAmountsOfAnEventAreExact(t *testing.T) {
	b, cb := someBill, someCallback
	b.Due = amount("100000000000000000000.000000000000000001")
	b.Payments = []bill.Payment{{ID: "r0", Status: bill.Success, Amount: amount("0.279173646007816863"), Token: b.Pays}}
	cb.Amount = amount("0.000000000000000000000001")
	d := dataOf(&b, cb, `{}`)
	if d.Bill.Due != "100000000000000000000.000000000000000001" || d.Bill.Paid != "0.279173646007816863" || d.Payment.Amount != "0.000000000000000000000001" {
		t.Errorf("due %s, paid %s, amount %s", d.Bill.Due, d.Bill.Paid, d.Payment.Amount)
	}
}

// TestPricesAreNotRounded: bills that were made elsewhere can be priced in a coin,
// which has more than two decimals.
func TestPricesAreNotRounded(t *testing.T) {
	for price, want := range map[string]string{
		"50": "50.00", "0.5": "0.50", "0.01": "0.01", "0.005": "0.005", "0.279173646007816863": "0.279173646007816863",
	} {
		b := someBill
		b.Price = amount(price)
		if got := event.OfBill(&b, bill.State{}, false, "").Price.Amount; got != want {
			t.Errorf("a price of %s is told as %s", price, got)
		}
	}
}

func TestAPaymentTellsWhatTheGatewaySaid(t *testing.T) {
	cb := someCallback
	cb.ServiceFee, cb.Risky = "0.1998", true
	if p := event.OfPayment(cb, ""); p.ServiceFee == nil || *p.ServiceFee != "0.1998" || !p.Risky || p.Network != "" {
		t.Errorf("got %+v", p)
	}
	cb.Kind, cb.Status, cb.RawStatus = gateway.KindUnknown, "", "refunding"
	if p := event.OfPayment(cb, ""); p.Status != "refunding" {
		t.Errorf("a status that is not documented is told as %q", p.Status)
	}
}
