package ccpayment

import (
	"fmt"
	"regexp"
	"strconv"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/gateway"
)

// methodForms is how a method names its coin, by the account's API.
var methodForms = map[string]string{
	apiV1: "<token_id>",
	apiV2: "<coin_id> <chain>",
}

var chainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// check looks at what names the coin, whose form is that of the account's API.
func (m *Method) check(api string) error {
	byToken, byCoin := m.TokenID != "", m.CoinID != 0 || m.Chain != ""
	switch {
	case !byToken && !byCoin:
		return fmt.Errorf("method %s: it names no coin; accounts of api %s need: method %s %s", m.Name, api, m.Name, methodForms[api])
	case byToken && byCoin || byToken != (api == apiV1):
		return fmt.Errorf("%s: accounts of api %s need: method %s %s", m.line(), api, m.Name, methodForms[api])
	case byCoin && (m.CoinID < 1 || !chainName.MatchString(m.Chain)):
		return fmt.Errorf("%s: coin_id is a number above zero and chain a name like TRX", m.line())
	}
	return nil
}

// tokenID is the id by which the gateway lists the coin on its network.
func (m *Method) tokenID() string {
	if m.CoinID != 0 {
		return gateway.TokenIDV2(m.CoinID, m.Chain)
	}
	return m.TokenID
}

// line is the method as it stands in a Caddyfile, so that it can be found there.
func (m *Method) line() string {
	s := "method " + m.Name
	if m.TokenID != "" {
		s += " " + m.TokenID
	}
	if m.CoinID != 0 {
		s += " " + strconv.FormatInt(m.CoinID, 10)
	}
	if m.Chain != "" {
		s += " " + m.Chain
	}
	return s
}
