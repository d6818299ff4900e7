package checkout_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/checkout"
)

// shown is a bill as a program reads it.
func shown(t *testing.T, b *bill.Bill, at time.Time, l checkout.Links) map[string]any {
	t.Helper()
	data, err := json.Marshal(checkout.Describe(b, at, l))
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestABillIsShownAsTheContractSays(t *testing.T) {
	// The example of the contract, with whole values in place of the shortened ones.
	const contract = `{
		"token": "q3ZrAbCdEfGhIjKlMnOpQr", "reference": "our-order-id", "seq": 3,
		"status": "underpaid", "confirming": false, "payable": true, "final": false, "message": null,
		"items": [{"id": "field-guide", "name": "Field guide", "quantity": 2, "price": "25.00"}],
		"price": {"amount": "50.00", "currency": "USD"},
		"pay": {"method": "usdt-trc20", "crypto": "USDT", "network": "TRC20", "address": "TYWnk1EGALQyYst2yFSd29QQQTEkuKMbyt", "memo": null,
		        "amount": "50.0137", "paid": "20", "due": "30.0137", "seen": null, "uri": null, "qr": "/pay/bills/q3ZrAbCdEfGhIjKlMnOpQr/qr.svg"},
		"payments": [{"id": "r-20", "status": "success", "amount": "20", "crypto": "USDT", "network": "TRC20", "txid": "0xabc"}],
		"created_at": "2026-01-02T15:04:05Z", "expires_at": "2026-01-02T16:04:05Z", "expires_in": 1740,
		"return_url": "/thanks/", "support_url": "/contact/", "self": "/pay/bills/q3ZrAbCdEfGhIjKlMnOpQr"
	}`
	var want map[string]any
	if err := json.Unmarshal([]byte(contract), &want); err != nil {
		t.Fatal(err)
	}
	if got := shown(t, example(), now, links); !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%v\nwant\n%v", got, want)
	}
}

func TestWhatIsNotKnownOrNotToBeDoneIsNull(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*bill.Bill)
		at     time.Time
		links  checkout.Links
		want   map[string]any // of pay, but for the members with a slash
	}{
		"a new bill": {
			func(b *bill.Bill) { b.Payments = nil }, now, links,
			map[string]any{"memo": nil, "uri": nil, "paid": "0", "due": "50.0137", "/payments": []any{}},
		},
		"a memo": {
			func(b *bill.Bill) { b.Memo = "12345" }, now, links,
			map[string]any{"memo": "12345"},
		},
		"a hosted bill before its first payment": {
			func(b *bill.Bill) {
				b.Hosted, b.PaymentURL, b.Payments = true, "https://ccpayment.com/pay?key=1", nil
				b.Method, b.Pays, b.Address, b.Due = "", bill.Token{}, "", amount("0")
			}, now, links,
			map[string]any{
				"method": nil, "crypto": nil, "network": nil, "address": nil, "amount": nil, "due": nil, "paid": "0", "uri": nil, "qr": nil,
				"payment_url": "https://ccpayment.com/pay?key=1", "/payable": true,
			},
		},
		"a bill that is paid": {
			func(b *bill.Bill) { b.Payments = []bill.Payment{paid("50.0137", bill.Success, created)} }, now, links,
			map[string]any{"paid": "50.0137", "due": "0", "uri": nil, "qr": nil, "/payable": false, "/final": true},
		},
		"a part that is on its way": {
			func(b *bill.Bill) {
				other := paid("7", bill.Pending, created)
				other.Token = bill.Token{Crypto: "USDC", Chain: "BSC"}
				b.Payments = append(b.Payments, paid("10.5", bill.Pending, created), paid("1", bill.Processing, created), paid("5", bill.Failed, created), other)
			}, now, links,
			map[string]any{"seen": "11.5", "paid": "20", "due": "30.0137", "/confirming": true},
		},
		"a part whose amount is not known": {
			func(b *bill.Bill) {
				b.Payments = append(b.Payments, paid("1", bill.Pending, created), paid("0", bill.Announced, created))
			}, now, links,
			map[string]any{"seen": nil, "/confirming": true},
		},
		"only a part whose amount is not known": {
			func(b *bill.Bill) { b.Payments = []bill.Payment{paid("0", bill.Announced, created)} }, now, links,
			map[string]any{"seen": nil, "/confirming": true, "/payments": []any{}},
		},
		"a bill that has expired": {
			func(b *bill.Bill) { b.Payments = nil }, expires, links,
			map[string]any{"qr": nil, "uri": nil, "/payable": false, "/final": false, "/expires_in": 0.0, "/status": "expired"},
		},
		"long after its end": {
			func(b *bill.Bill) {}, expires.Add(1000 * time.Hour), links,
			map[string]any{"/expires_in": 0.0, "/final": true, "/status": "underpaid_overdue"},
		},
		"nowhere to lead": {
			func(b *bill.Bill) {}, now,
			checkout.Links{},
			map[string]any{"qr": "/bills/" + token + "/qr.svg", "/self": "/bills/" + token, "/return_url": nil, "/support_url": nil},
		},
		"amounts beyond floats": {
			func(b *bill.Bill) { b.Due = amount("100000000000000000000.000000000000000001") }, now, links,
			map[string]any{"amount": "100000000000000000000.000000000000000001", "due": "99999999999999999980.000000000000000001"},
		},
		"parts of a second": {
			func(b *bill.Bill) {
				b.CreatedAt, b.ExpiresAt = created.Add(900*time.Millisecond), expires.Add(900*time.Millisecond)
			}, now, links,
			map[string]any{"/created_at": "2026-01-02T15:04:05Z", "/expires_at": "2026-01-02T16:04:05Z", "/expires_in": 1740.0},
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := example()
			tc.change(b)
			got := shown(t, b, tc.at, tc.links)
			pay := got["pay"].(map[string]any)
			for member, want := range tc.want {
				value, ok := pay[member]
				if member[0] == '/' {
					value, ok = got[member[1:]]
				}
				if !ok || !reflect.DeepEqual(value, want) {
					t.Errorf("%s is %v, want %v", member, value, want)
				}
			}
		})
	}
}

func TestAPaymentInAnotherCoinIsShownWithItsOwn(t *testing.T) {
	b := example()
	b.Payments[0].Token = bill.Token{Crypto: "USDC", Chain: "BSC"}
	got := shown(t, b, now, links)
	p := got["payments"].([]any)[0].(map[string]any)
	if p["crypto"] != "USDC" || p["network"] != "BSC" || got["pay"].(map[string]any)["paid"] != "0" {
		t.Errorf("got %v", got)
	}
}

// TestTheShopsNameOfANetworkIsShownEverywhere, and stands for no other network.
func TestTheShopsNameOfANetworkIsShownEverywhere(t *testing.T) {
	b, l := example(), links
	l.Network = "TRON (TRC20)"
	other := b.Payments[0]
	other.ID, other.Token = "r-21", bill.Token{Crypto: "USDC", Network: "BEP20", Chain: "BSC"}
	b.Payments = append(b.Payments, other)
	got := shown(t, b, now, l)
	var networks []any
	for _, p := range got["payments"].([]any) {
		networks = append(networks, p.(map[string]any)["network"])
	}
	if want := []any{"TRON (TRC20)", "BEP20"}; got["pay"].(map[string]any)["network"] != want[0] || !reflect.DeepEqual(networks, want) {
		t.Errorf("got %v and %v", got["pay"], networks)
	}
}

// TestAnAnnouncedPaymentIsNotListed: there is nothing to say of it yet.
func TestAnAnnouncedPaymentIsNotListed(t *testing.T) {
	b := example()
	b.Payments = append(b.Payments, bill.Payment{ID: "r-21", Status: bill.Announced, Token: b.Pays})
	if got := shown(t, b, now, links); len(got["payments"].([]any)) != 1 || got["confirming"] != true || got["payable"] != false {
		t.Errorf("got %v", got)
	}
}

func TestABuyerIsNotShownWhatIsTheShopsOwn(t *testing.T) {
	data, err := json.Marshal(checkout.Describe(example(), now, links))
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"account", "order_id", "note", "token_id", "accept_short"} {
		if value, ok := members[name]; ok {
			t.Errorf("%s is shown: %s", name, value)
		}
	}
}
