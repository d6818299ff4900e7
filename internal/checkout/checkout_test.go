package checkout_test

import (
	"time"

	"github.com/shopspring/decimal"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/checkout"
)

// The bill of these tests is the one of the contract's example: 20 of 50.0137 USDT
// are paid, and 29 minutes are left.
var (
	created = time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	expires = created.Add(time.Hour)
	now     = expires.Add(-1740 * time.Second)

	links = checkout.Links{Prefix: "/pay", ReturnURL: "/thanks/", SupportURL: "/contact/"}
	usdt  = bill.Token{Crypto: "USDT", Network: "TRC20", Chain: "TRX", Contract: "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"}
)

const (
	token   = "q3ZrAbCdEfGhIjKlMnOpQr"
	address = "TYWnk1EGALQyYst2yFSd29QQQTEkuKMbyt"
)

func amount(s string) decimal.Decimal { return decimal.RequireFromString(s) }

func paid(sum string, status bill.PaymentStatus, at time.Time) bill.Payment {
	return bill.Payment{ID: "r-" + sum, Status: status, Amount: amount(sum), Token: usdt, TxID: "0xabc", ArrivedAt: at}
}

func example() *bill.Bill {
	return &bill.Bill{
		Token: token, Reference: "our-order-id", Account: "default", OrderID: "g1",
		Items: []bill.Item{{ID: "field-guide", Name: "Field guide", Quantity: 2, Price: "25.00"}},
		Note:  "for the shop only", Price: amount("50"), Currency: "USD",
		Method: "usdt-trc20", TokenID: "0912e09a-d8e2-41d7-a0bc-a25530892988", Pays: usdt, Address: address,
		Due: amount("50.0137"), CreatedAt: created, ExpiresAt: expires, Seq: 3,
		Payments: []bill.Payment{paid("20", bill.Success, created)},
	}
}
