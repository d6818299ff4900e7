// Package address checks that an address is one of its network, before a buyer is
// asked to send money to it. Networks that are not known here pass: what cannot be
// checked is not refused.
package address

import (
	"errors"
	"strings"
)

// ErrMalformed is what every address fails with that its network would not take.
var ErrMalformed = errors.New("not an address of its network")

// checks are the networks by the names the gateway has for them, in capitals.
var checks = map[string]func(string) bool{
	"TRX":  isTRON,
	"TRON": isTRON,

	"BTC":     isBitcoin,
	"BITCOIN": isBitcoin,
	"LTC":     isLitecoin,
	"DOGE":    isDogecoin,
	"BCH":     isBitcoinCash,

	"ETH":       isEVM,
	"ETHEREUM":  isEVM,
	"BSC":       isEVM,
	"POLYGON":   isEVM,
	"MATIC":     isEVM,
	"ARBITRUM":  isEVM,
	"ARB":       isEVM,
	"OPTIMISM":  isEVM,
	"OP":        isEVM,
	"BASE":      isEVM,
	"AVAXC":     isEVM,
	"AVAX_C":    isEVM,
	"AVAX":      isAvalanche,
	"AVALANCHE": isAvalanche,
	"CELO":      isEVM,
	"FTM":       isEVM,
	"ETC":       isEVM,

	"XRP":    isXRP,
	"RIPPLE": isXRP,
	"SOL":    isSolana,
	"SOLANA": isSolana,
	"TON":    isTON,
}

// Check checks an address of a chain, named as the gateway names it.
func Check(chain, address string) error {
	check, known := checks[strings.ToUpper(chain)]
	if known && !check(address) {
		return ErrMalformed
	}
	return nil
}
