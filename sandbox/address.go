package sandbox

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"math/big"
	"strings"

	"golang.org/x/crypto/sha3"
)

// The addresses here carry the checksum of their network, so that whatever checks
// or draws them can be tried. Nobody has a key to them.

const (
	bitcoinAlphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
	rippleAlphabet  = "rpshnaf39wBUDNEGHJKLM4PQRST7VWXYZ2bcdeCg65jkm8oFqi1tuvAxyz"
	bech32Alphabet  = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
)

// fresh turns a form of address into one that is new for each order.
func fresh(form func([20]byte) string) func(string, uint64) (string, string) {
	return func(string, uint64) (string, string) {
		var hash [20]byte
		_, _ = rand.Read(hash[:]) // never returns an error
		return form(hash), ""
	}
}

func tronAddress(hash [20]byte) string {
	return base58Check(append([]byte{0x41}, hash[:]...), bitcoinAlphabet)
}

func rippleAddress(hash [20]byte) string {
	return base58Check(append([]byte{0x00}, hash[:]...), rippleAlphabet)
}

// base58Check appends the first four bytes of a double SHA-256 and writes all of
// it in base 58, a leading zero byte as the first digit of the alphabet.
func base58Check(payload []byte, alphabet string) string {
	sum := sha256.Sum256(payload)
	sum = sha256.Sum256(sum[:])
	payload = append(payload, sum[:4]...)

	n := new(big.Int).SetBytes(payload)
	radix, digit := big.NewInt(58), new(big.Int)
	var out []byte
	for n.Sign() > 0 {
		n.DivMod(n, radix, digit)
		out = append(out, alphabet[digit.Int64()])
	}
	for _, b := range payload {
		if b != 0 {
			break
		}
		out = append(out, alphabet[0])
	}
	for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
		out[i], out[j] = out[j], out[i]
	}
	return string(out)
}

// evmAddress is EIP-55: a letter is upper case where the digit of the hash of the
// lower case address is 8 or more.
func evmAddress(hash [20]byte) string {
	digits := []byte(hex.EncodeToString(hash[:]))
	h := sha3.NewLegacyKeccak256()
	h.Write(digits)
	sum := hex.EncodeToString(h.Sum(nil))
	for i, c := range digits {
		if c >= 'a' && sum[i] >= '8' {
			digits[i] = c - 'a' + 'A'
		}
	}
	return "0x" + string(digits)
}

// bitcoinAddress is BIP-173 with witness version 0 and the hash of a key.
func bitcoinAddress(hash [20]byte) string {
	const hrp = "bc"
	data := []byte{0} // witness version

	// Regroup eight bits to five. 160 bits leave no rest.
	var acc, bits uint
	for _, b := range hash {
		acc = acc<<8 | uint(b)
		for bits += 8; bits >= 5; {
			bits -= 5
			data = append(data, byte(acc>>bits&31))
		}
	}

	values := make([]byte, 0, 2*len(hrp)+1+len(data)+6)
	for i := range len(hrp) {
		values = append(values, hrp[i]>>5)
	}
	values = append(values, 0)
	for i := range len(hrp) {
		values = append(values, hrp[i]&31)
	}
	values = append(values, data...)
	values = append(values, 0, 0, 0, 0, 0, 0)
	checksum := bech32Polymod(values) ^ 1

	var b strings.Builder
	b.WriteString(hrp + "1")
	for _, v := range data {
		b.WriteByte(bech32Alphabet[v])
	}
	for i := 5; i >= 0; i-- {
		b.WriteByte(bech32Alphabet[checksum>>(5*i)&31])
	}
	return b.String()
}

func bech32Polymod(values []byte) uint32 {
	generator := [5]uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3}
	checksum := uint32(1)
	for _, v := range values {
		top := checksum >> 25
		checksum = checksum&0x1ffffff<<5 ^ uint32(v)
		for i, g := range generator {
			if top>>i&1 == 1 {
				checksum ^= g
			}
		}
	}
	return checksum
}

func hexTxid(prefix string) func([32]byte) string {
	return func(b [32]byte) string { return prefix + hex.EncodeToString(b[:]) }
}

// newTxid is the id of a transaction that never was.
func newTxid(t *token) string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never returns an error
	return t.txid(b)
}
