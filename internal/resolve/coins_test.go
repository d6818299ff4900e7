package resolve

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
)

// TestOnlyWhatTheGatewayBearsOutInTheBillsCoinCounts: whatever of order, coin, chain,
// contract, amount and flag is told must go together, in the callback, in the order's
// list and in the payment's own record.
func TestOnlyWhatTheGatewayBearsOutInTheBillsCoinCounts(t *testing.T) {
	const (
		usdt    = `"coinId":1280,"coinSymbol":"USDT"`
		onTrx   = usdt + `,"chain":"TRX"`
		clear   = `,"isFlaggedAsRisky":false`
		toAbc   = `,"orderId":"abc"`
		another = `"coinId":9999,"coinSymbol":"SHIB"`

		counts     = "bill.paid (paid)"
		doesNot    = "deposit.success (awaiting_payment)"
		notYet     = "" // it is asked about again
		contract   = `,"contract":"TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"`
		noContract = `,"contract":"TXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX"`
	)
	for name, test := range map[string]struct {
		callback string // what it tells beside record, order and status
		listed   string // what the order's list tells beside record, amount and status; empty if it does not list the payment
		record   string // the same of the payment's record
		amount   string // due unless it is told
		want     string
	}{
		"all agree":                      {usdt + clear, onTrx + clear, "", "", counts},
		"no word of the list":            {usdt + clear, `"txid":""`, "", "", counts},
		"no word of the callback":        {`"x":1` + clear, onTrx, "", "", counts},
		"in small letters":               {`"coinId":"1280","coinSymbol":"usdt"` + clear, onTrx, "", "", counts},
		"another coin of the callback":   {another + clear, onTrx + clear, "", "", doesNot},
		"another number":                 {`"coinId":9999,"coinSymbol":"USDT"` + clear, onTrx + clear, "", "", doesNot},
		"another number alone":           {`"coinId":9999` + clear, onTrx + clear, "", "", doesNot},
		"a number that is none":          {`"coinId":"0x500","coinSymbol":"USDT"` + clear, onTrx + clear, "", "", doesNot},
		"another name":                   {`"coinId":1280,"coinSymbol":"SHIB"` + clear, onTrx + clear, "", "", doesNot},
		"another name alone":             {`"coinSymbol":"SHIB"` + clear, onTrx + clear, "", "", doesNot},
		"another coin of the list":       {usdt + clear, another + `,"chain":"TRX"` + clear, "", "", doesNot},
		"another coin of both":           {another + clear, another + `,"chain":"BSC"` + clear, "", "", doesNot},
		"another name on the list":       {usdt + clear, `"coinId":1280,"coinSymbol":"SHIB","chain":"TRX"` + clear, "", "", doesNot},
		"another number on the list":     {`"coinSymbol":"USDT"` + clear, `"coinId":9999,"coinSymbol":"USDT","chain":"TRX"` + clear, "", "", doesNot},
		"another chain on the list":      {usdt + clear, usdt + `,"chain":"BSC"` + clear, "", "", doesNot},
		"another contract on the list":   {usdt + clear, onTrx + noContract + clear, "", "", doesNot},
		"by the record":                  {usdt + clear, "", onTrx + toAbc + contract + clear, "", counts},
		"another contract of the record": {usdt + clear, "", onTrx + toAbc + noContract + clear, "", doesNot},
		"another name of the record":     {`"coinId":1280,"coinSymbol":"SHIB"` + clear, "", `"coinId":1280,"coinSymbol":"SHIB","chain":"TRX"` + toAbc + clear, "", doesNot},
		"another name of it alone":       {usdt + clear, "", `"coinId":1280,"coinSymbol":"SHIB","chain":"TRX"` + toAbc + clear, "", doesNot},
		"another number of the record":   {usdt + clear, "", `"coinId":9999,"coinSymbol":"USDT","chain":"TRX"` + toAbc + clear, "", doesNot},
		"another chain of the record":    {usdt + clear, "", usdt + `,"chain":"BSC"` + toAbc + clear, "", doesNot},
		"no chain of the record":         {another + clear, "", another + toAbc + clear, "", doesNot},
		"the record of another order":    {usdt + clear, "", onTrx + `,"orderId":"xyz"` + clear, "", notYet},
		"the record of no order":         {usdt + clear, "", onTrx + clear, "", notYet},
		"the record of a user":           {usdt + clear, "", onTrx + `,"referenceId":"user-9"` + clear, "", notYet},
		"of an order and a user":         {usdt + clear, "", onTrx + toAbc + `,"referenceId":"user-9"` + clear, "", notYet},
		"cleared by the list":            {usdt, onTrx + clear, "", "", counts},
		"cleared by nobody":              {usdt, onTrx, "", "", notYet},
		"cleared by its record":          {usdt, onTrx, toAbc[1:] + clear, "", counts},
		"cleared by that of others":      {usdt, onTrx, `"orderId":"xyz"` + clear, "", notYet},
		"a record that tells no flag":    {usdt, "", onTrx + toAbc, "", notYet},
		"a record of another coin":       {usdt, onTrx, another + toAbc + clear, "", doesNot},
		"of nothing":                     {usdt + clear, onTrx + clear, "", "0", notYet},
		"of nothing, by the record":      {usdt + clear, "", onTrx + toAbc + clear, "0", notYet},
		"of less than nothing":           {usdt + clear, onTrx + clear, "", "-50", notYet},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				shop, g := newShopV2(t)
				shop.account.Reconcile = every
				shop.start()
				g.lists("abc")
				shop.openChecked("abc", func(b *bill.Bill) {
					b.Pays.CoinID, b.ExpiresAt = 1280, b.ExpiresAt.Add(24*time.Hour)
				})
				g.coins = `{"coinId":1280,"symbol":"USDT","status":"Normal","networks":{"TRX":{"chain":"TRX"` + contract + `},"BSC":{"chain":"BSC"}}}`
				amount := test.amount
				if amount == "" {
					amount = due
				}
				payment := fmt.Sprintf(`{"recordId":"r1","amount":%q,"status":"Success","arrivedAt":%d,`, amount, time.Now().Unix())
				if test.listed != "" {
					g.lists("abc", payment+test.listed+"}")
				}
				if test.record != "" {
					g.recorded("r1", payment+test.record+"}")
				}
				shop.resolve(fmt.Appendf(nil, `{"type":"ApiDeposit","msg":{"recordId":"r1","orderId":"abc","status":"Success",%s}}`, test.callback))
				for range 2 {
					if test.want == notYet {
						shop.expect("abc")
					} else {
						shop.expect("abc", test.want)
					}
					if _, state := shop.bill("abc"); (state.Status == bill.Paid) != (test.want == counts) {
						t.Errorf("the bill is %s", state.Status)
					}
					until(3 * every) // and neither does anything else count it
				}
			})
		})
	}
}

// TestACoinThatChangesItsNameIsTheSame: the number is what counts, and the name that the
// order uses is one of the coin's.
func TestACoinThatChangesItsNameIsTheSame(t *testing.T) {
	for _, told := range []string{"USDT", "USDT0"} {
		inBubbleV2(t, func(t *testing.T, shop *shop, g *gatewayV2) {
			g.coins = `{"coinId":1280,"symbol":"USDT0","status":"Normal","networks":{"TRX":{"chain":"TRX","precision":6}}}`
			shop.open("of-v2", func(b *bill.Bill) { b.Pays.CoinID = 1280 })
			g.lists("of-v2", listedV2("r1", due, "Success", false))
			shop.resolve(fmt.Appendf(nil, `{"type":"ApiDeposit","msg":{"recordId":"r1","orderId":"of-v2","coinId":1280,"coinSymbol":%q,"status":"Success","isFlaggedAsRisky":false}}`, told))
			shop.expect("of-v2", "bill.paid (paid)")
		})
	}
}
