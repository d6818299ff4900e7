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
	PayStatus           text `json:"pay_status"`
	OrderType           text `json:"order_type"`
	RecordID            text `json:"record_id"`
	OrderID             text `json:"order_id"`
	ProductPrice        text `json:"product_price"`
	DenominatedCurrency text `json:"denominated_currency"`
	OrderAmount         text `json:"order_amount"`
	PaidAmount          text `json:"paid_amount"`
	WithdrawAmount      text `json:"withdraw_amount"`
	Amount              text `json:"amount"` // of a refund
	ServiceFee          text `json:"service_fee"`
	Chain               text `json:"chain"`
	Contract            text `json:"contract"`
	Crypto              text `json:"crypto"`
	TxID                text `json:"txid"`
	UserID              text `json:"user_id"`
	MerchantOrderID     text `json:"merchant_order_id"`
	CustomValue         text `json:"custom_value"`

	Code   jsontext.Value `json:"code"`
	Extend jsontext.Value `json:"extend"`
}

// extendV1 is the object in which orders and invoices are named.
type extendV1 struct {
	MerchantOrderID text `json:"merchant_order_id"`
	InvoiceID       text `json:"invoice_id"`
	CustomValue     text `json:"custom_value"`
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
	var in callbackV1
	if err := decode(body, &in); err != nil {
		return Callback{}, err
	}
	switch {
	case in.Code.Kind() == '0':
		// A signed answer of the API is not a callback, though its signature is valid.
		return Callback{}, errors.New("body has a code, like an answer of the API")
	case in.PayStatus == "" || in.OrderType == "" || in.RecordID == "":
		return Callback{}, errors.New("pay_status, order_type or record_id is missing")
	case len(in.RecordID) > maxRecordID || len(in.OrderType) > maxRecordID || len(in.PayStatus) > maxRecordID:
		return Callback{}, errors.New("pay_status, order_type or record_id is too long")
	}

	cb := Callback{
		Kind:        kindsV1[strings.ToLower(string(in.OrderType))],
		Type:        string(in.OrderType),
		RecordID:    string(in.RecordID),
		RawStatus:   string(in.PayStatus),
		Status:      bill.PaymentStatus(strings.ToLower(string(in.PayStatus))),
		Reference:   string(in.MerchantOrderID),
		OrderID:     string(in.OrderID),
		Due:         amountOrZero(in.OrderAmount),
		Price:       string(in.ProductPrice),
		Currency:    string(in.DenominatedCurrency),
		Token:       bill.Token{Crypto: string(in.Crypto), Chain: string(in.Chain), Contract: string(in.Contract)},
		TxID:        string(in.TxID),
		ServiceFee:  string(in.ServiceFee),
		CustomValue: string(in.CustomValue),
	}
	subject := string(in.UserID)
	if in.Extend.Kind() == '{' {
		var e extendV1
		if err := decode(in.Extend, &e); err != nil {
			return Callback{}, err
		}
		if e.MerchantOrderID != "" {
			cb.Reference = string(e.MerchantOrderID)
		}
		if cb.CustomValue == "" {
			cb.CustomValue = string(e.CustomValue)
		}
		if subject == "" {
			subject = string(e.InvoiceID)
		}
	}
	for _, amount := range []text{in.PaidAmount, in.WithdrawAmount, in.Amount} {
		if amount != "" {
			cb.Amount = amountOrZero(amount)
			break
		}
	}
	nothing := cb.Kind == KindOrder && cb.Status == bill.Success && !cb.Amount.IsPositive()
	if cb.Kind == "" || !cb.Status.Known() || len(cb.Reference) > maxRecordID || nothing {
		// Kept and handed on as it is, but never taken for a payment.
		cb.Kind, cb.Status = KindUnknown, ""
	}
	cb.Subject = firstOf(cb.Reference, subject, cb.RecordID)
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

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
