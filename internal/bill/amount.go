package bill

import (
	"errors"

	"github.com/shopspring/decimal"
)

// maxAmountLen bounds the digits of an amount. The widest tokens have 18 to 24
// decimals; 64 characters leave room for any sum of them and none for abuse.
const maxAmountLen = 64

var errAmountForm = errors.New("amount is not a plain decimal number")

// ParseAmount reads an amount as the gateway and the price list write it: digits
// with at most one dot, no sign, no exponent, no grouping. Nothing is rounded.
func ParseAmount(s string) (decimal.Decimal, error) {
	if len(s) == 0 || len(s) > maxAmountLen {
		return decimal.Decimal{}, errAmountForm
	}
	digits, dots := 0, 0
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			digits++
		case c == '.' && dots == 0 && i > 0 && i < len(s)-1:
			dots++
		default:
			return decimal.Decimal{}, errAmountForm
		}
	}
	if digits == 0 {
		return decimal.Decimal{}, errAmountForm
	}
	return decimal.NewFromString(s)
}

// ParsePrice reads a price in a denominated currency: an amount greater than zero
// with at most two digits after the dot, which is what the gateway takes.
func ParsePrice(s string) (decimal.Decimal, error) {
	d, err := ParseAmount(s)
	if err != nil {
		return decimal.Decimal{}, errors.New("price is not a plain decimal number like \"25.00\"")
	}
	if !d.IsPositive() {
		return decimal.Decimal{}, errors.New("price must be greater than zero")
	}
	if d.Exponent() < -2 && !d.Equal(d.Truncate(2)) {
		return decimal.Decimal{}, errors.New("price has more than two decimals")
	}
	return d, nil
}
