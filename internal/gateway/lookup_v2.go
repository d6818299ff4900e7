package gateway

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/shopspring/decimal"
	"golang.org/x/time/rate"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
)

// The endpoints that tell about payments.
const (
	pathOrder      = "/getAppOrderInfo"
	pathInvoice    = "/getInvoiceOrderInfo"
	pathRecord     = "/getAppDepositRecord"
	pathUserRecord = "/getUserDepositRecord"
)

// errNoOrder means that the gateway, when asked, does not know an order or record.
var errNoOrder = errors.New("the gateway does not know it")

// notThere are the refusals that say so. Which one is meant for it is not documented:
// the name of 11003 is NotFound, those of the others are general.
var notThere = []int{codeNotFound, codeFailed, codeArgument}

// orderV2 is the answer of /getAppOrderInfo. Its list has payments in the order's own
// coin only, and leaves the coin out.
type orderV2 struct {
	AmountToPay text     `json:"amountToPay"`
	CoinID      text     `json:"coinId"`
	CoinSymbol  text     `json:"coinSymbol"`
	Chain       text     `json:"chain"`
	ToAddress   text     `json:"toAddress"`
	ToMemo      text     `json:"toMemo"`
	PaidList    []paidV2 `json:"paidList"`
}

// invoiceV2 is the answer of /getInvoiceOrderInfo, whose payments may be in any coin.
type invoiceV2 struct {
	Price       text     `json:"price"`
	PriceSymbol text     `json:"priceSymbol"`
	InvoiceURL  text     `json:"invoiceUrl"`
	PaidList    []paidV2 `json:"paidList"`
}

// paidV2 is a payment of either list.
type paidV2 struct {
	RecordID   text  `json:"recordId"`
	CoinID     text  `json:"coinId"`
	CoinSymbol text  `json:"coinSymbol"`
	Chain      text  `json:"chain"`
	Amount     text  `json:"amount"`     // of an order
	PaidAmount text  `json:"paidAmount"` // of an invoice
	Rate       text  `json:"rate"`
	ServiceFee text  `json:"serviceFee"`
	TxID       text  `json:"txid"`
	Status     text  `json:"status"`
	ArrivedAt  stamp `json:"arrivedAt"`
	Risky      flag  `json:"isFlaggedAsRisky"`
}

// recordV2 is the answer of /getAppDepositRecord and /getUserDepositRecord.
type recordV2 struct {
	RecordID   text  `json:"recordId"`
	OrderID    text  `json:"orderId"`
	CoinID     text  `json:"coinId"`
	CoinSymbol text  `json:"coinSymbol"`
	Chain      text  `json:"chain"`
	Contract   text  `json:"contract"`
	Amount     text  `json:"amount"`
	ServiceFee text  `json:"serviceFee"`
	TxID       text  `json:"txId"`
	Status     text  `json:"status"`
	ArrivedAt  stamp `json:"arrivedAt"`
	Risky      flag  `json:"isFlaggedAsRisky"`
}

// ask posts a question about one order or record.
func (c *v2) ask(ctx context.Context, path string, in, out any) error {
	err := c.call(ctx, path, in, out)
	if refusedWith(err, notThere...) {
		return fmt.Errorf("%w: %v", errNoOrder, err)
	}
	return err
}

type byOrder struct {
	OrderID string `json:"orderId"`
}

func (c *v2) orderInfo(ctx context.Context, reference string) (orderV2, error) {
	var out struct {
		Data *orderV2 `json:"data"`
	}
	if err := c.ask(ctx, pathOrder, byOrder{reference}, &out); err != nil {
		return orderV2{}, err
	}
	if out.Data == nil || out.Data.AmountToPay == "" {
		return orderV2{}, errNoOrder
	}
	return *out.Data, nil
}

func (c *v2) invoiceInfo(ctx context.Context, reference string) (invoiceV2, error) {
	var out struct {
		Data *invoiceV2 `json:"data"`
	}
	if err := c.ask(ctx, pathInvoice, byOrder{reference}, &out); err != nil {
		return invoiceV2{}, err
	}
	if out.Data == nil || out.Data.Price == "" {
		return invoiceV2{}, errNoOrder
	}
	return *out.Data, nil
}

func (c *v2) record(ctx context.Context, limiter *rate.Limiter, path, id string) (recordV2, error) {
	var out struct {
		Data struct {
			Record *recordV2 `json:"record"`
		} `json:"data"`
	}
	err := c.pace.wait(ctx, limiter, path)
	if err == nil {
		err = c.ask(ctx, path, struct {
			RecordID string `json:"recordId"`
		}{id}, &out)
	}
	switch {
	case err != nil:
		return recordV2{}, err
	case out.Data.Record == nil || out.Data.Record.RecordID == "":
		return recordV2{}, errNoOrder
	case string(out.Data.Record.RecordID) != id:
		return recordV2{}, &Error{Failure: Unreachable, Endpoint: path, Err: errors.New("the answer is about another recordId")}
	}
	return *out.Data.Record, nil
}

// dueOf is what an order has to be paid with.
func (c *v2) dueOf(ctx context.Context, in orderV2) (due Due) {
	coinID, _ := strconv.ParseInt(string(in.CoinID), 10, 64)
	due.Token = c.token(ctx, coinID, string(in.Chain), string(in.CoinSymbol))
	due.Amount = amountOrZero(in.AmountToPay)
	return due
}

// Lookup asks about orders one by one, which is all that the gateway offers.
func (c *v2) Lookup(ctx context.Context, references []string) (map[string]Info, error) {
	infos := make(map[string]Info, len(references))
	for _, reference := range references {
		info, err := c.lookup(ctx, c.pace.orders, reference)
		if errors.Is(err, errNoOrder) {
			continue
		}
		if err != nil {
			return infos, err
		}
		for i, s := range info.Payments {
			if s.Status == bill.Success && info.unflagged[i] {
				// The list does not say whether the payment was flagged as risky. The
				// record does; a payment of which nobody says so is left for later.
				if info.Payments[i].Status, info.Payments[i].Risky, err = c.flagged(ctx, s.ID); err != nil {
					return infos, err
				}
			}
		}
		infos[reference] = info.Info
	}
	return infos, nil
}

// flagged asks the record of a confirmed payment whether it is flagged as risky.
func (c *v2) flagged(ctx context.Context, id string) (bill.PaymentStatus, bool, error) {
	r, err := c.record(ctx, c.pace.orders, pathRecord, id)
	switch {
	case errors.Is(err, errNoOrder) || err == nil && !r.Risky.told:
		return bill.Pending, false, nil
	case err != nil:
		return "", false, err
	}
	return bill.Success, r.Risky.set, nil
}

// infoV2 is the information of an order, with a mark for each payment of which the list
// does not say whether it is flagged as risky.
type infoV2 struct {
	Info
	price, currency string
	unflagged       []bool
}

// lookup asks about an order, of either sort. Nothing in a reference says which it is.
func (c *v2) lookup(ctx context.Context, limiter *rate.Limiter, reference string) (infoV2, error) {
	sorts := [...]struct {
		path string
		ask  func(context.Context, string) (infoV2, error)
	}{{pathOrder, c.lookupOrder}, {pathInvoice, c.lookupInvoice}}
	if c.hints.has(reference) {
		sorts[0], sorts[1] = sorts[1], sorts[0]
	}
	for _, s := range sorts {
		if err := c.pace.wait(ctx, limiter, s.path); err != nil {
			return infoV2{}, err
		}
		info, err := s.ask(ctx, reference)
		if errors.Is(err, errNoOrder) {
			continue
		}
		if err == nil && s.path == pathInvoice {
			c.hints.add(reference)
		}
		return info, err
	}
	return infoV2{}, errNoOrder
}

func (c *v2) lookupOrder(ctx context.Context, reference string) (infoV2, error) {
	in, err := c.orderInfo(ctx, reference)
	if err != nil {
		return infoV2{}, err
	}
	info := infoV2{Info: Info{Reference: reference, Due: c.dueOf(ctx, in)}}
	for _, p := range in.PaidList {
		info.add(p, info.Due.Token, p.Amount, decimal.Zero)
	}
	return info, nil
}

func (c *v2) lookupInvoice(ctx context.Context, reference string) (infoV2, error) {
	in, err := c.invoiceInfo(ctx, reference)
	if err != nil {
		return infoV2{}, err
	}
	info := infoV2{Info: Info{Reference: reference}, price: string(in.Price), currency: string(in.PriceSymbol)}
	price := amountOrZero(in.Price)
	for _, p := range in.PaidList {
		coinID, _ := strconv.ParseInt(string(p.CoinID), 10, 64)
		token := c.token(ctx, coinID, string(p.Chain), string(p.CoinSymbol))
		info.add(p, token, p.PaidAmount, c.inCoin(ctx, price, amountOrZero(p.Rate), TokenIDV2(coinID, string(p.Chain))))
	}
	return info, nil
}

// add takes a payment of a list. One whose amount cannot be read is left out.
func (i *infoV2) add(p paidV2, token bill.Token, amount text, due decimal.Decimal) {
	paid, err := bill.ParseAmount(string(amount))
	if err != nil || p.RecordID == "" || len(p.RecordID) > maxRecordID || hasControls(p.RecordID) {
		return
	}
	i.unflagged = append(i.unflagged, !p.Risky.told)
	i.Payments = append(i.Payments, Seen{
		ID:         string(p.RecordID),
		Status:     seenStatusV2(p.Status),
		Amount:     paid,
		Token:      token,
		TxID:       string(p.TxID),
		ServiceFee: string(p.ServiceFee),
		Due:        due,
		Risky:      p.Risky.set,
		PaidAt:     time.Time(p.ArrivedAt),
	})
}

// seenStatusV2 reads the state of a listed payment. An unknown one says nothing.
func seenStatusV2(s text) bill.PaymentStatus {
	if status := statusesV2[strings.ToLower(string(s))]; status != "" {
		return status
	}
	return bill.Pending
}

// maxDecimals is the precision where a coin's own is not known. No amount of the
// gateway has more.
const maxDecimals = 18

// inCoin is what a price costs in a coin at the gateway's rate, the price of the coin
// in the denominated currency: price/rate, with what does not fit the coin's decimals
// rounded up, which gives the amounts of the gateway's own examples to the last digit.
func (c *v2) inCoin(ctx context.Context, price, rate decimal.Decimal, tokenID string) decimal.Decimal {
	if !price.IsPositive() || !rate.IsPositive() {
		return decimal.Zero
	}
	precision := int32(maxDecimals)
	if coins, err := c.coins.get(ctx, c.fetchCoins); err == nil {
		if p, ok := coins.precision[tokenID]; ok {
			precision = p
		}
	}
	q, rest := price.QuoRem(rate, precision)
	if rest.IsPositive() {
		q = q.Add(decimal.New(1, -precision))
	}
	return q
}

// Complete asks about the order of a payment, as the documentation says, and about the
// payment's own record if the order does not list it: payments in another coin than the
// order's are found only there.
func (c *v2) Complete(ctx context.Context, cb Callback) (Callback, error) {
	if !cb.Incomplete {
		return cb, nil
	}
	if cb.Kind == KindOrder && cb.Reference != "" {
		info, err := c.lookup(ctx, c.pace.callbacks, cb.Reference)
		if err != nil && !errors.Is(err, errNoOrder) {
			return cb, err
		}
		cb.Due, cb.Price, cb.Currency = info.Due.Amount, info.price, info.currency
		for _, s := range info.Payments {
			if s.ID == cb.RecordID {
				if s.Due.IsPositive() {
					cb.Due = s.Due
				}
				return cb.with(s)
			}
		}
		if strings.EqualFold(cb.Token.Crypto, info.Due.Token.Crypto) {
			cb.Token = info.Due.Token // most likely, as long as nothing is counted
		}
	}

	path := pathRecord
	if strings.EqualFold(cb.Type, "UserDeposit") {
		path = pathUserRecord
	}
	r, err := c.record(ctx, c.pace.callbacks, path, cb.RecordID)
	if errors.Is(err, errNoOrder) {
		return cb, ErrUnlisted
	}
	if err != nil {
		return cb, err
	}
	amount, err := bill.ParseAmount(string(r.Amount))
	switch {
	case err != nil:
		return cb, fmt.Errorf("%w: its record has no amount", ErrUnlisted)
	case cb.Reference == "" && cb.Kind == KindOrder:
		cb.Reference, cb.OrderID = string(r.OrderID), string(r.OrderID)
		cb.Subject = string(firstOf(r.OrderID, r.RecordID))
	case cb.Kind == KindOrder && r.OrderID != "" && string(r.OrderID) != cb.Reference:
		return cb, fmt.Errorf("%w: its record is about another order", ErrUnlisted)
	}
	coinID, _ := strconv.ParseInt(string(r.CoinID), 10, 64)
	token := c.token(ctx, coinID, string(r.Chain), string(r.CoinSymbol))
	if token.Contract == "" {
		token.Contract = string(r.Contract)
	}
	return cb.with(Seen{
		ID:         string(r.RecordID),
		Status:     seenStatusV2(r.Status),
		Amount:     amount,
		Token:      token,
		TxID:       string(r.TxID),
		ServiceFee: string(r.ServiceFee),
		Risky:      r.Risky.set,
		PaidAt:     time.Time(r.ArrivedAt),
	})
}

// with takes what the gateway lists of a callback's payment. A payment that the
// callback calls confirmed must be so there too; one that either of them flags is held.
func (cb Callback) with(s Seen) (Callback, error) {
	cb.Amount, cb.Token, cb.TxID, cb.ServiceFee, cb.ArrivedAt = s.Amount, s.Token, s.TxID, s.ServiceFee, s.PaidAt
	cb.Risky = cb.Risky || s.Risky
	if cb.Status == bill.Success && (s.Status != bill.Success || !s.Amount.IsPositive()) {
		return cb, fmt.Errorf("%w as confirmed", ErrUnlisted)
	}
	cb.Incomplete = false
	return cb, nil
}

// maxHints bounds what is remembered of orders.
const maxHints = 4096

// hints remember which orders are invoices, so that the right endpoint is asked first.
type hints struct {
	mu       sync.Mutex
	invoices map[string]struct{}
}

func (h *hints) add(reference string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.invoices == nil || len(h.invoices) >= maxHints {
		h.invoices = make(map[string]struct{})
	}
	h.invoices[reference] = struct{}{}
}

func (h *hints) has(reference string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, ok := h.invoices[reference]
	return ok
}
