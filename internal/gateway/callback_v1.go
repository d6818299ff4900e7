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
	merchantOrderID, extendOrderID     text
	customValue, extendCustomValue     text
	isAnswer                           bool
}

// fieldsV1 are the fields of a callback by name, extendV1 those of its object "extend".
var fieldsV1 = map[string]func(*callbackV1) *text{
	"pay_status":           func(c *callbackV1) *text { return &c.payStatus },
	"order_type":           func(c *callbackV1) *text { return &c.orderType },
	"record_id":            func(c *callbackV1) *text { return &c.recordID },
	"order_id":             func(c *callbackV1) *text { return &c.orderID },
	"product_price":        func(c *callbackV1) *text { return &c.productPrice },
	"denominated_currency": func(c *callbackV1) *text { return &c.denominatedCurrency },
	"order_amount":         func(c *callbackV1) *text { return &c.orderAmount },
	"paid_amount":          func(c *callbackV1) *text { return &c.paidAmount },
	"withdraw_amount":      func(c *callbackV1) *text { return &c.withdrawAmount },
	"amount":               func(c *callbackV1) *text { return &c.amount },
	"service_fee":          func(c *callbackV1) *text { return &c.serviceFee },
	"chain":                func(c *callbackV1) *text { return &c.chain },
	"contract":             func(c *callbackV1) *text { return &c.contract },
	"crypto":               func(c *callbackV1) *text { return &c.crypto },
	"txid":                 func(c *callbackV1) *text { return &c.txID },
	"user_id":              func(c *callbackV1) *text { return &c.userID },
	"merchant_order_id":    func(c *callbackV1) *text { return &c.merchantOrderID },
	"custom_value":         func(c *callbackV1) *text { return &c.customValue },
}

var extendV1 = map[string]func(*callbackV1) *text{
	"merchant_order_id": func(c *callbackV1) *text { return &c.extendOrderID },
	"invoice_id":        func(c *callbackV1) *text { return &c.invoiceID },
	"custom_value":      func(c *callbackV1) *text { return &c.extendCustomValue },
}

func readCallbackV1(body []byte) (c callbackV1, err error) {
	err = walk(body, maxKeys, func(parent, name []byte, value jsontext.Value) {
		fields := fieldsV1
		switch {
		case parent == nil && string(name) == "code":
			c.isAnswer = value.Kind() == '0'
		case string(parent) == "extend":
			fields = extendV1
		case parent != nil:
			return
		}
		if field := fields[string(name)]; field != nil {
			_ = field(&c).UnmarshalJSON(value) // what cannot be read is absent
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

func (c *v1) ParseCallback(body []byte) (Callback, error) {
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
	case hasControls(in.payStatus + in.orderType + in.recordID):
		return Callback{}, errors.New("pay_status, order_type or record_id has control characters")
	}
	reference := firstOf(in.extendOrderID, in.merchantOrderID)

	cb := Callback{
		Kind:        kindsV1[strings.ToLower(string(in.orderType))],
		Type:        string(in.orderType),
		RecordID:    string(in.recordID),
		RawStatus:   string(in.payStatus),
		Status:      bill.PaymentStatus(strings.ToLower(string(in.payStatus))),
		Reference:   string(reference),
		OrderID:     string(in.orderID),
		Due:         amountOrZero(in.orderAmount),
		Price:       string(in.productPrice),
		Currency:    string(in.denominatedCurrency),
		Token:       bill.Token{Crypto: string(in.crypto), Chain: string(in.chain), Contract: string(in.contract)},
		TxID:        string(in.txID),
		ServiceFee:  string(in.serviceFee),
		CustomValue: string(firstOf(in.customValue, in.extendCustomValue)),
	}
	switch cb.Kind {
	case KindWithdrawal:
		cb.Amount = amountOrZero(in.withdrawAmount)
	case KindRefund:
		cb.Amount = amountOrZero(in.amount)
	default:
		cb.Amount = amountOrZero(in.paidAmount)
	}
	nothing := cb.Kind == KindOrder && cb.Status == bill.Success && !cb.Amount.IsPositive()
	if cb.Kind == "" || !cb.Status.Known() || len(reference) > maxRecordID || hasControls(reference) || nothing {
		// Kept and handed on as it is, but never taken for a payment.
		cb.Kind, cb.Status = KindUnknown, ""
	}
	cb.Subject = string(firstOf(reference, in.userID, in.invoiceID, in.recordID))
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

func hasControls(t text) bool {
	return strings.ContainsFunc(string(t), func(c rune) bool { return c < ' ' || c == 0x7f })
}
