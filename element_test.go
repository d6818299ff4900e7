package ccpayment

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// An address that its network would not take is no address to send money to, however
// well the gateway has signed it.
func TestAMalformedAddressIsRefused(t *testing.T) {
	s := openShop(t, "", "", "")
	s.gateway.setFault("/bill/create", func(w http.ResponseWriter) {
		s.gen.signed(w, `{"code":10000,"msg":"success","data":{"amount":"50","order_id":"1","network":"TRC20","pay_address":"TYWnk1EGALQyYst2yFSd29QQQTEkuKMbyu","memo":"","token_id":"`+testToken+`","crypto":"USDT","order_valid_period":3600}}`)
	})
	resp, problem := s.buy(cart, "Idempotency-Key", "one")
	if resp.StatusCode != 502 || problem["code"] != "gateway_refused" || problem["retryable"] != false {
		t.Fatalf("got %d %v", resp.StatusCode, problem)
	}
	if n := s.rows("SELECT count(*) FROM bills WHERE stage = 'open'"); n != 0 {
		t.Errorf("%d bills are open", n)
	}

	// What the gateway got wrong once is not asked for again with the same order.
	s.gateway.setFault("/bill/create", nil)
	if resp, bill := s.buy(cart, "Idempotency-Key", "one"); resp.StatusCode != 201 {
		t.Errorf("afterwards: %d %v", resp.StatusCode, bill)
	}
	if o := s.gateway.orders; len(o) != 2 || o[0] == o[1] {
		t.Errorf("references %v", o)
	}
}

func TestTheElementIsServedBesideTheBills(t *testing.T) {
	s := openShop(t, "", "", "")
	resp, script := s.do(http.MethodGet, "/pay/checkout.js", "")
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/javascript; charset=utf-8" || resp.Header.Get("ETag") == "" {
		t.Fatalf("status %d, %v", resp.StatusCode, resp.Header)
	}
	modules := regexp.MustCompile(`from ?"\./([^"]+)"`).FindAllStringSubmatch(script, -1)
	if len(modules) == 0 {
		t.Fatalf("no modules in %s", script)
	}
	for _, m := range modules {
		resp, _ := s.do(http.MethodGet, "/pay/"+m[1], "")
		if resp.StatusCode != 200 || !strings.Contains(resp.Header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %d %v", m[1], resp.StatusCode, resp.Header)
		}
	}
	for path, want := range map[string]int{
		"/pay/checkout.css": 200, "/pay/messages/de.json": 200, "/pay/messages/pt.json": 200, "/pay/messages/tlh.json": 200,
		"/pay/checkout-nothing.js": 404, "/pay/messages/..%2fen.json": 404, "/pay/messages/": 404, "/pay/page.html": 404,
	} {
		if resp, _ := s.do(http.MethodGet, path, "", "Accept", "application/json"); resp.StatusCode != want {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}

	// Pages of another origin may use it where they may order.
	s.reload("allow_origin https://friend.example.com", "", "")
	resp, _ = s.do(http.MethodGet, "/pay/checkout.js", "", "Origin", "https://friend.example.com")
	if resp.Header.Get("Access-Control-Allow-Origin") != "https://friend.example.com" {
		t.Errorf("another origin: %v", resp.Header)
	}
}

func TestPagesSpeakTheReadersLanguage(t *testing.T) {
	s := openShop(t, "", "", "")
	resp, bill := s.buy(cart)
	if resp.StatusCode != 201 {
		t.Fatalf("got %d %v", resp.StatusCode, bill)
	}
	for _, path := range []string{bill["self"].(string), "/pay/bills/AAAAAAAAAAAAAAAAAAAAAA"} {
		for accept, want := range map[string]string{
			"":                        `<html lang="en" dir="ltr">`,
			"de-AT,de;q=0.9,en;q=0.8": `<html lang="de" dir="ltr">`,
			"ar":                      `<html lang="ar" dir="rtl">`,
			"tlh, pt;q=0.5":           `<html lang="pt-BR" dir="ltr">`,
		} {
			resp, page := s.do(http.MethodGet, path, "", "Accept", "text/html", "Accept-Language", accept)
			if !strings.Contains(page, want) {
				t.Errorf("%s, %q: %.60q", path, accept, page)
			}
			if vary := strings.Join(resp.Header.Values("Vary"), ", "); !strings.Contains(vary, "Accept-Language") {
				t.Errorf("%s: Vary %q", path, vary)
			}
		}
	}
}
