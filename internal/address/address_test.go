package address_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/address"
)

// The addresses are the published examples of their formats.
var good = map[string][]string{
	"TRX": {"TYWnk1EGALQyYst2yFSd29QQQTEkuKMbyt", "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"},
	"BTC": {
		"1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "3P14159f73E4gFr7JterCCQh9QjiTjiZrG",
		"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4",
		"bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
		"bc1pw508d6qejxtdg4y5r3zarvary0c5xw7kw508d6qejxtdg4y5r3zarvary0c5xw7kt5nd6y", "BC1SW50QGDZ25J",
	},
	"LTC":  {"LM2WMpR1Rp6j3Sa59cMXMs1SPzj9eXpGc1", "ltc1qg42tkwuuxefutzxezdkdel39gfstuap288mfea"},
	"DOGE": {"DH5yaieqoZN36fDVciNyRueRGvGLR3mr7L"},
	"BCH": {
		"bitcoincash:qpm2qsznhks23z7629mms6s4cwef74vcwvy22gdx6a", "qpm2qsznhks23z7629mms6s4cwef74vcwvy22gdx6a",
		"bitcoincash:ppm2qsznhks23z7629mms6s4cwef74vcwvn0h829pq", "1BpEi6DfDAUFd7GtittLSdBeYJvcoaVggu",
		"bitcoincash:zr6m7j9njldwwzlg9v7v53unlr4jkmx6eycnjehshe", "bitcoincash:pwqwzrf7z06m7nn58tkdjyxqfewanlhyrpxysack85xvf3mt0rv02l9dxc5uf",
	},
	"AVAX": {"0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb", "X-avax1tnuesf6cqwnjw7fxjyk7lhch0vhf0v95wj5jvy", "X-avax19rknw8l0grnfunjrzwxlxync6zrlu33y2jxhrg"},
	"CELO": {"0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb"},
	"ETH": {
		"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
		"0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed", "0x5AAEB6053F3E94C9B9A09F33669435E7EF1BEAED",
		"0x52908400098527886E0F7030069857D2E4169EE7", "0xde709f2102306220921060314715629080e2fb77",
	},
	"BSC": {"0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb"},
	"XRP": {"rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh", "rrrrrrrrrrrrrrrrrrrrrhoLvTp", "X7AcgcsBL6XDcUb289X4mJ8djcdyKaB5hJDWMArnXr61cqZ", "XVLhHMPHU98es4dbozjVtdWzVrDjtVoYiC9UvKfjKar4LJe"},
	"SOL": {"11111111111111111111111111111111", "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"},
	"TON": {
		"EQDKbjIcfM6ezt8KjKJJLshZJJSqX7XOA4ff-W72r5gqPrHF", "0:ca6e321c7cce9ecedf0a8ca2492ec8592494aa5fb5ce0387dff96ef6af982a3e",
	},
}

func TestAddressesOfTheirNetworkPass(t *testing.T) {
	for chain, list := range good {
		for _, a := range list {
			for _, name := range []string{chain, strings.ToLower(chain)} {
				if err := address.Check(name, a); err != nil {
					t.Errorf("%s %s: %v", name, a, err)
				}
			}
		}
	}
}

// A single character that was changed, dropped or doubled on its way is found.
func TestChangedAddressesFail(t *testing.T) {
	for chain, list := range good {
		for _, a := range list {
			changed := []string{"", a + "1", a + " ", " " + a, a[:len(a)-1], a[1:], strings.Repeat(a, 40)}
			if chain != "SOL" && !strings.HasPrefix(a, "0:") && (chain != "ETH" || strings.ToLower(a) != a && strings.ToUpper(a[2:]) != a[2:]) {
				for i := range a {
					for _, c := range "2Zqa" {
						if !strings.EqualFold(string(c), a[i:i+1]) {
							changed = append(changed, a[:i]+string(c)+a[i+1:])
						}
					}
				}
			}
			for _, c := range changed {
				// A prefix of Bitcoin Cash is left out as often as it is written.
				if chain == "SOL" && len(c) > 2 || c == a {
					continue
				}
				if err := address.Check(chain, c); !errors.Is(err, address.ErrMalformed) {
					t.Errorf("%s %q passes, though it is %q changed", chain, c, a)
				}
			}
		}
	}
}

func TestAddressesOfOtherNetworksFail(t *testing.T) {
	for chain := range good {
		for other, foreign := range good {
			for _, a := range foreign {
				_, evm := map[string]bool{"ETH": true, "BSC": true, "CELO": true, "AVAX": true}[chain]
				same := chain == other || evm && strings.HasPrefix(a, "0x")
				legacy := (chain == "BTC" || chain == "BCH" || chain == "LTC") && (a[0] == '1' || a[0] == '3')
				if same || legacy || chain == "SOL" {
					continue
				}
				if address.Check(chain, a) == nil {
					t.Errorf("%s passes on %s", a, chain)
				}
			}
		}
	}
}

// The examples of the standards for what must be refused.
func TestTheStandardsOwnBadExamplesFail(t *testing.T) {
	for chain, list := range map[string][]string{
		"BTC": {
			// another network
			"tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx",
			// checksum
			"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5",
			// version 17
			"BC13W508D6QEJXTDG4Y5R3ZARVARY0C5XW7KN40WF2",
			// too short
			"bc1rw5uspcuh",
			// version 0 of 16 bytes
			"BC1QR508D6QEJXTDG4Y5R3ZARVARYV98GJ9P",
			// bech32 where bech32m belongs
			"bc1zw508d6qejxtdg4y5r3zarvaryvqyzf3du",
			// the same
			"bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqh2y7hd",
			// bech32m where bech32 belongs
			"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kemeawh",
			// a character that is no digit
			"bc1p38j9r5y49hruaue7wxjce0updqjuyyx0kh56v8s25huc6995vvpql3jow4",
			// two cases
			"BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3t4",
			"bc1gmk9yu", "bc1",
		},
		"ETH": {"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1Beaed", "5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0X5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"},
		"TON": {"EQDKbjIcfM6ezt8KjKJJLshZJJSqX7XOA4ff-W72r5gqPrHG", "1:ca6e321c7cce9ecedf0a8ca2492ec8592494aa5fb5ce0387dff96ef6af982a3e"},
		"XRP": {
			// a tag of 64 bits, which nobody takes
			"XVLhHMPHU98es4dbozjVtdWzVrDjtV18pX8zeUygYrCgrPh",
		},
		"AVAX": {"avax1tnuesf6cqwnjw7fxjyk7lhch0vhf0v95wj5jvy", "C-avax1tnuesf6cqwnjw7fxjyk7lhch0vhf0v95wj5jvy"},
		"SOL":  {"0OIl", "1111111111111111111111111111111", "https://example.com/"},
	} {
		for _, a := range list {
			if address.Check(chain, a) == nil {
				t.Errorf("%s %s passes", chain, a)
			}
		}
	}
}

func TestNetworksThatAreNotKnownPass(t *testing.T) {
	for _, chain := range []string{"", "KAS", "a chain of tomorrow"} {
		if err := address.Check(chain, "whatever"); err != nil {
			t.Errorf("%s: %v", chain, err)
		}
	}
}

func FuzzCheck(f *testing.F) {
	for chain, list := range good {
		for _, a := range list {
			f.Add(chain, a)
		}
	}
	f.Fuzz(func(t *testing.T, chain, a string) {
		if address.Check(chain, a) == nil && len(a) > 200 {
			if _, known := good[strings.ToUpper(chain)]; known {
				t.Errorf("%s: %d characters pass", chain, len(a))
			}
		}
	})
}
