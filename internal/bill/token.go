package bill

import "strings"

// A Token says which coin on which network money is paid in. The gateway names
// the network twice: Network is the one shown to people ("TRC20"), Chain the one
// of orders and callbacks ("TRX").
type Token struct {
	Crypto   string
	Network  string
	Chain    string
	Contract string
}

// Accepts reports whether a payment in p is a payment in t. Coin and chain must
// be named and equal; the contract must be equal where both sides name it, since
// the gateway leaves it out for some callbacks but never means another one then.
func (t Token) Accepts(p Token) bool {
	if t.Crypto == "" || !strings.EqualFold(t.Crypto, p.Crypto) {
		return false
	}
	if p.Chain == "" || !strings.EqualFold(t.Chain, p.Chain) && !strings.EqualFold(t.Network, p.Chain) {
		return false
	}
	return t.Contract == "" || p.Contract == "" || sameContract(t.Contract, p.Contract)
}

// sameContract compares contract addresses. Hexadecimal ones carry their checksum
// in the case of their letters, which the gateway does not keep; in every other
// alphabet the case is part of the address.
func sameContract(a, b string) bool {
	if strings.HasPrefix(a, "0x") || strings.HasPrefix(a, "0X") {
		return strings.EqualFold(a, b)
	}
	return a == b
}
