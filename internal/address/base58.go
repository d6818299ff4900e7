package address

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"strings"
)

const (
	bitcoinAlphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
	rippleAlphabet  = "rpshnaf39wBUDNEGHJKLM4PQRST7VWXYZ2bcdeCg65jkm8oFqi1tuvAxyz"
)

// maxBase58 bounds what is decoded, which takes time in the square of the length.
const maxBase58 = 128

// base58 decodes a number in base 58; each leading zero digit is a zero byte.
func base58(s, alphabet string) ([]byte, bool) {
	if s == "" || len(s) > maxBase58 {
		return nil, false
	}
	var number []byte // little endian
	for i := range len(s) {
		carry := strings.IndexByte(alphabet, s[i])
		if carry < 0 {
			return nil, false
		}
		for j := range number {
			carry += int(number[j]) * 58
			number[j] = byte(carry)
			carry >>= 8
		}
		for ; carry > 0; carry >>= 8 {
			number = append(number, byte(carry))
		}
	}
	for i := 0; i < len(s) && s[i] == alphabet[0]; i++ {
		number = append(number, 0)
	}
	slices.Reverse(number)
	return number, true
}

// checked decodes what ends in the first four bytes of a double SHA-256 of the rest,
// and returns that rest.
func checked(s, alphabet string) ([]byte, bool) {
	data, ok := base58(s, alphabet)
	if !ok || len(data) < 5 {
		return nil, false
	}
	data, check := data[:len(data)-4], data[len(data)-4:]
	sum := sha256.Sum256(data)
	sum = sha256.Sum256(sum[:])
	return data, bytes.Equal(sum[:4], check)
}

// base58Check decodes a version byte and the hash of a key or a script.
func base58Check(s, alphabet string, versions ...byte) bool {
	data, ok := checked(s, alphabet)
	return ok && len(data) == 21 && slices.Contains(versions, data[0])
}

func isTRON(s string) bool { return base58Check(s, bitcoinAlphabet, 0x41) }

func isXRP(s string) bool { return base58Check(s, rippleAlphabet, 0x00) || isTagged(s) }

// isTagged checks an address of XLS-5d for the main network: two bytes that say so, the
// account, one byte that says whether there is a tag, and eight bytes of that.
func isTagged(s string) bool {
	data, ok := checked(s, rippleAlphabet)
	if !ok || len(data) != 31 || data[0] != 0x05 || data[1] != 0x44 || data[22] > 1 {
		return false
	}
	tag := data[23:]
	return bytes.Equal(tag[4:], make([]byte, 4)) && (data[22] == 1 || bytes.Equal(tag[:4], make([]byte, 4)))
}

// isSolana checks the length alone: an address is a key, and has no checksum.
func isSolana(s string) bool {
	key, ok := base58(s, bitcoinAlphabet)
	return ok && len(key) == 32
}

func isBitcoin(s string) bool {
	return base58Check(s, bitcoinAlphabet, 0x00, 0x05) || segwit(s, "bc")
}

func isLitecoin(s string) bool {
	return base58Check(s, bitcoinAlphabet, 0x30, 0x32, 0x05) || segwit(s, "ltc")
}

func isDogecoin(s string) bool { return base58Check(s, bitcoinAlphabet, 0x1e, 0x16) }

func isBitcoinCash(s string) bool {
	return base58Check(s, bitcoinAlphabet, 0x00, 0x05) || cashAddress(s)
}
