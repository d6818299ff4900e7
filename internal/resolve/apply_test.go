package resolve

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shopspring/decimal"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/event"
)

func TestWhatAPaymentDoesToItsBill(t *testing.T) {
	for name, c := range map[string]struct {
		status, amount string
		change         fields
		story          string
		paid           string
	}{
		"pending":                {"pending", due, nil, "bill.confirming (awaiting_payment)", "0"},
		"processing":             {"processing", due, nil, "bill.confirming (awaiting_payment)", "0"},
		"processing, too much":   {"processing", "1000", nil, "bill.confirming (awaiting_payment)", "0"},
		"less than due":          {"success", "20", nil, "bill.underpaid (underpaid)", "20"},
		"less by a hair":         {"success", "50.013699999999999999", nil, "bill.underpaid (underpaid)", "50.013699999999999999"},
		"exactly":                {"success", due, nil, "bill.paid (paid)", due},
		"more":                   {"success", "51", nil, "bill.overpaid (overpaid)", "51"},
		"more by a hair":         {"success", "50.013700000000000001", nil, "bill.overpaid (overpaid)", "50.013700000000000001"},
		"failed":                 {"failed", due, nil, "bill.payment_failed (awaiting_payment)", "0"},
		"in capitals":            {"Success", due, nil, "bill.paid (paid)", due},
		"of the older type":      {"success", due, fields{"order_type": "API"}, "bill.paid (paid)", due},
		"without a contract":     {"success", due, fields{"contract": ""}, "bill.paid (paid)", due},
		"network named as chain": {"success", due, fields{"chain": "TRC20"}, "bill.paid (paid)", due},

		"in another coin":               {"success", due, fields{"crypto": "USDC"}, "deposit.success (awaiting_payment)", "0"},
		"in a worthless coin":           {"success", due, fields{"crypto": "usdt2"}, "deposit.success (awaiting_payment)", "0"},
		"on another chain":              {"success", due, fields{"chain": "BSC"}, "deposit.success (awaiting_payment)", "0"},
		"on no chain":                   {"success", due, fields{"chain": ""}, "deposit.success (awaiting_payment)", "0"},
		"of another contract":           {"success", due, fields{"contract": "TFake"}, "deposit.success (awaiting_payment)", "0"},
		"in another coin, not yet":      {"processing", due, fields{"crypto": "USDC"}, "deposit.processing (awaiting_payment)", "0"},
		"in another coin, and in vain":  {"failed", due, fields{"crypto": "USDC"}, "deposit.failed (awaiting_payment)", "0"},
		"with another amount to pay":    {"success", "20", fields{"order_amount": "20"}, "bill.underpaid (underpaid)", "20"},
		"with another price":            {"success", "20", fields{"product_price": "1", "order_amount": ""}, "bill.underpaid (underpaid)", "20"},
		"of a status nobody knows":      {"frozen", due, nil, "unknown.received", "0"},
		"of a type nobody knows":        {"success", due, fields{"order_type": "Staking Reward"}, "unknown.received", "0"},
		"of nothing":                    {"success", "0", nil, "unknown.received", "0"},
		"of an amount nobody can read":  {"success", "5e9", nil, "unknown.received", "0"},
		"of an amount below zero":       {"success", "-50", nil, "unknown.received", "0"},
		"of an amount that is not told": {"success", "", nil, "unknown.received", "0"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, shop *shop) {
				shop.open("a")
				shop.resolve(deposit("a", "1", c.status, c.amount, c.change))
				shop.expect("a", c.story)
				_, state := shop.bill("a")
				if got := state.Paid.String(); got != c.paid {
					t.Errorf("%s is paid, want %s", got, c.paid)
				}
				e := shop.told("a")[0]
				if p := e.Data.Payment; p == nil || p.ID != "1" || p.TxID != "tx of 1" {
					t.Errorf("payment is %+v", p)
				}
				if e.Data.Bill != nil && (!e.Data.Bill.Known || e.Data.Bill.Paid != c.paid || e.Data.Bill.Due != due) {
					t.Errorf("bill is %+v", e.Data.Bill)
				}
				if e.Data.Origin != event.FromCallback {
					t.Errorf("origin is %s", e.Data.Origin)
				}
			})
		})
	}
}

// TestTheWholeEvent is the event of the documentation, to the letter.
func TestTheWholeEvent(t *testing.T) {
	inBubble(t, func(t *testing.T, shop *shop) {
		shop.open("a", func(b *bill.Bill) { b.Note = "for Ada" })
		time.Sleep(90 * time.Second)
		body := deposit("a", "1", "success", due, fields{"service_fee": "0.1", "custom_value": "x"})
		shop.resolve(body)
		got := indent(t, []byte(column(shop, "SELECT envelope FROM events")[0]))
		want := indent(t, fmt.Appendf(nil, `{
			"specversion": "1.0",
			"id": %q,
			"source": "/ccpayment/default",
			"type": "bill.paid",
			"subject": "a",
			"time": "2000-01-01T00:01:30Z",
			"datacontenttype": "application/json",
			"data": {
				"account": "default",
				"api": "v1",
				"origin": "callback",
				"bill": {
					"reference": "a",
					"order_id": "order of a",
					"known": true,
					"status": "paid",
					"items": [{"id": "field-guide", "name": "Field guide", "quantity": 2, "price": "25.00"}],
					"note": "for Ada",
					"price": {"amount": "50.00", "currency": "USD"},
					"due": "50.0137",
					"paid": "50.0137",
					"crypto": "USDT",
					"network": "TRC20",
					"custom_value": "x"
				},
				"payment": {
					"id": "1",
					"status": "success",
					"amount": "50.0137",
					"crypto": "USDT",
					"network": "TRC20",
					"chain": "TRX",
					"contract": "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t",
					"txid": "tx of 1",
					"service_fee": "0.1",
					"risky": false
				},
				"raw": %s
			}
		}`, event.ID("default", "order", "1", "success"), body))
		if got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
}

func indent(t *testing.T, text []byte) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "  "); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestTheDocumentedCallbacks(t *testing.T) {
	for file, c := range map[string]struct {
		eventType, subject string
		payment            event.Payment
	}{
		"v1-webhook-api-deposit.json": {"bill.underpaid", "202211154785795", event.Payment{
			ID: "202302201213531627642695975706624", Amount: "10", Crypto: "DOGE", Network: "", Chain: "BSC",
			Contract: "0xbA2aE424d960c26247Dd6c32edC70B295c744C43", TxID: "0xbA2aE424d96...c32edC70B295c744C43",
		}},
		"v1-webhook-direct-deposit.json": {"deposit.success", "10192128173", event.Payment{
			ID: "202307191012191681607895159656448", Amount: "666", Crypto: "USDT", Chain: "BSC",
			Contract: "0x55d398326f99059ff775485246999027b3197955", TxID: "internal transfer",
		}},
		"v1-webhook-invoice.json": {"invoice.success", "2023073109560***3384046592", event.Payment{
			ID: "202307311012021***477271900160", Amount: "10", Crypto: "USDT", Chain: "ETH", Contract: "0xdAC17F***206206994597C13D831ec7",
		}},
		"v1-webhook-api-withdrawal.json": {"withdrawal.success", "1690792347702", event.Payment{
			ID: "202307310832281685931420447666176", Amount: "0.05", Crypto: "USDC", Chain: "POLYGON",
			Contract: "0x2791bca1f2de4661ed88a30c99a7a9449aa84174", TxID: "internal transfer",
		}},
		"v1-webhook-refund.json": {"refund.success", "test_xxxx1688370383377840", event.Payment{
			ID: "202307310544361685889174073212928", Amount: "1", Crypto: "USDT", Chain: "ETH",
			Contract: "0xdAC17F958D2ee523a2206206994597C13D831ec7", TxID: "internal transfer",
		}},
	} {
		t.Run(file, func(t *testing.T) {
			body, err := os.ReadFile(filepath.Join("testdata", file))
			if err != nil {
				t.Fatal(err)
			}
			inBubble(t, func(t *testing.T, shop *shop) {
				shop.resolve(body)
				list := shop.told(c.subject)
				if len(list) != 1 || list[0].Type != c.eventType {
					t.Fatalf("told %+v", list)
				}
				data := list[0].Data
				got := *data.Payment
				got.ServiceFee = nil
				c.payment.Status = "success"
				if got != c.payment {
					t.Errorf("payment is\n%+v, want\n%+v", got, c.payment)
				}
				if raw := indent(t, data.Raw); raw != indent(t, compact(t, body)) {
					t.Errorf("raw is %s", raw)
				}
				if known := data.Bill != nil && data.Bill.Known; known {
					t.Errorf("it belongs to bill %+v", data.Bill)
				}
			})
		})
	}
}

func compact(t *testing.T, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestAPaymentOfABillThatWasNotMadeHere(t *testing.T) {
	for name, c := range map[string]struct {
		status, amount string
		change         fields
		story          string
		price          string
	}{
		"exactly":            {"success", due, nil, "bill.paid (paid)", "50.00"},
		"less":               {"success", "20", nil, "bill.underpaid (underpaid)", "50.00"},
		"more":               {"success", "51", nil, "bill.overpaid (overpaid)", "50.00"},
		"not yet":            {"processing", due, nil, "bill.confirming (awaiting_payment)", "50.00"},
		"in vain":            {"failed", due, nil, "bill.payment_failed (awaiting_payment)", "50.00"},
		"of an unknown due":  {"success", due, fields{"order_amount": ""}, "bill.underpaid (underpaid)", "50.00"},
		"without a price":    {"success", due, fields{"product_price": ""}, "bill.paid (paid)", "0.00"},
		"priced in bitcoins": {"success", due, fields{"product_price": "0.00453", "denominated_currency": "BTC"}, "bill.paid (paid)", "0.00453"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, shop *shop) {
				shop.resolve(deposit("stranger", "1", c.status, c.amount, c.change))
				shop.expect("stranger", c.story)
				b := shop.told("stranger")[0].Data.Bill
				if b.Known || b.OrderID != "order of stranger" || b.Price.Amount != c.price || b.Items == nil || len(b.Items) != 0 {
					t.Errorf("bill is %+v", b)
				}
				if got := column(shop, "SELECT reference FROM bills"); len(got) != 0 {
					t.Errorf("bills %q were made", got)
				}
			})
		})
	}
}

func TestPartPaymentsAddUp(t *testing.T) {
	inBubble(t, func(t *testing.T, shop *shop) {
		shop.open("a")
		shop.resolve(
			deposit("a", "1", "success", "20"),
			deposit("a", "2", "processing", "30"),
			deposit("a", "2", "success", "30"),
			deposit("a", "3", "failed", "0.0137"),
			deposit("a", "4", "success", "0.0137", fields{"crypto": "USDC"}),
			deposit("a", "5", "success", "0.0137"),
			deposit("a", "6", "success", "0.000000000000000001"),
		)
		shop.expect("a", "bill.underpaid (underpaid)", "bill.confirming (underpaid)", "bill.underpaid (underpaid)",
			"bill.payment_failed (underpaid)", "deposit.success (underpaid)", "bill.paid (paid)", "bill.overpaid (overpaid)")
		b, state := shop.bill("a")
		if got := state.Paid.String(); got != "50.013700000000000001" || len(b.Payments) != 6 || b.Seq != 8 {
			t.Errorf("%s is paid in %d payments, and there were %d changes", got, len(b.Payments), b.Seq)
		}
	})
}

// TestTheOrderOfMessagesDoesNotMatter brings the messages about one payment in
// every order, one by one and all at once.
func TestTheOrderOfMessagesDoesNotMatter(t *testing.T) {
	rank := map[string]int{"pending": 1, "processing": 2, "failed": 3, "success": 4}
	for i, order := range permutations("pending", "processing", "failed", "success") {
		t.Run(strings.Join(order, " "), func(t *testing.T) {
			inBubble(t, func(t *testing.T, shop *shop) {
				shop.open("a")
				if i%2 == 0 {
					shop.stop()
				}
				for _, status := range order {
					shop.receive(deposit("a", "1", status, due))
					time.Sleep(time.Second)
				}
				if i%2 == 0 {
					shop.start()
				}
				synctest.Wait()
				b, state := shop.bill("a")
				if state.Status != bill.Paid || state.Paid.String() != due || state.Confirming || len(b.Payments) != 1 {
					t.Errorf("state is %+v with payments %+v", state, b.Payments)
				}
				events := shop.told("a")
				if len(events) != len(order) {
					t.Fatalf("told %s", shop.story("a"))
				}
				highest := 0
				for j, e := range events {
					if status := e.Data.Payment.Status; status != order[j] {
						t.Errorf("event %d is about %s, want %s", j, status, order[j])
					}
					if late := rank[order[j]] < highest; e.Data.Late != late {
						t.Errorf("told %s", shop.story("a"))
					}
					highest = max(highest, rank[order[j]])
				}
			})
		})
	}
}

func permutations(list ...string) (all [][]string) {
	if len(list) == 0 {
		return [][]string{nil}
	}
	for i, first := range list {
		rest := append(append([]string{}, list[:i]...), list[i+1:]...)
		for _, p := range permutations(rest...) {
			all = append(all, append([]string{first}, p...))
		}
	}
	return all
}

func TestARepeatedCallbackIsToldAndCountedOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, shop *shop) {
		shop.open("a")
		for range 3 {
			shop.resolve(deposit("a", "1", "success", "20"), deposit("a", "1", "success", "20", fields{"txid": "other"}))
		}
		shop.expect("a", "bill.underpaid (underpaid)")
		if _, state := shop.bill("a"); state.Paid.String() != "20" {
			t.Errorf("%s is paid", state.Paid)
		}
	})
}

func TestBillsDoNotAffectEachOther(t *testing.T) {
	inBubble(t, func(t *testing.T, shop *shop) {
		shop.open("a")
		shop.open("b")
		shop.resolve(
			deposit("a", "1", "success", "20"), deposit("b", "2", "processing", due),
			deposit("a", "3", "success", "31"), deposit("b", "2", "success", due),
		)
		shop.expect("a", "bill.underpaid (underpaid)", "bill.overpaid (overpaid)")
		shop.expect("b", "bill.confirming (awaiting_payment)", "bill.paid (paid)")
	})
}

func TestARefundCarriesItsBillAndDoesNotChangeIt(t *testing.T) {
	inBubble(t, func(t *testing.T, shop *shop) {
		shop.open("a")
		shop.resolve(deposit("a", "1", "success", due))
		before, _ := shop.bill("a")
		shop.resolve([]byte(`{"pay_status":"success","order_type":"Refund","record_id":"2","amount":"50.0137","crypto":"USDT","chain":"TRX","merchant_order_id":"a"}`))
		shop.expect("a", "bill.paid (paid)", "refund.success (paid)")
		data := shop.told("a")[1].Data
		if !data.Bill.Known || data.Bill.Paid != due || data.Payment.Amount != due || data.Payment.ID != "2" {
			t.Errorf("told %+v of %+v", data.Payment, data.Bill)
		}
		if after, _ := shop.bill("a"); after.Seq != before.Seq || len(after.Payments) != 1 {
			t.Errorf("the bill is %+v", after)
		}
	})
}

func TestAHostedBillIsBoundToTheCoinOfItsFirstPayment(t *testing.T) {
	eth := fields{"crypto": "ETH", "chain": "ETH", "contract": "", "order_amount": "0.02"}
	for name, c := range map[string]struct {
		messages [][]byte
		story    []string
		pays     string
		due      string
	}{
		"paid": {
			[][]byte{deposit("a", "1", "success", due)}, []string{"bill.paid (paid)"}, "USDT", due,
		},
		"paid in part, and then the rest": {
			[][]byte{deposit("a", "1", "success", "20"), deposit("a", "2", "success", "30.0137")},
			[]string{"bill.underpaid (underpaid)", "bill.paid (paid)"},
			"USDT", due,
		},
		"confirming first": {
			[][]byte{deposit("a", "1", "processing", "0.02", eth), deposit("a", "1", "success", "0.02", eth)},
			[]string{"bill.confirming (awaiting_payment)", "bill.paid (paid)"},
			"ETH", "0.02",
		},
		"in part, and then in another coin": {
			[][]byte{deposit("a", "1", "success", "20"), deposit("a", "2", "success", "0.02", eth)},
			[]string{"bill.underpaid (underpaid)", "deposit.success (underpaid)"},
			"USDT", due,
		},
		"in vain, and then in another coin": {
			[][]byte{deposit("a", "1", "failed", "0.02", eth), deposit("a", "2", "success", due)},
			[]string{"bill.payment_failed (awaiting_payment)", "bill.paid (paid)"},
			"USDT", due,
		},
		"seen, then in vain, and then in another coin": {
			[][]byte{deposit("a", "1", "processing", "0.02", eth), deposit("a", "1", "failed", "0.02", eth), deposit("a", "2", "success", due)},
			[]string{"bill.confirming (awaiting_payment)", "bill.payment_failed (awaiting_payment)", "bill.paid (paid)"},
			"USDT", due,
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, shop *shop) {
				shop.open("a", hosted)
				shop.resolve(c.messages...)
				shop.expect("a", c.story...)
				if b, _ := shop.bill("a"); b.Pays.Crypto != c.pays || b.Due.String() != c.due {
					t.Errorf("%s %s are due", b.Due, b.Pays.Crypto)
				}
			})
		})
	}
}

func TestABillMayBePaidShortByTheShareThatIsAccepted(t *testing.T) {
	inBubble(t, func(t *testing.T, shop *shop) {
		one := func(b *bill.Bill) { b.Due, b.AcceptShort = decimal.NewFromInt(100), decimal.NewFromInt(1) }
		shop.open("a", one)
		shop.open("b", one)
		shop.resolve(deposit("a", "1", "success", "99"), deposit("b", "2", "success", "98.999999999999999999"))
		shop.expect("a", "bill.paid (paid)")
		shop.expect("b", "bill.underpaid (underpaid)")
	})
}
