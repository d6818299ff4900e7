// Package gateway is the client of CCPayment: it creates and looks up orders, and
// it reads what the gateway sends, answers and callbacks. Both API generations
// stand behind one interface; nothing outside this package tells them apart.
package gateway

import (
	"context"
	"fmt"
	"time"

	"github.com/shopspring/decimal"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
)

// A Client talks to the gateway for one merchant account.
type Client interface {
	// Create makes an order that is paid to an address. It never tries twice: a
	// second request could make a second order.
	Create(ctx context.Context, o Order) (Created, error)
	// Due learns what an order has to be paid with: the exact coin and the amount.
	Due(ctx context.Context, o Order) (Due, error)
	// CreateHosted makes an order that is paid on the gateway's own page.
	CreateHosted(ctx context.Context, o Order) (paymentURL string, err error)
	// Lookup returns what the gateway knows of orders, by reference. Orders it
	// does not know are missing from the map.
	Lookup(ctx context.Context, references []string) (map[string]Info, error)
	// Resend has the gateway send the callbacks of confirmed payments again that were
	// not taken between two times, at most an hour apart. The gateway allows one such
	// request a minute and 25 a day.
	Resend(ctx context.Context, from, to time.Time) error
	// Tokens lists what can be paid with, by the id that orders use.
	Tokens(ctx context.Context) (map[string]Listed, error)
	// ParseCallback reads the body of a callback whose signature was verified. The
	// error says what is wrong with it, in words that may be logged.
	ParseCallback(body []byte) (Callback, error)
}

// An Order is what is asked of the gateway.
type Order struct {
	Reference string
	Price     decimal.Decimal
	Currency  string
	TokenID   string
	ValidFor  time.Duration
	Title     string // for the hosted page
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
}

// Due is what an order has to be paid with.
type Due struct {
	Amount decimal.Decimal
	Token  bill.Token
}

// usable reports whether payments can be compared with it.
func (d Due) usable() bool {
	return d.Amount.IsPositive() && d.Token.Crypto != "" && d.Token.Chain != ""
}

// Info is what the gateway knows of an order.
type Info struct {
	Reference string
	Due       Due
	Payments  []Seen
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
}

// A Failure says why a request to the gateway did not lead to a usable answer.
type Failure string

// The failures, named as the storefront API names them.
const (
	Refused      Failure = "gateway_refused"
	BadSignature Failure = "gateway_bad_signature"
	Unreachable  Failure = "gateway_unreachable"
)

// An Error is a request to the gateway that failed.
type Error struct {
	Failure  Failure
	Endpoint string
	// Code, Msg and Reason are the gateway's words on a refusal.
	Code   int
	Msg    string
	Reason string
	// Err is the cause of every other failure.
	Err error
}

func (e *Error) Error() string {
	if e.Failure == Refused && e.Err == nil {
		s := fmt.Sprintf("%s: the gateway refused with code %d: %s", e.Endpoint, e.Code, e.Msg)
		if e.Reason != "" {
			s += " (" + e.Reason + ")"
		}
		return s
	}
	return fmt.Sprintf("%s: %v", e.Endpoint, e.Err)
}

// Unwrap returns the cause, so that a caller can tell its own cancellation.
func (e *Error) Unwrap() error { return e.Err }

// Retryable reports whether the same request may succeed later.
func (e *Error) Retryable() bool { return e.Failure != Refused || e.Code == codeServiceError }
