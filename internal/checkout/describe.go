// Package checkout is what a buyer sees: the bill as JSON, the page that works
// without JavaScript, and the QR code.
package checkout

import (
	"time"

	"github.com/shopspring/decimal"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
)

// Links is where a bill's pages are and lead.
type Links struct {
	// Prefix is the path before /bills, as the browser sees it.
	Prefix     string
	ReturnURL  string
	SupportURL string
	// Network is what buyers read in place of the gateway's name of the network.
	Network string
	// Test marks bills of a simulated gateway, which nobody should pay.
	Test bool
	// Language is the tag of a language there are texts in, as Language chooses it.
	Language string
}

// A Bill is the bill as the storefront API shows it.
type Bill struct {
	Token      string      `json:"token"`
	Reference  string      `json:"reference"`
	Seq        int64       `json:"seq"`
	Status     bill.Status `json:"status"`
	Confirming bool        `json:"confirming"`
	Payable    bool        `json:"payable"`
	Final      bool        `json:"final"`
	Message    *string     `json:"message"`
	Items      []bill.Item `json:"items"`
	Price      Money       `json:"price"`
	Pay        Pay         `json:"pay"`
	Payments   []Payment   `json:"payments"`
	CreatedAt  time.Time   `json:"created_at"`
	ExpiresAt  time.Time   `json:"expires_at"`
	// ExpiresIn is in seconds. A page counts down from it, because the clock of
	// the buyer's device may be wrong.
	ExpiresIn  int64   `json:"expires_in"`
	ReturnURL  *string `json:"return_url"`
	SupportURL *string `json:"support_url"`
	Self       string  `json:"self"`
	// Test is there for bills of a simulated gateway only.
	Test bool `json:"test,omitempty"`
}

// Money is an amount in a denominated currency.
type Money struct {
	Amount   string `json:"amount"`
	Currency string `json:"currency"`
}

// Pay is how to pay. What is not known is null.
type Pay struct {
	Method  *string `json:"method"`
	Crypto  *string `json:"crypto"`
	Network *string `json:"network"`
	Address *string `json:"address"`
	Memo    *string `json:"memo"`
	Amount  *string `json:"amount"`
	Paid    string  `json:"paid"`
	Due     *string `json:"due"`
	// Seen is what is on its way, of what is due. It is null while nothing is, or
	// while it is not known how much.
	Seen *string `json:"seen"`
	URI  *string `json:"uri"`
	QR   *string `json:"qr"`
	// PaymentURL is the gateway's own page, of hosted bills only.
	PaymentURL string `json:"payment_url,omitempty"`
}

// Payment is one transaction of a buyer.
type Payment struct {
	ID      string             `json:"id"`
	Status  bill.PaymentStatus `json:"status"`
	Amount  string             `json:"amount"`
	Crypto  string             `json:"crypto"`
	Network string             `json:"network"`
	TxID    string             `json:"txid"`
	// NotCounted is there for what was confirmed and does not add to the bill, like
	// another coin.
	NotCounted bool `json:"not_counted,omitempty"`
}

// Describe shows a bill as it stands at a time. All decisions are made here: a page
// compares no amounts and no times.
func Describe(b *bill.Bill, now time.Time, l Links) Bill {
	s := b.StateAt(now)
	out := Bill{
		Token:      b.Token,
		Reference:  b.Reference,
		Seq:        b.Seq,
		Status:     s.Status,
		Confirming: s.Confirming,
		Payable:    s.Payable,
		Final:      s.Final,
		Items:      append([]bill.Item{}, b.Items...),
		Price:      Money{Amount: b.Price.StringFixed(2), Currency: b.Currency},
		Pay: Pay{
			Method:     optional(b.Method),
			Crypto:     optional(b.Pays.Crypto),
			Network:    optional(b.Pays.Network),
			Address:    optional(b.Address),
			Memo:       optional(b.Memo),
			Paid:       s.Paid.String(),
			PaymentURL: b.PaymentURL,
		},
		Payments:   make([]Payment, 0, len(b.Payments)),
		CreatedAt:  b.CreatedAt.UTC().Truncate(time.Second),
		ExpiresAt:  b.ExpiresAt.UTC().Truncate(time.Second),
		ExpiresIn:  max(0, int64(b.ExpiresAt.Sub(now)/time.Second)),
		ReturnURL:  optional(l.ReturnURL),
		SupportURL: optional(l.SupportURL),
		Self:       l.Prefix + "/bills/" + b.Token,
		Test:       l.Test,
	}
	if l.Network != "" && b.Pays.Network != "" {
		out.Pay.Network = optional(l.Network)
	}
	if b.Due.IsPositive() {
		out.Pay.Amount = optional(b.Due.String())
		out.Pay.Due = optional(s.Left.String())
	}
	if payload, uri := payment(b, s); payload != "" {
		out.Pay.QR = optional(out.Self + "/qr.svg")
		if uri {
			out.Pay.URI = optional(payload)
		}
	}
	if s.Confirming {
		out.Pay.Seen = seen(b)
	}
	for _, p := range b.Payments {
		if p.Status == bill.Announced {
			continue // there is nothing to show yet, except that the bill is confirming
		}
		network := p.Network
		switch {
		case l.Network != "" && b.Pays.Accepts(p.Token):
			network = l.Network
		case network == "":
			network = p.Chain
		}
		out.Payments = append(out.Payments, Payment{
			ID: p.ID, Status: p.Status, Amount: p.Amount.String(), Crypto: p.Crypto, Network: network, TxID: p.TxID,
			NotCounted: p.Status == bill.Success && !b.Counts(p),
		})
	}
	return out
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// seen adds up what is on its way to a bill.
func seen(b *bill.Bill) *string {
	var sum decimal.Decimal
	for _, p := range b.Payments {
		if p.Status == bill.Failed || b.Counts(p) || !b.Pays.Accepts(p.Token) {
			continue
		}
		if !p.Amount.IsPositive() {
			return nil
		}
		sum = sum.Add(p.Amount)
	}
	return optional(sum.String())
}
