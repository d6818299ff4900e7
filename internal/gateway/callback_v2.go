package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
)

// callbackV2 is the union of the documented callbacks of API v2: an object with the
// fields "type" and "msg", and msg an object in turn. None but that of a user's deposit
// says what was paid.
// Source: https://ccpayment.com/api/doc, the pages "Webhook for …".
type callbackV2 struct {
	kind                         text
	recordID, status             text
	orderID, referenceID, userID text
	coinID, coinSymbol, amount   text
	risky                        flag
	hasMsg, msgIsObject          bool
	isAnswer                     bool
}

// fieldsV2 are the fields of msg by name, as far as they are texts.
var fieldsV2 = map[string]func(*callbackV2) *text{
	"recordId":    func(c *callbackV2) *text { return &c.recordID },
	"status":      func(c *callbackV2) *text { return &c.status },
	"orderId":     func(c *callbackV2) *text { return &c.orderID },
	"referenceId": func(c *callbackV2) *text { return &c.referenceID },
	"userId":      func(c *callbackV2) *text { return &c.userID },
	"coinId":      func(c *callbackV2) *text { return &c.coinID },
	"coinSymbol":  func(c *callbackV2) *text { return &c.coinSymbol },
	"amount":      func(c *callbackV2) *text { return &c.amount },
}

func readCallbackV2(body []byte) (c callbackV2, err error) {
	err = walk(body, maxKeys, func(parent, name []byte, value jsontext.Value) {
		switch {
		case parent == nil:
			switch string(name) {
			case "code":
				c.isAnswer = value.Kind() == '0' || value.Kind() == '"'
			case "type":
				if value.Kind() == '"' {
					_ = c.kind.UnmarshalJSON(value)
				}
			case "msg":
				c.hasMsg, c.msgIsObject = true, value.Kind() == '{'
			}
		case string(parent) != "msg":
		case string(name) == "isFlaggedAsRisky":
			_ = c.risky.UnmarshalJSON(value)
		default:
			if field := fieldsV2[string(name)]; field != nil {
				_ = field(&c).UnmarshalJSON(value) // what cannot be read is absent
			}
		}
	})
	return c, err
}

// kindsV2 maps the types of callbacks to kinds. ApiDeposit is about orders and invoices
// alike. ActivateWebhookURL is sent when the address is entered in the dashboard; it is
// known from the code of those who receive it, not from the documentation.
var kindsV2 = map[string]Kind{
	"apideposit":         KindOrder,
	"directdeposit":      KindDeposit,
	"userdeposit":        KindDeposit,
	"apiwithdrawal":      KindWithdrawal,
	"userwithdrawal":     KindWithdrawal,
	"activatewebhookurl": KindProbe,
}

// statusesV2 maps the states of a transaction, withdrawalsV2 those that only a
// withdrawal has: it waits for somebody at the merchant to approve it.
var (
	statusesV2 = map[string]bill.PaymentStatus{
		"pending":    bill.Pending,
		"processing": bill.Processing,
		"success":    bill.Success,
		"failed":     bill.Failed,
	}
	withdrawalsV2 = map[string]bill.PaymentStatus{
		"waitingapproval": bill.Pending,
		"rejected":        bill.Failed,
	}
)

func (c *v2) ParseCallback(body []byte) (Callback, error) {
	in, err := readCallbackV2(body)
	kind := kindsV2[strings.ToLower(string(in.kind))]
	switch {
	case err != nil:
		return Callback{}, err
	case in.isAnswer:
		return Callback{}, errors.New("body has a code, like an answer of the API")
	case in.kind == "":
		return Callback{}, errors.New("type is missing")
	case kind == KindProbe:
		return Callback{Kind: KindProbe, Type: string(in.kind)}, nil
	case !in.hasMsg:
		return Callback{}, errors.New("msg is missing")
	case kind != "" && !in.msgIsObject:
		return Callback{}, errors.New("msg is not an object")
	case kind == "" && in.recordID == "":
		// Not documented, and perhaps about no transaction, like the notice of a risky
		// address. Its content alone tells it from others.
		sum := sha256.Sum256(body)
		in.recordID = text("body-" + hex.EncodeToString(sum[:16]))
	case kind != "" && (in.recordID == "" || in.status == ""):
		return Callback{}, errors.New("recordId or status is missing")
	}
	switch {
	case len(in.recordID) > maxRecordID || len(in.kind) > maxRecordID || len(in.status) > maxRecordID:
		return Callback{}, errors.New("type, recordId or status is too long")
	case hasControls(in.kind + in.recordID + in.status):
		return Callback{}, errors.New("type, recordId or status has control characters")
	}

	word := strings.ToLower(string(in.status))
	cb := Callback{
		Kind:      kind,
		Type:      string(in.kind),
		RecordID:  string(in.recordID),
		RawStatus: string(in.status),
		Status:    statusesV2[word],
		Reference: string(in.orderID),
		OrderID:   string(in.orderID), // the gateway gives orders no id of its own
		Amount:    amountOrZero(in.amount),
		Token:     bill.Token{CoinID: coinNumber(in.coinID), Crypto: string(in.coinSymbol)},
		Risky:     in.risky.set,
		RiskTold:  in.risky.told,
	}
	if kind == KindWithdrawal && cb.Status == "" {
		cb.Status = withdrawalsV2[word]
	}
	cb.Incomplete = kind == KindOrder || kind == KindDeposit
	if kind == "" || cb.Status == "" || len(in.orderID) > maxRecordID || hasControls(in.orderID) {
		// Kept and handed on as it is, but never taken for a payment.
		cb.Kind, cb.Status, cb.Incomplete = KindUnknown, "", false
	}
	cb.Subject = string(firstOf(in.orderID, in.referenceID, in.userID, in.recordID))
	return cb, nil
}
