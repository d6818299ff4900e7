package sandbox

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/shopspring/decimal"
	"go.uber.org/zap"
)

const (
	maxForm     = 16 << 10
	maxListed   = 1000
	listedByAPI = 100
)

// maxControlWait is how long an action waits for the first tries of its callbacks
// before it answers.
const maxControlWait = 10 * time.Second

// crossOrigin keeps other sites' pages from pressing the buttons here.
var crossOrigin http.CrossOriginProtection

// parseForm reads the form of a control request, and refuses those that a page of
// another site sent.
func (s *Sandbox) parseForm(w http.ResponseWriter, r *http.Request) error {
	if err := crossOrigin.Check(r); err != nil {
		return caddyhttp.Error(http.StatusForbidden, err)
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return caddyhttp.Error(http.StatusRequestEntityTooLarge, err)
		}
		return caddyhttp.Error(http.StatusBadRequest, fmt.Errorf("reading form: %v", err))
	}
	return nil
}

// complain says what was wrong with a control request.
func (s *Sandbox) complain(w http.ResponseWriter, r *http.Request, status int, problem string) error {
	if wantsJSON(r) {
		return writeJSON(w, status, map[string]string{"error": problem})
	}
	return s.render(w, r, status, "problem", map[string]any{
		"Title": http.StatusText(status), "Problem": problem,
	})
}

// serveOrders lists the newest orders.
func (s *Sandbox) serveOrders(w http.ResponseWriter, r *http.Request) error {
	if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	limit := listedByAPI
	if v := r.URL.Query().Get("limit"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > maxListed {
			return s.complain(w, r, http.StatusBadRequest, "limit must be a number from 1 to "+strconv.Itoa(maxListed))
		}
		limit = n
	}
	list, _ := s.newest(base(r), 0, limit)
	return writeJSON(w, http.StatusOK, list)
}

// newest copies orders, the newest first, and says how many there are.
func (s *Sandbox) newest(base string, skip, limit int) ([]orderView, int) {
	st := s.state
	st.mu.Lock()
	defer st.mu.Unlock()
	list := []orderView{}
	for i := len(st.orders) - 1 - skip; i >= 0 && len(list) < limit; i-- {
		list = append(list, s.view(st.orders[i], base))
	}
	return list, len(st.orders)
}

// serveOrder shows one order, or does something to it.
func (s *Sandbox) serveOrder(w http.ResponseWriter, r *http.Request, rest string) error {
	if err := allow(w, r, http.MethodGet, http.MethodHead, http.MethodPost); err != nil {
		return err
	}
	st := s.state
	if r.Method != http.MethodPost {
		st.mu.Lock()
		o := st.find(rest)
		if o == nil {
			st.mu.Unlock()
			return s.complain(w, r, http.StatusNotFound, "no such order")
		}
		v := s.view(o, base(r))
		st.mu.Unlock()
		return writeJSON(w, http.StatusOK, v)
	}

	// The merchant's ids may have slashes in them, actions have none.
	i := strings.LastIndexByte(rest, '/')
	if i < 0 {
		w.Header().Set("Allow", "GET, HEAD")
		return caddyhttp.Error(http.StatusMethodNotAllowed, errors.New("no action is named"))
	}
	id, action := rest[:i], rest[i+1:]
	do, ok := actions[action]
	if !ok {
		return s.complain(w, r, http.StatusNotFound, "no such action")
	}
	if err := s.parseForm(w, r); err != nil {
		return err
	}

	st.mu.Lock()
	o := st.find(id)
	if o == nil {
		st.mu.Unlock()
		return s.complain(w, r, http.StatusNotFound, "no such order")
	}
	if o.token == nil {
		st.mu.Unlock()
		return s.complain(w, r, http.StatusConflict, "the payer has not chosen a coin yet")
	}
	callbacks, err := do(s, o, r.Form)
	st.mu.Unlock()
	if err != nil {
		status := http.StatusBadRequest
		if errors.Is(err, errConflict) {
			status = http.StatusConflict
		}
		return s.complain(w, r, status, err.Error())
	}
	s.logger.Info("simulating",
		zap.String("action", action),
		zap.String("order_id", o.id),
		zap.Int("callbacks", len(callbacks)))

	s.awaitFirstTries(r, callbacks)
	if !wantsJSON(r) {
		target := prefix(r) + "/sandbox/#o" + o.id
		if r.Form.Get("back") == "pay" && o.key != "" {
			target = prefix(r) + "/pay?key=" + url.QueryEscape(o.key)
		}
		http.Redirect(w, r, target, http.StatusSeeOther)
		return nil
	}

	answer := actionAnswer{Callbacks: []sentView{}}
	st.mu.Lock()
	answer.Order = s.view(o, base(r))
	for _, c := range callbacks {
		v := sentView{RecordID: c.recordID, PayStatus: c.payStatus, Error: c.problem}
		if len(c.tries) > 0 {
			t := c.tries[0]
			v.Tried, v.Status, v.Taken, v.Answer, v.Error = true, t.Status, t.Taken, t.Answer, t.Error
		}
		answer.Callbacks = append(answer.Callbacks, v)
	}
	st.mu.Unlock()
	return writeJSON(w, http.StatusOK, answer)
}

// actionAnswer is what an action answers to programs.
type actionAnswer struct {
	Order     orderView  `json:"order"`
	Callbacks []sentView `json:"callbacks"`
}

// sentView is the first try of a callback.
type sentView struct {
	RecordID  string `json:"record_id"`
	PayStatus string `json:"pay_status"`
	Tried     bool   `json:"tried"` // false if it was not sent, or not within the wait
	Status    int    `json:"status"`
	Taken     bool   `json:"taken"`
	Answer    string `json:"answer"`
	Error     string `json:"error"`
}

func (s *Sandbox) awaitFirstTries(r *http.Request, callbacks []*callback) {
	timer := time.NewTimer(maxControlWait)
	defer timer.Stop()
	for _, c := range callbacks {
		select {
		case <-c.tried:
		case <-timer.C:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// errConflict marks what an order in its present state does not allow.
var errConflict = errors.New("not possible now")

func conflict(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errConflict, fmt.Sprintf(format, args...))
}

// actions are what can be done to an order. They hold the state's mu, and give
// back the callbacks they caused.
var actions = map[string]func(*Sandbox, *order, url.Values) ([]*callback, error){
	"pay": func(s *Sandbox, o *order, f url.Values) ([]*callback, error) {
		return s.pay(o, f, o.open(), statusSuccess)
	},
	"pay-part": func(s *Sandbox, o *order, f url.Values) ([]*callback, error) {
		return s.pay(o, f, o.half(), statusSuccess)
	},
	"overpay": func(s *Sandbox, o *order, f url.Values) ([]*callback, error) {
		extra := o.due.Div(decimal.NewFromInt(10)).RoundCeil(o.token.precision)
		return s.pay(o, f, o.open().Add(extra), statusSuccess)
	},
	"pay-late": func(s *Sandbox, o *order, f url.Values) ([]*callback, error) {
		expires := o.expires
		if now := s.state.now(); !now.After(expires) {
			o.expires = now.Add(-time.Second)
		}
		callbacks, err := s.pay(o, f, o.open(), statusSuccess)
		if err != nil {
			o.expires = expires
		}
		return callbacks, err
	},
	"detect": func(s *Sandbox, o *order, f url.Values) ([]*callback, error) {
		status := f.Get("status")
		switch status {
		case "":
			status = statusProcessing
		case statusPending, statusProcessing:
		default:
			return nil, errors.New("status must be pending or processing")
		}
		return s.pay(o, f, o.open(), status)
	},
	"confirm": func(s *Sandbox, o *order, _ url.Values) ([]*callback, error) {
		p := o.unconfirmed()
		if p == nil {
			return nil, conflict("no payment waits for its confirmation")
		}
		p.status = statusSuccess
		return []*callback{s.send(o, p, statusSuccess, false)}, nil
	},
	"fail": func(s *Sandbox, o *order, f url.Values) ([]*callback, error) {
		if p := o.unconfirmed(); p != nil {
			p.status = statusFailed
			return []*callback{s.send(o, p, statusFailed, false)}, nil
		}
		return s.pay(o, f, o.open(), statusFailed)
	},
	"flag": func(s *Sandbox, o *order, f url.Values) ([]*callback, error) {
		if o.api != apiV2 {
			return nil, conflict("API v1 flags no payments")
		}
		return s.pay(o, f, o.open(), statusSuccess, risky)
	},
	"release": func(s *Sandbox, o *order, _ url.Values) ([]*callback, error) {
		p := o.held()
		if p == nil {
			return nil, conflict("no payment is flagged as risky")
		}
		p.risky = false
		return []*callback{s.send(o, p, p.status, false)}, nil
	},
	"resend": func(s *Sandbox, o *order, _ url.Values) ([]*callback, error) {
		c := o.lastCallback()
		if c == nil {
			return nil, conflict("no callback was sent yet")
		}
		return []*callback{s.sendAgain(c)}, nil
	},
	"send-twice": func(s *Sandbox, o *order, f url.Values) ([]*callback, error) {
		if c := o.lastCallback(); c != nil {
			return []*callback{s.sendAgain(c), s.sendAgain(c)}, nil
		}
		callbacks, err := s.pay(o, f, o.open(), statusSuccess)
		if err != nil {
			return nil, err
		}
		return append(callbacks, s.sendAgain(callbacks[0])), nil
	},
	"out-of-order": func(s *Sandbox, o *order, f url.Values) ([]*callback, error) {
		// The newest confirmed payment is told again where nothing is left to pay.
		if p := o.lastConfirmed(); p != nil && !o.open().IsPositive() && f.Get("amount") == "" {
			return []*callback{
				s.send(o, p, statusSuccess, false),
				s.send(o, p, statusProcessing, false),
			}, nil
		}
		callbacks, err := s.pay(o, f, o.open(), statusSuccess)
		if err != nil {
			return nil, err
		}
		p := o.payments[len(o.payments)-1]
		return append(callbacks, s.send(o, p, statusProcessing, false)), nil
	},
	"bad-signature": func(s *Sandbox, o *order, f url.Values) ([]*callback, error) {
		// This is a forger's callback: it tells of a payment that was never made,
		// and that bill/info therefore does not know.
		amount := o.open()
		if !amount.IsPositive() {
			amount = o.due
		}
		p, err := s.newPayment(o, f, amount, statusSuccess)
		if err != nil {
			return nil, err
		}
		return []*callback{s.send(o, p, statusSuccess, true)}, nil
	},
}

// half of what is due, in whole units of the token.
func (o *order) half() decimal.Decimal {
	return o.open().Div(decimal.NewFromInt(2)).RoundCeil(o.token.precision)
}

func (o *order) lastCallback() *callback {
	for _, v := range slices.Backward(o.callbacks) {
		if c := v; !c.forged {
			return c
		}
	}
	return nil
}

func (o *order) lastConfirmed() *payment {
	for _, v := range slices.Backward(o.payments) {
		if p := v; p.status == statusSuccess {
			return p
		}
	}
	return nil
}

// risky flags a payment.
func risky(p *payment) { p.risky = true }

// pay makes a payment of amount, unless the form names another, and tells of it.
func (s *Sandbox) pay(o *order, f url.Values, amount decimal.Decimal, status string, change ...func(*payment)) ([]*callback, error) {
	p, err := s.newPayment(o, f, amount, status)
	if err != nil {
		return nil, err
	}
	for _, c := range change {
		c(p)
	}
	if len(o.payments) >= maxPayments {
		return nil, conflict("the order has %d payments already", maxPayments)
	}
	o.payments = append(o.payments, p)
	return []*callback{s.send(o, p, status, false)}, nil
}

var chainAmount = regexp.MustCompile(`^(0|[1-9][0-9]{0,29})(\.[0-9]{1,30})?$`)

// newPayment makes a payment out of what is due and what the form says.
func (s *Sandbox) newPayment(o *order, f url.Values, amount decimal.Decimal, status string) (*payment, error) {
	t := o.token
	if f.Get("wrong_token") == "1" {
		t = otherToken(t)
	}
	if v := f.Get("amount"); v != "" {
		var ok bool
		if amount, ok = parsePrice(v, chainAmount); !ok {
			return nil, errors.New("amount must be a decimal number greater than 0")
		}
		if !amount.Equal(amount.Truncate(t.precision)) {
			return nil, fmt.Errorf("amount has more than the %d decimals of %s", t.precision, t.coin.symbol)
		}
	} else {
		// The other token may have fewer decimals.
		amount = amount.RoundCeil(t.precision)
	}
	if !amount.IsPositive() {
		return nil, conflict("nothing is due; name an amount to pay nevertheless")
	}

	p := &payment{
		recordID: s.state.newID(),
		status:   status,
		amount:   amount,
		token:    t,
		crypto:   t.coin.symbol,
		chain:    t.chain,
		contract: t.contract,
		txid:     newTxid(t),
		at:       s.state.now(),
	}
	for name, dst := range map[string]*string{"crypto": &p.crypto, "chain": &p.chain, "contract": &p.contract} {
		if v := f.Get(name); v != "" {
			if len(v) > maxName {
				return nil, fmt.Errorf("%s is longer than %d bytes", name, maxName)
			}
			*dst = v
		}
	}
	if v := f.Get("at"); v != "" {
		if !tenDigits(v) {
			return nil, errors.New("at must be a time in seconds, of 10 digits")
		}
		seconds, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return nil, errors.New("at must be a time in seconds, of 10 digits")
		}
		p.at = time.Unix(seconds, 0)
	}
	p.late = p.at.After(o.expires)
	return p, nil
}
