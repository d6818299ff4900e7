package ccpayment

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// credentials are the flags of the commands that sign.
func credentials(api string) []string {
	return []string{"--api", api, "--app-id", testAppID, "--app-secret", testSecret}
}

func signedHeaders(t *testing.T, api, body string) (timestamp, sign string) {
	t.Helper()
	out, err := runCommand(strings.NewReader(body), append([]string{"sign"}, credentials(api)...)...)
	m := regexp.MustCompile(`^Appid: (\S+)\nTimestamp: (\d{10})\nSign: ([0-9a-f]{64})\n$`).FindStringSubmatch(out)
	if err != nil || m == nil || m[1] != testAppID {
		t.Fatalf("sign: %q %v", out, err)
	}
	return m[2], m[3]
}

func TestSignIsTheDocumentedFormula(t *testing.T) {
	timestamp, sign := signedHeaders(t, apiV1, `{"a":1}`)
	if sign != signV1(timestamp, `{"a":1}`) {
		t.Errorf("got %s", sign)
	}
}

func TestVerifySaysWhyASignatureDoesNotMatch(t *testing.T) {
	const body = `{"url":"https://shop.example.com/","list":[1,2],"html":"<b>"}`
	timestamp, sign := signedHeaders(t, apiV1, body)
	of := func(signed string) string { return signV1(timestamp, signed) }
	millis := timestamp + "000"
	for _, test := range []struct {
		name, api, timestamp, sign, body, says string
		valid                                  bool
	}{
		{"as it is", "v1", timestamp, sign, body, "The v1 signature matches", true},
		{"an old one", "v1", "1677152490", signV1("1677152490", body), body, "outside of the window", true},
		{"the other generation", "v2", timestamp, sign, body, "set: api v1", false},
		{"milliseconds", "v1", millis, signV1(millis, body), body, "milliseconds", false},
		{"milliseconds of v2", "v2", millis, signV2(millis, body), body, "timestamp_unit ms", false},
		{"a timestamp that is none", "v1", "soon", sign, body, "not ten digits", false},
		{"a signature cut short", "v1", timestamp, sign[:60], body, "64 hexadecimal digits", false},
		{"a line break at the end", "v1", timestamp, sign, body + "\n", "without the line break", false},
		{"a line break lost", "v1", timestamp, of(body + "\n"), body, "with a line break at its end", false},
		{"written anew by Python", "v1", timestamp, of(`{"url": "https://shop.example.com/", "list": [1, 2], "html": "<b>"}`), body, "Python", false},
		{"written anew by PHP", "v1", timestamp, of(strings.ReplaceAll(body, "/", `\/`)), body, "PHP", false},
		{"written anew by Go", "v1", timestamp, of(`{"url":"https://shop.example.com/","list":[1,2],"html":"\u003cb\u003e"}`), body, "as Go writes it", false},
		{"indented", "v1", timestamp, sign, "{\n  \"url\":\"https://shop.example.com/\",\n\"list\":[1,2],\"html\":\"<b>\"}", "in compact form", false},
		{"an empty body", "v1", timestamp, of(""), "{}", "if it is empty", false},
		{"another body", "v1", timestamp, sign, `{"b":2}`, "None of the usual mistakes", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := append([]string{"verify", "--timestamp", test.timestamp, "--sign", test.sign}, credentials(test.api)...)
			out, err := runCommand(strings.NewReader(test.body), args...)
			if (err == nil) != test.valid || !strings.Contains(out, test.says) {
				t.Errorf("error %v, printed:\n%s", err, out)
			}
			right := signV1(test.timestamp, test.body)
			if strings.Contains(out, testSecret) || right != test.sign && strings.Contains(out, right) {
				t.Errorf("it tells what must not be told:\n%s", out)
			}
		})
	}
	t.Run("a secret with a line break", func(t *testing.T) {
		s, err := newSigner(apiV1, testAppID, []string{testSecret + "\n"}, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		_, timestamp, sign := s.Sign([]byte(body))
		out, _ := runCommand(strings.NewReader(body), append([]string{"verify", "--timestamp", timestamp, "--sign", sign}, credentials(apiV1)...)...)
		if !strings.Contains(out, "a line break at its end") {
			t.Error(out)
		}
	})
}

func TestKeysComeFromFilesAndTheEnvironment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(testSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CCPAYMENT_APP_ID", testAppID)
	out, err := runCommand(strings.NewReader("{}"), "sign", "--api", "v1", "--app-secret", "{file."+file+"}")
	if m := regexp.MustCompile(`Timestamp: (\d{10})\n`).FindStringSubmatch(out); err != nil || m == nil || !strings.Contains(out, signV1(m[1], "{}")) {
		t.Errorf("%q %v", out, err)
	}
	for _, args := range [][]string{
		{"sign"},
		{"sign", "--api", "v3"},
		{"sign", "--api", "v1"}, // without a secret
		{"sign", "--api", "v1", "--app-secret", "{file./nowhere}"},
		{"verify", "--api", "v1", "--app-secret", testSecret},
		{"trigger", "--api", "v1", "--app-secret", testSecret},
		{"trigger", "refund", "--api", "v1", "--app-secret", testSecret},
		{"trigger", "refund", "--api", "v1", "--app-secret", testSecret, "--to", "http://shop.example.com/"},
		{"trigger", "activate", "--api", "v1", "--app-secret", testSecret, "--to", "http://localhost/"},
	} {
		if out, err := runCommand(strings.NewReader("{}"), args...); err == nil || out != "" || strings.Contains(err.Error(), testSecret) {
			t.Errorf("%v: %q %v", args, out, err)
		}
	}
}

func TestTriggerCoversEveryKindOfBothGenerations(t *testing.T) {
	var bodies []string
	for api, kinds := range triggers {
		s, err := newSigner(api, testAppID, []string{testSecret}, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			if _, err := s.Verify(r.Header.Get("Appid"), r.Header.Get("Timestamp"), r.Header.Get("Sign"), body); err != nil {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			bodies = append(bodies, string(body))
			fmt.Fprint(w, "success")
		}))
		for kind := range kinds {
			if out, err := runCommand(nil, append([]string{"trigger", kind, "--to", server.URL, "--reference", "ref-1", "--record", "rec-1"}, credentials(api)...)...); err != nil || !strings.Contains(out, `"success"`) {
				t.Errorf("%s %s: %q %v", api, kind, out, err)
			}
		}
		server.Close()
	}
	slices.Sort(bodies)
	if bodies = slices.Compact(bodies); len(bodies) != 11 {
		t.Errorf("%d different bodies: %v", len(bodies), bodies)
	}
}

// What trigger sends is what the plugin takes for the kind it says.
func TestTriggeredCallbacksAreTakenForWhatTheyAre(t *testing.T) {
	s := openShop(t, "", "", "")
	for kind, event := range map[string]string{
		"api-deposit": "bill.paid", "direct-deposit": "deposit.success", "invoice": "invoice.success", "api-withdrawal": "withdrawal.success", "refund": "refund.success",
	} {
		if out, err := runCommand(nil, append([]string{"trigger", kind, "--to", base + "/hooks/ccpayment"}, credentials(apiV1)...)...); err != nil {
			t.Errorf("%s: %q %v", kind, out, err)
		}
		s.eventually(kind+" told", func() bool { return s.rows("SELECT count(*) FROM events WHERE type = ?", event) == 1 })
	}
	out, err := runCommand(nil, "trigger", "refund", "--to", base+"/hooks/ccpayment", "--api", "v1", "--app-id", testAppID, "--app-secret", strings.Repeat("x", 32))
	if err == nil || !strings.Contains(err.Error(), "app id, secret or api") {
		t.Errorf("with a wrong secret: %q %v", out, err)
	}
}
