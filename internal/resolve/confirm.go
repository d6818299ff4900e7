package resolve

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/shopspring/decimal"
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

// maxLookup is how many orders the gateway tells about at a time.
const maxLookup = 100

var errUnlisted = gateway.ErrUnlisted

// confirmPass asks the gateway about the stale callbacks that are due. What it
// confirms is counted, what it denies is marked as refuted in the end, and what
// cannot be asked about is handed on without being believed.
func (r *Resolver) confirmPass(ctx context.Context) (more bool, err error) {
	defer poke(r.asking)
	accounts, log := r.settings()
	if len(accounts) == 0 {
		return false, nil
	}
	list, err := r.store.Unresolved(ctx, store.Quarantined, r.now(), maxLookup)
	if err != nil {
		return false, err
	}
	messages, err := r.readAll(ctx, accounts, log, list)
	if err != nil {
		return false, err
	}
	byAccount := make(map[string][]message)
	for _, m := range messages {
		byAccount[m.Account] = append(byAccount[m.Account], m)
	}
	for name, messages := range byAccount {
		if err := r.confirm(ctx, accounts[name], log, messages); err != nil {
			return false, err
		}
	}
	return len(list) == maxLookup, nil
}

// confirm asks about the stale callbacks of one account.
func (r *Resolver) confirm(ctx context.Context, a Account, log *zap.Logger, messages []message) error {
	var references []string
	for _, m := range messages {
		if m.confirmable() && !slices.Contains(references, m.content.Reference) {
			references = append(references, m.content.Reference)
		}
	}
	var (
		infos  map[string]gateway.Info
		failed error
	)
	if len(references) > 0 {
		if infos, failed = a.Client.Lookup(ctx, references); ctx.Err() != nil {
			return ctx.Err() // a stop says nothing about the gateway
		}
	}
	for _, m := range messages {
		failed := failed
		if info, answered := infos[m.content.Reference]; answered {
			failed = nil
			if !errors.Is(info.Err, errUnlisted) {
				failed = info.Err
			}
		}
		err := r.judge(ctx, log, m, infos, failed)
		if err := r.settle(ctx, log, m.Callback, err); err != nil {
			return err
		}
	}
	return nil
}

// confirmable reports whether the gateway can be asked about a callback: v1 tells
// about orders of the shop only.
func (m message) confirmable() bool {
	return m.content.Kind == gateway.KindOrder && m.content.Reference != "" && !m.content.Incomplete
}

// judge decides about one stale callback with what the gateway has answered.
func (r *Resolver) judge(ctx context.Context, log *zap.Logger, m message, infos map[string]gateway.Info, failed error) error {
	field := zap.Int64("callback", m.Number)
	return r.store.WriteInBackground(ctx, func(tx *store.Tx) error {
		if m.content.Incomplete {
			// The gateway is asked about it in any case, and nothing else is believed.
			return tx.AskAboutCallback(m.Number, r.now())
		}
		if !m.confirmable() || failed != nil && m.Asked >= len(confirmWaits) {
			log.Warn("handing on stale callback that cannot be confirmed", field, zap.String("kind", m.Kind), zap.Error(failed))
			return r.apply(tx, m, true)
		}
		err := failed
		if err == nil {
			if err = r.borneOut(tx, &m, infos); err == nil {
				log.Info("confirming stale callback", field)
				return r.apply(tx, m, false)
			}
			if !errors.Is(err, errUnlisted) {
				return err
			}
		}
		denied := failed == nil
		if denied && m.Denied >= unlisted {
			log.Warn("refuting stale callback that the gateway does not confirm", field)
			return tx.FinishCallback(m.Number, store.Refuted, err.Error(), r.now())
		}
		wait := confirmWaits[min(m.Asked, len(confirmWaits)-1)]
		if denied {
			wait = confirmWaits[m.Denied]
		}
		if err := tx.CountQuestion(m.Number, denied); err != nil {
			return err
		}
		return tx.PostponeCallback(m.Number, err.Error(), r.now().Add(wait))
	})
}

// borneOut reports whether the gateway's list bears a callback out, and takes its
// time of the payment. A payment that is not confirmed yet changes nothing about
// what was paid; for it the order itself is enough.
func (r *Resolver) borneOut(tx *store.Tx, m *message, infos map[string]gateway.Info) error {
	cb := m.content
	info, known := infos[cb.Reference]
	if !known || info.Err != nil {
		return errUnlisted
	}
	if cb.Status != bill.Success {
		return nil
	}
	var counted []bill.Payment
	rec, err := tx.Bill(m.account.Name, cb.Reference)
	if err == nil {
		counted = rec.Payments
	} else if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	seen, ok := unclaimed(info.Payments, counted, cb)
	if !ok {
		return errUnlisted
	}
	if !seen.PaidAt.IsZero() {
		m.arrived = seen.PaidAt
	}
	return nil
}

// unclaimed finds a listed payment like that of a callback. v1's list names no
// records, and equal payments within the gateway have nothing to tell them apart,
// so each payment that counts already stands for one of the list.
func unclaimed(list []gateway.Seen, counted []bill.Payment, cb gateway.Callback) (gateway.Seen, bool) {
	list = slices.DeleteFunc(slices.Clone(list), func(s gateway.Seen) bool { return s.Status != bill.Success })
	for _, p := range counted {
		if p.ID == cb.RecordID || p.Status != bill.Success {
			continue
		}
		if i := slices.IndexFunc(list, func(s gateway.Seen) bool { return alike(s, p.Amount, p.Token, p.TxID) }); i >= 0 {
			list = slices.Delete(list, i, i+1)
		}
	}
	i := slices.IndexFunc(list, func(s gateway.Seen) bool { return alike(s, cb.Amount, cb.Token, cb.TxID) })
	if i < 0 {
		return gateway.Seen{}, false
	}
	return list[i], true
}

func alike(s gateway.Seen, amount decimal.Decimal, token bill.Token, txid string) bool {
	return s.Amount.Equal(amount) && s.Accepts(token) && (s.TxID == "" || txid == "" || s.TxID == txid)
}
