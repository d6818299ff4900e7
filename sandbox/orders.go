package sandbox

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/shopspring/decimal"
)

// Everything that is kept is bounded; the oldest goes first.
const (
	maxOrders    = 10_000
	maxPayments  = 100 // of one order
	maxCallbacks = 200 // kept in the log of one order
)

// states holds the state of each app id, so that it survives reloads.
var states = caddy.NewUsagePool()

// state is what all configurations with the same app id share.
type state struct {
	// now is the only clock.
	now func() time.Time

	// client sends callbacks. It does not follow redirects.
	client *http.Client

	// ctx ends with the state, and with it all callbacks under way.
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	// mu guards the fields below, and the contents of orders, payments and
	// callbacks.
	mu         sync.Mutex
	closed     bool
	announced  string
	lastID     int64
	orders     []*order // oldest first
	byID       map[string]*order
	byMerchant map[string]*order
	byKey      map[string]*order
	chosen     uint64 // orders that were given an address so far
	underWay   int    // callbacks being sent or waiting for their next try
	faults     map[string]*fault
	resends    []time.Time
	probe      *try // the newest one
	inbox      inbox
}

func newState() *state {
	ctx, cancel := context.WithCancel(context.Background())
	transport := &http.Transport{
		Proxy:                 nil, // callbacks of a demo stay on the machine
		DialContext:           (&net.Dialer{Timeout: callbackTimeout}).DialContext,
		TLSHandshakeTimeout:   callbackTimeout,
		ResponseHeaderTimeout: callbackTimeout,
		MaxIdleConns:          64,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       30 * time.Second,
	}
	return &state{
		now: time.Now,
		client: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		ctx:        ctx,
		cancel:     cancel,
		byID:       make(map[string]*order),
		byMerchant: make(map[string]*order),
		byKey:      make(map[string]*order),
		faults:     make(map[string]*fault),
		inbox:      newInbox(),
	}
}

// Destruct ends all callbacks and waits for their end.
func (st *state) Destruct() error {
	st.mu.Lock()
	st.closed = true
	st.mu.Unlock()

	st.cancel()
	st.wg.Wait()
	st.client.CloseIdleConnections()
	return nil
}

// announce reports whether text is news.
func (st *state) announce(text string) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.announced == text {
		return false
	}
	st.announced = text
	return true
}

// newID makes an id of the form the gateway's have: the time, then 19 digits that
// are never the same. The caller holds mu.
func (st *state) newID() string {
	now := st.now().UTC()
	st.lastID = max(st.lastID+1, now.UnixNano())
	return fmt.Sprintf("%s%019d", now.Format("20060102150405"), st.lastID)
}

// An order is what the merchant calls a bill.
type order struct {
	api            string // that made it
	id, merchantID string

	price            decimal.Decimal
	productPrice     string // as the merchant wrote it
	currency         string // as the merchant wrote it
	fiatRate         decimal.Decimal
	productName      string
	remark           string
	customValue      string
	notifyURL        string
	returnURL        string
	validPeriod      int64 // seconds
	created, expires time.Time
	key              string // of the hosted checkout page, else empty

	token         *token // nil until the payer of a hosted order has chosen
	due           decimal.Decimal
	address, memo string

	payments  []*payment
	callbacks []*callback     // oldest first
	forgotten int             // callbacks that are no longer kept
	tried     <-chan struct{} // closed once the newest callback was tried
}

// A payment is one transaction to the address of an order.
type payment struct {
	recordID string
	status   string // as in callbacks: pending, processing, success, failed
	amount   decimal.Decimal
	token    *token

	// What callbacks and bill/info say, normally the token's own values.
	crypto, chain, contract string

	txid string
	at   time.Time // when it arrived
	late bool      // after the validity, as it was then

	// risky payments are flagged by the gateway, and are not credited before they are
	// released. API v1 has no such flag.
	risky bool
}

// add stores a new order under its ids and forgets the oldest when there are too
// many. The caller holds mu.
func (st *state) add(o *order) {
	st.orders = append(st.orders, o)
	st.byID[o.id] = o
	st.byMerchant[o.merchantID] = o
	if o.key != "" {
		st.byKey[o.key] = o
	}
	if len(st.orders) > maxOrders {
		old := st.orders[0]
		st.orders[0] = nil
		st.orders = st.orders[1:]
		delete(st.byID, old.id)
		delete(st.byMerchant, old.merchantID)
		delete(st.byKey, old.key)
	}
}

// find takes the gateway's id or the merchant's. The caller holds mu.
func (st *state) find(id string) *order {
	if o, ok := st.byID[id]; ok {
		return o
	}
	return st.byMerchant[id]
}

// choose sets what the order is paid in. The caller holds mu.
func (st *state) choose(appID string, o *order, t *token) {
	o.token = t
	if pricedInToken(o.currency) {
		o.due = o.price
	} else {
		o.due = amountDue(o.price, o.fiatRate, t.coin.price, t.precision)
	}
	st.chosen++
	o.address, o.memo = t.address(appID, st.chosen)
}

// counts reports whether p pays for o: another token, chain or contract does not, and
// neither does one that is flagged as risky.
func (o *order) counts(p *payment) bool {
	return !p.risky && o.inToken(p)
}

// inToken reports whether p is in the order's own token.
func (o *order) inToken(p *payment) bool {
	return o.token != nil && p.crypto == o.token.coin.symbol &&
		p.chain == o.token.chain && p.contract == o.token.contract
}

// paid is the sum of the confirmed payments that count.
func (o *order) paid() decimal.Decimal {
	var sum decimal.Decimal
	for _, p := range o.payments {
		if p.status == statusSuccess && o.counts(p) {
			sum = sum.Add(p.amount)
		}
	}
	return sum
}

// open is what is still due.
func (o *order) open() decimal.Decimal {
	return decimal.Max(o.due.Sub(o.paid()), decimal.Zero)
}

// unconfirmed is the newest payment that was seen and is not confirmed.
func (o *order) unconfirmed() *payment {
	for _, v := range slices.Backward(o.payments) {
		if p := v; p.status == statusPending || p.status == statusProcessing {
			return p
		}
	}
	return nil
}

// held is the newest payment that is flagged as risky.
func (o *order) held() *payment {
	for _, v := range slices.Backward(o.payments) {
		if p := v; p.risky {
			return p
		}
	}
	return nil
}

// stateName is the order's status in the words of the gateway's dashboard. An
// order that is paid stays where the payment that completed it put it.
func (o *order) stateName(now time.Time) string {
	var sum decimal.Decimal
	overdue := now.After(o.expires)
	for _, p := range o.payments {
		if p.status != statusSuccess || !o.counts(p) {
			continue
		}
		before := sum
		sum = sum.Add(p.amount)
		if before.LessThan(o.due) && !sum.LessThan(o.due) {
			overdue = p.late
		}
	}
	var name string
	switch {
	case sum.IsZero() && overdue:
		return "Expired"
	case sum.IsZero():
		return "Awaiting payment"
	case sum.LessThan(o.due):
		name = "Underpayment"
	case sum.Equal(o.due):
		name = "Paid"
	default:
		name = "Overpayment"
	}
	if overdue {
		name += "(Overdue)"
	}
	return name
}

// billInfoStatus is the status bill/info gives. For orders its documentation only
// shows Successful; the other words are those the same endpoint documents for
// withdrawals.
func (o *order) billInfoStatus(now time.Time) string {
	switch {
	case o.token != nil && !o.paid().LessThan(o.due):
		return "Successful"
	case now.After(o.expires):
		return "Failed"
	case o.paid().IsPositive() || o.unconfirmed() != nil:
		return "Processing"
	default:
		return "Pending"
	}
}

// newKey is what the address of a hosted checkout page ends in. Whoever has it
// sees the order.
func newKey() string { return rand.Text() }

// orderView is an order as JSON and as the page shows it.
type orderView struct {
	API                 string         `json:"api"`
	OrderID             string         `json:"order_id"`
	MerchantOrderID     string         `json:"merchant_order_id"`
	State               string         `json:"state"`
	Status              string         `json:"status"`
	Hosted              bool           `json:"hosted"`
	ProductName         string         `json:"product_name"`
	ProductPrice        string         `json:"product_price"`
	DenominatedCurrency string         `json:"denominated_currency"`
	FiatRate            string         `json:"fiat_rate"`
	TokenRate           string         `json:"token_rate"`
	OrderAmount         string         `json:"order_amount"`
	PaidAmount          string         `json:"paid_amount"`
	DueAmount           string         `json:"due_amount"`
	TokenID             string         `json:"token_id"`
	Crypto              string         `json:"crypto"`
	Network             string         `json:"network"`
	Chain               string         `json:"chain"`
	Contract            string         `json:"contract"`
	PayAddress          string         `json:"pay_address"`
	Memo                string         `json:"memo"`
	CustomValue         string         `json:"custom_value"`
	Remark              string         `json:"remark"`
	NotifyURL           string         `json:"notify_url"`
	ReturnURL           string         `json:"return_url"`
	PaymentURL          string         `json:"payment_url"`
	OrderValidPeriod    int64          `json:"order_valid_period"`
	Created             time.Time      `json:"created"`
	Expires             time.Time      `json:"expires"`
	Payments            []paymentView  `json:"payments"`
	Callbacks           []callbackView `json:"callbacks"`

	Unconfirmed bool `json:"-"`
	Held        bool `json:"-"`
	Forgotten   int  `json:"-"`
}

type paymentView struct {
	RecordID string    `json:"record_id"`
	Status   string    `json:"status"`
	Amount   string    `json:"amount"`
	Crypto   string    `json:"crypto"`
	Chain    string    `json:"chain"`
	Contract string    `json:"contract"`
	Txid     string    `json:"txid"`
	PayTime  time.Time `json:"pay_time"`
	Late     bool      `json:"late"`
	Risky    bool      `json:"risky"`
	Counts   bool      `json:"counts"`
}

// view copies an order. The caller holds mu.
func (s *Sandbox) view(o *order, base string) orderView {
	v := orderView{
		API:                 o.api,
		OrderID:             o.id,
		MerchantOrderID:     o.merchantID,
		State:               o.stateName(s.state.now()),
		Status:              o.billInfoStatus(s.state.now()),
		Hosted:              o.key != "",
		ProductName:         o.productName,
		ProductPrice:        o.productPrice,
		DenominatedCurrency: o.currency,
		FiatRate:            o.fiatRate.String(),
		CustomValue:         o.customValue,
		Remark:              o.remark,
		NotifyURL:           s.callbackURL(o),
		ReturnURL:           o.returnURL,
		OrderValidPeriod:    o.validPeriod,
		Created:             o.created.UTC(),
		Expires:             o.expires.UTC(),
		Payments:            []paymentView{},
		Callbacks:           []callbackView{},
		Unconfirmed:         o.unconfirmed() != nil,
		Held:                o.held() != nil,
		Forgotten:           o.forgotten,
	}
	if o.key != "" {
		v.PaymentURL = paymentURL(base, o.key)
	}
	if t := o.token; t != nil {
		v.TokenRate = t.coin.price.String()
		v.OrderAmount = o.due.String()
		v.PaidAmount = o.paid().String()
		v.DueAmount = o.open().String()
		v.TokenID = t.id
		v.Crypto = t.coin.symbol
		v.Network = t.network
		v.Chain = t.chain
		v.Contract = t.contract
		v.PayAddress = o.address
		v.Memo = o.memo
	}
	for _, p := range o.payments {
		v.Payments = append(v.Payments, paymentView{
			RecordID: p.recordID,
			Status:   p.status,
			Amount:   p.amount.String(),
			Crypto:   p.crypto,
			Chain:    p.chain,
			Contract: p.contract,
			Txid:     p.txid,
			PayTime:  p.at.UTC(),
			Late:     p.late,
			Risky:    p.risky,
			Counts:   o.counts(p),
		})
	}
	for _, c := range o.callbacks {
		v.Callbacks = append(v.Callbacks, c.view())
	}
	return v
}

// Interface guards
var _ caddy.Destructor = (*state)(nil)
