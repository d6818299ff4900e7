// Package gateway is the client of CCPayment: it creates and looks up orders, and
// it reads what the gateway sends, answers and callbacks. Both API generations
// stand behind one interface; nothing outside this package tells them apart.
package gateway

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
)

// A Client talks to the gateway for one merchant account.
type Client interface {
	// Create makes an order that is paid to an address. It never tries twice: a
	// second request could make a second order. IsDuplicate tells that the gateway
	// has another order of the reference.
	Create(ctx context.Context, o Order) (Created, error)
	// Due learns what an order has to be paid with: the exact coin and the amount.
	Due(ctx context.Context, o Order) (Due, error)
	// CreateHosted makes an order that is paid on the gateway's own page.
	CreateHosted(ctx context.Context, o Order) (paymentURL string, err error)
	// Lookup returns what the gateway knows of orders, by reference. Orders it
	// does not know are missing from the map or there with ErrUnlisted. What went wrong
	// with one order is in its information. An error is about them all; the map then has
	// those that were asked about before it.
	Lookup(ctx context.Context, references []string) (map[string]Info, error)
	// Released reports whether the gateway says of a payment, when asked about it alone,
	// that it is not flagged as risky.
	Released(ctx context.Context, reference, record string) (bool, error)
	// Resend has the gateway send the callbacks of confirmed payments again that were
	// not taken between two times, at most an hour apart. The gateway allows one such
	// request a minute and 25 a day.
	Resend(ctx context.Context, from, to time.Time) error
	// Tokens lists what can be paid with, by the id that orders use.
	Tokens(ctx context.Context) (map[string]Listed, error)
	// ParseCallback reads the body of a callback whose signature was verified. The
	// error says what is wrong with it, in words that may be logged.
	ParseCallback(body []byte) (Callback, error)
	// Complete asks the gateway for what an incomplete callback does not carry. With
	// ErrUnlisted the gateway has answered but does not bear the callback out, which is
	// normal for a while after it was sent; the callback then has what is known.
	Complete(ctx context.Context, cb Callback) (Callback, error)
}

// ErrUnlisted means that the gateway, when asked, does not list a payment.
var ErrUnlisted = errors.New("the gateway does not list the payment")

// A Generation is one of the gateway's APIs. A merchant account belongs to exactly one.
type Generation struct {
	// Endpoint is the documented base URL.
	Endpoint string
	// New returns a client.
	New func(Config) Client
}

// Generations are all of them, by the name that the configuration uses.
var Generations = map[string]Generation{
	"v1": {EndpointV1, NewV1},
	"v2": {EndpointV2, NewV2},
}

// An Order is what is asked of the gateway.
type Order struct {
	Reference string
	Price     decimal.Decimal
	Currency  string
	TokenID   string // as Tokens lists it
	ValidFor  time.Duration
	ExpiresAt time.Time // the same as a time
	Title     string    // for the hosted page
	Remark    string
	NotifyURL string
	ReturnURL string
}

// Created is the gateway's answer to an order.
type Created struct {
	OrderID string
	Address string
	Memo    string
	Crypto  string
	Network string
	// Due is what the order has to be paid with, if the answer tells.
	Due Due
}

// Due is what an order has to be paid with.
type Due struct {
	Amount decimal.Decimal
	Token  bill.Token
}

// Known reports whether payments can be compared with it.
func (d Due) Known() bool {
	return d.Amount.IsPositive() && d.Token.Crypto != "" && d.Token.Chain != ""
}

// Info is what the gateway knows of an order.
type Info struct {
	Reference string
	// OrderID, Price and Currency are empty where the gateway does not tell them.
	OrderID, Price, Currency string
	Due                      Due
	Payments                 []Seen
	// Err is why nothing is known of the order; ErrUnlisted if the gateway has said that
	// it does not know it.
	Err error
}

// Seen is a payment as an order's information lists it.
type Seen struct {
	// ID is the record id, empty in v1, which names none.
	ID     string
	Status bill.PaymentStatus
	Amount decimal.Decimal
	bill.Token
	TxID       string
	ServiceFee string
	// Due is what the order costs in the coin of this payment, where that differs from
	// one payment to the next; else zero.
	Due decimal.Decimal
	// Risky payments are flagged by the gateway and do not count until released.
	Risky bool
	// PaidAt is the gateway's time of the payment; zero if it gave none.
	PaidAt time.Time
}

// Listed is a coin on a network as the gateway offers it.
type Listed struct {
	bill.Token
	Logo   string
	Usable bool // neither in maintenance nor about to be delisted
}

// An Observer is told of every request to the gateway: the endpoint, "success" or the
// failure, and the time it took.
type Observer func(endpoint, result string, took time.Duration)

// A Kind says what a callback is about.
type Kind string

// The kinds of callbacks of both generations.
const (
	KindOrder      Kind = "order" // a payment towards a bill
	KindDeposit    Kind = "deposit"
	KindInvoice    Kind = "invoice"
	KindWithdrawal Kind = "withdrawal"
	KindRefund     Kind = "refund"
	KindUnknown    Kind = "unknown"
	// KindProbe is about no transaction: the gateway asks whether somebody is there.
	KindProbe Kind = "probe"
)

// A Callback is one message of the gateway about one transaction.
type Callback struct {
	Kind Kind
	// Type is the gateway's own name of the kind, e.g. "API Deposit".
	Type string
	// RecordID is unique for each transaction.
	RecordID string
	// RawStatus is the gateway's word, Status what it means; for a word that is
	// not documented Status is empty and Kind is KindUnknown.
	RawStatus string
	Status    bill.PaymentStatus

	Reference   string // the shop's order id, if any
	OrderID     string
	Subject     string // reference, user or invoice the message is about
	Due         decimal.Decimal
	Price       string
	Currency    string
	Amount      decimal.Decimal
	Token       bill.Token
	TxID        string
	ServiceFee  string
	CustomValue string
	Risky       bool
	// RiskTold says that the callback itself tells whether the payment is flagged.
	RiskTold bool

	// Incomplete callbacks name a payment and do not say what was paid. They must not
	// be counted before Client.Complete has asked the gateway.
	Incomplete bool
	// ArrivedAt is the gateway's time of the payment; zero if it is not known.
	ArrivedAt time.Time
}

// Key tells the callback from all others about its record: a second one with the same
// key is a repetition. The flag of a risky payment is part of it, since releasing a
// payment changes nothing else.
func (cb Callback) Key() (kind, status string) {
	if cb.Kind == KindUnknown {
		return string(KindUnknown) + "/" + cb.Type, cb.RawStatus
	}
	status = strings.ToLower(cb.RawStatus)
	if cb.Risky {
		status += ",risky"
	}
	return string(cb.Kind), status
}
