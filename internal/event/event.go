// Package event is what upstreams are told: a normalized event in a CloudEvents
// envelope, the same for both generations of the gateway's API.
package event

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/gateway"
)

// Where an event comes from.
const (
	FromCallback  = "callback"
	FromReconcile = "reconcile"
	FromTimer     = "timer"
)

// The types of events about bills. The others are a kind and a status with a dot
// between them, like "withdrawal.success".
const (
	BillConfirming    = "bill.confirming"
	BillUnderpaid     = "bill.underpaid"
	BillPaid          = "bill.paid"
	BillOverpaid      = "bill.overpaid"
	BillExpired       = "bill.expired"
	BillPaymentFailed = "bill.payment_failed"
	BillPaymentHeld   = "bill.payment_held"
	UnknownReceived   = "unknown.received"
)

// An Envelope is a CloudEvent 1.0 in its structured JSON form.
type Envelope struct {
	SpecVersion     string `json:"specversion"`
	ID              string `json:"id"`
	Source          string `json:"source"`
	Type            string `json:"type"`
	Subject         string `json:"subject"`
	Time            string `json:"time"`
	DataContentType string `json:"datacontenttype"`
	Data            Data   `json:"data"`
}

// Data is the payload of an event.
type Data struct {
	Account string `json:"account"`
	API     string `json:"api"`
	Origin  string `json:"origin"`
	// Late marks a message that was overtaken: the payment was already further.
	Late    bool            `json:"late,omitempty"`
	Bill    *Bill           `json:"bill"`
	Payment *Payment        `json:"payment"`
	Raw     json.RawMessage `json:"raw"`
}

// Bill is the bill an event is about, as it stands after it.
type Bill struct {
	Reference   string      `json:"reference"`
	OrderID     string      `json:"order_id"`
	Known       bool        `json:"known"`
	Status      bill.Status `json:"status"`
	Items       []bill.Item `json:"items"`
	Note        string      `json:"note,omitempty"`
	Price       Money       `json:"price"`
	Due         string      `json:"due"`
	Paid        string      `json:"paid"`
	Crypto      string      `json:"crypto"`
	Network     string      `json:"network"`
	CustomValue string      `json:"custom_value"`
}

// Money is an amount in a denominated currency.
type Money struct {
	Amount   string `json:"amount"`
	Currency string `json:"currency"`
}

// Payment is the transaction an event is about.
type Payment struct {
	ID         string  `json:"id"`
	Status     string  `json:"status"`
	Amount     string  `json:"amount"`
	Crypto     string  `json:"crypto"`
	Network    string  `json:"network"`
	Chain      string  `json:"chain"`
	Contract   string  `json:"contract"`
	TxID       string  `json:"txid"`
	ServiceFee *string `json:"service_fee"`
	Risky      bool    `json:"risky"`
}

// ID is the id of the event about one state of one record. It is a function of its
// arguments, so that every retry and every node gives the same id and a receiver
// can tell a repetition without sharing anything with us.
func ID(account, kind, record, status string) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{account, kind, record, status}, "\x00")))
	return "evt_" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:20]))
}

// Encode puts data into its envelope.
func Encode(id, eventType, subject string, at time.Time, data Data) ([]byte, error) {
	return json.Marshal(Envelope{
		SpecVersion:     "1.0",
		ID:              id,
		Source:          "/ccpayment/" + data.Account,
		Type:            eventType,
		Subject:         subject,
		Time:            at.UTC().Format(time.RFC3339Nano),
		DataContentType: "application/json",
		Data:            data,
	})
}

// OfBill describes a bill and its state.
func OfBill(b *bill.Bill, s bill.State, known bool, customValue string) *Bill {
	items := b.Items
	if items == nil {
		items = []bill.Item{}
	}
	return &Bill{
		Reference:   b.Reference,
		OrderID:     b.OrderID,
		Known:       known,
		Status:      s.Status,
		Items:       items,
		Note:        b.Note,
		Price:       Money{Amount: price(b.Price), Currency: b.Currency},
		Due:         b.Due.String(),
		Paid:        s.Paid.String(),
		Crypto:      b.Pays.Crypto,
		Network:     b.Pays.Network,
		CustomValue: customValue,
	}
}

// price writes a price with two decimals, as it is written in shops, but rounds none
// that has more: the gateway's word about a bill from elsewhere is told as it is.
func price(d decimal.Decimal) string {
	if d.Exponent() < -2 {
		return d.String()
	}
	return d.StringFixed(2)
}

// OfPayment describes the transaction of a callback. The network is known only if
// the payment is in the coin of the bill.
func OfPayment(cb gateway.Callback, network string) *Payment {
	p := &Payment{
		ID:       cb.RecordID,
		Status:   string(cb.Status),
		Amount:   cb.Amount.String(),
		Crypto:   cb.Token.Crypto,
		Network:  network,
		Chain:    cb.Token.Chain,
		Contract: cb.Token.Contract,
		TxID:     cb.TxID,
		Risky:    cb.Risky,
	}
	if cb.ServiceFee != "" {
		p.ServiceFee = &cb.ServiceFee
	}
	if p.Status == "" {
		p.Status = cb.RawStatus
	}
	return p
}
