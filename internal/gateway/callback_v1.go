package gateway

import (
	"errors"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/shopspring/decimal"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
)

// callbackV1 is the union of the documented callbacks of API v1. Every field but
// the first three is optional.
// Source: https://docs.ccpayment.com/, "Webhook notification", all pages.
type callbackV1 struct {
	payStatus, orderType, recordID     text
	orderID                            text
	productPrice, denominatedCurrency  text
	orderAmount                        text
	paidAmount, withdrawAmount, amount text // of a payment, a withdrawal, a refund
	serviceFee                         text
	chain, contract, crypto, txID      text
	userID, invoiceID                  text
	merchantOrderID                    text
	customValue                        text
	isAnswer                           bool
}

// fieldsV1 are the fields by name; those of the object "extend" have it before their own.
var fieldsV1 = map[string]func(*callbackV1) *text{
	"pay_status":               func(c *callbackV1) *text { return &c.payStatus },
	"order_type":               func(c *callbackV1) *text { return &c.orderType },
	"record_id":                func(c *callbackV1) *text { return &c.recordID },
	"order_id":                 func(c *callbackV1) *text { return &c.orderID },
	"product_price":            func(c *callbackV1) *text { return &c.productPrice },
	"denominated_currency":     func(c *callbackV1) *text { return &c.denominatedCurrency },
	"order_amount":             func(c *callbackV1) *text { return &c.orderAmount },
	"paid_amount":              func(c *callbackV1) *text { return &c.paidAmount },
	"withdraw_amount":          func(c *callbackV1) *text { return &c.withdrawAmount },
	"amount":                   func(c *callbackV1) *text { return &c.amount },
	"service_fee":              func(c *callbackV1) *text { return &c.serviceFee },
	"chain":                    func(c *callbackV1) *text { return &c.chain },
	"contract":                 func(c *callbackV1) *text { return &c.contract },
	"crypto":                   func(c *callbackV1) *text { return &c.crypto },
	"txid":                     func(c *callbackV1) *text { return &c.txID },
	"user_id":                  func(c *callbackV1) *text { return &c.userID },
	"merchant_order_id":        func(c *callbackV1) *text { return &c.merchantOrderID },
	"custom_value":             func(c *callbackV1) *text { return &c.customValue },
	"extend.invoice_id":        func(c *callbackV1) *text { return &c.invoiceID },
	"extend.merchant_order_id": func(c *callbackV1) *text { return &c.merchantOrderID },
	"extend.custom_value":      func(c *callbackV1) *text { return &c.customValue },
}

func readCallbackV1(body []byte) (c callbackV1, err error) {
	err = walk(body, func(parent, name []byte, value jsontext.Value) {
		if parent != nil {
			if string(parent) != "extend" {
				return
			}
			name = append([]byte("extend."), name...)
		} else if string(name) == "code" && value.Kind() == '0' {
			c.isAnswer = true
		}
		if field := fieldsV1[string(name)]; field != nil {
			var t text
			if t.UnmarshalJSON(value) == nil && t != "" {
				*field(&c) = t
			}
		}
	})
	return c, err
}

// kindsV1 maps the documented order types, and the two of early 2023, to kinds.
var kindsV1 = map[string]Kind{
	"api deposit":    KindOrder,
	"api":            KindOrder,
	"direct deposit": KindDeposit,
	"invoice":        KindInvoice,
	"api withdrawal": KindWithdrawal,
	"refund":         KindRefund,
}

// maxRecordID bounds what goes into the unique key of the store.
const maxRecordID = 128

func (c v1) ParseCallback(body []byte) (Callback, error) {
	in, err := readCallbackV1(body)
	switch {
	case err != nil:
		return Callback{}, err
	case in.isAnswer:
		// A signed answer of the API is not a callback, though its signature is valid.
		return Callback{}, errors.New("body has a code, like an answer of the API")
	case in.payStatus == "" || in.orderType == "" || in.recordID == "":
		return Callback{}, errors.New("pay_status, order_type or record_id is missing")
	case len(in.recordID) > maxRecordID || len(in.orderType) > maxRecordID || len(in.payStatus) > maxRecordID:
		return Callback{}, errors.New("pay_status, order_type or record_id is too long")
	}

	cb := Callback{
		Kind:        kindsV1[strings.ToLower(string(in.orderType))],
		Type:        string(in.orderType),
		RecordID:    string(in.recordID),
		RawStatus:   string(in.payStatus),
		Status:      bill.PaymentStatus(strings.ToLower(string(in.payStatus))),
		Reference:   string(in.merchantOrderID),
		OrderID:     string(in.orderID),
		Due:         amountOrZero(in.orderAmount),
		Price:       string(in.productPrice),
		Currency:    string(in.denominatedCurrency),
		Token:       bill.Token{Crypto: string(in.crypto), Chain: string(in.chain), Contract: string(in.contract)},
		TxID:        string(in.txID),
		ServiceFee:  string(in.serviceFee),
		CustomValue: string(in.customValue),
		Amount:      amountOrZero(firstOf(in.paidAmount, in.withdrawAmount, in.amount)),
	}
	nothing := cb.Kind == KindOrder && cb.Status == bill.Success && !cb.Amount.IsPositive()
	if cb.Kind == "" || !cb.Status.Known() || len(cb.Reference) > maxRecordID || nothing {
		// Kept and handed on as it is, but never taken for a payment.
		cb.Kind, cb.Status = KindUnknown, ""
	}
	cb.Subject = string(firstOf(in.merchantOrderID, in.userID, in.invoiceID, in.recordID))
	return cb, nil
}

// amountOrZero reads an amount. One that cannot be read counts for nothing; the
// callback itself is kept, and its text is handed on.
func amountOrZero(t text) decimal.Decimal {
	d, err := bill.ParseAmount(string(t))
	if err != nil {
		return decimal.Zero
	}
	return d
}

func firstOf(values ...text) text {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
