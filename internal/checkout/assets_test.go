package checkout_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/checkout"
)

// sizeLimit is what a page of a shop loads for the checkout at most, compressed.
const sizeLimit = 12 << 10

func serve(t *testing.T, name, query string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	if !checkout.WriteAsset(w, httptest.NewRequest(http.MethodGet, "/pay/"+name+query, nil), name) {
		t.Fatalf("there is no %s", name)
	}
	return w
}

func compressed(t *testing.T, content []byte) int {
	t.Helper()
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Len()
}

// TestTheElementIsSmall adds up what a browser gets: every module, the stylesheet
// and the largest language.
func TestTheElementIsSmall(t *testing.T) {
	total := 0
	for _, name := range append(sources(t, "web/*.js"), sources(t, "web/*.css")...) {
		name = filepath.Base(name)
		size := compressed(t, serve(t, name, "").Body.Bytes())
		t.Logf("%s: %d bytes", name, size)
		total += size
	}
	largest := 0
	for _, lang := range checkout.Languages() {
		size := compressed(t, serve(t, "messages/"+lang+".json", "").Body.Bytes())
		t.Logf("%s: %d bytes", lang, size)
		largest = max(largest, size)
	}
	total += largest
	t.Logf("together with the largest language: %d bytes of %d", total, sizeLimit)
	if total > sizeLimit {
		t.Errorf("%d bytes are %d too many", total, total-sizeLimit)
	}
}

// A page that has one module of a version must get the others, the style and the
// texts of the same.
func TestModulesNameTheirVersion(t *testing.T) {
	script := serve(t, "checkout.js", "").Body.String()
	modules := regexp.MustCompile(`"\./(checkout-[a-z]+\.js)(\?v=[0-9a-f]{16})?"`).FindAllStringSubmatch(script, -1)
	if len(modules) != len(sources(t, "web/checkout-*.js")) {
		t.Fatalf("the element imports %v", modules)
	}
	for _, m := range modules {
		if m[2] == "" {
			t.Errorf("%s has no version", m[1])
		}
		for _, name := range []string{m[1], "checkout.css", "messages/de.json"} {
			if got := serve(t, name, m[2]).Header().Get("Cache-Control"); !strings.Contains(got, "immutable") {
				t.Errorf("%s%s: %s", name, m[2], got)
			}
		}
	}
	for _, name := range []string{"checkout.js", modules[0][1]} {
		if checkout.WriteAsset(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/pay/"+name+"?v=0123456789abcdef", nil), name) {
			t.Errorf("%s is served in a version that is another", name)
		}
	}
	if got := serve(t, "checkout.js", "").Header().Get("Cache-Control"); strings.Contains(got, "immutable") {
		t.Errorf("the address that pages name: %s", got)
	}
	if left := regexp.MustCompile(`from ?"[^"]*\.js"`).FindString(serve(t, "checkout-view.js", "").Body.String()); left != "" {
		t.Errorf("a module imports %s without a version", left)
	}
}

func TestTextsAreServedInTheNearestLanguage(t *testing.T) {
	for asked, want := range map[string]string{"de": "de", "de-AT": "de", "PT": "pt-BR", "zh-Hant-TW": "zh-CN", "tlh": "en", "x": "en"} {
		w := serve(t, "messages/"+asked+".json", "")
		if got := w.Body.String(); !strings.Contains(got, `"lang":"`+want+`"`) {
			t.Errorf("%s: %.60s", asked, got)
		}
		if got := w.Header().Get("Content-Type"); got != "application/json" {
			t.Errorf("%s: Content-Type %s", asked, got)
		}
	}
	for _, name := range []string{"checkout-nothing.js", "web/checkout.js", "../page.html", "messages", ""} {
		if checkout.WriteAsset(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil), name) {
			t.Errorf("%q is served", name)
		}
	}
}

// The element is not sent what only the server's own pages say.
func TestTheElementGetsNoTextsOfThePages(t *testing.T) {
	for _, lang := range checkout.Languages() {
		var texts map[string]string
		if err := json.Unmarshal(serve(t, "messages/"+lang+".json", "").Body.Bytes(), &texts); err != nil {
			t.Fatalf("%s: %v", lang, err)
		}
		for _, key := range []string{"problem.retry", "problem.back"} {
			if texts[key] != "" {
				t.Errorf("%s: %s is sent", lang, key)
			}
		}
		if len(texts) != len(catalog(t, lang))-2 {
			t.Errorf("%s: %d texts of %d", lang, len(texts), len(catalog(t, lang)))
		}
	}
}

// The rules of the element that a reader of its source can check, and that a change
// could break without anybody noticing.
func TestTheElementKeepsItsRules(t *testing.T) {
	for _, name := range sources(t, "web/*.js") {
		source := read(t, name)
		for _, forbidden := range []string{
			`innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment`, // markup from texts
			`\.style\b|cssText|'style'`,                         // style in the page
			`\beval\b|new Function|setTimeout\('`,               // script from texts
			`Date\.now|new Date\(\)`,                            // the device's clock
			`parseFloat|toFixed|BigInt`,                         // arithmetic with amounts
			`(?i)https?://`,                                     // another server
			`localStorage|document\.cookie|navigator\.sendBeac`, // what stays behind
		} {
			if found := regexp.MustCompile(forbidden).FindString(source); found != "" {
				t.Errorf("%s has %q", name, found)
			}
		}
		if !strings.HasPrefix(source, "// @ts-check\n") {
			t.Errorf("%s is not checked", name)
		}
	}
}
