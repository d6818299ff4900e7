package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
)

// EndpointV2 is the documented base URL of API v2.
const EndpointV2 = "https://ccpayment.com/ccpayment/v2"

// v2 is API v2. Source of all paths and fields: https://ccpayment.com/api/doc. An order
// has no id but the shop's own, and its coin is named by a number and a chain.
//
// Whether answers are signed is not documented. One that is must be signed rightly;
// for one that is not, TLS says who made it.
type v2 struct {
	*transport
	pace  *pacer
	coins list[coinsV2]
	fiats list[map[string]int64] // ids by symbol
	hints hints
}

// NewV2 returns a client of API v2.
func NewV2(c Config) Client {
	t := newTransport(c)
	t.unsigned = true
	return &v2{transport: t, pace: newPacer()}
}

// TokenIDV2 is the id by which orders of API v2 name a coin on a chain.
func TokenIDV2(coinID int64, chain string) string {
	return strconv.FormatInt(coinID, 10) + " " + chain
}

// splitTokenV2 is the reverse of TokenIDV2.
func splitTokenV2(tokenID string) (coinID int64, chain string, err error) {
	number, chain, _ := strings.Cut(tokenID, " ")
	if coinID, err = strconv.ParseInt(number, 10, 64); err != nil || coinID <= 0 || chain == "" {
		return 0, "", fmt.Errorf("%q is not a coin id and a chain", tokenID)
	}
	return coinID, chain, nil
}

// Create posts to /createAppOrderDepositAddress ("Deposit with merchant-specified
// currency and network"). Its answer has the amount in the coin and not the coin's
// name, which is that of the list of coins.
func (c *v2) Create(ctx context.Context, o Order) (Created, error) {
	const path = "/createAppOrderDepositAddress"
	coinID, chain, err := splitTokenV2(o.TokenID)
	if err != nil {
		return Created{}, &Error{Failure: Refused, Endpoint: path, Err: err}
	}
	fiatID, err := c.fiat(ctx, o.Currency)
	if err != nil {
		return Created{}, err
	}
	var out struct {
		Data struct {
			Address text `json:"address"`
			Amount  text `json:"amount"`
			Memo    text `json:"memo"`
		} `json:"data"`
	}
	err = c.call(ctx, path, struct {
		CoinID    int64  `json:"coinId"`
		Chain     string `json:"chain"`
		Price     string `json:"price"`
		FiatID    int64  `json:"fiatId"`
		OrderID   string `json:"orderId"`
		ExpiredAt int64  `json:"expiredAt"`
		NotifyURL string `json:"notifyUrl,omitempty"`
	}{coinID, chain, o.Price.StringFixed(2), fiatID, o.Reference, o.ExpiresAt.Unix(), o.NotifyURL}, &out)
	if err != nil {
		return c.recover(ctx, o, coinID, chain, err)
	}
	amount, err := bill.ParseAmount(string(out.Data.Amount))
	if out.Data.Address == "" || err != nil || !amount.IsPositive() {
		return Created{}, &Error{Failure: Unreachable, Endpoint: path, Err: errors.New("the answer lacks address or amount")}
	}
	return c.created(ctx, o, coinID, chain, out.Data.Address, out.Data.Memo, amount), nil
}

// created describes an order of which address and amount are known.
func (c *v2) created(ctx context.Context, o Order, coinID int64, chain string, address, memo text, amount decimal.Decimal) Created {
	token := c.named(ctx, bill.Token{CoinID: coinID, Chain: chain}).Token
	return Created{
		OrderID: o.Reference,
		Address: string(address),
		Memo:    string(memo),
		Crypto:  token.Crypto,
		Network: token.Network,
		Due:     Due{Amount: amount, Token: token},
	}
}

// recover finds an order whose answer was lost. References are random, so an order of
// this one is the one that was asked for, if it is about the same coin.
func (c *v2) recover(ctx context.Context, o Order, coinID int64, chain string, cause error) (Created, error) {
	if !lost(cause) {
		return Created{}, cause
	}
	in, err := c.orderInfo(ctx, o.Reference)
	if err != nil {
		return Created{}, cause
	}
	amount, err := bill.ParseAmount(string(in.AmountToPay))
	if err != nil || !amount.IsPositive() || in.ToAddress == "" || in.CoinID != text(strconv.FormatInt(coinID, 10)) || !strings.EqualFold(string(in.Chain), chain) {
		return Created{}, cause
	}
	return c.created(ctx, o, coinID, chain, in.ToAddress, in.ToMemo, amount), nil
}

// lost reports whether a request may have made an order all the same.
func lost(err error) bool {
	var e *Error
	return errors.As(err, &e) && (e.Failure == Unreachable || IsDuplicate(err))
}

// Due asks /getAppOrderInfo for the amount of an order.
func (c *v2) Due(ctx context.Context, o Order) (Due, error) {
	in, err := c.orderInfo(ctx, o.Reference)
	if err != nil {
		return Due{}, err
	}
	due := c.dueOf(ctx, in)
	if !due.Known() {
		return Due{}, &Error{Failure: Unreachable, Endpoint: pathOrder, Err: errors.New("the gateway does not tell the amount of the new order")}
	}
	return due, nil
}

// CreateHosted posts to /createInvoiceUrl ("Deposit with customer-selected currency and
// network"); the buyer chooses the coin on the gateway's page.
func (c *v2) CreateHosted(ctx context.Context, o Order) (string, error) {
	const path = "/createInvoiceUrl"
	fiatID, err := c.fiat(ctx, o.Currency)
	if err != nil {
		return "", err
	}
	var out struct {
		Data struct {
			InvoiceURL text `json:"invoiceUrl"`
		} `json:"data"`
	}
	c.hints.add(o.Reference)
	err = c.call(ctx, path, struct {
		OrderID     string `json:"orderId"`
		Price       string `json:"price"`
		PriceFiatID string `json:"priceFiatId"` // documented as a string
		Product     string `json:"product,omitempty"`
		ExpiredAt   int64  `json:"expiredAt"`
		ReturnURL   string `json:"returnUrl,omitempty"`
		NotifyURL   string `json:"notifyUrl,omitempty"`
	}{o.Reference, o.Price.StringFixed(2), strconv.FormatInt(fiatID, 10), o.Title, o.ExpiresAt.Unix(), o.ReturnURL, o.NotifyURL}, &out)
	url := out.Data.InvoiceURL
	if err != nil {
		if !lost(err) {
			return "", err
		}
		in, infoErr := c.invoiceInfo(ctx, o.Reference)
		price, priceErr := bill.ParseAmount(string(in.Price))
		if infoErr != nil || priceErr != nil || !price.Equal(o.Price) {
			return "", err
		}
		url = in.InvoiceURL
	}
	if !strings.HasPrefix(string(url), "https://") && !strings.HasPrefix(string(url), "http://") {
		return "", &Error{Failure: Unreachable, Endpoint: path, Err: errors.New("the answer has no invoiceUrl")}
	}
	return string(url), nil
}

// Resend posts to /webhook/resend ("Resend Webhook by Calling API").
func (c *v2) Resend(ctx context.Context, from, to time.Time) error {
	var out struct{}
	return c.call(ctx, "/webhook/resend", struct {
		StartTimestamp  int64  `json:"startTimestamp"`
		EndTimestamp    int64  `json:"endTimestamp"`
		WebhookResult   string `json:"webhookResult"`
		TransactionType string `json:"transactionType"`
	}{from.Unix(), to.Unix(), "Failed", "AllType"}, &out)
}

// coinsV2 is the gateway's list of coins.
type coinsV2 struct {
	tokens    map[string]Listed
	precision map[string]int32 // by token id
	symbols   map[int64]string
}

// Tokens asks /getCoinList ("Get Token List") for the coins that are enabled for the
// merchant.
func (c *v2) Tokens(ctx context.Context) (map[string]Listed, error) {
	coins, err := c.coins.get(ctx, c.fetchCoins)
	return coins.tokens, err
}

func (c *v2) fetchCoins(ctx context.Context) (coinsV2, error) {
	const usable = "normal"
	var out struct {
		Data struct {
			Coins []struct {
				CoinID   text `json:"coinId"`
				Symbol   text `json:"symbol"`
				LogoURL  text `json:"logoUrl"`
				Status   text `json:"status"`
				Networks map[string]struct {
					Chain         text  `json:"chain"`
					ChainFullName text  `json:"chainFullName"`
					Contract      text  `json:"contract"`
					Precision     text  `json:"precision"`
					CanDeposit    *bool `json:"canDeposit"`
				} `json:"networks"`
			} `json:"coins"`
		} `json:"data"`
	}
	if err := c.transport.post(ctx, "/getCoinList", []byte("{}"), maxList, &out); err != nil {
		return coinsV2{}, err
	}
	coins := coinsV2{tokens: make(map[string]Listed), precision: make(map[string]int32), symbols: make(map[int64]string)}
	for _, coin := range out.Data.Coins {
		id, err := strconv.ParseInt(string(coin.CoinID), 10, 64)
		if err != nil || coin.Symbol == "" {
			continue
		}
		coins.symbols[id] = string(coin.Symbol)
		for name, n := range coin.Networks {
			chain := firstOf(n.Chain, text(name))
			tokenID := TokenIDV2(id, string(chain))
			coins.tokens[tokenID] = Listed{
				Token: bill.Token{
					CoinID:   id,
					Crypto:   string(coin.Symbol),
					Network:  string(firstOf(n.ChainFullName, chain)),
					Chain:    string(chain),
					Contract: string(n.Contract),
				},
				Logo:   string(coin.LogoURL),
				Usable: strings.EqualFold(string(coin.Status), usable) && (n.CanDeposit == nil || *n.CanDeposit),
			}
			if p, err := strconv.ParseInt(string(n.Precision), 10, 8); err == nil && p >= 0 {
				coins.precision[tokenID] = int32(p)
			}
		}
	}
	return coins, nil
}

// fiat asks /getFiatList ("Get Fiat List") for the id of a currency.
func (c *v2) fiat(ctx context.Context, currency string) (int64, error) {
	const path = "/getFiatList"
	fiats, err := c.fiats.get(ctx, func(ctx context.Context) (map[string]int64, error) {
		var out struct {
			Data struct {
				Fiats []struct {
					FiatID text `json:"fiatId"`
					Symbol text `json:"symbol"`
				} `json:"fiats"`
			} `json:"data"`
		}
		if err := c.transport.post(ctx, path, []byte("{}"), maxList, &out); err != nil {
			return nil, err
		}
		fiats := make(map[string]int64, len(out.Data.Fiats))
		for _, f := range out.Data.Fiats {
			if id, err := strconv.ParseInt(string(f.FiatID), 10, 64); err == nil && f.Symbol != "" {
				fiats[string(f.Symbol)] = id
			}
		}
		if len(fiats) == 0 {
			return nil, &Error{Failure: Unreachable, Endpoint: path, Err: errors.New("the answer has no currencies")}
		}
		return fiats, nil
	})
	if err != nil {
		return 0, err
	}
	id, ok := fiats[currency]
	if !ok {
		known := make([]string, 0, len(fiats))
		for symbol := range fiats {
			known = append(known, symbol)
		}
		slices.Sort(known)
		return 0, &Error{Failure: Refused, Endpoint: path, Err: fmt.Errorf("the gateway has no currency %s; it has %s", currency, strings.Join(known, ", "))}
	}
	return id, nil
}

// call encodes a request and posts it.
func (c *v2) call(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	sent := time.Now()
	err = c.transport.post(ctx, path, body, maxAnswer, out)
	c.pace.saw(sent, err)
	return err
}
