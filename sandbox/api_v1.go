package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	strictjson "github.com/go-json-experiment/json"
	"github.com/shopspring/decimal"
	"go.uber.org/zap"
)

// The gateway's page of v1 error codes is not available. Two codes below are
// documented for v1: 10000, and 224066 for a service error. All others are the
// simulator's own choice; they are borrowed from the table of the gateway's
// second API generation, so that they at least look familiar. Nothing may be
// built on them: for a client of v1 there is 10000 and there is everything else.
const (
	codeSuccess      = 10000
	codeArgument     = 11000
	codeHeader       = 11001
	codeNotFound     = 11003
	codeRateLimit    = 11004
	codeSignature    = 11005
	codeExpired      = 11006
	codeQueryTooLong = 11008
	codeDailyLimit   = 11009
	codeQueryTooMany = 11010
	codeDuplicate    = 11011
	codeValidTooLong = 11012
	codeOnlyV1       = 11013
	codeMerchant     = 12001
	codeToken        = 13000
	codeChain        = 13001
	codePrecision    = 14013
	codeService      = 224066
	codeOnlyV2       = 225213
)

const (
	maxAPIBody = 64 << 10

	// The documentation gives texts no length. These bounds only keep the
	// simulator's memory small.
	maxText = 1024
	maxName = 128

	defaultValid = 24 * 60 * 60
	maxValid     = 10 * 24 * 60 * 60
	maxBillInfo  = 100
)

// apiError is a refusal. The gateway answers those with HTTP status 200, and
// without a signature.
type apiError struct {
	Code   int    `json:"code"`
	Reason string `json:"reason,omitempty"`
	Msg    string `json:"msg"`
}

func badArgument(format string, args ...any) *apiError {
	return &apiError{codeArgument, "InvalidArgument", fmt.Sprintf(format, args...)}
}

var serviceError = &apiError{Code: codeService, Msg: "service err, please try again"}

// success is the envelope of an answer.
type success struct {
	Code int    `json:"code"`
	Msg  string `json:"msg"`
	Data any    `json:"data"`
}

// An endpoint answers one kind of request.
type endpoint = func(*Sandbox, *http.Request, []byte) (any, *apiError)

// generation is one of the gateway's APIs.
type generation struct {
	path      string
	endpoints map[string]endpoint
	// signed is whether answers are signed. For v2 that is not documented: they are not.
	signed bool
	// wrong is the refusal for accounts that belong to the other generation.
	wrong *apiError
	// prefix goes before the names of endpoints where faults are listed.
	prefix string
}

const (
	apiV1 = "v1"
	apiV2 = "v2"
)

// generations are both.
var generations = map[string]*generation{
	apiV1: {
		path: "/ccpayment/v1/", endpoints: endpoints, signed: true,
		wrong: &apiError{Code: codeOnlyV2, Msg: "This merchant account can only call API of Version 2"},
	},
	apiV2: {
		path: "/ccpayment/v2/", endpoints: endpointsV2, prefix: "v2/",
		wrong: &apiError{codeOnlyV1, "NoSupportVersion", "This account can only access the Version 1 interface"},
	},
}

// endpoints are those of API v1 that are simulated.
var endpoints = map[string]endpoint{
	"bill/create":     (*Sandbox).billCreate,
	"concise/url/get": (*Sandbox).conciseURLGet,
	"bill/info":       (*Sandbox).billInfo,
	"token/rate":      (*Sandbox).tokenRate,
	"coin/all":        (*Sandbox).coinAll,
	"webhook/resend":  (*Sandbox).webhookResend,
}

// serveAPI answers one request to the gateway.
func (s *Sandbox) serveAPI(w http.ResponseWriter, r *http.Request, api, name string) error {
	g := generations[api]
	endpoint, ok := g.endpoints[name]
	if !ok {
		return caddyhttp.Error(http.StatusNotFound, fmt.Errorf("no endpoint %q", name))
	}
	if err := allow(w, r, http.MethodPost); err != nil {
		return err
	}
	body, err := readBody(w, r, maxAPIBody)
	if err != nil {
		return err
	}
	refuse := func(e *apiError) error {
		s.logger.Info("refusing request",
			zap.String("endpoint", name),
			zap.Int("code", e.Code),
			zap.String("msg", e.Msg))
		return writeJSON(w, http.StatusOK, e)
	}
	if e := checkType(r.Header); e != nil {
		return refuse(e)
	}
	if e := s.verify(api, r.Header, body); e != nil {
		return refuse(e)
	}
	if s.API != "" && s.API != api {
		return refuse(g.wrong)
	}

	// Only requests that came this far use up a fault: a stray one must not.
	fault := s.state.takeFault(g.prefix + name)
	if done, err := s.failBefore(w, fault); done {
		return err
	}

	data, e := endpoint(s, r, body)
	if e != nil {
		return refuse(e)
	}
	answer, err := json.Marshal(success{codeSuccess, "success", data})
	if err != nil {
		return caddyhttp.Error(http.StatusInternalServerError, err)
	}
	return s.answer(w, r, api, fault, answer)
}

// writeAnswer sends an answer, in v1 with the signature of exactly these bytes.
func (s *Sandbox) writeAnswer(w http.ResponseWriter, api string, body []byte) error {
	if generations[api].signed {
		setSignature(w.Header(), api, s.AppID, s.secret, s.state.now(), body)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, err := w.Write(body)
	return err
}

// checkType insists on JSON that is not compressed.
func checkType(h http.Header) *apiError {
	mediaType, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || mediaType != "application/json" {
		return &apiError{codeHeader, "HeaderInvalidArgument", "Content-Type must be application/json"}
	}
	if charset, ok := params["charset"]; ok && !strings.EqualFold(charset, "utf-8") {
		return &apiError{codeHeader, "HeaderInvalidArgument", "charset must be utf-8"}
	}
	if h.Get("Content-Encoding") != "" {
		return &apiError{codeHeader, "HeaderInvalidArgument", "Content-Encoding is not supported"}
	}
	return nil
}

// readBody reads a bounded body.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, caddyhttp.Error(http.StatusRequestEntityTooLarge, err)
		}
		return nil, caddyhttp.Error(http.StatusBadRequest, fmt.Errorf("reading body: %v", err))
	}
	return body, nil
}

func writeJSON(w http.ResponseWriter, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return caddyhttp.Error(http.StatusInternalServerError, err)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, err = w.Write(append(body, '\n'))
	return err
}

// decode reads one JSON object. Names given twice, names in another case, bytes
// that are not UTF-8, and anything after the object are refused; names nobody
// knows are not, since clients send some that are only in older documentation.
func decode(body []byte, v any) *apiError {
	object := bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{"))
	if err := strictjson.Unmarshal(body, v); err != nil || !object {
		return badArgument("the body must be a JSON object with the documented fields and types")
	}
	return nil
}

var (
	fiatPrice  = regexp.MustCompile(`^(0|[1-9][0-9]{0,14})(\.[0-9]{1,2})?$`)
	tokenPrice = regexp.MustCompile(`^(0|[1-9][0-9]{0,14})(\.[0-9]{1,18})?$`)
)

// parsePrice reads a price that was matched first, so that exponents, signs and
// the like do not reach the decimal parser.
func parsePrice(s string, form *regexp.Regexp) (decimal.Decimal, bool) {
	if !form.MatchString(s) {
		return decimal.Decimal{}, false
	}
	d, err := decimal.NewFromString(s)
	return d, err == nil && d.IsPositive()
}

// pricedInToken reports whether a price is an amount of the token itself. The
// documentation writes the word in three ways.
func pricedInToken(currency string) bool { return strings.EqualFold(currency, "token") }

func checkText(name, value string, limit int) *apiError {
	if len(value) > limit {
		return badArgument("%s is longer than %d bytes", name, limit)
	}
	return nil
}

func checkOptionalURL(name, value string) *apiError {
	if value == "" {
		return nil
	}
	if err := checkText(name, value, maxText); err != nil {
		return err
	}
	if err := checkURL(value); err != nil {
		return badArgument("%s %v", name, err)
	}
	return nil
}

// validPeriod applies the default: clients send 0 for what they do not set.
func validPeriod(seconds int64) (int64, *apiError) {
	switch {
	case seconds == 0:
		return defaultValid, nil
	case seconds < 0:
		return 0, badArgument("order_valid_period must be a number of seconds")
	case seconds > maxValid:
		return 0, &apiError{codeValidTooLong, "ExpiredAtTooMax", "order_valid_period must be at most 10 days"}
	}
	return seconds, nil
}

// billCreate makes an order for which the merchant has chosen the token.
func (s *Sandbox) billCreate(r *http.Request, body []byte) (any, *apiError) {
	var req struct {
		MerchantOrderID     string `json:"merchant_order_id"`
		ProductPrice        string `json:"product_price"`
		TokenID             string `json:"token_id"`
		DenominatedCurrency string `json:"denominated_currency"`
		OrderValidPeriod    int64  `json:"order_valid_period"`
		Remark              string `json:"remark"`
		CustomValue         string `json:"custom_value"`
		NotifyURL           string `json:"notify_url"`
	}
	if err := decode(body, &req); err != nil {
		return nil, err
	}
	if req.MerchantOrderID == "" {
		return nil, badArgument("merchant_order_id is required")
	}
	t, ok := tokensByID[req.TokenID]
	if !ok {
		return nil, &apiError{codeToken, "InvalidCoin", "token_id is not among the tokens of coin/all"}
	}

	fiatRate, ok := fiatRates[req.DenominatedCurrency]
	form := fiatPrice
	switch {
	case req.DenominatedCurrency == "":
		return nil, badArgument("denominated_currency is required")
	case pricedInToken(req.DenominatedCurrency):
		// How many decimals are allowed is not documented: as many as the token has.
		fiatRate, form = decimal.NewFromInt(1), tokenPrice
	case !ok:
		return nil, badArgument("denominated_currency is not supported")
	}
	price, ok := parsePrice(req.ProductPrice, form)
	if !ok && form == fiatPrice {
		return nil, badArgument("product_price must be a string, greater than 0, with at most two digits after the dot")
	}
	if !ok || (form == tokenPrice && !price.Equal(price.Truncate(t.precision))) {
		return nil, badArgument("product_price must be a string, greater than 0, with at most %d digits after the dot", t.precision)
	}
	valid, e := validPeriod(req.OrderValidPeriod)
	if e != nil {
		return nil, e
	}
	for _, e := range []*apiError{
		checkText("merchant_order_id", req.MerchantOrderID, maxName),
		checkText("remark", req.Remark, maxText),
		checkText("custom_value", req.CustomValue, maxText),
		checkOptionalURL("notify_url", req.NotifyURL),
	} {
		if e != nil {
			return nil, e
		}
	}

	st := s.state
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.byMerchant[req.MerchantOrderID] != nil {
		return nil, &apiError{codeDuplicate, "OrderDuplicate", "merchant_order_id already exists"}
	}
	now := st.now()
	o := &order{
		api:          apiV1,
		id:           st.newID(),
		merchantID:   req.MerchantOrderID,
		price:        price,
		productPrice: req.ProductPrice,
		currency:     req.DenominatedCurrency,
		fiatRate:     fiatRate,
		remark:       req.Remark,
		customValue:  req.CustomValue,
		notifyURL:    req.NotifyURL,
		validPeriod:  valid,
		created:      now,
		expires:      now.Add(time.Duration(valid) * time.Second),
	}
	st.add(o)
	st.choose(s.AppID, o, t)

	// amount is the price, not what is to be paid: that is for bill/info to say.
	return struct {
		Amount           string `json:"amount"`
		OrderID          string `json:"order_id"`
		Logo             string `json:"logo"`
		Network          string `json:"network"`
		PayAddress       string `json:"pay_address"`
		Memo             string `json:"memo"`
		TokenID          string `json:"token_id"`
		Crypto           string `json:"crypto"`
		OrderValidPeriod int64  `json:"order_valid_period"`
	}{
		o.productPrice, o.id, logo(base(r), t.coin.symbol), t.network, o.address, o.memo,
		t.id, t.coin.symbol, valid,
	}, nil
}

// conciseURLGet makes an order whose payer chooses the token on a hosted page.
func (s *Sandbox) conciseURLGet(r *http.Request, body []byte) (any, *apiError) {
	var req struct {
		ProductPrice     string `json:"product_price"`
		MerchantOrderID  string `json:"merchant_order_id"`
		ProductName      string `json:"product_name"`
		OrderValidPeriod int64  `json:"order_valid_period"`
		ReturnURL        string `json:"return_url"`
		NotifyURL        string `json:"notify_url"`
		CustomValue      string `json:"custom_value"`
	}
	if err := decode(body, &req); err != nil {
		return nil, err
	}
	if req.MerchantOrderID == "" {
		return nil, badArgument("merchant_order_id is required")
	}
	if req.ProductName == "" {
		return nil, badArgument("product_name is required")
	}
	price, ok := parsePrice(req.ProductPrice, fiatPrice)
	if !ok {
		return nil, badArgument("product_price must be a string, greater than 0, with at most two digits after the dot")
	}
	valid, e := validPeriod(req.OrderValidPeriod)
	if e != nil {
		return nil, e
	}
	for _, e := range []*apiError{
		checkText("merchant_order_id", req.MerchantOrderID, maxName),
		checkText("product_name", req.ProductName, maxText),
		checkText("custom_value", req.CustomValue, maxText),
		checkOptionalURL("return_url", req.ReturnURL),
		checkOptionalURL("notify_url", req.NotifyURL),
	} {
		if e != nil {
			return nil, e
		}
	}

	st := s.state
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.byMerchant[req.MerchantOrderID] != nil {
		return nil, &apiError{codeDuplicate, "OrderDuplicate", "merchant_order_id already exists"}
	}
	now := st.now()
	o := &order{
		api:          apiV1,
		id:           st.newID(),
		merchantID:   req.MerchantOrderID,
		price:        price,
		productPrice: req.ProductPrice,
		currency:     "USD",
		fiatRate:     fiatRates["USD"],
		productName:  req.ProductName,
		customValue:  req.CustomValue,
		notifyURL:    req.NotifyURL,
		returnURL:    req.ReturnURL,
		validPeriod:  valid,
		created:      now,
		expires:      now.Add(time.Duration(valid) * time.Second),
		key:          newKey(),
	}
	st.add(o)
	return struct {
		PaymentURL string `json:"payment_url"`
	}{paymentURL(base(r), o.key)}, nil
}

func paymentURL(base, key string) string {
	return base + "/pay?key=" + url.QueryEscape(key)
}

type billInfoOrder struct {
	ProductPrice        string `json:"product_price"`
	DenominatedCurrency string `json:"denominated_currency"`
	ProductName         string `json:"product_name"`
	MerchantOrderID     string `json:"merchant_order_id"`
	Chain               string `json:"chain"`
	Contract            string `json:"contract"`
	Crypto              string `json:"crypto"`
	OrderAmount         string `json:"order_amount"`
	Status              string `json:"status"`
	TokenRate           string `json:"token_rate"`
	Created             int64  `json:"created"`
}

type billInfoTrade struct {
	Amount     string `json:"amount"`
	Chain      string `json:"chain"`
	Contract   string `json:"contract"`
	Crypto     string `json:"crypto"`
	ServiceFee string `json:"service_fee"`
	NetworkFee string `json:"network_fee"`
	Txid       string `json:"txid"`
	PayTime    int64  `json:"pay_time"`
	TokenRate  string `json:"token_rate"`
}

type billInfo struct {
	OrderDetail billInfoOrder   `json:"order_detail"`
	TradeList   []billInfoTrade `json:"trade_list"`
	RefundList  []struct{}      `json:"refund_list"` // refunds are not simulated
}

// billInfo tells of up to a hundred orders. Unknown ids are left out; what the
// gateway does with them is not documented.
func (s *Sandbox) billInfo(_ *http.Request, body []byte) (any, *apiError) {
	var req struct {
		MerchantOrderIDs []string `json:"merchant_order_ids"`
	}
	if err := decode(body, &req); err != nil {
		return nil, err
	}
	if len(req.MerchantOrderIDs) == 0 {
		return nil, badArgument("merchant_order_ids is required")
	}
	if len(req.MerchantOrderIDs) > maxBillInfo {
		return nil, &apiError{codeQueryTooMany, "QueryNumMax", "merchant_order_ids must be at most 100"}
	}

	st := s.state
	st.mu.Lock()
	defer st.mu.Unlock()
	now := st.now()
	seen := make(map[string]bool)
	list := []billInfo{}
	for _, id := range req.MerchantOrderIDs {
		o := st.byMerchant[id]
		if o == nil || o.api != apiV1 || seen[id] {
			continue
		}
		seen[id] = true
		info := billInfo{
			OrderDetail: billInfoOrder{
				ProductPrice:        o.productPrice,
				DenominatedCurrency: o.currency,
				ProductName:         o.productName,
				MerchantOrderID:     o.merchantID,
				Status:              o.billInfoStatus(now),
				Created:             o.created.Unix(),
			},
			TradeList:  []billInfoTrade{},
			RefundList: []struct{}{},
		}
		if t := o.token; t != nil {
			info.OrderDetail.Chain = t.chain
			info.OrderDetail.Contract = t.contract
			info.OrderDetail.Crypto = t.coin.symbol
			info.OrderDetail.OrderAmount = o.due.String()
			info.OrderDetail.TokenRate = t.coin.price.String()
		}
		for _, p := range o.payments {
			// An entry has no status, so only what is confirmed may be listed.
			if p.status != statusSuccess {
				continue
			}
			info.TradeList = append(info.TradeList, billInfoTrade{
				Amount:     p.amount.String(),
				Chain:      p.chain,
				Contract:   p.contract,
				Crypto:     p.crypto,
				ServiceFee: serviceFee(p.amount, p.token.precision).String(),
				NetworkFee: "0",
				Txid:       p.txid,
				PayTime:    p.at.Unix(),
				TokenRate:  p.token.coin.price.String(),
			})
		}
		list = append(list, info)
	}
	return list, nil
}

// tokenRate converts an amount of USD.
func (s *Sandbox) tokenRate(_ *http.Request, body []byte) (any, *apiError) {
	var req struct {
		Amount  string `json:"amount"`
		TokenID string `json:"token_id"`
	}
	if err := decode(body, &req); err != nil {
		return nil, err
	}
	amount, ok := parsePrice(req.Amount, tokenPrice)
	if !ok {
		return nil, badArgument("amount must be a string, greater than 0")
	}
	t, ok := tokensByID[req.TokenID]
	if !ok {
		return nil, &apiError{codeToken, "InvalidCoin", "token_id is not among the tokens of coin/all"}
	}
	// The documented example has sixteen decimals, whatever the token has.
	return struct {
		Price string `json:"price"`
		Value string `json:"value"`
	}{t.coin.price.String(), amount.DivRound(t.coin.price, 16).String()}, nil
}

// coinAll lists what orders can be paid in.
func (s *Sandbox) coinAll(r *http.Request, body []byte) (any, *apiError) {
	// Some clients sign and send nothing here, some an empty object.
	if len(body) > 0 {
		var req struct{}
		if err := decode(body, &req); err != nil {
			return nil, err
		}
	}

	type tokenEntry struct {
		TokenID          string `json:"token_id"`
		Crypto           string `json:"crypto"`
		Logo             string `json:"logo"`
		Name             string `json:"name"`
		IsSupportMemo    bool   `json:"is_support_memo"`
		Network          string `json:"network"`
		Chain            string `json:"chain"`
		Contract         string `json:"contract"`
		ChainLogo        string `json:"chain_logo"`
		Status           int    `json:"status"`
		Precision        int32  `json:"precision"`
		NetworkCoinID    string `json:"network_coin_id"`
		NetworkFeeCrypto string `json:"network_fee_crypto"`
	}
	type coinEntry struct {
		CoinID    string       `json:"coin_id"`
		Symbol    string       `json:"symbol"`
		Crypto    string       `json:"crypto"`
		Name      string       `json:"name"`
		Logo      string       `json:"logo"`
		Min       string       `json:"min"`
		Price     string       `json:"price"`
		Precision int32        `json:"precision"`
		Status    int          `json:"status"`
		Tokens    []tokenEntry `json:"tokens"`
	}
	const usable = 1

	host := base(r)
	var list []coinEntry
	for _, c := range coins {
		entry := coinEntry{
			CoinID: c.id, Symbol: c.symbol, Crypto: c.symbol, Name: c.name,
			Logo: logo(host, c.symbol), Min: c.min, Price: c.price.String(),
			Precision: c.precision, Status: usable,
		}
		for _, t := range c.tokens {
			entry.Tokens = append(entry.Tokens, tokenEntry{
				TokenID: t.id, Crypto: c.symbol, Logo: logo(host, c.symbol), Name: c.name,
				IsSupportMemo: t.memo, Network: t.network, Chain: t.chain,
				Contract: t.contract, ChainLogo: logo(host, t.chain), Status: usable,
				Precision: t.precision, NetworkCoinID: t.feeCoinID, NetworkFeeCrypto: t.feeCrypto,
			})
		}
		list = append(list, entry)
	}
	return struct {
		List []coinEntry `json:"list"`
	}{list}, nil
}

const (
	maxResendWindow = 60 * 60 // seconds
	maxResendsADay  = 25
)

// webhookResend sends callbacks of confirmed payments again. Which time the window
// is about is not documented: here, when the callback was first due.
func (s *Sandbox) webhookResend(_ *http.Request, body []byte) (any, *apiError) {
	var req struct {
		StartTimestamp  int64  `json:"start_timestamp"`
		EndTimestamp    int64  `json:"end_timestamp"`
		WebhookResult   string `json:"webhook_result"`
		TransactionType string `json:"transaction_type"`
	}
	if err := decode(body, &req); err != nil {
		return nil, err
	}
	if req.StartTimestamp <= 0 {
		return nil, badArgument("start_timestamp is required")
	}
	if req.EndTimestamp == 0 {
		req.EndTimestamp = req.StartTimestamp + maxResendWindow
	}
	if req.EndTimestamp < req.StartTimestamp {
		return nil, badArgument("end_timestamp is before start_timestamp")
	}
	if req.EndTimestamp-req.StartTimestamp > maxResendWindow {
		return nil, &apiError{codeQueryTooLong, "QueryDurationTooMax", "the span must be at most one hour"}
	}
	onlyFailed := false
	switch req.WebhookResult {
	case "", "Failed":
		onlyFailed = true
	case "All Result":
	default:
		return nil, badArgument("webhook_result must be Failed or All Result")
	}
	none := false
	switch req.TransactionType {
	case "", "All Type", "API Deposit":
	case "Direct Deposit", "Invoice", "API Withdrawal", "Refund":
		none = true // not simulated
	default:
		return nil, badArgument("transaction_type is unknown")
	}

	count, e := s.resend(apiV1, req.StartTimestamp, req.EndTimestamp, onlyFailed, none)
	if e != nil {
		return nil, e
	}
	// The body of this answer is not documented.
	return struct {
		ResendCount int `json:"resend_count"`
	}{count}, nil
}

// resend sends callbacks of one generation again, whose payment was confirmed between
// two times.
func (s *Sandbox) resend(api string, start, end int64, onlyFailed, none bool) (int, *apiError) {
	st := s.state
	st.mu.Lock()
	defer st.mu.Unlock()
	now := st.now()

	// Only calls that are right in themselves count against the limits.
	recent := st.resends[:0]
	for _, at := range st.resends {
		if now.Sub(at) < 24*time.Hour {
			recent = append(recent, at)
		}
	}
	st.resends = recent
	if n := len(recent); n > 0 && now.Sub(recent[n-1]) < s.wait(time.Minute) {
		return 0, &apiError{codeRateLimit, "RateLimit", "webhook/resend can be called once a minute"}
	}
	if len(recent) >= maxResendsADay {
		return 0, &apiError{codeDailyLimit, "ReqDailyLimit", "webhook/resend can be called 25 times a day"}
	}
	st.resends = append(st.resends, now)

	// A record may have had several callbacks: it is told once, and it has failed
	// only if none of them was taken.
	count := 0
	for _, o := range st.orders {
		if o.api != api {
			continue
		}
		taken := make(map[string]bool)
		for _, c := range o.callbacks {
			if c.resendable() && c.state == stateDelivered {
				taken[c.recordID] = true
			}
		}
		told := make(map[string]bool)
		for _, c := range o.callbacks {
			at := c.created.Unix()
			if !c.resendable() || told[c.recordID] || at < start || at > end {
				continue
			}
			told[c.recordID] = true
			if none || (onlyFailed && taken[c.recordID]) {
				continue
			}
			s.sendAgain(c)
			count++
		}
	}
	return count, nil
}
