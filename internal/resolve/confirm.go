package resolve

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/gateway"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/store"
)

// A callback with a valid signature but a stale time may be one that the gateway
// sent again with its first signature, or one that somebody recorded. It is kept
// and asked about; these are the waits while the gateway does not answer or does
// not list the payment yet.
var confirmWaits = []time.Duration{
	30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour,
}

// unlisted is how many of the waits are granted to a payment that the gateway,
// when asked, does not list.
const unlisted = 5

// confirm asks the gateway about a stale callback. What it confirms is counted,
// what it denies is marked as refuted, and what cannot be asked about is handed on
// without being believed.
func (r *Resolver) confirm(ctx context.Context, a Account, log *zap.Logger, c store.Callback) error {
	m, err := read(a, c)
	if err != nil {
		return r.postpone(ctx, c, err.Error(), missing)
	}
	cb := m.content
	if cb.Kind != gateway.KindOrder || cb.Reference == "" {
		log.Warn("handing on stale callback that cannot be confirmed", zap.Int64("callback", c.Number), zap.String("kind", c.Kind))
		return r.store.WriteInBackground(ctx, func(tx *store.Tx) error { return r.apply(tx, m, true) })
	}

	infos, err := a.Client.Lookup(ctx, []string{cb.Reference})
	if err != nil {
		if c.Tries < len(confirmWaits) {
			return r.postpone(ctx, c, err.Error(), confirmWaits[c.Tries])
		}
		log.Warn("handing on stale callback that cannot be confirmed", zap.Int64("callback", c.Number), zap.Error(err))
		return r.store.WriteInBackground(ctx, func(tx *store.Tx) error { return r.apply(tx, m, true) })
	}
	info, known := infos[cb.Reference]
	switch {
	case known && listed(info, cb):
		log.Info("confirming stale callback", zap.Int64("callback", c.Number))
		return r.store.WriteInBackground(ctx, func(tx *store.Tx) error { return r.apply(tx, m, false) })
	case c.Tries < unlisted:
		return r.postpone(ctx, c, "the gateway does not list the payment", confirmWaits[c.Tries])
	default:
		log.Warn("refuting stale callback that the gateway does not confirm", zap.Int64("callback", c.Number))
		return r.store.WriteInBackground(ctx, func(tx *store.Tx) error {
			return tx.FinishCallback(c.Number, store.Refuted, "the gateway does not list the payment", r.now())
		})
	}
}

// listed reports whether the gateway's list bears a callback out. A payment that
// is not confirmed yet changes nothing about what was paid; for it the order itself
// is enough.
func listed(info gateway.Info, cb gateway.Callback) bool {
	if cb.Status != bill.Success {
		return true
	}
	for _, s := range info.Payments {
		if s.Status == bill.Success && s.Amount.Equal(cb.Amount) && s.Accepts(cb.Token) &&
			(s.TxID == "" || cb.TxID == "" || s.TxID == cb.TxID) {
			return true
		}
	}
	return false
}
