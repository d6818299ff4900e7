package ccpayment

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

var update = flag.Bool("update", false, "write what the adapter says into the golden files")

// TestAdapt adapts every file of testdata/adapt. Above the line of dashes is a
// Caddyfile, below it the JSON or the text of the error, to the letter.
func TestAdapt(t *testing.T) {
	files, err := filepath.Glob("testdata/adapt/*.caddyfiletest")
	if err != nil || len(files) < 20 {
		t.Fatalf("found %d golden files (%v)", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".caddyfiletest"), func(t *testing.T) {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			const line = "\n----------\n"
			input, want, ok := strings.Cut(string(content), line)
			if !ok && !*update {
				t.Fatal("the line of ten dashes is missing")
			}
			got := adapt(t, input)
			if *update {
				if err := os.WriteFile(file, []byte(strings.TrimRight(input, "\n")+line+got+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != strings.TrimSpace(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// adapt returns the JSON of a Caddyfile, or the text of its error.
func adapt(t *testing.T, input string) string {
	t.Helper()
	out, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(input), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return err.Error()
	}
	for _, w := range warnings {
		if !strings.Contains(w.Message, "not formatted") {
			t.Errorf("warning: %s", w)
		}
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, out, "", "\t"); err != nil {
		t.Fatal(err)
	}
	return pretty.String()
}

// provision runs a Caddyfile through Caddy's own validation, which provisions all
// modules and starts none.
func provision(t *testing.T, input string) error {
	t.Helper()
	out, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(input), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return err
	}
	var config caddy.Config
	if err := json.Unmarshal(out, &config); err != nil {
		t.Fatal(err)
	}
	return caddy.Validate(&config)
}

// site is a Caddyfile around the options under test.
func site(global, directives string) string {
	return "{\n\tadmin off\n\tauto_https off\n\tccpayment {\n" + global + "\n\t}\n}\nhttp://localhost:9080 {\n" + directives + "\n}\n"
}

const (
	goodAccount   = "app_id 202302010636261620672405236006912\napp_secret 00112233445566778899aabbccddeeff\napi v1"
	goodMethod    = "method usdt-trc20 0912e09a-d8e2-41d7-a0bc-a25530892988"
	goodAccountV2 = "app_id 202302010636261620672405236006912\napp_secret 00112233445566778899aabbccddeeff\napi v2"
	goodMethodV2  = "method usdt-trc20 1280 TRX"
	goodBill      = "ccpayment_bill {\nproduct field-guide 25.00\n" + goodMethod + "\n}"
)

// billWith is a handler with one product and a method.
func billWith(method string) string {
	return "ccpayment_bill {\nproduct field-guide 25.00\n" + method + "\n}"
}

func TestWhatIsWrongIsSaidBeforeAnythingStarts(t *testing.T) {
	t.Setenv("CCPAYMENT_TEST_EMPTY", "")
	dir := t.TempDir()
	broken := filepath.Join(dir, "broken.json")
	if err := os.WriteFile(broken, []byte(`{"currency":"USD","products":[{"id":"a","name":"A","price":"1.234"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	bill := func(options string) string {
		return "ccpayment_bill {\nproduct field-guide 25.00\n" + goodMethod + "\n" + options + "\n}"
	}
	webhook := func(options string) string { return "ccpayment_webhook {\n" + options + "\n}" }
	secret := func(s string) string {
		return "app_id 202302010636261620672405236006912\napp_secret " + s + "\napi v1"
	}
	for _, test := range []struct{ name, global, directives, want string }{
		{"all good", goodAccount, goodBill, ""},
		{"app id missing", "app_secret x\napi v1", "", "app_id is missing"},
		{"secret missing", "app_id x\napi v1", "", "app_secret is missing"},
		{"api missing", "app_id x\napp_secret y", "", "api is missing"},
		{"secret from an unset variable", secret("{env.CCPAYMENT_TEST_UNSET}"), "", "env.CCPAYMENT_TEST_UNSET"},
		{"secret from an empty variable", secret("{env.CCPAYMENT_TEST_EMPTY}"), "", "CCPAYMENT_TEST_EMPTY"},
		{"secret from a file that is not there", secret("{file." + dir + "/none}"), "", "none"},
		{"endpoint without TLS", goodAccount + "\nendpoint http://gateway.example.com/v1", "", "must be https"},
		{"endpoint on this machine", goodAccount + "\nendpoint http://127.0.0.1:1/v1", "", ""},
		{"endpoint with a user", goodAccount + "\nendpoint https://a:b@gateway.example.com/v1", "", "not a base URL"},
		{"unknown account", goodAccount, "ccpayment_webhook {\naccount other\n}", `account "other" is not in the global option block`},
		{"further account", goodAccount + "\naccount other {\n" + goodAccount + "\n}", "ccpayment_webhook {\naccount other\n}", ""},
		{"retention of a minute", goodAccount + "\nretain 1m", "", "retain must be at least"},
		{"asking all the time", goodAccount + "\nreconcile 1ms", "", "reconcile must be at least"},
		{"asking never", goodAccount + "\nreconcile off", "", ""},
		{"unknown store", goodAccount + "\nstore floppy", "", "ccpayment.stores.floppy"},
		{"nothing to sell", goodAccount, "ccpayment_bill {\n" + goodMethod + "\n}", "nothing to sell"},
		{"no method", goodAccount, "ccpayment_bill {\nproduct a 1.00\n}", "at least one method"},
		{"hosted needs no method", goodAccount, "ccpayment_bill {\nproduct a 1.00\ncheckout hosted\n}", ""},
		{"hosted in euros", goodAccount, "ccpayment_bill {\nproduct a 1.00\ncurrency EUR\ncheckout hosted\n}", "priced in USD only"},
		{"three decimals", goodAccount, "ccpayment_bill {\nproduct a 1.005\n" + goodMethod + "\n}", `product "a": price has more than two decimals`},
		{"price of zero", goodAccount, "ccpayment_bill {\nproduct a 0.00\n" + goodMethod + "\n}", "greater than zero"},
		{"product twice", goodAccount, bill("product field-guide 3.00"), "listed twice"},
		{"method twice", goodAccount, bill(goodMethod), "listed twice"},
		{"catalog missing", goodAccount, bill("catalog " + dir + "/none.json"), "none.json"},
		{"catalog broken", goodAccount, bill("catalog " + broken), `product "a": price has more than two decimals`},
		{"validity too long", goodAccount, bill("valid_for 241h"), "between 1m and 240h"},
		{"validity at the limit", goodAccount, bill("valid_for 10d"), ""},
		{"currency in small letters", goodAccount, bill("currency usd"), "not a code like USD"},
		{"accept_short of everything", goodAccount, bill("accept_short 100"), "accept_short must be a percentage"},
		{"accept_short with a sign", goodAccount, bill("accept_short 0.5%"), ""},
		{"return_url with a script", goodAccount, bill("return_url javascript:alert(1)"), "return_url is not"},
		{"notify_url without a host", goodAccount, bill("notify_url /hooks"), "notify_url is not an address"},
		{"origin with a path", goodAccount, bill("allow_origin https://example.com/"), "not an origin"},
		{"origin in capitals", goodAccount, bill("allow_origin https://Example.com"), "as browsers write it"},
		{"origin with the usual port", goodAccount, bill("allow_origin https://example.com:443"), "as browsers write it"},
		{"origin with a port", goodAccount, bill("allow_origin https://example.com:8443"), ""},
		{"header with a space", goodAccount, webhook("upstream http://localhost/x {\nheader \"bad name\" x\n}"), "is not a header"},
		{"upstream without a scheme", goodAccount, webhook("upstream localhost:3000"), "not an address"},
		{"upstream with a password", goodAccount, webhook("upstream http://a:b@localhost/x"), "user or password"},
		{"upstream on a socket", goodAccount, webhook("upstream unix//run/shop.sock"), ""},
		{"secret in another form", goodAccount, webhook("upstream http://localhost/x {\nsecret hunter2\n}"), `does not begin with "whsec_"`},
		{"secret too short", goodAccount, webhook("upstream http://localhost/x {\nsecret whsec_aHVudGVyMg==\n}"), "24 to 64"},
		{"two upstreams in one queue", goodAccount, webhook("upstream http://localhost/x\nupstream http://localhost/x {\ntimeout 3s\n}"), "would share one queue"},
		{"two upstreams with names", goodAccount, webhook("upstream http://localhost/x\nupstream http://localhost/x {\nname second\n}"), ""},
		{"types that are no pattern", goodAccount, webhook("upstream http://localhost/x {\ntypes [\n}"), "not a pattern"},
		{"network that is none", goodAccount, webhook("allow_ip 10.0.0.0/33"), "neither an address nor a network"},
		{"api v2", goodAccountV2, billWith(goodMethodV2), ""},
		{"api v2 with milliseconds", goodAccountV2 + "\ntimestamp_unit ms", "", ""},
		{"api v2 with seconds", goodAccountV2 + "\ntimestamp_unit s", "", ""},
		{"api v1 with milliseconds", goodAccount + "\ntimestamp_unit ms", "", "timestamp_unit ms is for api v2 only"},
		{"api v2 without a method", goodAccountV2, "ccpayment_bill {\nproduct a 1.00\n}", "method usdt-trc20 <coin_id> <chain>"},
		{"api v2 with a token id", goodAccountV2, billWith(goodMethod), goodMethod + ": accounts of api v2 need: method usdt-trc20 <coin_id> <chain>"},
		{"api v1 with a coin id", goodAccount, billWith(goodMethodV2), goodMethodV2 + ": accounts of api v1 need: method usdt-trc20 <token_id>"},
		{"a chain with a space", goodAccountV2, billWith("method usdt 1280 \"T X\""), "a name like TRX"},
		{"api v2 hosted in euros", goodAccountV2, "ccpayment_bill {\nproduct a 1.00\ncurrency EUR\ncheckout hosted\n}", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := provision(t, site(test.global, test.directives))
			switch {
			case test.want == "" && err != nil:
				t.Errorf("got error %v", err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got error %v, want one with %q", err, test.want)
			case err != nil && strings.Contains(err.Error(), "00112233445566778899aabbccddeeff"):
				t.Errorf("the error shows the secret: %v", err)
			}
		})
	}
}

func TestHandlersAskForTheGlobalBlock(t *testing.T) {
	for _, directive := range []string{goodBill, "ccpayment_webhook"} {
		err := provision(t, "{\nadmin off\nauto_https off\n}\nhttp://localhost:9080 {\n"+directive+"\n}\n")
		if err == nil || !strings.Contains(err.Error(), "needs the global option block 'ccpayment") {
			t.Errorf("got error %v", err)
		}
	}
}

func TestValidateOpensNoStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "ccpayment.db")
	if err := provision(t, site(goodAccount+"\nstore sqlite "+path, goodBill)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(path)); !os.IsNotExist(err) {
		t.Errorf("validation has made %s", filepath.Dir(path))
	}
}
