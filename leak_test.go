package ccpayment

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.uber.org/goleak"
)

// TestReloadsLeaveNothingBehind compares the goroutines after many configurations with
// those after a few, each time with nothing configured any more.
func TestReloadsLeaveNothingBehind(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(upstream.Close)
	s := openShop(t, "", "", "")
	var pages []io.Closer
	use := func(i int) {
		t.Helper()
		s.reload(fmt.Sprintf("valid_for %dm", 60+i), fmt.Sprintf("tolerance %dm\nupstream %s/%d {\nname shop\ntimeout %ds\n}", 1+i, upstream.URL, i, 1+i), "")
		_, bill := s.buy(cart)
		reference, self := bill["reference"].(string), bill["self"].(string)
		if resp, body := s.callback(deposit(reference, fmt.Sprint("r", i), "success", "50.0137")); resp.StatusCode != 200 {
			t.Fatalf("status %d: %s", resp.StatusCode, body)
		}
		s.eventually("paid", func() bool { return s.status(self) == "paid" })
		// A page that is open when its server goes.
		resp, err := http.Get(base + self + "/events")
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, resp.Body)
	}
	nothing := func() {
		s.tester.InitServer("{\n\tadmin localhost:2999\n}\n", "caddyfile")
		s.tester.Client.CloseIdleConnections()
		http.DefaultClient.CloseIdleConnections()
		for _, page := range pages {
			page.Close()
		}
	}
	for i := range 3 {
		use(i)
	}
	nothing()
	before := goleak.IgnoreCurrent()
	// Caddy's own admin endpoint, which begins anew with each configuration.
	admin := goleak.IgnoreAnyFunction("github.com/caddyserver/caddy/v2.replaceLocalAdminServer.func2")
	for i := range 20 {
		use(3 + i)
	}
	nothing()
	var left error
	for range 10 { // each takes its time until it gives up
		if left = goleak.Find(before, admin); left == nil {
			return
		}
	}
	t.Error(left)
}
