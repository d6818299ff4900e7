package address

import "strings"

const bech32Alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

// quintets reads the digits of base 32, which are all lower or all upper case.
func quintets(s string) ([]byte, bool) {
	if strings.ToLower(s) != s && strings.ToUpper(s) != s {
		return nil, false
	}
	s = strings.ToLower(s)
	data := make([]byte, len(s))
	for i := range len(s) {
		value := strings.IndexByte(bech32Alphabet, s[i])
		if value < 0 {
			return nil, false
		}
		data[i] = byte(value)
	}
	return data, true
}

// octets regroups five bits to eight. What is left over must be less than a digit,
// and zero.
func octets(data []byte) ([]byte, bool) {
	var (
		out       []byte
		acc, bits uint
	)
	for _, v := range data {
		acc, bits = acc<<5|uint(v), bits+5
		if bits >= 8 {
			bits -= 8
			out = append(out, byte(acc>>bits))
			acc &= 1<<bits - 1
		}
	}
	return out, bits < 5 && acc == 0
}

// The constants of BIP-173 and BIP-350, of witness version 0 and of those after it.
const (
	bech32  = 1
	bech32m = 0x2bc830a3
)

// decode reads a bech32 string: what is before its last digit 1, the digits behind that
// without the checksum, and the constant that the checksum leaves.
func decode(s string) (human string, data []byte, constant uint32, ok bool) {
	if len(s) > 90 || strings.ToLower(s) != s && strings.ToUpper(s) != s {
		return "", nil, 0, false
	}
	human, rest, found := strings.Cut(strings.ToLower(s), "1")
	if !found || len(rest) < 7 {
		return "", nil, 0, false
	}
	if data, ok = quintets(rest); !ok {
		return "", nil, 0, false
	}
	sum := uint32(1)
	step := func(v byte) {
		top := sum >> 25
		sum = sum&0x1ffffff<<5 ^ uint32(v)
		for i, g := range [5]uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3} {
			if top>>i&1 == 1 {
				sum ^= g
			}
		}
	}
	for i := range len(human) {
		step(human[i] >> 5)
	}
	step(0)
	for i := range len(human) {
		step(human[i] & 31)
	}
	for _, v := range data {
		step(v)
	}
	return human, data[:len(data)-6], sum, true
}

// segwit checks a segregated witness address (BIP-173, BIP-350).
func segwit(s, prefix string) bool {
	human, data, constant, ok := decode(s)
	if !ok || human != prefix {
		return false
	}
	version := data[0]
	program, ok := octets(data[1:])
	if !ok || version > 16 || len(program) < 2 || len(program) > 40 {
		return false
	}
	if version == 0 {
		return constant == bech32 && (len(program) == 20 || len(program) == 32)
	}
	return constant == bech32m
}

// isAvalanche takes the addresses of the chain for contracts, which are Ethereum's, and
// those of the two others, which begin with the letter of their chain.
func isAvalanche(s string) bool {
	if isEVM(s) {
		return true
	}
	chain, rest, found := strings.Cut(s, "-")
	human, data, constant, ok := decode(rest)
	if !found || chain != "X" && chain != "P" || !ok || human != "avax" || constant != bech32 {
		return false
	}
	key, ok := octets(data)
	return ok && len(key) == 20
}

// cashAddress checks an address of Bitcoin Cash, with or without its prefix.
func cashAddress(s string) bool {
	const prefix = "bitcoincash"
	if before, rest, found := strings.Cut(s, ":"); found {
		if !strings.EqualFold(before, prefix) {
			return false
		}
		s = rest
	}
	data, ok := quintets(s)
	if !ok || len(data) < 42 { // 160 bits, a version byte and the checksum
		return false
	}
	sum := uint64(1)
	step := func(v byte) {
		top := sum >> 35
		sum = sum&0x07ffffffff<<5 ^ uint64(v)
		for i, g := range [5]uint64{0x98f2bc8e61, 0x79b76d99e2, 0xf33e5fb3c4, 0xae2eabe2a8, 0x1e4f43e470} {
			if top>>i&1 == 1 {
				sum ^= g
			}
		}
	}
	for i := range len(prefix) {
		step(prefix[i] & 31)
	}
	step(0)
	for _, v := range data {
		step(v)
	}
	payload, ok := octets(data[:len(data)-8])
	if !ok || sum != 1 {
		return false
	}
	switch payload[0] {
	case 0x00, 0x08, 0x10, 0x18: // a key or a script, each also of those who take tokens
		return len(payload) == 1+20
	case 0x0b, 0x1b: // a script by its longer hash
		return len(payload) == 1+32
	}
	return false
}
