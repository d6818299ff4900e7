package gateway

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
)

// A coinV2 is a coin on a chain with all the names it is known to go by: the one of the
// list of coins and the one its order uses, which may be older (MATIC is POL now).
type coinV2 struct {
	bill.Token
	names []string
	// unsure is why there is no list of coins, without which another name may be one
	// of the coin's too.
	unsure error
}

// coinNumber reads a coin's number. One that is told and cannot be one is no coin's.
func coinNumber(t text) int64 {
	if t == "" {
		return 0
	}
	id, err := strconv.ParseInt(string(t), 10, 64)
	if err != nil || id <= 0 {
		return bill.NoCoin
	}
	return id
}

// freshen asks for the list of coins anew if a coin is told by another name than it has
// there: the list is kept for an hour, and the coin may have a new name.
func (c *v2) freshen(ctx context.Context, told bill.Token) {
	coins, err := c.coins.get(ctx, c.fetchCoins)
	if err != nil || told.CoinID <= 0 || told.Crypto == "" {
		return
	}
	if symbol := coins.symbols[told.CoinID]; symbol != "" && !strings.EqualFold(symbol, told.Crypto) {
		c.coins.renew(ctx, c.fetchCoins)
	}
}

// named gives a coin the names of the list of coins, as far as there is one.
func (c *v2) named(ctx context.Context, told bill.Token) coinV2 {
	coin := coinV2{Token: told}
	if told.Crypto != "" {
		coin.names = append(coin.names, told.Crypto)
	}
	coins, err := c.coins.get(ctx, c.fetchCoins)
	if err != nil {
		coin.unsure = err
		return coin
	}
	if symbol := coins.symbols[told.CoinID]; symbol != "" {
		coin.Crypto, coin.names = symbol, append(coin.names, symbol)
	}
	if l, ok := coins.tokens[TokenIDV2(told.CoinID, told.Chain)]; ok {
		coin.Network = l.Network
		if coin.Contract == "" {
			coin.Contract = l.Contract
		}
	}
	return coin
}

// paidIn is the coin of a payment to an order, from what is told about the payment.
// What is not told is as the order has it. Where two things do not go together, the
// payment's coin is none and keeps what was told, so that no bill is paid in it.
func (c *v2) paidIn(ctx context.Context, told bill.Token, order coinV2) (coinV2, error) {
	if told.CoinID == 0 && told.Crypto == "" {
		told.CoinID, told.Crypto = order.CoinID, order.Crypto
	}
	if told.CoinID == 0 && order.goesBy(told.Crypto) {
		told.CoinID = order.CoinID
	}
	if told.Chain == "" && told.CoinID == order.CoinID {
		told.Chain = order.Chain
	}
	if told.CoinID <= 0 {
		return coinV2{Token: told}, nil // compared by its name, or no coin
	}
	c.freshen(ctx, told)
	coin := c.named(ctx, bill.Token{CoinID: told.CoinID, Chain: told.Chain})
	if told.CoinID == order.CoinID {
		coin.names = append(coin.names, order.names...)
	}
	if coin.Crypto == "" {
		coin.Crypto = told.Crypto
	}
	if err := coin.check(told); err != nil {
		return coin, err
	}
	if coin.CoinID == bill.NoCoin {
		coin.Crypto = told.Crypto
	}
	if told.Contract != "" {
		coin.Contract = told.Contract
	}
	return coin, nil
}

// goesBy reports whether a name is one of the coin's.
func (c *coinV2) goesBy(name string) bool {
	return strings.EqualFold(c.Crypto, name) || slices.ContainsFunc(c.names, func(n string) bool { return strings.EqualFold(n, name) })
}

// check compares a coin with what is told of it elsewhere, and makes it none where that
// is another one. It is an error if only the list of coins could say so, since that will
// be there later.
func (c *coinV2) check(told bill.Token) error {
	switch {
	case c.CoinID == bill.NoCoin:
	case told.CoinID != 0 && c.CoinID != 0 && told.CoinID != c.CoinID,
		told.Chain != "" && c.Chain != "" && !strings.EqualFold(told.Chain, c.Chain) && !strings.EqualFold(told.Chain, c.Network),
		told.Contract != "" && c.Contract != "" && !bill.SameContract(told.Contract, c.Contract):
		c.CoinID = bill.NoCoin
	case told.Crypto == "" || c.goesBy(told.Crypto):
		if c.CoinID == 0 {
			c.CoinID = told.CoinID
		}
	case c.unsure != nil && c.CoinID != 0:
		return fmt.Errorf("telling whether %s is coin %d: %w", told.Crypto, c.CoinID, c.unsure)
	default:
		c.CoinID = bill.NoCoin
	}
	return nil
}
