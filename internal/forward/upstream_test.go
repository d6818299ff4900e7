package forward

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestWhichTypesAnUpstreamWants(t *testing.T) {
	for _, c := range []struct {
		types       []string
		wanted, not string
	}{
		{nil, "bill.paid unknown.received withdrawal.failed", ""},
		{[]string{"*"}, "bill.paid unknown.received", ""},
		{[]string{"bill.*"}, "bill.paid bill.payment_failed", "deposit.success billing.paid unknown.received"},
		{[]string{"bill.paid"}, "bill.paid", "bill.paid.twice bill.overpaid"},
		{[]string{"*.failed", "refund.*"}, "withdrawal.failed refund.pending", "bill.payment_failed refund"},
		{[]string{"bill.?????"}, "", "bill.paid"},
		{[]string{"bill.{paid,overpaid}", "[a-c]ill.paid"}, "bill.paid", "bill.overpaid dill.paid"},
		{[]string{""}, "", "bill.paid"},
		{[]string{"["}, "", "bill.paid"},
	} {
		u := &Upstream{Types: c.types}
		for eventType := range strings.FieldsSeq(c.wanted) {
			if !u.Wants(eventType) {
				t.Errorf("%q: %s is not wanted", c.types, eventType)
			}
		}
		for eventType := range strings.FieldsSeq(c.not) {
			if u.Wants(eventType) {
				t.Errorf("%q: %s is wanted", c.types, eventType)
			}
		}
	}
}

func TestParseSecret(t *testing.T) {
	of := func(n int) string {
		return "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("\xfb", n)))
	}
	for name, c := range map[string]struct {
		secret string
		bytes  int
		error  string
	}{
		"24 bytes":           {of(24), 24, ""},
		"32 bytes":           {of(32), 32, ""},
		"64 bytes":           {of(64), 64, ""},
		"23 bytes":           {of(23), 0, "secret has 23 bytes"},
		"65 bytes":           {of(65), 0, "secret has 65 bytes"},
		"nothing":            {"", 0, `does not begin with "whsec_"`},
		"the prefix alone":   {"whsec_", 0, "secret has 0 bytes"},
		"no prefix":          {strings.TrimPrefix(of(32), "whsec_"), 0, `does not begin with "whsec_"`},
		"another prefix":     {"whpk_" + strings.TrimPrefix(of(32), "whsec_"), 0, `does not begin with "whsec_"`},
		"no padding":         {strings.TrimRight(of(32), "="), 0, "is not base64"},
		"the URL's alphabet": {strings.ReplaceAll(of(32), "+", "-"), 0, "is not base64"},
		"a space at the end": {of(32) + " ", 0, "is not base64"},
	} {
		key, err := ParseSecret(c.secret)
		if c.error == "" {
			if err != nil || len(key) != c.bytes {
				t.Errorf("%s: %d bytes, %v", name, len(key), err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.error) {
			t.Errorf("%s: %v, want %q", name, err, c.error)
		}
		if encoded := strings.TrimPrefix(c.secret, "whsec_"); err != nil && encoded != "" && strings.Contains(err.Error(), encoded) {
			t.Errorf("%s: the error has the secret: %v", name, err)
		}
	}
}

func TestParseURL(t *testing.T) {
	const unknown = "not an address"
	for url, want := range map[string]struct{ name, error string }{
		"http://127.0.0.1:3000/payments":     {"127.0.0.1:3000/payments", ""},
		"https://shop.example.com":           {"shop.example.com", ""},
		"https://shop.example.com/":          {"shop.example.com", ""},
		"https://shop.example.com/a%2Fb/":    {"shop.example.com/a%2Fb", ""},
		"https://shop.example.com/p?key=1#x": {"shop.example.com/p", ""},
		"http://[::1]:3000/":                 {"[::1]:3000", ""},
		"unix//run/shop.sock":                {"unix/run/shop.sock", ""},
		"unix/run/shop.sock":                 {"", "a Unix socket is written unix//path/to.sock"},
		"unix/":                              {"", "a Unix socket is written unix//path/to.sock"},
		"http://ada:hidden@example.com/":     {"", "has a user or password"},
		"":                                   {"", unknown},
		"shop.example.com":                   {"", unknown},
		"127.0.0.1:3000":                     {"", unknown},
		"//shop.example.com/":                {"", unknown},
		"http://":                            {"", unknown},
		"http:///payments":                   {"", unknown},
		"ftp://shop.example.com":             {"", unknown},
		"file:///etc/passwd":                 {"", unknown},
		"HTTPS://shop.example.com/":          {"shop.example.com", ""},
		"http://shop example.com/":           {"", unknown},
		"http://exa\nmple.com/":              {"", unknown},
	} {
		name, err := ParseURL(url)
		if name != want.name || (err == nil) != (want.error == "") || err != nil && !strings.Contains(err.Error(), want.error) {
			t.Errorf("%q: %q, %v; want %q, %q", url, name, err, want.name, want.error)
		}
		if err != nil && strings.Contains(err.Error(), "hidden") {
			t.Errorf("%q: the error has the password", url)
		}
	}
}

func TestAddressesThatAreNeverAnUpstream(t *testing.T) {
	for address, refused := range map[string]bool{
		"169.254.169.254:80":              true, // metadata of most clouds
		"169.254.0.1:80":                  true,
		"[fe80::1]:80":                    true,
		"[fe80::1%eth0]:80":               true,
		"[::ffff:169.254.169.254]:80":     true,
		"0.0.0.0:80":                      true,
		"[::]:80":                         true,
		"[::ffff:0.0.0.0]:80":             true,
		"224.0.0.1:80":                    true,
		"239.255.255.250:1900":            true,
		"[ff02::1]:80":                    true,
		"127.0.0.1:3000":                  false,
		"[::1]:3000":                      false,
		"10.0.0.1:80":                     false,
		"172.16.0.1:80":                   false,
		"192.168.1.1:80":                  false,
		"[fd12:3456::1]:80":               false,
		"203.0.113.1:443":                 false,
		"[2001:db8::1]:443":               false,
		"[2001:db8::169.254.169.254]:443": false,
		"[64:ff9b::169.254.169.254]:80":   true, // the same metadata through NAT64
		"[fd00:ec2::254]:80":              true, // metadata of AWS over IPv6
	} {
		err := refuseSpecial("tcp", address, nil)
		if got := errors.Is(err, errSpecialAddress); got != refused || !refused && err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	if err := refuseSpecial("tcp", "no address", nil); err == nil {
		t.Error("what is no address is let through")
	}
}

func TestUpstreamsAreEqualIfAllTheirSettingsAre(t *testing.T) {
	whole := func() *Upstream {
		return &Upstream{
			Account: "default", Name: "shop", URL: "http://127.0.0.1/", Secrets: keys(t, secret), Types: []string{"bill.*"},
			Timeout: time.Second, Header: http.Header{"X-Shop": {"books"}}, Retry: []time.Duration{time.Second},
		}
	}
	if !whole().Equal(whole()) {
		t.Error("equal ones differ")
	}
	for name, change := range map[string]func(*Upstream){
		"Account": func(u *Upstream) { u.Account = "other" },
		"Name":    func(u *Upstream) { u.Name = "other" },
		"URL":     func(u *Upstream) { u.URL = "http://127.0.0.2/" },
		"Secrets": func(u *Upstream) { u.Secrets = keys(t, older) },
		"Types":   func(u *Upstream) { u.Types = nil },
		"Timeout": func(u *Upstream) { u.Timeout++ },
		"Header":  func(u *Upstream) { u.Header.Add("X-Shop", "maps") },
		"Retry":   func(u *Upstream) { u.Retry = append(u.Retry, time.Hour) },
	} {
		other := whole()
		change(other)
		if whole().Equal(other) {
			t.Errorf("a difference in %s is not seen", name)
		}
	}
}
