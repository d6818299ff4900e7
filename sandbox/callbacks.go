package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"go.uber.org/zap"
)

// The values of pay_status. Failed is not documented for orders, but for all other
// kinds of callbacks.
const (
	statusPending    = "pending"
	statusProcessing = "processing"
	statusSuccess    = "success"
	statusFailed     = "failed"
)

// What became of a callback.
const (
	stateSending   = "sending"
	stateWaiting   = "waiting" // for its next try
	stateDelivered = "delivered"
	stateGivenUp   = "given up"
	stateUnsent    = "not sent"
)

const (
	// callbackTimeout is for one try. The gateway's limit is not documented.
	callbackTimeout = 10 * time.Second

	// maxUnderWay bounds the goroutines that send callbacks.
	maxUnderWay = 5000

	maxAnswer  = 64 << 10 // read of an answer
	keptAnswer = 64       // kept in the log
)

// callbackOffsets are the times of the tries. The gateway documents them as 30 s,
// 1 m 30, 3 m 30 and so on. They are read as counted from the first try, not as
// waits: then the waits are 30 s, 1, 2, 4, 8 and 16 minutes, each the double of the
// one before, and the last try is the half hour after the first of which the
// documentation speaks.
var callbackOffsets = []time.Duration{
	0,
	30 * time.Second,
	1*time.Minute + 30*time.Second,
	3*time.Minute + 30*time.Second,
	7*time.Minute + 30*time.Second,
	15*time.Minute + 30*time.Second,
	31*time.Minute + 30*time.Second,
}

// A callback tells the merchant one status of one payment.
type callback struct {
	order               *order
	risky               bool
	recordID, payStatus string
	body                []byte
	url                 string
	forged              bool // sent with a wrong signature, once
	created             time.Time

	state    string
	problem  string // why it was not sent
	tries    []try
	next     time.Time       // of the next try
	previous <-chan struct{} // closed once the callback before it was tried
	tried    chan struct{}   // closed once this one was tried
}

// A try is one request.
type try struct {
	At     time.Time `json:"at"`
	Status int       `json:"status"` // 0 if there was no answer
	Answer string    `json:"answer"` // its first bytes
	Error  string    `json:"error,omitempty"`
	Taken  bool      `json:"taken"`
}

// resendable reports whether webhook/resend may repeat the callback: it does so
// only for confirmed payments.
func (c *callback) resendable() bool { return c.payStatus == statusSuccess && !c.forged }

// callbackView is a callback as JSON and as the page shows it.
type callbackView struct {
	RecordID  string          `json:"record_id"`
	PayStatus string          `json:"pay_status"`
	URL       string          `json:"url"`
	Risky     bool            `json:"risky"`
	Signature string          `json:"signature"`
	State     string          `json:"state"`
	Problem   string          `json:"problem,omitempty"`
	Created   time.Time       `json:"created"`
	Next      *time.Time      `json:"next"`
	Tries     []try           `json:"tries"`
	Body      json.RawMessage `json:"body"`
}

// view copies a callback. The caller holds the state's mu.
func (c *callback) view() callbackView {
	v := callbackView{
		RecordID:  c.recordID,
		PayStatus: c.payStatus,
		Risky:     c.risky,
		URL:       c.url,
		Signature: "good",
		State:     c.state,
		Problem:   c.problem,
		Created:   c.created.UTC(),
		Tries:     append([]try{}, c.tries...),
		Body:      c.body,
	}
	if c.forged {
		v.Signature = "bad"
	}
	if c.state == stateWaiting {
		next := c.next.UTC()
		v.Next = &next
	}
	return v
}

// callbackBody is the documented body of an API Deposit callback: all values are
// strings. Where custom_value stands is not documented.
type callbackBody struct {
	PayStatus           string         `json:"pay_status"`
	OrderType           string         `json:"order_type"`
	RecordID            string         `json:"record_id"`
	OrderID             string         `json:"order_id"`
	ProductPrice        string         `json:"product_price"`
	DenominatedCurrency string         `json:"denominated_currency"`
	OrderAmount         string         `json:"order_amount"`
	FiatRate            string         `json:"fiat_rate"`
	PaidAmount          string         `json:"paid_amount"`
	TokenRate           string         `json:"token_rate"`
	Chain               string         `json:"chain"`
	Txid                string         `json:"txid"`
	Contract            string         `json:"contract"`
	Crypto              string         `json:"crypto"`
	Extend              callbackExtend `json:"extend"`
}

type callbackExtend struct {
	MerchantOrderID string `json:"merchant_order_id"`
	CustomValue     string `json:"custom_value,omitempty"`
}

// callbackURL is where the callbacks of an order go.
func (s *Sandbox) callbackURL(o *order) string {
	if o.notifyURL != "" {
		return o.notifyURL
	}
	return s.notifyURL
}

// wait divides d by the configured speed.
func (s *Sandbox) wait(d time.Duration) time.Duration {
	return time.Duration(float64(d) / s.speed)
}

// send tells the merchant of status, which need not be the payment's own. The
// caller holds mu.
func (s *Sandbox) send(o *order, p *payment, status string, forged bool) *callback {
	txid := p.txid
	if status == statusPending {
		txid = "" // not on the blockchain yet
	}
	var content any = callbackBody{
		PayStatus:           status,
		OrderType:           "API Deposit",
		RecordID:            p.recordID,
		OrderID:             o.id,
		ProductPrice:        o.productPrice,
		DenominatedCurrency: o.currency,
		OrderAmount:         o.due.String(),
		FiatRate:            o.fiatRate.String(),
		PaidAmount:          p.amount.String(),
		TokenRate:           p.token.coin.price.String(),
		Chain:               p.chain,
		Txid:                txid,
		Contract:            p.contract,
		Crypto:              p.crypto,
		Extend:              callbackExtend{o.merchantID, o.customValue},
	}
	if o.api == apiV2 {
		content = newCallbackV2(o, p, status)
	}
	body, err := json.Marshal(content)
	if err != nil {
		// Strings always marshal. An empty body would at least be refused.
		s.logger.Error("making callback", zap.Error(err))
	}
	return s.start(&callback{
		order: o, recordID: p.recordID, payStatus: status, risky: p.risky, body: body, forged: forged,
	})
}

// sendAgain repeats a callback, with a signature of its own. The caller holds mu.
func (s *Sandbox) sendAgain(c *callback) *callback {
	return s.start(&callback{
		order: c.order, recordID: c.recordID, payStatus: c.payStatus, risky: c.risky, body: c.body,
	})
}

// start puts a callback behind those of the same order. The first tries of an
// order's callbacks are in order; a callback that waits for another try holds up
// nobody. The caller holds mu.
func (s *Sandbox) start(c *callback) *callback {
	st := s.state
	o := c.order
	c.url = s.callbackURL(o)
	c.created = st.now()
	c.tried = make(chan struct{})
	o.callbacks = append(o.callbacks, c)
	if n := len(o.callbacks) - maxCallbacks; n > 0 {
		o.callbacks = append([]*callback(nil), o.callbacks[n:]...)
		o.forgotten += n
	}

	c.state = stateUnsent
	switch {
	case c.url == "":
		c.problem = "neither the order nor the sandbox has a notify_url"
	case st.closed:
		c.problem = "the sandbox is shutting down"
	case st.underWay >= maxUnderWay:
		c.problem = "too many callbacks are under way"
	default:
		c.state = stateSending
		c.previous = o.tried
		o.tried = c.tried
		st.underWay++
		st.wg.Add(1)
		go s.deliver(c)
		return c
	}
	close(c.tried)
	return c
}

// deliver tries until the callback is taken or the tries are used up. It may outlive
// the configuration that started it, with whose settings it goes on, but not the
// state.
func (s *Sandbox) deliver(c *callback) {
	st := s.state
	defer st.wg.Done()
	defer func() {
		// A panic here would take the whole server down.
		if p := recover(); p != nil {
			s.logger.Error("callback panicked",
				zap.Any("error", p),
				zap.ByteString("stack", debug.Stack()))
		}
	}()
	tried := false
	defer func() {
		if !tried {
			close(c.tried)
		}
		st.mu.Lock()
		st.underWay--
		if c.state == stateSending || c.state == stateWaiting {
			c.state = stateGivenUp
		}
		st.mu.Unlock()
	}()

	if c.previous != nil {
		select {
		case <-c.previous:
		case <-st.ctx.Done():
			return
		}
	}

	begun := st.now()
	for i, offset := range callbackOffsets {
		if !pause(st.ctx, begun.Add(s.wait(offset)).Sub(st.now())) {
			return
		}
		st.mu.Lock()
		c.state = stateSending
		st.mu.Unlock()

		t := s.try(c.order.api, c.url, c.body, c.forged)

		last := i == len(callbackOffsets)-1 || c.forged
		st.mu.Lock()
		c.tries = append(c.tries, t)
		switch {
		case t.Taken:
			c.state = stateDelivered
		case last:
			c.state = stateGivenUp
		default:
			c.state = stateWaiting
			c.next = begun.Add(s.wait(callbackOffsets[i+1]))
		}
		st.mu.Unlock()
		if !tried {
			tried = true
			close(c.tried)
		}
		s.logger.Info("sent callback",
			zap.String("order_id", c.order.id),
			zap.String("record_id", c.recordID),
			zap.String("pay_status", c.payStatus),
			zap.Int("try", i+1),
			zap.Int("status", t.Status),
			zap.Bool("taken", t.Taken),
			zap.String("error", t.Error))
		if t.Taken || last {
			return
		}
	}
}

// pause waits, and reports whether there is still somebody to wait for.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// try sends a callback once, with a fresh signature or a wrong one. It is taken when
// the answer is 200 and holds the word "success".
func (s *Sandbox) try(api, url string, body []byte, forged bool) try {
	st := s.state
	ctx, cancel := context.WithTimeout(st.ctx, callbackTimeout)
	defer cancel()
	t := try{At: st.now().UTC()}

	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Error = "the URL cannot be used"
		return t
	}
	signed := body
	if forged {
		signed = append([]byte("not "), body...)
	}
	setSignature(req.Header, api, s.AppID, s.secret, t.At, signed)
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set("User-Agent", "ccpayment_sandbox")

	resp, err := st.client.Do(req)
	if err != nil {
		t.Error = explain(err)
		return t
	}
	defer resp.Body.Close()
	t.Status = resp.StatusCode
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	t.Answer = strings.ToValidUTF8(string(answer[:min(len(answer), keptAnswer)]), "\uFFFD")
	if err != nil {
		t.Error = explain(err)
		return t
	}
	t.Taken = resp.StatusCode == http.StatusOK && bytes.Contains(answer, []byte("success"))
	return t
}

// explain says what went wrong without the URL, which may carry a password.
func explain(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return err.Error()
}
