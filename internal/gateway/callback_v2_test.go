package gateway_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/gateway"
)

var parserV2 = gateway.NewV2(gateway.Config{})

func TestEveryDocumentedCallbackOfV2IsUnderstood(t *testing.T) {
	documented := map[string]gateway.Callback{
		"v2-webhook-api-deposit.json": {
			Kind: gateway.KindOrder, Type: "ApiDeposit", RecordID: "20240313121919...", RawStatus: "Success", Status: bill.Success,
			Reference: "202403131218361...", OrderID: "202403131218361...", Subject: "202403131218361...",
			Token: bill.Token{CoinID: 1329, Crypto: "POL"}, RiskTold: true, Incomplete: true,
		},
		"v2-webhook-invoice-api-deposit.json": {
			Kind: gateway.KindOrder, Type: "ApiDeposit", RecordID: "20240919035020188328269786624000", RawStatus: "Success", Status: bill.Success,
			Reference: "1726717497", OrderID: "1726717497", Subject: "1726717497", Token: bill.Token{CoinID: 2541, Crypto: "POL"}, RiskTold: true, Incomplete: true,
		},
		"v2-webhook-direct-deposit.json": {
			Kind: gateway.KindDeposit, Type: "DirectDeposit", RecordID: "2024031311310811...", RawStatus: "Success", Status: bill.Success,
			Subject: "63224704901...", Token: bill.Token{CoinID: 1329, Crypto: "MATIC"}, RiskTold: true, Incomplete: true,
		},
		"v2-webhook-user-deposit.json": {
			Kind: gateway.KindDeposit, Type: "UserDeposit", RecordID: "202403130938151...", RawStatus: "Success", Status: bill.Success,
			Subject: "6322718677975328", Amount: amount("0.1"), Token: bill.Token{CoinID: 1329, Crypto: "MATIC"}, RiskTold: true, Incomplete: true,
		},
		"v2-webhook-api-withdrawal.json": {
			Kind: gateway.KindWithdrawal, Type: "ApiWithdrawal", RecordID: "20240313120722176788...", RawStatus: "Success", Status: bill.Success,
			Reference: "6322851679...", OrderID: "6322851679...", Subject: "6322851679...", Token: bill.Token{CoinID: 1891, Crypto: "TETH"},
		},
		"v2-webhook-user-withdrawal.json": {
			Kind: gateway.KindWithdrawal, Type: "UserWithdrawal", RecordID: "2024031312073317...", RawStatus: "Success", Status: bill.Success,
			Reference: "6322851679858976", OrderID: "6322851679858976", Subject: "6322851679858976", Token: bill.Token{CoinID: 1891, Crypto: "TETH"},
		},
		"v2-webhook-activate-third-party.json": {Kind: gateway.KindProbe, Type: "ActivateWebhookURL"},
	}
	for name, want := range documented {
		t.Run(name, func(t *testing.T) {
			got, err := parserV2.ParseCallback(testdata(t, name))
			if err != nil {
				t.Fatal(err)
			}
			if !same(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestNothingElseIsACallbackOfV2(t *testing.T) {
	for _, pattern := range []string{"v1-*.json", "v2-*-response.json", "v2-*-request.json", "v2-*-answer-*.json"} {
		files, err := filepath.Glob(filepath.Join("testdata", pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("no examples %s, %v", pattern, err)
		}
		for _, name := range files {
			if cb, err := parserV2.ParseCallback(testdata(t, filepath.Base(name))); err == nil {
				t.Errorf("%s is taken for %+v", name, cb)
			}
		}
	}
	good := `{"type":"ApiDeposit","msg":{"recordId":"r1","orderId":"o1","status":"Success","isFlaggedAsRisky":false}}`
	if _, err := parserV2.ParseCallback([]byte(good)); err != nil {
		t.Fatal(err)
	}
	if _, err := parser.ParseCallback([]byte(good)); err == nil {
		t.Error("API v1 takes a callback of API v2")
	}
	for name, body := range map[string]string{
		"an answer of the API":         `{"code":10000,` + good[1:],
		"an error of the API":          `{"code":0,` + good[1:],
		"no type":                      `{"msg":{"recordId":"r1","status":"Success"}}`,
		"a type that is a number":      strings.Replace(good, `"ApiDeposit"`, `1`, 1),
		"no msg":                       `{"type":"ApiDeposit"}`,
		"msg that is text":             `{"type":"ApiDeposit","msg":"success"}`,
		"no msg, of an unknown type":   `{"type":"Staking"}`,
		"a code":                       strings.Replace(good, `{`, `{"code":10000,`, 1),
		"a code that is text":          strings.Replace(good, `{`, `{"code":"10000",`, 1),
		"msg that is a list":           `{"type":"ApiDeposit","msg":[{"recordId":"r1","status":"Success"}]}`,
		"fields beside msg":            `{"type":"ApiDeposit","recordId":"r1","status":"Success","msg":{}}`,
		"fields in another object":     `{"type":"ApiDeposit","msg":{},"data":{"recordId":"r1","status":"Success"}}`,
		"fields in another case":       strings.Replace(good, "recordId", "recordid", 1),
		"no record":                    strings.Replace(good, `"recordId":"r1",`, ``, 1),
		"an empty record":              strings.Replace(good, `"r1"`, `""`, 1),
		"no status":                    strings.Replace(good, `"status":"Success",`, ``, 1),
		"a record that is too long":    strings.Replace(good, `r1`, strings.Repeat("r", 129), 1),
		"a record with a line":         strings.Replace(good, `r1`, `r\n1`, 1),
		"a field twice":                strings.Replace(good, `"orderId"`, `"recordId":"r2","orderId"`, 1),
		"a field twice in other cases": strings.Replace(good, `"orderId"`, `"recordid":"r2","orderId"`, 1),
		"two objects":                  good + good,
		"a list":                       "[" + good + "]",
		"not UTF-8":                    strings.Replace(good, "o1", "o\x80", 1),
		"control characters":           strings.Replace(good, "o1", "o\x00", 1),
		"empty":                        "",
		"an empty object":              "{}",
	} {
		if cb, err := parserV2.ParseCallback([]byte(body)); err == nil {
			t.Errorf("%s is taken for %+v", name, cb)
		} else if strings.Contains(err.Error(), "r1") {
			t.Errorf("%s: the error repeats the body: %v", name, err)
		}
	}
}

func TestStatesAndFlagsOfV2(t *testing.T) {
	for _, test := range []struct {
		kind, rest  string
		want        gateway.Kind
		status      bill.PaymentStatus
		key, record string
		risky       bool
	}{
		{"ApiDeposit", `"recordId":"r","status":"Pending"`, gateway.KindOrder, bill.Pending, "pending", "r", false},
		{"ApiDeposit", `"recordId":"r","status":"Processing"`, gateway.KindOrder, bill.Processing, "processing", "r", false},
		{"apideposit", `"recordId":"r","status":"SUCCESS"`, gateway.KindOrder, bill.Success, "success", "r", false},
		{"ApiDeposit", `"recordId":"r","status":"Failed"`, gateway.KindOrder, bill.Failed, "failed", "r", false},
		{"ApiDeposit", `"recordId":1,"status":"Success"`, gateway.KindOrder, bill.Success, "success", "1", false},
		{"ApiDeposit", `"recordId":"r","status":"Success","isFlaggedAsRisky":true`, gateway.KindOrder, bill.Success, "success,risky", "r", true},
		{"ApiDeposit", `"recordId":"r","status":"Success","isFlaggedAsRisky":"true"`, gateway.KindOrder, bill.Success, "success,risky", "r", true},
		{"ApiDeposit", `"recordId":"r","status":"Success","isFlaggedAsRisky":{"by":"us"}`, gateway.KindOrder, bill.Success, "success,risky", "r", true},
		{"ApiDeposit", `"recordId":"r","status":"Success","isFlaggedAsRisky":"false"`, gateway.KindOrder, bill.Success, "success", "r", false},
		{"ApiDeposit", `"recordId":"r","status":"Success","isFlaggedAsRisky":null`, gateway.KindOrder, bill.Success, "success", "r", false},
		{"ApiDeposit", `"recordId":"r","status":"Rejected"`, gateway.KindUnknown, "", "Rejected", "r", false},
		{"ApiDeposit", `"recordId":"r","status":"Paid"`, gateway.KindUnknown, "", "Paid", "r", false},
		{"ApiWithdrawal", `"recordId":"r","status":"WaitingApproval"`, gateway.KindWithdrawal, bill.Pending, "waitingapproval", "r", false},
		{"ApiWithdrawal", `"recordId":"r","status":"Rejected"`, gateway.KindWithdrawal, bill.Failed, "rejected", "r", false},
		{"UserWithdrawal", `"recordId":"r","status":"Processing"`, gateway.KindWithdrawal, bill.Processing, "processing", "r", false},
		{"Staking", `"recordId":"r","status":"Success"`, gateway.KindUnknown, "", "Success", "r", false},
		{"RiskyAddress", `"chainId":"1","address":"0x1","riskAt":1710234197`, gateway.KindUnknown, "", "", "body-4b5bd844d439211a9831779c1399fd7b", false},
	} {
		body := `{"type":"` + test.kind + `","msg":{` + test.rest + `}}`
		cb, err := parserV2.ParseCallback([]byte(body))
		if err != nil {
			t.Errorf("%s: %v", body, err)
			continue
		}
		kind, key := cb.Key()
		if cb.Kind != test.want || cb.Status != test.status || key != test.key || cb.RecordID != test.record || cb.Risky != test.risky {
			t.Errorf("%s: got %+v with key %s %s", body, cb, kind, key)
		}
		if asks := test.want == gateway.KindOrder; cb.Incomplete != asks {
			t.Errorf("%s: incomplete is %v", body, cb.Incomplete)
		}
		if test.want == gateway.KindUnknown && kind != "unknown/"+test.kind {
			t.Errorf("%s: kind %s", body, kind)
		}
	}
}

// TestAnUnknownTypeOfV2NeedsNoObject: what it is about is not documented.
func TestAnUnknownTypeOfV2NeedsNoObject(t *testing.T) {
	seen := make(map[string]bool)
	for _, msg := range []string{`"maintenance"`, `["r1"]`, `1`, `null`, `{}`} {
		cb, err := parserV2.ParseCallback([]byte(`{"type":"Notice","msg":` + msg + `}`))
		if err != nil || cb.Kind != gateway.KindUnknown || seen[cb.RecordID] {
			t.Errorf("%s: %+v, %v", msg, cb, err)
		}
		seen[cb.RecordID] = true
	}
}

// FuzzParseCallbackV2 looks for bodies of API v2 that are taken here and would be read
// in another way by the parser of the standard library.
func FuzzParseCallbackV2(f *testing.F) {
	files, err := filepath.Glob("testdata/v2-*")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		f.Add(testdata(f, filepath.Base(name)))
	}
	for _, body := range []string{
		`{"type":"ApiDeposit","msg":{"recordId":"r1","recordid":"r2","status":"Success"}}`,
		`{"type":"ApiDeposit","TYPE":"x","msg":{"recordId":"r1","status":"Success"}}`,
		`{"type":"ApiDeposit","msg":{"recordId":1e3,"status":"Success","isFlaggedAsRisky":[]}}`,
		`{"type":"ActivateWebhookURL"}`, `{"type":"New","msg":{}}`, "{\"type\":\"ApiDeposit\",\"msg\":{\"recordId\":\"\x80\"}}",
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		cb, err := parserV2.ParseCallback(body)
		if err != nil {
			return
		}
		if !utf8.Valid(body) || !json.Valid(body) || body[0] != '{' {
			t.Fatalf("not a JSON object: %q", body)
		}
		if name, twice := foldedTwice(body); twice {
			t.Fatalf("field %q is there twice: %s", name, body)
		}
		if cb.Kind == gateway.KindProbe {
			return
		}
		if cb.RecordID == "" || cb.Type == "" || cb.Subject == "" {
			t.Errorf("incomplete callback %+v of %s", cb, body)
		}
		if known := cb.Kind != gateway.KindUnknown; known != cb.Status.Known() {
			t.Errorf("kind %q with status %q of %s", cb.Kind, cb.Status, body)
		}
		if deposit := cb.Kind == gateway.KindOrder || cb.Kind == gateway.KindDeposit; deposit != cb.Incomplete {
			t.Errorf("incomplete is %v for %s", cb.Incomplete, body)
		}
		if cb.Amount.IsNegative() {
			t.Errorf("negative amount of %s", body)
		}
		var plain struct {
			Msg struct {
				Risky any `json:"isFlaggedAsRisky"`
			} `json:"msg"`
		}
		if json.Unmarshal(body, &plain) == nil && plain.Msg.Risky == true && !cb.Risky {
			t.Errorf("the flag was overlooked: %s", body)
		}
		if _, err := gateway.Reserialize(body); err != nil {
			t.Errorf("cannot be handed on: %v", err)
		}
	})
}

// signV2 is the documented formula.
func signV2(timestamp string, body []byte) string {
	h := hmac.New(sha256.New, []byte(secret))
	h.Write([]byte(appID + timestamp + string(body)))
	return hex.EncodeToString(h.Sum(nil))
}
