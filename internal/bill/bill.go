// Package bill is the bill and its state: what was sold, what is to be paid, what
// was paid, and what follows from it at a given time. It does no input or output
// and knows neither the gateway nor the store, so every rule about money can be
// read and tested here.
package bill

import (
	"slices"
	"time"

	"github.com/shopspring/decimal"
)

// Status is the state of a bill: one value for each row of the gateway's own table.
type Status string

// The states of a bill. The overdue ones are those of the column "after validity".
const (
	Awaiting         Status = "awaiting_payment"
	Underpaid        Status = "underpaid"
	Paid             Status = "paid"
	Overpaid         Status = "overpaid"
	Expired          Status = "expired"
	UnderpaidOverdue Status = "underpaid_overdue"
	PaidOverdue      Status = "paid_overdue"
	OverpaidOverdue  Status = "overpaid_overdue"
)

// ListenAfter is how long after its validity a bill that is not paid in full is
// still watched. The gateway takes late payments, and its longest rate lock (BTC)
// is 24 hours.
const ListenAfter = 24 * time.Hour

// An Item is one line of a cart, priced from the shop's own list.
type Item struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Quantity int    `json:"quantity"`
	Price    string `json:"price"`
}

// A Bill is what a buyer owes and has paid.
type Bill struct {
	// Token is the secret in the bill's URL; whoever has it sees the bill.
	Token string
	// Reference is the shop's order id at the gateway (merchant_order_id).
	Reference string
	Account   string
	// OrderID is the gateway's own order id.
	OrderID string

	Items    []Item
	Note     string
	Price    decimal.Decimal
	Currency string

	// Hosted bills are paid on the gateway's page, where the buyer chooses the coin.
	Hosted     bool
	PaymentURL string

	Method  string
	TokenID string
	// Pays is the coin and network the bill is to be paid in. A hosted bill has
	// none until its first payment.
	Pays    Token
	Address string
	Memo    string
	// Due is the whole amount to pay, in the coin. Zero means not known yet.
	Due decimal.Decimal
	// AcceptShort is the share in percent by which a bill may be paid short.
	AcceptShort decimal.Decimal

	Payments []Payment

	CreatedAt time.Time
	ExpiresAt time.Time
	// Seq counts the changes a buyer can see.
	Seq int64
}

// A State is what follows from a bill's payments at one moment.
type State struct {
	Status Status
	// Confirming is true while a payment was seen that is not confirmed.
	Confirming bool
	// Payable is true while the buyer should still send money.
	Payable bool
	// Final is true once nothing can change any more.
	Final bool
	// Paid is the sum of the confirmed payments in the bill's own coin.
	Paid decimal.Decimal
	// Left is what is still to be paid; never negative.
	Left decimal.Decimal
}

// PaidInFull reports whether the status is one of those in which nothing is owed.
func (s Status) PaidInFull() bool {
	return s == Paid || s == Overpaid || s == PaidOverdue || s == OverpaidOverdue
}

// Counts reports whether a payment adds to what was paid: confirmed, released, and
// in the bill's own coin on the bill's own chain.
func (b *Bill) Counts(p Payment) bool {
	return p.Status == Success && !p.Risky && b.Pays.Accepts(p.Token)
}

// StateAt computes the state of the bill at a time.
func (b *Bill) StateAt(now time.Time) State {
	var (
		s       State
		counted = make([]Payment, 0, len(b.Payments))
	)
	for _, p := range b.Payments {
		switch {
		case b.Counts(p):
			counted = append(counted, p)
		case p.Status != Failed && b.Pays.Accepts(p.Token):
			s.Confirming = true
		}
	}

	// The payment that completes the bill decides whether it was in time, so the
	// payments are added up in the order in which they arrived.
	slices.SortStableFunc(counted, func(p, q Payment) int { return p.ArrivedAt.Compare(q.ArrivedAt) })
	enough := b.enough()
	var completedAt time.Time
	complete := false
	for _, p := range counted {
		s.Paid = s.Paid.Add(p.Amount)
		if !complete && b.Due.IsPositive() && s.Paid.GreaterThanOrEqual(enough) {
			complete, completedAt = true, p.ArrivedAt
		}
	}
	if left := b.Due.Sub(s.Paid); left.IsPositive() && !complete {
		s.Left = left
	}

	late := !now.Before(b.ExpiresAt)
	if complete {
		late = !completedAt.Before(b.ExpiresAt)
	}
	s.Status = status(b.row(s.Paid, complete), late)

	closed := !now.Before(b.ExpiresAt.Add(ListenAfter))
	s.Final = closed || complete && !s.Confirming
	// While a payment is on its way nobody is asked for more: what is left would be
	// the whole amount still, and a buyer in doubt would pay twice.
	s.Payable = !complete && !late && !s.Confirming
	return s
}

// enough is the sum at which the bill counts as paid.
func (b *Bill) enough() decimal.Decimal {
	if b.AcceptShort.IsZero() {
		return b.Due
	}
	hundred := decimal.NewFromInt(100)
	return b.Due.Mul(hundred.Sub(b.AcceptShort)).Shift(-2)
}

// row is the row of the gateway's table: nothing, less than due, exactly, more.
type row int

const (
	nothing row = iota
	less
	exact
	more
)

func (b *Bill) row(paid decimal.Decimal, complete bool) row {
	switch {
	case complete && paid.GreaterThan(b.Due):
		return more
	case complete:
		return exact
	case paid.IsPositive():
		return less
	}
	return nothing
}

// status reads the gateway's table.
func status(r row, late bool) Status {
	table := [...][2]Status{
		nothing: {Awaiting, Expired},
		less:    {Underpaid, UnderpaidOverdue},
		exact:   {Paid, PaidOverdue},
		more:    {Overpaid, OverpaidOverdue},
	}
	if late {
		return table[r][1]
	}
	return table[r][0]
}

// Apply takes a message about a payment into the bill. It reports whether it was
// news; a repeated message or one overtaken by a later state is not.
func (b *Bill) Apply(p Payment) (news bool) {
	for i := range b.Payments {
		if b.Payments[i].ID == p.ID {
			return b.Payments[i].merge(p)
		}
	}
	b.Payments = append(b.Payments, p)
	return true
}
