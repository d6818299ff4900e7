package sandbox

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/shopspring/decimal"
)

// A coin is a currency, a token is that currency on one network. Orders are paid
// in tokens.
type coin struct {
	id, symbol, name string
	number           int64 // the id of API v2
	precision        int32
	price            decimal.Decimal // USD for one
	min              string
	tokens           []*token
}

type token struct {
	coin *coin

	id, network, chain, contract string
	chainName                    string // the network's name in API v2
	precision                    int32
	feeCoinID, feeCrypto         string // the coin in which the network takes its fee
	memo                         bool

	// address makes what a payer pays to. The number is unique to the order.
	address func(appID string, n uint64) (address, memo string)
	// txid writes the 32 bytes of a transaction id as the network does.
	txid func([32]byte) string
}

// The token id of USDT on TRC20, the coin id of USDT and the one of TRX are those
// of the gateway's documentation, the others are invented. So are the rates: they
// are fixed, and USDT is not exactly one dollar because it never is. Of API v2's
// numbers only that of USDT is the gateway's.
var coins = []*coin{
	{
		id: "8e5741cf-6e51-4892-9d04-3d40e1dd0128", symbol: "USDT", name: "Tether USD", number: 1280,
		precision: 6, price: decimal.RequireFromString("0.9997"), min: "0.1",
		tokens: []*token{
			{
				id: "0912e09a-d8e2-41d7-a0bc-a25530892988", network: "TRC20", chain: "TRX", chainName: "Tron",
				contract: "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t", precision: 6,
				feeCoinID: "217d4c3b-4f84-4416-bf1a-a1d15d7d2f50", feeCrypto: "TRX",
				address: fresh(tronAddress), txid: hexTxid(""),
			},
			{
				id: "5f1c2f8e-7a54-4c0b-9b3a-6d9d5a0c7e21", network: "BEP20", chain: "BSC", chainName: "Binance Smart Chain",
				contract: "0x55d398326f99059fF775485246999027B3197955", precision: 18,
				feeCoinID: "c3f1a5b0-3f6e-4a5c-8b42-9e0d7a1f2c64", feeCrypto: "BNB",
				address: fresh(evmAddress), txid: hexTxid("0x"),
			},
		},
	},
	{
		id: "b0a9d3e7-52c4-4f18-a6d5-1c7e8f9b2a30", symbol: "ETH", name: "Ethereum", number: 9001,
		precision: 18, price: decimal.RequireFromString("3127.46"), min: "0.0005",
		tokens: []*token{{
			// The gateway gives a chain id in place of a contract for native coins.
			id: "e2b7c6d1-94f3-4a8e-8d20-7f5b3c1a9e46", network: "ERC20", chain: "ETH", chainName: "Ethereum",
			contract: "1", precision: 18,
			feeCoinID: "b0a9d3e7-52c4-4f18-a6d5-1c7e8f9b2a30", feeCrypto: "ETH",
			address: fresh(evmAddress), txid: hexTxid("0x"),
		}},
	},
	{
		id: "4d6f0b91-8c2e-47a3-b5f7-e3a1d9c08572", symbol: "BTC", name: "Bitcoin", number: 9002,
		precision: 8, price: decimal.RequireFromString("64218.37"), min: "0.00001",
		tokens: []*token{{
			id: "7a3e9d54-1b6c-4e2f-9c87-5d0f2b8a6e13", network: "BTC", chain: "BTC", chainName: "Bitcoin",
			contract: "BTC", precision: 8,
			feeCoinID: "4d6f0b91-8c2e-47a3-b5f7-e3a1d9c08572", feeCrypto: "BTC",
			address: fresh(bitcoinAddress), txid: hexTxid(""),
		}},
	},
	{
		id: "91c5e8a2-6d3b-4f70-8e14-b2f9a7d0c635", symbol: "XRP", name: "XRP", number: 9003,
		precision: 6, price: decimal.RequireFromString("0.5284"), min: "0.1",
		tokens: []*token{{
			id: "d8f4b2c6-0e7a-4395-a1d8-3c6b9e5f7a20", network: "XRP", chain: "XRP", chainName: "Ripple",
			contract: "XRP", precision: 6, memo: true,
			feeCoinID: "91c5e8a2-6d3b-4f70-8e14-b2f9a7d0c635", feeCrypto: "XRP",
			// As at an exchange, all payers share one account and the destination
			// tag tells them apart: an order of this token cannot be paid without it.
			address: func(appID string, n uint64) (string, string) {
				account := sha256.Sum256([]byte("ccpayment_sandbox XRP account of " + appID))
				return rippleAddress([20]byte(account[:20])), strconv.FormatUint(100000000+n%4000000000, 10)
			},
			txid: func(b [32]byte) string { return strings.ToUpper(fmt.Sprintf("%x", b)) },
		}},
	},
}

// tokensByID finds a token by the id orders name.
var tokensByID = func() map[string]*token {
	m := make(map[string]*token)
	for _, c := range coins {
		for _, t := range c.tokens {
			t.coin = c
			m[t.id] = t
		}
	}
	return m
}()

// fiatRates is how much of a currency one USD buys. The documentation divides the
// price by this number, and names no list of currencies.
var fiatRates = map[string]decimal.Decimal{
	"USD": decimal.RequireFromString("1"),
	"EUR": decimal.RequireFromString("0.9214"),
	"GBP": decimal.RequireFromString("0.7893"),
	"CHF": decimal.RequireFromString("0.8841"),
	"CAD": decimal.RequireFromString("1.3672"),
	"AUD": decimal.RequireFromString("1.5218"),
	"DKK": decimal.RequireFromString("6.8712"),
	"JPY": decimal.RequireFromString("151.37"),
	"CNY": decimal.RequireFromString("7.2359"),
	"INR": decimal.RequireFromString("83.42"),
}

// fiatIDs are the numbers of currencies in API v2. Those of USD and DKK are the
// gateway's, the others are invented.
var fiatIDs = map[string]int64{
	"USD": 1033, "DKK": 1022,
	"EUR": 9101, "GBP": 9102, "CHF": 9103, "CAD": 9104, "AUD": 9105, "JPY": 9106, "CNY": 9107, "INR": 9108,
}

// fiatByID is the currency with a number.
func fiatByID(id int64) (currency string, ok bool) {
	for currency, n := range fiatIDs {
		if n == id {
			return currency, true
		}
	}
	return "", false
}

// amountDue is product_price/fiat_rate/token_rate in units of the token. What does
// not fit its precision is rounded up: this reproduces every amount in the
// gateway's documentation to the last digit, cutting off does not.
func amountDue(price, fiatRate, tokenRate decimal.Decimal, precision int32) decimal.Decimal {
	q, r := price.QuoRem(fiatRate.Mul(tokenRate), precision)
	if r.IsPositive() {
		q = q.Add(decimal.New(1, -precision))
	}
	return q
}

// serviceFee is the share the gateway keeps of a payment: 0.03 % in its examples.
func serviceFee(amount decimal.Decimal, precision int32) decimal.Decimal {
	return amount.Mul(decimal.New(3, -4)).RoundCeil(precision)
}

// otherToken is one that does not pay for an order in t. Where there is one, it is
// the same coin on another network: the mistake that payers really make.
func otherToken(t *token) *token {
	for _, other := range t.coin.tokens {
		if other != t {
			return other
		}
	}
	for _, c := range coins {
		if c != t.coin {
			return c.tokens[0]
		}
	}
	return t
}

// logo is the address of a picture for a symbol.
func logo(base, symbol string) string {
	return base + "/sandbox/logo/" + strings.ToLower(symbol) + ".svg"
}

// logos are drawn here, so that the simulator neither needs the network nor
// somebody's trademark.
var logos = map[string]struct{ color, glyph string }{
	"usdt.svg": {"#1f8a70", "U"},
	"eth.svg":  {"#5a67b8", "E"},
	"btc.svg":  {"#c97a14", "B"},
	"xrp.svg":  {"#3d4a57", "X"},
	"trx.svg":  {"#b3343a", "T"},
	"bsc.svg":  {"#b08a12", "b"},
}

func (s *Sandbox) serveLogo(w http.ResponseWriter, r *http.Request, name string) error {
	if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	l, ok := logos[name]
	if !ok {
		return caddyhttp.Error(http.StatusNotFound, fmt.Errorf("no logo %q", name))
	}
	w.Header().Set("Content-Type", "image/svg+xml")
	w.Header().Set("Cache-Control", "max-age=3600")
	w.Header().Set("Content-Security-Policy", "default-src 'none'")
	_, err := fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64" viewBox="0 0 64 64">`+
		`<circle cx="32" cy="32" r="32" fill="%s"/>`+
		`<circle cx="32" cy="32" r="25" fill="none" stroke="#fff" stroke-opacity=".35" stroke-width="2"/>`+
		`<text x="32" y="44" text-anchor="middle" font-family="sans-serif" font-size="34" font-weight="700" fill="#fff">%s</text>`+
		`</svg>`, l.color, l.glyph)
	return err
}
