package resolve

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/shopspring/decimal"
	"go.uber.org/zap"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/event"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/gateway"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/store"
)

const (
	// foundPrefix begins the names of payments that the gateway's list has and no
	// callback has named yet.
	foundPrefix = "found-"
	// overdueEvery is how often a bill is asked about after its validity, until it
	// is given up.
	overdueEvery = 30 * time.Minute
	// heldEvery is how often a bill is asked about after that if one of its payments is
	// held, and heldFor how long, also while there is no answer.
	heldEvery = 6 * time.Hour
	heldFor   = 30 * 24 * time.Hour
	// askAgain is when bills are asked about that an answer has left out because the
	// gateway's limits were reached.
	askAgain = time.Minute
)

// reconcilePass asks the gateway about bills that wait for money, so that a payment
// whose callback was missed is found all the same.
func (r *Resolver) reconcilePass(ctx context.Context) (more bool, err error) {
	accounts, _ := r.settings()
	for _, a := range accounts {
		if a.Reconcile <= 0 {
			continue
		}
		turn, err := r.reconcileTurn(ctx, a)
		if err != nil && !errors.As(err, new(*gateway.Error)) {
			return false, err
		}
		more = more || err == nil && turn.due == maxLookup
	}
	return more, nil
}

// reconcileTurn is one account's share of a pass.
func (r *Resolver) reconcileTurn(ctx context.Context, a Account) (turn, error) {
	r.reconciling.Lock()
	defer r.reconciling.Unlock()
	return r.reconcileSome(ctx, a)
}

// Reconciled is what came of asking the gateway about open bills.
type Reconciled struct {
	// Bills is how many it was asked about, Found how many payments came to light.
	Bills int `json:"bills"`
	Found int `json:"found"`
}

// Reconcile asks the gateway about every bill that may still change, at once and
// whether or not that is done in regular turns. An account whose gateway does not answer
// keeps nobody from being asked about; the error says which it was.
func (r *Resolver) Reconcile(ctx context.Context) (done Reconciled, err error) {
	accounts, _ := r.settings()
	for _, name := range slices.Sorted(maps.Keys(accounts)) {
		one, failed := r.reconcileAll(ctx, accounts[name])
		done.Bills += one.Bills
		done.Found += one.Found
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("account %s: %w", name, failed))
		}
	}
	return done, err
}

func (r *Resolver) reconcileAll(ctx context.Context, a Account) (done Reconciled, err error) {
	// The regular turns must not take what is planned here.
	r.reconciling.Lock()
	defer r.reconciling.Unlock()
	if err := r.store.PlanChecks(ctx, a.Name, r.now()); err != nil {
		return done, err
	}
	var odd error
	for {
		turn, err := r.reconcileSome(ctx, a)
		done.Bills += turn.Bills
		done.Found += turn.Found
		odd = cmp.Or(odd, turn.odd)
		if err != nil || turn.due < maxLookup {
			return done, cmp.Or(err, odd)
		}
	}
}

// A turn is what came of asking about the bills that were due to be asked about.
type turn struct {
	Reconciled
	due int
	odd error // why one of them could not be asked about
}

// reconcileSome asks about the bills of an account that are due to be asked about, as
// many as the gateway tells about at a time. The caller holds reconciling. The error is
// a [gateway.Error] if the gateway could not be asked about the rest of them.
func (r *Resolver) reconcileSome(ctx context.Context, a Account) (out turn, err error) {
	_, log := r.settings()
	references, err := r.store.BillsToCheck(ctx, a.Name, r.now(), maxLookup)
	if err != nil || len(references) == 0 {
		return out, err
	}
	out.due = len(references)
	infos, failed := a.Client.Lookup(ctx, references)
	if ctx.Err() != nil {
		return out, ctx.Err()
	}
	if failed != nil {
		log.Warn("asking the gateway about open bills", zap.String("account", a.Name), zap.Error(failed))
	}
	for _, reference := range references {
		info, tried := infos[reference]
		// Where some were asked about and this one was not, it comes first next time. One
		// that could not be asked about comes behind the others, or it would hold them up.
		q := question{answered: tried || failed == nil, skipped: failed != nil && !tried && len(infos) > 0}
		if info.Err != nil && !errors.Is(info.Err, errUnlisted) {
			q.answered = false
			if failed == nil {
				log.Warn("asking the gateway about an open bill", zap.String("account", a.Name), zap.String("reference", reference), zap.Error(info.Err))
			}
			if out.odd == nil {
				out.odd = fmt.Errorf("bill %s: %w", reference, info.Err)
			}
		}
		if err := r.doubtReleases(ctx, a, &info); err != nil {
			return out, err
		}
		found := 0
		err := r.store.WriteInBackground(ctx, func(tx *store.Tx) (err error) {
			found, err = r.reconcile(tx, log, a, reference, info, q)
			return err
		})
		if err != nil {
			return out, fmt.Errorf("reconciling bill %s: %w", reference, err)
		}
		if q.answered {
			out.Bills++
		}
		out.Found += found
	}
	return out, failed
}

// untilCheck is the time until the next bill has to be asked about.
func (r *Resolver) untilCheck(ctx context.Context) (time.Duration, error) {
	accounts, _ := r.settings()
	next := longest
	for _, a := range accounts {
		if a.Reconcile <= 0 {
			continue
		}
		due, ok, err := r.store.NextCheck(ctx, a.Name)
		if err != nil {
			return 0, err
		}
		if ok {
			next = min(next, r.until(due))
		}
	}
	return next, nil
}

// doubtReleases has a payment that is held here and that the gateway's list does not flag
// stay held, unless its own record does not flag it either: a callback has flagged it, and
// the list may not have heard of that.
func (r *Resolver) doubtReleases(ctx context.Context, a Account, info *gateway.Info) error {
	if !slices.ContainsFunc(info.Payments, func(s gateway.Seen) bool { return s.ID != "" && s.Status == bill.Success && !s.Risky }) {
		return nil
	}
	rec, err := r.store.BillByReference(ctx, info.Reference)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for i, s := range info.Payments {
		heldHere := func(p bill.Payment) bool { return p.ID == s.ID && p.Status == bill.Success && p.Risky }
		if s.Status != bill.Success || s.Risky || !slices.ContainsFunc(rec.Payments, heldHere) {
			continue
		}
		released, err := a.Client.Released(ctx, info.Reference, s.ID)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		info.Payments[i].Risky = err != nil || !released
	}
	return nil
}

// A question is what became of asking about one bill.
type question struct {
	answered bool
	skipped  bool // the gateway was not asked, though about others
}

// reconcile takes what the gateway knows of a bill into it and plans the next
// question. The payments it lists enter as callbacks would; found says how many.
func (r *Resolver) reconcile(tx *store.Tx, log *zap.Logger, a Account, reference string, info gateway.Info, q question) (found int, err error) {
	rec, err := tx.Bill(a.Name, reference)
	if err != nil {
		return 0, err
	}
	list := missed(rec.Bill, info)
	for _, p := range list {
		log.Warn("found a payment whose callback did not come", zap.String("account", a.Name), zap.String("reference", reference))
		if err := r.applyFound(tx, a, info, reference, p); err != nil {
			return 0, err
		}
	}
	if rec, err = tx.Bill(a.Name, reference); err != nil {
		return 0, err
	}
	now := r.now()
	next, end := nextCheck(rec.Bill, now, a.Reconcile), rec.ExpiresAt.Add(bill.ListenAfter)
	switch {
	case a.Reconcile <= 0:
	case q.skipped:
		next = now.Add(min(a.Reconcile, askAgain))
	case next.IsZero() && !q.answered && !rec.StateAt(end.Add(-1)).Final && now.Before(end.Add(heldFor)):
		// The last question is one that was answered.
		next = now.Add(max(a.Reconcile, overdueEvery))
	}
	return len(list), tx.PlanCheck(reference, next)
}

// nextCheck is when a bill is asked about again: in regular turns while it is valid,
// at the end of its validity, less often after it, and a last time when it is given up,
// unless a payment is held. Zero means never.
func nextCheck(b *bill.Bill, now time.Time, every time.Duration) time.Time {
	end := b.ExpiresAt.Add(bill.ListenAfter)
	switch {
	case every <= 0:
		return time.Time{}
	case held(b) && !now.Before(end) && now.Before(end.Add(heldFor)):
		return now.Add(max(every, heldEvery))
	case b.StateAt(now).Final:
		return time.Time{}
	case now.Before(b.ExpiresAt):
		return earlier(now.Add(every), b.ExpiresAt)
	default:
		return earlier(now.Add(max(every, overdueEvery)), end)
	}
}

// held reports whether a payment in the bill's coin waits for its release.
func held(b *bill.Bill) bool {
	return slices.ContainsFunc(b.Payments, func(p bill.Payment) bool {
		return p.Status == bill.Success && p.Risky && b.Pays.Accepts(p.Token)
	})
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// found is a payment that the gateway's list has and that does not count here yet.
type found struct {
	bill.Payment
	due decimal.Decimal // what the bill costs in its coin; zero if that is the bill's own
}

// missed lists the confirmed payments of the gateway's list that do not count here
// yet, each with the name under which it is to be known: its record, if the list has
// records, else that of a payment seen before it was confirmed, or one of its own.
func missed(b *bill.Bill, info gateway.Info) (list []found) {
	var nameless []gateway.Seen
	for _, s := range info.Payments {
		switch {
		case s.Status != bill.Success || !s.Amount.IsPositive():
		case s.ID == "":
			nameless = append(nameless, s)
		case !slices.ContainsFunc(b.Payments, func(p bill.Payment) bool {
			return p.ID == s.ID && p.Status == bill.Success && (s.Risky || !p.Risky)
		}):
			p := paymentOf(s)
			p.ID = s.ID
			list = append(list, found{p, s.Due})
		}
	}
	for _, p := range missedNameless(b, nameless) {
		list = append(list, found{Payment: p})
	}
	return list
}

// paymentOf is a listed payment without its name.
func paymentOf(s gateway.Seen) bill.Payment {
	return bill.Payment{
		Status:     s.Status,
		Amount:     s.Amount,
		Token:      s.Token,
		TxID:       s.TxID,
		ServiceFee: s.ServiceFee,
		Risky:      s.Risky,
		ArrivedAt:  s.PaidAt,
	}
}

// missedNameless is missed for confirmed payments of which the list has no records.
func missedNameless(b *bill.Bill, listed []gateway.Seen) []bill.Payment {
	waiting := slices.Clone(b.Payments)
	// Two equal internal transfers are two payments, so each known one takes one of
	// the list away.
	for _, p := range b.Payments {
		if p.Status != bill.Success {
			continue
		}
		waiting = slices.DeleteFunc(waiting, func(q bill.Payment) bool { return q.ID == p.ID })
		if i := slices.IndexFunc(listed, func(s gateway.Seen) bool { return alike(s, p.Amount, p.Token, p.TxID) }); i >= 0 {
			listed = slices.Delete(listed, i, i+1)
		}
	}
	list := make([]bill.Payment, 0, len(listed))
	for _, s := range listed {
		same := func(p bill.Payment) bool { return p.Status == bill.Success && alike(s, p.Amount, p.Token, p.TxID) }
		p := paymentOf(s)
		p.ID = foundName(b.Reference, count(b.Payments, same)+count(list, same), s)
		if i := slices.IndexFunc(waiting, func(q bill.Payment) bool { return alike(s, q.Amount, q.Token, q.TxID) }); i >= 0 {
			p.ID = waiting[i].ID
			waiting = slices.Delete(waiting, i, i+1)
		}
		list = append(list, p)
	}
	return list
}

func count(list []bill.Payment, is func(bill.Payment) bool) (n int) {
	for _, p := range list {
		if is(p) {
			n++
		}
	}
	return n
}

// foundName names a payment that has no record. The number, of equal ones before it,
// keeps equal ones apart, also after some of them were given their records.
func foundName(reference string, n int, s gateway.Seen) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s\x00%s\x00%d\x00%d", reference, s.TxID, s.Amount, s.Crypto, s.PaidAt.Unix(), n))
	return foundPrefix + hex.EncodeToString(sum[:12])
}

// applyFound counts and tells a payment that was found.
func (r *Resolver) applyFound(tx *store.Tx, a Account, info gateway.Info, reference string, p found) error {
	due := info.Due.Amount
	if p.due.IsPositive() {
		due = p.due
	}
	cb := gateway.Callback{
		Kind:       gateway.KindOrder,
		RecordID:   p.ID,
		Status:     p.Status,
		Reference:  reference,
		Subject:    reference,
		OrderID:    info.OrderID,
		Price:      info.Price,
		Currency:   info.Currency,
		Due:        due,
		Amount:     p.Amount,
		Token:      p.Token,
		TxID:       p.TxID,
		ServiceFee: p.ServiceFee,
		RawStatus:  string(p.Status),
		Risky:      p.Risky,
	}
	arrived := p.ArrivedAt
	if arrived.IsZero() {
		arrived = r.now()
	}
	out, err := r.pay(tx, a, cb, arrived)
	if err != nil {
		return err
	}
	state := out.bill.StateAt(r.now())
	network := ""
	if out.bill.Pays.Accepts(cb.Token) {
		network = out.bill.Pays.Network
	}
	data := event.Data{
		Account: a.Name,
		API:     a.API,
		Origin:  event.FromReconcile,
		Bill:    event.OfBill(out.bill, state, true, ""),
		Payment: event.OfPayment(cb, network),
		Raw:     json.RawMessage("{}"),
	}
	kind, status := cb.Key()
	id := event.ID(a.Name, kind, cb.RecordID, status)
	return r.tell(tx, a, id, orderEvent(out.bill, cb, state), cb.Subject, "", r.now(), data)
}
