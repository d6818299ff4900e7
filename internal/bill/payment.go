package bill

import (
	"time"

	"github.com/shopspring/decimal"
)

// PaymentStatus is the state of one transaction as the gateway reports it.
type PaymentStatus string

// The states of a payment, in the order in which they can follow each other. The gateway
// has no announced ones: those are payments of which it has said that they are there, and
// not yet what was paid.
const (
	Announced  PaymentStatus = "announced"
	Pending    PaymentStatus = "pending"
	Processing PaymentStatus = "processing"
	Failed     PaymentStatus = "failed"
	Success    PaymentStatus = "success"
)

// rank orders the states. The highest one seen is the payment's state, whatever
// the order in which callbacks arrive. A success stands above a failure because
// only the gateway's confirmed success says that money has come.
func (s PaymentStatus) rank() int {
	switch s {
	case Pending:
		return 1
	case Processing:
		return 2
	case Failed:
		return 3
	case Success:
		return 4
	}
	return 0
}

// Known reports whether s is a state the gateway documents.
func (s PaymentStatus) Known() bool { return s.rank() > 0 }

// A Payment is one transaction towards a bill.
type Payment struct {
	// ID is the gateway's record id, unique for each transaction.
	ID     string
	Status PaymentStatus
	Amount decimal.Decimal
	Token
	TxID string
	// ServiceFee is the gateway's fee in the payment's coin, empty where it was not told.
	ServiceFee string
	// Risky payments are flagged by the gateway and do not count until released.
	Risky bool
	// ArrivedAt is the gateway's time of the payment, or the time at which it was
	// first seen in whatever state. A later confirmation does not move it.
	ArrivedAt time.Time
}

// merge takes a later message about the same payment into p. It reports whether
// the message was news: false means that p already was in that state or beyond.
func (p *Payment) merge(q Payment) (news bool) {
	if !q.ArrivedAt.IsZero() && q.ArrivedAt.Before(p.ArrivedAt) {
		p.ArrivedAt, news = q.ArrivedAt, true
	}
	released := p.Risky && !q.Risky
	if q.Status.rank() > p.Status.rank() || q.Status == p.Status && released {
		q.ArrivedAt = p.ArrivedAt
		*p, news = q, true
	}
	return news
}
