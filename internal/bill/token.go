package bill

import "strings"

// A Token says which coin on which network money is paid in. The gateway names
// the network twice: Network is the one shown to people ("TRC20"), Chain the one
// of orders and callbacks ("TRX").
type Token struct {
	// CoinID is the gateway's number of the coin, zero where it has none or does not
	// tell it. Names change and two coins can have the same, numbers do not.
	CoinID   int64
	Crypto   string
	Network  string
	Chain    string
	Contract string
}

// NoCoin is the number of a coin of which the gateway has told two things that do not
// go together, like the number of one coin and the name of another. No bill is paid
// in it.
const NoCoin = -1

// Accepts reports whether a payment in p is a payment in t. Coin and chain must
// be named and equal, the coin by its number where both sides have it, else by its
// name. The contract must be equal where both sides name it, since the gateway leaves
// it out for some callbacks but never means another one then.
func (t Token) Accepts(p Token) bool {
	switch {
	case t.CoinID == NoCoin || p.CoinID == NoCoin:
		return false
	case t.CoinID != 0 && p.CoinID != 0:
		if t.CoinID != p.CoinID {
			return false
		}
	case t.Crypto == "" || !strings.EqualFold(t.Crypto, p.Crypto):
		return false
	}
	if p.Chain == "" || !strings.EqualFold(t.Chain, p.Chain) && !strings.EqualFold(t.Network, p.Chain) {
		return false
	}
	return t.Contract == "" || p.Contract == "" || SameContract(t.Contract, p.Contract)
}

// SameContract compares contract addresses. Hexadecimal ones carry their checksum
// in the case of their letters, which the gateway does not keep; in every other
// alphabet the case is part of the address.
func SameContract(a, b string) bool {
	if strings.HasPrefix(a, "0x") || strings.HasPrefix(a, "0X") {
		return strings.EqualFold(a, b)
	}
	return a == b
}
