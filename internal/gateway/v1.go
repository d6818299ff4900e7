package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
)

// EndpointV1 is the documented base URL of API v1.
const EndpointV1 = "https://admin.ccpayment.com/ccpayment/v1"

// v1 is API v1. Source of all paths and fields: https://docs.ccpayment.com/,
// "CCPayment v1.0 API".
type v1 struct {
	*transport
	tokens list[map[string]Listed]
}

// NewV1 returns a client of API v1.
func NewV1(c Config) Client { return &v1{transport: newTransport(c)} }

// Create posts to /bill/create ("Native Checkout Integration"). The answer has no
// amount in the coin: its field "amount" is the price.
func (c *v1) Create(ctx context.Context, o Order) (Created, error) {
	const path = "/bill/create"
	var out struct {
		Data struct {
			Amount       text `json:"amount"`
			ProductPrice text `json:"product_price"` // the later name of amount
			OrderID      text `json:"order_id"`
			Network      text `json:"network"`
			PayAddress   text `json:"pay_address"`
			Memo         text `json:"memo"`
			TokenID      text `json:"token_id"`
			Crypto       text `json:"crypto"`
		} `json:"data"`
	}
	err := c.call(ctx, path, struct {
		MerchantOrderID     string `json:"merchant_order_id"`
		ProductPrice        string `json:"product_price"`
		TokenID             string `json:"token_id"`
		DenominatedCurrency string `json:"denominated_currency"`
		OrderValidPeriod    int64  `json:"order_valid_period"`
		Remark              string `json:"remark,omitempty"`
		NotifyURL           string `json:"notify_url,omitempty"`
	}{o.Reference, o.Price.StringFixed(2), o.TokenID, o.Currency, int64(o.ValidFor / time.Second), o.Remark, o.NotifyURL}, &out)
	if err != nil {
		return Created{}, err
	}

	// The signature says that the gateway wrote this answer, not that it wrote it
	// to this request. An answer to another one must not become a buyer's address.
	d := out.Data
	price := d.ProductPrice
	if price == "" {
		price = d.Amount
	}
	switch {
	case d.OrderID == "" || d.PayAddress == "":
		err = errors.New("the answer lacks order_id or pay_address")
	case d.TokenID != "" && string(d.TokenID) != o.TokenID:
		err = errors.New("the answer is about another token_id")
	case price != "":
		if p, perr := bill.ParseAmount(string(price)); perr != nil || !p.Equal(o.Price) {
			err = errors.New("the answer is about another price")
		}
	}
	if err != nil {
		return Created{}, &Error{Failure: Unreachable, Endpoint: path, Err: err}
	}
	return Created{
		OrderID: string(d.OrderID),
		Address: string(d.PayAddress),
		Memo:    string(d.Memo),
		Crypto:  string(d.Crypto),
		Network: string(d.Network),
	}, nil
}

// Due asks /bill/info for the amount of an order and falls back on /token/rate,
// which knows prices in USD only. An amount that neither tells is an error.
func (c *v1) Due(ctx context.Context, o Order) (Due, error) {
	infos, err := c.Lookup(ctx, []string{o.Reference})
	if info, ok := infos[o.Reference]; err == nil && ok && info.Due.Known() {
		return info.Due, nil
	}
	if err == nil {
		err = &Error{Failure: Unreachable, Endpoint: "/bill/info", Err: errors.New("the gateway does not tell the amount of the new order")}
	}
	if o.Currency != "USD" {
		return Due{}, err
	}
	due, rateErr := c.rate(ctx, o)
	if rateErr != nil {
		return Due{}, err
	}
	return due, nil
}

// rate asks /token/rate for the amount of a price in USD, and /coin/all for the
// chain and contract, without which no payment could be told from another coin's.
func (c *v1) rate(ctx context.Context, o Order) (Due, error) {
	var out struct {
		Data struct {
			Value text `json:"value"`
		} `json:"data"`
	}
	err := c.call(ctx, "/token/rate", struct {
		Amount  string `json:"amount"`
		TokenID string `json:"token_id"`
	}{o.Price.StringFixed(2), o.TokenID}, &out)
	if err != nil {
		return Due{}, err
	}
	amount, err := bill.ParseAmount(string(out.Data.Value))
	if err != nil || !amount.IsPositive() {
		return Due{}, errors.New("/token/rate: the answer has no amount")
	}
	tokens, err := c.Tokens(ctx)
	if err != nil {
		return Due{}, err
	}
	due := Due{Amount: amount, Token: tokens[o.TokenID].Token}
	if !due.Known() {
		return Due{}, fmt.Errorf("/coin/all: token %s is not listed with its coin and chain", o.TokenID)
	}
	return due, nil
}

// CreateHosted posts to /concise/url/get ("Hosted Checkout Page Integration"),
// which is priced in USD; the buyer chooses the coin on the gateway's page.
func (c *v1) CreateHosted(ctx context.Context, o Order) (string, error) {
	const path = "/concise/url/get"
	if o.Currency != "USD" {
		return "", &Error{Failure: Refused, Endpoint: path, Err: errors.New("the hosted page is priced in USD only")}
	}
	var out struct {
		Data struct {
			PaymentURL text `json:"payment_url"`
		} `json:"data"`
	}
	err := c.call(ctx, path, struct {
		ProductPrice     string `json:"product_price"`
		MerchantOrderID  string `json:"merchant_order_id"`
		ProductName      string `json:"product_name"`
		OrderValidPeriod int64  `json:"order_valid_period"`
		ReturnURL        string `json:"return_url,omitempty"`
		NotifyURL        string `json:"notify_url,omitempty"`
	}{o.Price.StringFixed(2), o.Reference, o.Title, int64(o.ValidFor / time.Second), o.ReturnURL, o.NotifyURL}, &out)
	if err != nil {
		return "", err
	}
	url := string(out.Data.PaymentURL)
	if !strings.HasPrefix(url, "https://") && !strings.HasPrefix(url, "http://") {
		return "", &Error{Failure: Unreachable, Endpoint: path, Err: errors.New("the answer has no payment_url")}
	}
	return url, nil
}

// Lookup asks /bill/info about at most 100 orders of this shop. What the gateway does
// with one it does not know is not documented. Should it refuse them all for that one, or
// give an answer that cannot be read for one, each is asked about alone.
func (c *v1) Lookup(ctx context.Context, references []string) (map[string]Info, error) {
	infos, err := c.lookup(ctx, references)
	e := new(Error)
	oneOfThem := errors.Is(err, errUnusable) || errors.As(err, &e) && e.Failure == Refused && !e.concernsAll()
	if !oneOfThem || len(references) == 1 {
		return infos, err
	}
	return lookupEach(ctx, references, func(ctx context.Context, reference string) (Info, error) {
		infos, err := c.lookup(ctx, []string{reference})
		if err != nil {
			return Info{}, err
		}
		info, ok := infos[reference]
		if !ok {
			return Info{}, ErrUnlisted
		}
		return info, nil
	})
}

func (c *v1) lookup(ctx context.Context, references []string) (map[string]Info, error) {
	var out struct {
		Data []struct {
			Detail struct {
				MerchantOrderID text `json:"merchant_order_id"`
				OrderAmount     text `json:"order_amount"`
				Crypto          text `json:"crypto"`
				Chain           text `json:"chain"`
				Contract        text `json:"contract"`
			} `json:"order_detail"`
			Trades []struct {
				Amount     text  `json:"amount"`
				Crypto     text  `json:"crypto"`
				Chain      text  `json:"chain"`
				Contract   text  `json:"contract"`
				ServiceFee text  `json:"service_fee"`
				TxID       text  `json:"txid"`
				PayTime    stamp `json:"pay_time"`
				Status     text  `json:"status"`
			} `json:"trade_list"`
		} `json:"data"`
	}
	err := c.call(ctx, "/bill/info", struct {
		References []string `json:"merchant_order_ids"`
	}{references}, &out)
	if err != nil {
		return nil, err
	}

	asked := make(map[string]bool, len(references))
	for _, r := range references {
		asked[r] = true
	}
	infos := make(map[string]Info, len(out.Data))
	for _, o := range out.Data {
		d := o.Detail
		ref := string(d.MerchantOrderID)
		if !asked[ref] {
			continue
		}
		info := Info{
			Reference: ref,
			Due:       Due{Token: bill.Token{Crypto: string(d.Crypto), Chain: string(d.Chain), Contract: string(d.Contract)}},
		}
		if amount, err := bill.ParseAmount(string(d.OrderAmount)); err == nil {
			info.Due.Amount = amount
		}
		for _, t := range o.Trades {
			amount, err := bill.ParseAmount(string(t.Amount))
			if err != nil {
				continue
			}
			info.Payments = append(info.Payments, Seen{
				Status:     tradeStatus(string(t.Status)),
				Amount:     amount,
				Token:      bill.Token{Crypto: string(t.Crypto), Chain: string(t.Chain), Contract: string(t.Contract)},
				TxID:       string(t.TxID),
				ServiceFee: string(t.ServiceFee),
				PaidAt:     time.Time(t.PayTime),
			})
		}
		infos[ref] = info
	}
	return infos, nil
}

// tradeStatus reads the state of a listed payment. The documented list of deposits
// has none: a payment is listed there once it is confirmed.
func tradeStatus(s string) bill.PaymentStatus {
	switch strings.ToLower(s) {
	case "", "successful", "success":
		return bill.Success
	case "processing":
		return bill.Processing
	case "failed":
		return bill.Failed
	}
	return bill.Pending
}

// Resend posts to /webhook/resend ("Resend Webhook Notification"). Its answer is not
// documented beyond the envelope.
func (c *v1) Resend(ctx context.Context, from, to time.Time) error {
	var out struct{}
	return c.call(ctx, "/webhook/resend", struct {
		StartTimestamp  int64  `json:"start_timestamp"`
		EndTimestamp    int64  `json:"end_timestamp"`
		WebhookResult   string `json:"webhook_result"`
		TransactionType string `json:"transaction_type"`
	}{from.Unix(), to.Unix(), "Failed", "All Type"}, &out)
}

// Tokens asks /coin/all for the tokens that are enabled for the merchant.
func (c *v1) Tokens(ctx context.Context) (map[string]Listed, error) {
	return c.tokens.get(ctx, c.fetchTokens)
}

func (c *v1) fetchTokens(ctx context.Context) (map[string]Listed, error) {
	const usable = 1
	var out struct {
		Data struct {
			List []struct {
				Crypto text `json:"crypto"`
				Status int  `json:"status"`
				Tokens []struct {
					TokenID  text `json:"token_id"`
					Crypto   text `json:"crypto"`
					Logo     text `json:"logo"`
					Network  text `json:"network"`
					Chain    text `json:"chain"`
					Contract text `json:"contract"`
					Status   int  `json:"status"`
				} `json:"tokens"`
			} `json:"list"`
		} `json:"data"`
	}
	if err := c.transport.post(ctx, "/coin/all", []byte("{}"), maxList, &out); err != nil {
		return nil, err
	}
	tokens := make(map[string]Listed)
	for _, coin := range out.Data.List {
		for _, t := range coin.Tokens {
			crypto := t.Crypto
			if crypto == "" {
				crypto = coin.Crypto
			}
			tokens[string(t.TokenID)] = Listed{
				Token:  bill.Token{Crypto: string(crypto), Network: string(t.Network), Chain: string(t.Chain), Contract: string(t.Contract)},
				Logo:   string(t.Logo),
				Usable: coin.Status == usable && t.Status == usable,
			}
		}
	}
	return tokens, nil
}

// Released has nothing to ask: API v1 flags no payments.
func (c *v1) Released(context.Context, string, string) (bool, error) { return true, nil }

// Complete has nothing to ask: the callbacks of API v1 say all there is.
func (c *v1) Complete(_ context.Context, cb Callback) (Callback, error) { return cb, nil }

// call encodes a request and posts it.
func (c *v1) call(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	return c.transport.post(ctx, path, body, maxAnswer, out)
}

// stamp is a time in Unix seconds, written as a number or as a string.
type stamp time.Time

func (s *stamp) UnmarshalJSON(data []byte) error {
	var t text
	if err := t.UnmarshalJSON(data); err != nil {
		return err
	}
	var seconds int64
	for i := range len(t) {
		if t[i] < '0' || t[i] > '9' || i >= 10 {
			return nil // not a time in seconds; the time of sight is used
		}
		seconds = seconds*10 + int64(t[i]-'0')
	}
	if seconds > 0 {
		*s = stamp(time.Unix(seconds, 0).UTC())
	}
	return nil
}
