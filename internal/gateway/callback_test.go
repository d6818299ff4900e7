package gateway_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/shopspring/decimal"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/gateway"
)

// parser reads callbacks. For that a client needs no account.
var parser = gateway.NewV1(gateway.Config{})

func amount(s string) decimal.Decimal { return decimal.RequireFromString(s) }

func testdata(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// same compares by what is printed, in which equal decimals are equal.
func same(a, b any) bool { return fmt.Sprintf("%+v", a) == fmt.Sprintf("%+v", b) }

func TestEveryDocumentedCallbackIsUnderstood(t *testing.T) {
	documented := map[string]gateway.Callback{
		"v1-webhook-api-deposit.json": {
			Kind: gateway.KindOrder, Type: "API Deposit", RecordID: "202302201213531627642695975706624",
			RawStatus: "success", Status: bill.Success,
			Reference: "202211154785795", Subject: "202211154785795", OrderID: "202302200951001627606736097771520",
			Due: amount("25"), Price: "25", Currency: "USD", Amount: amount("10"),
			Token: bill.Token{Crypto: "DOGE", Chain: "BSC", Contract: "0xbA2aE424d960c26247Dd6c32edC70B295c744C43"},
			TxID:  "0xbA2aE424d96...c32edC70B295c744C43",
		},
		"v1-webhook-direct-deposit.json": {
			Kind: gateway.KindDeposit, Type: "Direct Deposit", RecordID: "202307191012191681607895159656448",
			RawStatus: "success", Status: bill.Success, Subject: "10192128173", Amount: amount("666"),
			Token: bill.Token{Crypto: "USDT", Chain: "BSC", Contract: "0x55d398326f99059ff775485246999027b3197955"},
			TxID:  "internal transfer", ServiceFee: "0.1998",
		},
		"v1-webhook-invoice.json": {
			Kind: gateway.KindInvoice, Type: "Invoice", RecordID: "202307311012021***477271900160",
			RawStatus: "success", Status: bill.Success,
			Subject: "2023073109560***3384046592", OrderID: "202307310956071***952473421795328",
			Due: amount("0.009637573687282151"), Price: "18", Currency: "USD", Amount: amount("10"),
			Token:      bill.Token{Crypto: "USDT", Chain: "ETH", Contract: "0xdAC17F***206206994597C13D831ec7"},
			ServiceFee: "0.003",
		},
		"v1-webhook-api-withdrawal.json": {
			Kind: gateway.KindWithdrawal, Type: "API Withdrawal", RecordID: "202307310832281685931420447666176",
			RawStatus: "success", Status: bill.Success,
			Reference: "1690792347702", Subject: "1690792347702", OrderID: "202307310832281685931420435083264",
			Amount: amount("0.05"),
			Token:  bill.Token{Crypto: "USDC", Chain: "POLYGON", Contract: "0x2791bca1f2de4661ed88a30c99a7a9449aa84174"},
			TxID:   "internal transfer",
		},
		"v1-webhook-refund.json": {
			Kind: gateway.KindRefund, Type: "Refund", RecordID: "202307310544361685889174073212928",
			RawStatus: "success", Status: bill.Success,
			Reference: "test_xxxx1688370383377840", Subject: "test_xxxx1688370383377840", Amount: amount("1"),
			Token: bill.Token{Crypto: "USDT", Chain: "ETH", Contract: "0xdAC17F958D2ee523a2206206994597C13D831ec7"},
			TxID:  "internal transfer",
		},
	}
	files, err := filepath.Glob("testdata/v1-webhook-*.json")
	if err != nil || len(files) != len(documented) {
		t.Fatalf("%d examples, %d expectations, %v", len(files), len(documented), err)
	}
	for name, want := range documented {
		t.Run(name, func(t *testing.T) {
			got, err := parser.ParseCallback(testdata(t, name))
			if err != nil {
				t.Fatal(err)
			}
			if !same(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestNothingElseThatTheGatewaySignsIsACallback(t *testing.T) {
	var names []string
	for _, pattern := range []string{"v1-*-response.json", "v1-*error*.json", "v1-*-request.json", "v1-*.txt"} {
		files, err := filepath.Glob(filepath.Join("testdata", pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("no examples %s, %v", pattern, err)
		}
		names = append(names, files...)
	}
	for _, name := range names {
		if cb, err := parser.ParseCallback(testdata(t, filepath.Base(name))); err == nil {
			t.Errorf("%s is taken for %+v", name, cb)
		}
	}

	// An answer cannot be turned into a callback by what it carries.
	for name, body := range map[string]string{
		"answer that has the fields of a callback": `{"code":10000,"msg":"success","pay_status":"success","order_type":"API Deposit","record_id":"1"}`,
		"error that has the fields of a callback":  `{"pay_status":"success","order_type":"API Deposit","record_id":"1","code":0}`,
		"answer whose data is a callback":          `{"code":10000,"msg":"success","data":{"pay_status":"success","order_type":"API Deposit","record_id":"1"}}`,
	} {
		if cb, err := parser.ParseCallback([]byte(body)); err == nil {
			t.Errorf("%s is taken for %+v", name, cb)
		}
	}
}

// deposit is a callback with some fields replaced, added, or, with an empty value,
// left out.
func deposit(fields ...string) string {
	values := map[string]string{
		"pay_status": `"success"`, "order_type": `"API Deposit"`, "record_id": `"r1"`, "paid_amount": `"10"`,
		"chain": `"TRX"`, "crypto": `"USDT"`, "extend": `{"merchant_order_id":"o1"}`,
	}
	for i := 0; i < len(fields); i += 2 {
		values[fields[i]] = fields[i+1]
	}
	var members []string
	for name, value := range values {
		if value != "" {
			members = append(members, `"`+name+`":`+value)
		}
	}
	slices.Sort(members)
	return "{" + strings.Join(members, ",") + "}"
}

func TestBodiesThatTwoParsersCouldReadInTwoWaysAreRefused(t *testing.T) {
	good := deposit()
	if _, err := parser.ParseCallback([]byte(good)); err != nil {
		t.Fatal(err)
	}
	add := func(member string) string { return strings.TrimSuffix(good, "}") + "," + member + "}" }
	for name, body := range map[string]string{
		"empty":                    "",
		"only white space":         " \n",
		"leading white space":      " " + good,
		"leading line feed":        "\n" + good,
		"byte order mark":          "\ufeff" + good,
		"an array":                 "[" + good + "]",
		"a number":                 "1",
		"a string":                 `"` + strings.ReplaceAll(good, `"`, `\"`) + `"`,
		"null":                     "null",
		"cut off":                  good[:len(good)-1],
		"single quotes":            strings.ReplaceAll(good, `"`, `'`),
		"a comment":                "{/**/" + good[1:],
		"a comma too many":         strings.TrimSuffix(good, "}") + ",}",
		"trailing garbage":         good + "x",
		"trailing comma":           good + ",",
		"a second object":          good + good,
		"a second object in lines": good + "\n" + good,
		"a trailing NUL":           good + "\x00",
		"trailing glue":            good + "\x80\x00",

		"the same field twice":              add(`"pay_status":"failed"`),
		"the same field, escaped":           add(`"pay\u005fstatus":"failed"`),
		"the same field in capitals":        add(`"PAY_STATUS":"failed"`),
		"the same field with a long s":      add(`"pay_ſtatus":"failed"`),
		"the same with an escaped long s":   add(`"pay_\u017ftatus":"failed"`),
		"two names with and without Kelvin": add(`"token":1,"to\u212aen":2`),
		"two names that are not ASCII":      add(`"Ä":1,"ä":2`),
		"the same field twice, deeper":      deposit("extend", `{"merchant_order_id":"o1","Merchant_Order_ID":"o2"}`),
		"the same field twice, in an array": add(`"list":[{"a":1,"A":2}]`),

		"a name that is not UTF-8":   add(`"` + "\xff" + `":1`),
		"a value that is not UTF-8":  deposit("memo", `"`+"\x80"+`"`),
		"an overlong slash":          deposit("memo", `"`+"\xc0\xaf"+`"`),
		"half of a surrogate pair":   deposit("memo", `"\ud800"`),
		"surrogates as UTF-8":        deposit("memo", `"`+"\xed\xa0\x80"+`"`),
		"a NUL in a string":          deposit("memo", `"`+"\x00"+`"`),
		"a NUL between fields":       add("\x00" + `"a":1`),
		"a tab in a string":          deposit("memo", `"`+"\t"+`"`),
		"an escape character":        add("\x1b" + `"a":1`),
		"a form feed as white space": "{\f" + good[1:],
		"a no-break space":           "{\u00a0" + good[1:],

		"a number that is none":      deposit("paid_amount", "NaN"),
		"a number with a plus":       deposit("paid_amount", "+10"),
		"a number with leading zero": deposit("paid_amount", "010"),
		"a hexadecimal number":       deposit("paid_amount", "0x10"),
	} {
		t.Run(name, func(t *testing.T) {
			if cb, err := parser.ParseCallback([]byte(body)); err == nil {
				t.Errorf("taken for %+v", cb)
			}
		})
	}
}

// TestNamesThatFoldTogetherAreRefused tries every character that a case-insensitive
// parser takes for another one.
func TestNamesThatFoldTogetherAreRefused(t *testing.T) {
	for r := rune(' '); r <= unicode.MaxRune; r++ {
		other := unicode.SimpleFold(r)
		if other == r {
			continue
		}
		body := deposit("x"+string(r), "1", "x"+string(other), "2")
		if _, err := parser.ParseCallback([]byte(body)); err == nil {
			t.Errorf("%q and %q are taken for two fields", r, other)
		}
	}
}

func TestTheSizeOfABodysStructureIsBounded(t *testing.T) {
	nested := func(depth int) string {
		return deposit("a", strings.Repeat(`{"a":`, depth-1)+"1"+strings.Repeat("}", depth-1))
	}
	arrays := func(depth int) string {
		return deposit("a", strings.Repeat("[", depth-1)+strings.Repeat("]", depth-1))
	}
	fields := func(n int) string {
		members := make([]string, n)
		for i := range members {
			members[i] = fmt.Sprintf(`"f%d":%d`, i, i)
		}
		return strings.Join(members, ",")
	}
	base := strings.Count(deposit(), `":`) - 1 // without that of extend
	for name, tc := range map[string]struct {
		body string
		good bool
	}{
		"eight objects deep":          {nested(8), true},
		"nine objects deep":           {nested(9), false},
		"eight arrays deep":           {arrays(8), true},
		"nine arrays deep":            {arrays(9), false},
		"ten thousand deep":           {nested(10_000), false},
		"64 fields":                   {strings.TrimSuffix(deposit(), "}") + "," + fields(64-base) + "}", true},
		"65 fields":                   {strings.TrimSuffix(deposit(), "}") + "," + fields(65-base) + "}", false},
		"64 fields in a nested one":   {deposit("a", "{"+fields(64)+"}"), true},
		"65 fields in a nested one":   {deposit("a", "{"+fields(65)+"}"), false},
		"the same names side by side": {deposit("a", "[{"+fields(64)+"},{"+fields(64)+"}]"), true},
	} {
		if _, err := parser.ParseCallback([]byte(tc.body)); (err == nil) != tc.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// forgeries are bodies with a valid v1 signature, made by people without the secret.
type forgeries struct {
	Appid, Secret, Timestamp string
	Extension                struct {
		Vectors []struct {
			Name   string
			Base   string `json:"base_body"`
			Suffix string
			Hex    string `json:"extended_body_hex"`
			Sign   string
		}
	} `json:"length_extension"`
	Ambiguity struct {
		Vectors []struct {
			Name   string
			Splits []struct{ Timestamp, Body, Expect string }
		}
	}
}

func readForgeries(t *testing.T) forgeries {
	t.Helper()
	var f forgeries
	if err := json.Unmarshal(testdata(t, "v1-signature-length-extension.json"), &f); err != nil {
		t.Fatal(err)
	}
	if len(f.Extension.Vectors) == 0 || len(f.Ambiguity.Vectors) == 0 {
		t.Fatal("no vectors")
	}
	return f
}

func TestExtendedBodiesAreRefusedByEachWallAlone(t *testing.T) {
	f := readForgeries(t)
	for _, v := range f.Extension.Vectors {
		t.Run(v.Name, func(t *testing.T) {
			forged, err := hex.DecodeString(v.Hex)
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(append([]byte(f.Appid+f.Secret+f.Timestamp), forged...))
			if hex.EncodeToString(sum[:]) != v.Sign {
				t.Fatal("the signature of the vector is not valid, so it shows nothing")
			}
			if _, err := parser.ParseCallback(forged); err == nil {
				t.Error("the forged body is taken")
			}

			// Each wall is tried with what the other one looks for taken out of the bytes
			// added, once behind the object and once inside a string of it, where nothing
			// but the wall stands in the way.
			glue := forged[len(v.Base) : len(forged)-len(v.Suffix)]
			for wall, rest := range map[string][]byte{
				"UTF-8":              slices.DeleteFunc(slices.Clone(glue), func(c byte) bool { return c < ' ' }),
				"control characters": bytes.ToValidUTF8(glue, nil),
			} {
				for place, body := range map[string]string{
					"behind": deposit() + string(rest) + v.Suffix,
					"inside": deposit("memo", `"`+strings.ReplaceAll(string(rest), `"`, "")+`"`),
				} {
					_, err := parser.ParseCallback([]byte(body))
					if err == nil || !strings.Contains(err.Error(), wall) {
						t.Errorf("%s the object, the wall against %s says: %v", place, wall, err)
					}
				}
			}
		})
	}
}

func TestBodiesThatBeginInTheTimestampAreRefused(t *testing.T) {
	for _, v := range readForgeries(t).Ambiguity.Vectors {
		for _, split := range v.Splits {
			// What begins with an object is for the check of the timestamp to refuse,
			// unless it is not a callback at all.
			if strings.HasPrefix(split.Body, `{"pay_status"`) {
				continue
			}
			if cb, err := parser.ParseCallback([]byte(split.Body)); err == nil {
				t.Errorf("%s, %s: taken for %+v", v.Name, split.Timestamp, cb)
			}
		}
	}
}

func TestACallbackNeedsItsThreeCommonFields(t *testing.T) {
	long := `"` + strings.Repeat("x", 129) + `"`
	for _, field := range []string{"pay_status", "order_type", "record_id"} {
		for name, value := range map[string]string{
			"missing": "", "empty": `""`, "null": "null", "an object": "{}", "an array": `["success"]`, "too long": long,
		} {
			if cb, err := parser.ParseCallback([]byte(deposit(field, value))); err == nil {
				t.Errorf("%s %s: taken for %+v", field, name, cb)
			}
		}
		if cb, err := parser.ParseCallback([]byte(deposit(field, "", strings.ToUpper(field), `"success"`))); err == nil {
			t.Errorf("%s in capitals only: taken for %+v", field, cb)
		}
	}
}

func TestWhatIsNotDocumentedIsKeptAndNotCounted(t *testing.T) {
	for name, body := range map[string]string{
		"unknown order_type":            deposit("order_type", `"Staking Reward"`),
		"order_type of API v2":          deposit("order_type", `"ApiDeposit"`),
		"unknown pay_status":            deposit("pay_status", `"refunding"`),
		"pay_status with a space":       deposit("pay_status", `"success "`),
		"pay_status with a long s":      deposit("pay_status", `"ſuccess"`),
		"numeric pay_status":            deposit("pay_status", "1"),
		"success without an amount":     deposit("paid_amount", ""),
		"success of nothing":            deposit("paid_amount", `"0"`),
		"success of a negative amount":  deposit("paid_amount", `"-10"`),
		"amount with an exponent":       deposit("paid_amount", `"1e3"`),
		"amount as an exponent":         deposit("paid_amount", "1e3"),
		"amount as an object":           deposit("paid_amount", `{"value":"10"}`),
		"reference longer than our own": deposit("extend", `{"merchant_order_id":"`+strings.Repeat("o", 129)+`"}`),
	} {
		t.Run(name, func(t *testing.T) {
			cb, err := parser.ParseCallback([]byte(body))
			if err != nil {
				t.Fatal(err)
			}
			if cb.Kind != gateway.KindUnknown || cb.Status != "" {
				t.Errorf("kind %q, status %q", cb.Kind, cb.Status)
			}
			if cb.RecordID == "" || cb.Type == "" || cb.RawStatus == "" || cb.Subject == "" {
				t.Errorf("too little is kept: %+v", cb)
			}
		})
	}
}

func TestStatesAndTypesAreReadInAnyCase(t *testing.T) {
	for _, tc := range []struct {
		orderType, payStatus string
		kind                 gateway.Kind
		status               bill.PaymentStatus
	}{
		{"API Deposit", "pending", gateway.KindOrder, bill.Pending},
		{"API Deposit", "Processing", gateway.KindOrder, bill.Processing},
		{"Api Deposit", "SUCCESS", gateway.KindOrder, bill.Success},
		{"API Deposit", "failed", gateway.KindOrder, bill.Failed},
		{"Api", "success", gateway.KindOrder, bill.Success},
		{"invoice", "success", gateway.KindInvoice, bill.Success},
		{"Invoice", "failed", gateway.KindInvoice, bill.Failed},
		{"API Withdrawal", "failed", gateway.KindWithdrawal, bill.Failed},
		{"Refund", "failed", gateway.KindRefund, bill.Failed},
	} {
		body := deposit("order_type", `"`+tc.orderType+`"`, "pay_status", `"`+tc.payStatus+`"`)
		cb, err := parser.ParseCallback([]byte(body))
		if err != nil || cb.Kind != tc.kind || cb.Status != tc.status || cb.Type != tc.orderType || cb.RawStatus != tc.payStatus {
			t.Errorf("%s, %s: %+v, %v", tc.orderType, tc.payStatus, cb, err)
		}
	}
}

func TestAFieldOfAnotherTypeDoesNotMakeACallbackUnreadable(t *testing.T) {
	for name, tc := range map[string]struct {
		body string
		want func(*gateway.Callback)
	}{
		"as documented":              {deposit(), func(*gateway.Callback) {}},
		"white space after it":       {deposit() + "\r\n", func(*gateway.Callback) {}},
		"amount as a number":         {deposit("paid_amount", "10.000"), func(*gateway.Callback) {}},
		"amount that is no float":    {deposit("paid_amount", "0.279173646007816863"), func(cb *gateway.Callback) { cb.Amount = amount("0.279173646007816863") }},
		"record_id as a number":      {deposit("record_id", "202302201213531627642695975706624"), func(cb *gateway.Callback) { cb.RecordID = "202302201213531627642695975706624" }},
		"due as a number":            {deposit("order_amount", "25"), func(cb *gateway.Callback) { cb.Due = amount("25") }},
		"due that is no amount":      {deposit("order_amount", `"a lot"`), func(*gateway.Callback) {}},
		"optional fields null":       {deposit("order_id", "null", "txid", "null", "contract", "null", "service_fee", "null"), func(*gateway.Callback) {}},
		"extend null":                {deposit("extend", "null"), nameless},
		"extend an empty string":     {deposit("extend", `""`), nameless},
		"extend an array":            {deposit("extend", "[]"), nameless},
		"extend a number":            {deposit("extend", "0"), nameless},
		"extend empty":               {deposit("extend", "{}"), nameless},
		"extend missing":             {deposit("extend", ""), nameless},
		"reference beside extend":    {deposit("extend", "", "merchant_order_id", `"o1"`), func(*gateway.Callback) {}},
		"reference as a number":      {deposit("extend", `{"merchant_order_id":202211154785795}`), func(cb *gateway.Callback) { cb.Reference, cb.Subject = "202211154785795", "202211154785795" }},
		"custom_value an object":     {deposit("custom_value", `{"a":["b"]}`), func(*gateway.Callback) {}},
		"custom_value at the top":    {deposit("custom_value", `"v"`), func(cb *gateway.Callback) { cb.CustomValue = "v" }},
		"custom_value in extend":     {deposit("extend", `{"merchant_order_id":"o1","custom_value":"v"}`), func(cb *gateway.Callback) { cb.CustomValue = "v" }},
		"custom_value with markup":   {deposit("custom_value", `"<script>\u0026"`), func(cb *gateway.Callback) { cb.CustomValue = "<script>&" }},
		"a code that is no number":   {deposit("code", `"abc"`), func(*gateway.Callback) {}},
		"a message, as in API v2":    {deposit("msg", `"success"`), func(*gateway.Callback) {}},
		"an order named elsewhere":   {deposit("detail", `{"merchant_order_id":"o2","extend":{"merchant_order_id":"o3"}}`), func(*gateway.Callback) {}},
		"an order named too deep":    {deposit("extend", `{"merchant_order_id":"o1","extend":{"merchant_order_id":"o2"},"list":[{"merchant_order_id":"o3"}]}`), func(*gateway.Callback) {}},
		"a name like a path":         {deposit("extend.merchant_order_id", `"o2"`), func(*gateway.Callback) {}},
		"fields nobody has heard of": {deposit("credit_level", `{"a":[1,true,null]}`), func(*gateway.Callback) {}},
	} {
		t.Run(name, func(t *testing.T) {
			want := gateway.Callback{
				Kind: gateway.KindOrder, Type: "API Deposit", RecordID: "r1", RawStatus: "success", Status: bill.Success,
				Reference: "o1", Subject: "o1", Amount: amount("10"), Token: bill.Token{Crypto: "USDT", Chain: "TRX"},
			}
			tc.want(&want)
			got, err := parser.ParseCallback([]byte(tc.body))
			if err != nil {
				t.Fatal(err)
			}
			if !same(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

// TestCallbacksAreReadSideBySide mixes good ones with some that end in the middle.
func TestCallbacksAreReadSideBySide(t *testing.T) {
	var readers sync.WaitGroup
	for reader := range 8 {
		readers.Go(func() {
			for i := range 200 {
				id := fmt.Sprintf("r%d-%d", reader, i)
				good := deposit("record_id", `"`+id+`"`, "extend", `{"merchant_order_id":"o-`+id+`","n":[{"a":1}]}`)
				if cb, err := parser.ParseCallback([]byte(good)); err != nil || cb.RecordID != id || cb.Reference != "o-"+id {
					t.Errorf("%s: got %+v, %v", id, cb, err)
				}
				if cb, err := parser.ParseCallback([]byte(good[:len(good)-1-i%(len(good)-1)])); err == nil {
					t.Errorf("%s: half of it is taken for %+v", id, cb)
				}
			}
		})
	}
	readers.Wait()
}

// nameless is a callback that names no order.
func nameless(cb *gateway.Callback) { cb.Reference, cb.Subject = "", "r1" }

func TestARefusalRepeatsNothingOfTheBody(t *testing.T) {
	const private = "buyer@example.com"
	for name, body := range map[string]string{
		"field twice":     `{"` + private + `":1,"` + private + `":2}`,
		"not well formed": `{"` + private + `"}`,
		"too long":        deposit("record_id", `"`+strings.Repeat(private, 10)+`"`),
		"missing field":   `{"user_email":"` + private + `"}`,
	} {
		if _, err := parser.ParseCallback([]byte(body)); err == nil || strings.Contains(err.Error(), private) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReserializedBodiesMeanTheSameInOneForm(t *testing.T) {
	in := "{\"b\" : 1.50,\n\"a\":\"\\u0041\\/\\u00e9\",\"n\":[ ]}\n"
	got, err := gateway.Reserialize([]byte(in))
	if err != nil || string(got) != `{"b":1.50,"a":"A/é","n":[]}` {
		t.Errorf("got %s, %v", got, err)
	}
	for _, bad := range []string{"", "{", `{"a":1}{}`, `{"a":1,"a":2}`, "{\"a\":\"\xff\"}"} {
		if got, err := gateway.Reserialize([]byte(bad)); err == nil {
			t.Errorf("%q: got %s", bad, got)
		}
	}
}

// FuzzParseCallback looks for bodies that are taken here and would be read in
// another way, or not at all, by the parser of the standard library.
func FuzzParseCallback(f *testing.F) {
	files, err := filepath.Glob("testdata/v1-*")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		f.Add(testdata(f, filepath.Base(name)))
	}
	for _, body := range []string{
		deposit(), deposit() + deposit(), deposit("PAY_STATUS", `"failed"`), deposit("pay_ſtatus", `"failed"`),
		deposit("memo", "\"\x80\""), deposit("memo", "\"\x00\""), deposit("paid_amount", "1e3"), deposit("extend", "[]"),
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		cb, err := parser.ParseCallback(body)
		if err != nil {
			return
		}
		if !utf8.Valid(body) || !json.Valid(body) || body[0] != '{' {
			t.Fatalf("not a JSON object: %q", body)
		}
		if name, twice := foldedTwice(body); twice {
			t.Fatalf("field %q is there twice: %s", name, body)
		}
		if cb.RecordID == "" || cb.Type == "" || cb.RawStatus == "" || cb.Subject == "" {
			t.Errorf("incomplete callback %+v of %s", cb, body)
		}
		if known := cb.Kind != gateway.KindUnknown; known != cb.Status.Known() {
			t.Errorf("kind %q with status %q of %s", cb.Kind, cb.Status, body)
		}
		if cb.Amount.IsNegative() || cb.Due.IsNegative() {
			t.Errorf("negative amount of %s", body)
		}
		if _, err := gateway.Reserialize(body); err != nil {
			t.Errorf("cannot be handed on: %v", err)
		}
	})
}

// foldedTwice looks with the standard library for a name that an object of the
// body has twice.
func foldedTwice(body []byte) (string, bool) {
	var object map[string]json.RawMessage
	if json.Unmarshal(body, &object) != nil {
		var array []json.RawMessage
		_ = json.Unmarshal(body, &array) // of a scalar, nothing
		for _, value := range array {
			if name, twice := foldedTwice(value); twice {
				return name, true
			}
		}
		return "", false
	}
	d := json.NewDecoder(bytes.NewReader(body))
	_, _ = d.Token() // the opening brace
	var names []string
	for d.More() {
		token, _ := d.Token()
		name := token.(string)
		for _, other := range names {
			if strings.EqualFold(name, other) {
				return name, true
			}
		}
		names = append(names, name)
		var value json.RawMessage
		if d.Decode(&value) != nil {
			break
		}
		if name, twice := foldedTwice(value); twice {
			return name, true
		}
	}
	return "", false
}
