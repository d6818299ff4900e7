package sandbox

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/shopspring/decimal"
	"go.uber.org/zap"
)

// API v2, from the gateway's page https://ccpayment.com/api/doc. Its error codes are
// documented, but not which of them an endpoint uses for what.

const (
	minOrderID   = 3
	maxOrderID   = 64
	maxProduct   = 120
	maxURL       = 150
	invoiceValid = 24 * time.Hour
)

// endpointsV2 are those of API v2 that are simulated.
var endpointsV2 = map[string]endpoint{
	"createAppOrderDepositAddress": (*Sandbox).createAppOrder,
	"createInvoiceUrl":             (*Sandbox).createInvoice,
	"getAppOrderInfo":              (*Sandbox).appOrderInfo,
	"getInvoiceOrderInfo":          (*Sandbox).invoiceOrderInfo,
	"getAppDepositRecord":          (*Sandbox).depositRecord,
	"getCoinList":                  (*Sandbox).coinList,
	"getFiatList":                  (*Sandbox).fiatList,
	"webhook/resend":               (*Sandbox).webhookResendV2,
}

var notFound = &apiError{codeNotFound, "NotFound", "not found"}

// checkOrderID applies the documented length.
func checkOrderID(id string) *apiError {
	if len(id) < minOrderID || len(id) > maxOrderID {
		return badArgument("orderId must have 3 to 64 characters")
	}
	return nil
}

// expiry reads the time at which an order expires, in seconds.
func expiry(at int64, now time.Time, fallback time.Duration) (time.Time, *apiError) {
	switch {
	case at == 0:
		return now.Add(fallback), nil
	case at < 1_000_000_000 || at > 9_999_999_999:
		return time.Time{}, badArgument("expiredAt must be a timestamp of 10 digits")
	case at <= now.Unix():
		return time.Time{}, badArgument("expiredAt is over")
	case at > now.Unix()+maxValid:
		return time.Time{}, &apiError{codeValidTooLong, "ExpiredAtTooMax", "expiredAt must be at most 10 days from now"}
	}
	return time.Unix(at, 0), nil
}

// createAppOrder makes an order for which the merchant has chosen the coin.
func (s *Sandbox) createAppOrder(_ *http.Request, body []byte) (any, *apiError) {
	var req struct {
		CoinID    int64  `json:"coinId"`
		Chain     string `json:"chain"`
		FiatID    int64  `json:"fiatId"`
		Price     string `json:"price"`
		OrderID   string `json:"orderId"`
		ExpiredAt int64  `json:"expiredAt"`
		NotifyURL string `json:"notifyUrl"`
		Product   string `json:"product"`
	}
	if err := decode(body, &req); err != nil {
		return nil, err
	}
	var t *token
	code, reason := codeToken, "InvalidCoin"
	for _, c := range coins {
		if c.number != req.CoinID {
			continue
		}
		code, reason = codeChain, "InvalidChain"
		for _, candidate := range c.tokens {
			if candidate.chain == req.Chain {
				t = candidate
			}
		}
	}
	if t == nil {
		return nil, &apiError{code, reason, "coinId and chain are not in the list of getCoinList"}
	}
	currency, fiatRate, form := "token", decimal.NewFromInt(1), tokenPrice
	if req.FiatID != 0 {
		var ok bool
		if currency, ok = fiatByID(req.FiatID); !ok {
			return nil, badArgument("fiatId is not in the list of getFiatList")
		}
		fiatRate, form = fiatRates[currency], fiatPrice
	}
	price, ok := parsePrice(req.Price, form)
	switch {
	case !ok:
		return nil, badArgument("price must be a string, greater than 0, with at most 2 decimals in a fiat currency and 18 in a coin")
	case form == tokenPrice && !price.Equal(price.Truncate(t.precision)):
		return nil, &apiError{codePrecision, "CoinPrecisionLimit", "Exceed token precision limit"}
	}
	for _, e := range []*apiError{
		checkOrderID(req.OrderID),
		checkText("product", req.Product, maxProduct),
		checkText("notifyUrl", req.NotifyURL, maxURL),
		checkOptionalURL("notifyUrl", req.NotifyURL),
	} {
		if e != nil {
			return nil, e
		}
	}

	st := s.state
	st.mu.Lock()
	defer st.mu.Unlock()
	now := st.now()
	expires, e := expiry(req.ExpiredAt, now, maxValid*time.Second)
	if e != nil {
		return nil, e
	}
	if st.byMerchant[req.OrderID] != nil {
		return nil, &apiError{codeDuplicate, "OrderDuplicate", "orderId already exists"}
	}
	o := &order{
		api:          apiV2,
		id:           st.newID(),
		merchantID:   req.OrderID,
		price:        price,
		productPrice: req.Price,
		currency:     currency,
		fiatRate:     fiatRate,
		productName:  req.Product,
		notifyURL:    req.NotifyURL,
		validPeriod:  int64(expires.Sub(now) / time.Second),
		created:      now,
		expires:      expires,
	}
	st.add(o)
	st.choose(s.AppID, o, t)
	return struct {
		Address        string `json:"address"`
		Amount         string `json:"amount"`
		Memo           string `json:"memo"`
		ConfirmsNeeded int    `json:"confirmsNeeded"`
	}{o.address, o.due.String(), o.memo, 20}, nil
}

// createInvoice makes an order whose payer chooses the coin on a hosted page.
func (s *Sandbox) createInvoice(r *http.Request, body []byte) (any, *apiError) {
	var req struct {
		OrderID     string          `json:"orderId"`
		Price       string          `json:"price"`
		PriceFiatID json.RawMessage `json:"priceFiatId"`
		PriceCoinID json.RawMessage `json:"priceCoinId"`
		Product     string          `json:"product"`
		ReturnURL   string          `json:"returnUrl"`
		NotifyURL   string          `json:"notifyUrl"`
		ExpiredAt   int64           `json:"expiredAt"`
	}
	if err := decode(body, &req); err != nil {
		return nil, err
	}
	// The documentation says that ids are strings here, other texts of the vendor that
	// they are numbers.
	var fiatID json.Number
	if err := json.Unmarshal([]byte(strings.Trim(string(req.PriceFiatID), `"`)), &fiatID); err != nil || len(req.PriceCoinID) > 0 {
		return nil, badArgument("priceFiatId is required; prices in coins are not simulated")
	}
	id, _ := fiatID.Int64()
	currency, known := fiatByID(id)
	if !known {
		return nil, badArgument("priceFiatId is not in the list of getFiatList")
	}
	price, ok := parsePrice(req.Price, fiatPrice)
	if !ok {
		return nil, badArgument("price must be a string, greater than 0, with at most two decimals")
	}
	for _, e := range []*apiError{
		checkOrderID(req.OrderID),
		checkText("product", req.Product, maxProduct),
		checkText("returnUrl", req.ReturnURL, maxURL),
		checkText("notifyUrl", req.NotifyURL, maxURL),
		checkOptionalURL("returnUrl", req.ReturnURL),
		checkOptionalURL("notifyUrl", req.NotifyURL),
	} {
		if e != nil {
			return nil, e
		}
	}

	st := s.state
	st.mu.Lock()
	defer st.mu.Unlock()
	now := st.now()
	expires, e := expiry(req.ExpiredAt, now, invoiceValid)
	if e != nil {
		return nil, e
	}
	if st.byMerchant[req.OrderID] != nil {
		return nil, &apiError{codeDuplicate, "OrderDuplicate", "orderId already exists"}
	}
	o := &order{
		api:          apiV2,
		id:           st.newID(),
		merchantID:   req.OrderID,
		price:        price,
		productPrice: req.Price,
		currency:     currency,
		fiatRate:     fiatRates[currency],
		productName:  req.Product,
		notifyURL:    req.NotifyURL,
		returnURL:    req.ReturnURL,
		validPeriod:  int64(expires.Sub(now) / time.Second),
		created:      now,
		expires:      expires,
		key:          newKey(),
	}
	st.add(o)
	return struct {
		InvoiceURL string `json:"invoiceUrl"`
	}{paymentURL(base(r), o.key)}, nil
}

// statusV2 writes a status as API v2 does.
func statusV2(status string) string { return strings.ToUpper(status[:1]) + status[1:] }

// orderV2 finds the order of a question, of one sort. The caller holds mu.
func (s *Sandbox) orderV2(body []byte, hosted bool) (*order, *apiError) {
	var req struct {
		OrderID string `json:"orderId"`
	}
	if err := decode(body, &req); err != nil {
		return nil, err
	}
	if err := checkOrderID(req.OrderID); err != nil {
		return nil, err
	}
	o := s.state.byMerchant[req.OrderID]
	if o == nil || o.api != apiV2 || hosted != (o.key != "") {
		return nil, notFound
	}
	return o, nil
}

// listed reports whether a payment is in the lists of orders: what waits to be sent to
// the blockchain is not.
func (p *payment) listed() bool { return p.status != statusPending }

// rate is the price of a payment's coin in the order's currency.
func (o *order) rate(p *payment) decimal.Decimal {
	return p.token.coin.price.Mul(o.fiatRate)
}

// appOrderInfo tells of an order with its payments in its own coin. Those in another
// one are left out, as documented.
func (s *Sandbox) appOrderInfo(_ *http.Request, body []byte) (any, *apiError) {
	type paid struct {
		RecordID    string `json:"recordId"`
		FromAddress string `json:"fromAddress"`
		Amount      string `json:"amount"`
		ServiceFee  string `json:"serviceFee"`
		TxID        string `json:"txid"`
		Status      string `json:"status"`
		ArrivedAt   int64  `json:"arrivedAt"`
		Rate        string `json:"rate"`
		Risky       bool   `json:"isFlaggedAsRisky"`
	}
	type info struct {
		AmountToPay string `json:"amountToPay"`
		CoinID      int64  `json:"coinId"`
		CoinSymbol  string `json:"coinSymbol"`
		Chain       string `json:"chain"`
		ToAddress   string `json:"toAddress"`
		ToMemo      string `json:"toMemo"`
		CreateAt    int64  `json:"createAt"`
		Rate        string `json:"rate,omitempty"`
		FiatID      int64  `json:"fiatId,omitempty"`
		FiatSymbol  string `json:"fiatSymbol,omitempty"`
		ExpiredAt   int64  `json:"expiredAt"`
		PaidList    []paid `json:"paidList"`
	}
	s.state.mu.Lock()
	defer s.state.mu.Unlock()
	o, e := s.orderV2(body, false)
	if e != nil {
		return nil, e
	}
	out := info{
		AmountToPay: o.due.String(),
		CoinID:      o.token.coin.number,
		CoinSymbol:  o.token.coin.symbol,
		Chain:       o.token.chain,
		ToAddress:   o.address,
		ToMemo:      o.memo,
		CreateAt:    o.created.Unix(),
		ExpiredAt:   o.expires.Unix(),
		PaidList:    []paid{},
	}
	if id, ok := fiatIDs[o.currency]; ok {
		out.FiatID, out.FiatSymbol, out.Rate = id, o.currency, o.token.coin.price.Mul(o.fiatRate).String()
	}
	for _, p := range o.payments {
		if !p.listed() || !o.inToken(p) {
			continue
		}
		out.PaidList = append(out.PaidList, paid{
			RecordID:   p.recordID,
			Amount:     p.amount.String(),
			ServiceFee: serviceFee(p.amount, p.token.precision).String(),
			TxID:       p.txid,
			Status:     statusV2(p.status),
			ArrivedAt:  p.at.Unix(),
			Rate:       o.rate(p).String(),
			Risky:      p.risky,
		})
	}
	return out, nil
}

// invoiceOrderInfo tells of an invoice with all its payments.
func (s *Sandbox) invoiceOrderInfo(r *http.Request, body []byte) (any, *apiError) {
	type paid struct {
		RecordID   string `json:"recordId"`
		CoinID     int64  `json:"coinId"`
		CoinSymbol string `json:"coinSymbol"`
		Chain      string `json:"chain"`
		ToAddress  string `json:"toAddress"`
		ToMemo     string `json:"toMemo"`
		PaidAmount string `json:"paidAmount"`
		ServiceFee string `json:"serviceFee"`
		TxID       string `json:"txid"`
		Status     string `json:"status"`
		Risky      bool   `json:"isFlaggedAsRisky"`
		ArrivedAt  int64  `json:"arrivedAt"`
		Rate       string `json:"rate"`
		PaidValue  string `json:"paidValue"`
	}
	type info struct {
		OrderID        string `json:"orderId"`
		CreateAt       int64  `json:"createAt"`
		Product        string `json:"product"`
		Price          string `json:"price"`
		PriceFiatID    int64  `json:"priceFiatId"`
		PriceSymbol    string `json:"priceSymbol"`
		InvoiceURL     string `json:"invoiceUrl"`
		ExpiredAt      int64  `json:"expiredAt"`
		TotalPaidValue string `json:"totalPaidValue"`
		PaidList       []paid `json:"paidList"`
	}
	s.state.mu.Lock()
	defer s.state.mu.Unlock()
	o, e := s.orderV2(body, true)
	if e != nil {
		return nil, e
	}
	out := info{
		OrderID:     o.merchantID,
		CreateAt:    o.created.Unix(),
		Product:     o.productName,
		Price:       o.productPrice,
		PriceFiatID: fiatIDs[o.currency],
		PriceSymbol: o.currency,
		InvoiceURL:  paymentURL(base(r), o.key),
		ExpiredAt:   o.expires.Unix(),
		PaidList:    []paid{},
	}
	var total decimal.Decimal
	for _, p := range o.payments {
		if !p.listed() {
			continue
		}
		value := p.amount.Mul(o.rate(p))
		if p.status == statusSuccess && !p.risky {
			total = total.Add(value)
		}
		out.PaidList = append(out.PaidList, paid{
			RecordID:   p.recordID,
			CoinID:     p.token.coin.number,
			CoinSymbol: p.crypto,
			Chain:      p.chain,
			ToAddress:  o.address,
			ToMemo:     o.memo,
			PaidAmount: p.amount.String(),
			ServiceFee: serviceFee(p.amount, p.token.precision).String(),
			TxID:       p.txid,
			Status:     statusV2(p.status),
			Risky:      p.risky,
			ArrivedAt:  p.at.Unix(),
			Rate:       o.rate(p).String(),
			PaidValue:  value.String(),
		})
	}
	out.TotalPaidValue = total.String()
	return out, nil
}

// depositRecord tells of one payment.
func (s *Sandbox) depositRecord(_ *http.Request, body []byte) (any, *apiError) {
	var req struct {
		RecordID string `json:"recordId"`
	}
	if err := decode(body, &req); err != nil {
		return nil, err
	}
	type record struct {
		RecordID     string `json:"recordId"`
		OrderID      string `json:"orderId"`
		CoinID       int64  `json:"coinId"`
		CoinSymbol   string `json:"coinSymbol"`
		Chain        string `json:"chain"`
		Contract     string `json:"contract"`
		CoinUSDPrice string `json:"coinUSDPrice"`
		ToAddress    string `json:"toAddress"`
		ToMemo       string `json:"toMemo"`
		Amount       string `json:"amount"`
		ServiceFee   string `json:"serviceFee"`
		TxID         string `json:"txId"`
		Status       string `json:"status"`
		ArrivedAt    int64  `json:"arrivedAt"`
		Risky        bool   `json:"isFlaggedAsRisky"`
	}
	s.state.mu.Lock()
	defer s.state.mu.Unlock()
	for _, o := range s.state.orders {
		if o.api != apiV2 {
			continue
		}
		for _, p := range o.payments {
			if p.recordID != req.RecordID || !p.listed() {
				continue
			}
			return struct {
				Record record `json:"record"`
			}{record{
				RecordID:     p.recordID,
				OrderID:      o.merchantID,
				CoinID:       p.token.coin.number,
				CoinSymbol:   p.crypto,
				Chain:        p.chain,
				Contract:     p.contract,
				CoinUSDPrice: p.token.coin.price.String(),
				ToAddress:    o.address,
				ToMemo:       o.memo,
				Amount:       p.amount.String(),
				ServiceFee:   serviceFee(p.amount, p.token.precision).String(),
				TxID:         p.txid,
				Status:       statusV2(p.status),
				ArrivedAt:    p.at.Unix(),
				Risky:        p.risky,
			}}, nil
		}
	}
	return nil, notFound
}

// checkEmpty takes nothing or an empty object: the documentation's sample sends
// nothing, its rules ask for an object.
func checkEmpty(body []byte) *apiError {
	if len(body) == 0 {
		return nil
	}
	var req struct{}
	return decode(body, &req)
}

// coinList lists what orders can be paid in.
func (s *Sandbox) coinList(r *http.Request, body []byte) (any, *apiError) {
	if e := checkEmpty(body); e != nil {
		return nil, e
	}
	type network struct {
		Chain          string `json:"chain"`
		ChainFullName  string `json:"chainFullName"`
		Contract       string `json:"contract"`
		Precision      int32  `json:"precision"`
		CanDeposit     bool   `json:"canDeposit"`
		CanWithdraw    bool   `json:"canWithdraw"`
		MinimumDeposit string `json:"minimumDepositAmount"`
		IsSupportMemo  bool   `json:"isSupportMemo"`
	}
	type entry struct {
		CoinID       int64              `json:"coinId"`
		Symbol       string             `json:"symbol"`
		CoinFullName string             `json:"coinFullName"`
		LogoURL      string             `json:"logoUrl"`
		Status       string             `json:"status"`
		Networks     map[string]network `json:"networks"`
	}
	var list []entry
	for _, c := range coins {
		e := entry{CoinID: c.number, Symbol: c.symbol, CoinFullName: c.name, LogoURL: logo(base(r), c.symbol), Status: "Normal", Networks: make(map[string]network)}
		for _, t := range c.tokens {
			e.Networks[t.chain] = network{t.chain, t.chainName, t.contract, t.precision, true, true, c.min, t.memo}
		}
		list = append(list, e)
	}
	return struct {
		Coins []entry `json:"coins"`
	}{list}, nil
}

// fiatList lists what prices can be in.
func (s *Sandbox) fiatList(_ *http.Request, body []byte) (any, *apiError) {
	if e := checkEmpty(body); e != nil {
		return nil, e
	}
	type entry struct {
		FiatID  int64  `json:"fiatId"`
		Symbol  string `json:"symbol"`
		USDRate string `json:"usdRate"`
	}
	list := make([]entry, 0, len(fiatIDs))
	for currency, id := range fiatIDs {
		list = append(list, entry{id, currency, fiatRates[currency].String()})
	}
	return struct {
		Fiats []entry `json:"fiats"`
	}{list}, nil
}

// webhookResendV2 sends callbacks of confirmed payments again.
func (s *Sandbox) webhookResendV2(_ *http.Request, body []byte) (any, *apiError) {
	var req struct {
		StartTimestamp  int64  `json:"startTimestamp"`
		EndTimestamp    int64  `json:"endTimestamp"`
		WebhookResult   string `json:"webhookResult"`
		TransactionType string `json:"transactionType"`
	}
	if err := decode(body, &req); err != nil {
		return nil, err
	}
	if req.StartTimestamp < 1_000_000_000 || req.StartTimestamp > 9_999_999_999 {
		return nil, badArgument("startTimestamp must be a timestamp of 10 digits")
	}
	if req.EndTimestamp == 0 {
		req.EndTimestamp = req.StartTimestamp + maxResendWindow
	}
	if req.EndTimestamp < req.StartTimestamp {
		return nil, badArgument("endTimestamp is before startTimestamp")
	}
	if req.EndTimestamp-req.StartTimestamp > maxResendWindow {
		return nil, &apiError{codeQueryTooLong, "QueryDurationTooMax", "the span must be at most one hour"}
	}
	onlyFailed := true
	switch req.WebhookResult {
	case "", "Failed":
	case "AllResult":
		onlyFailed = false
	default:
		return nil, badArgument("webhookResult must be Failed or AllResult")
	}
	none := false
	switch req.TransactionType {
	case "", "AllType", "ApiDeposit":
	case "DirectDeposit", "ApiWithdrawal", "UserDeposit", "UserWithdrawal":
		none = true // not simulated
	default:
		return nil, badArgument("transactionType is unknown")
	}
	count, e := s.resend(apiV2, req.StartTimestamp, req.EndTimestamp, onlyFailed, none)
	if e != nil {
		return nil, e
	}
	return struct {
		ResendCount int `json:"resendCount"`
	}{count}, nil
}

// callbackV2 is the documented body of an ApiDeposit callback: it does not say what was
// paid.
type callbackV2 struct {
	Type string         `json:"type"`
	Msg  callbackV2Body `json:"msg"`
}

type callbackV2Body struct {
	RecordID   string `json:"recordId"`
	OrderID    string `json:"orderId"`
	CoinID     int64  `json:"coinId"`
	CoinSymbol string `json:"coinSymbol"`
	Status     string `json:"status"`
	Risky      bool   `json:"isFlaggedAsRisky"`
}

func newCallbackV2(o *order, p *payment, status string) callbackV2 {
	return callbackV2{"ApiDeposit", callbackV2Body{
		RecordID:   p.recordID,
		OrderID:    o.merchantID,
		CoinID:     p.token.coin.number,
		CoinSymbol: p.crypto,
		Status:     statusV2(status),
		Risky:      p.risky,
	}}
}

// probeBody is what the gateway sends when a webhook URL is entered in its dashboard.
// It is not documented; this is what others have seen.
const probeBody = `{"type":"ActivateWebhookURL","msg":{}}`

// serveProbe asks the webhook URL whether somebody is there.
func (s *Sandbox) serveProbe(w http.ResponseWriter, r *http.Request) error {
	if err := allow(w, r, http.MethodPost); err != nil {
		return err
	}
	if err := s.parseForm(w, r); err != nil {
		return err
	}
	if s.notifyURL == "" {
		return s.complain(w, r, http.StatusConflict, "the sandbox has no notify_url")
	}
	t := s.try(apiV2, s.notifyURL, []byte(probeBody), r.Form.Get("forged") == "1")
	s.state.mu.Lock()
	s.state.probe = &t
	s.state.mu.Unlock()
	s.logger.Info("asked webhook URL", zap.Int("status", t.Status), zap.Bool("taken", t.Taken), zap.String("error", t.Error))
	if wantsJSON(r) {
		return writeJSON(w, http.StatusOK, t)
	}
	http.Redirect(w, r, prefix(r)+"/sandbox/#probe", http.StatusSeeOther)
	return nil
}
