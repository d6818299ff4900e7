package address

import (
	"encoding/base64"
	"encoding/hex"
	"regexp"
	"strings"

	"golang.org/x/crypto/sha3"
)

var evmForm = regexp.MustCompile(`^0x[0-9a-fA-F]{40}$`)

// isEVM checks the checksum of EIP-55 too, where the case of the letters shows that
// there is one: a letter is upper case where the digit of the hash of the lower case
// address is 8 or more.
func isEVM(s string) bool {
	if !evmForm.MatchString(s) {
		return false
	}
	digits := s[2:]
	lower := strings.ToLower(digits)
	if digits == lower || digits == strings.ToUpper(digits) {
		return true
	}
	h := sha3.NewLegacyKeccak256()
	h.Write([]byte(lower))
	sum := hex.EncodeToString(h.Sum(nil))
	for i := range len(digits) {
		upper := lower[i] >= 'a' && sum[i] >= '8'
		if upper != (digits[i] >= 'A' && digits[i] <= 'F') {
			return false
		}
	}
	return true
}

var tonRaw = regexp.MustCompile(`^(0|-1):[0-9a-fA-F]{64}$`)

// isTON checks the raw form and the one for people: 36 bytes in base64 of either
// alphabet, the last two a CRC-16 of the others.
func isTON(s string) bool {
	if tonRaw.MatchString(s) {
		return true
	}
	data, err := base64.URLEncoding.Strict().DecodeString(strings.NewReplacer("+", "-", "/", "_").Replace(s))
	if err != nil || len(data) != 36 {
		return false
	}
	var crc uint16
	for _, b := range data[:34] {
		crc ^= uint16(b) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	tag := data[0] &^ 0x80 // the flag of test networks
	return crc == uint16(data[34])<<8|uint16(data[35]) && (tag == 0x11 || tag == 0x51) && data[0]&0x80 == 0
}
