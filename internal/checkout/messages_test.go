package checkout_test

import (
	"encoding/json"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/checkout"
)

// catalog reads the texts of a language.
func catalog(t *testing.T, lang string) map[string]string {
	t.Helper()
	var texts map[string]string
	if err := json.Unmarshal([]byte(read(t, filepath.Join("messages", lang+".json"))), &texts); err != nil {
		t.Fatalf("%s: %v", lang, err)
	}
	return texts
}

func TestEveryLanguageSaysTheSame(t *testing.T) {
	languages := checkout.Languages()
	for _, want := range []string{"en", "de", "es", "fr", "pt-BR", "ru", "tr", "zh-CN", "ja", "ar"} {
		if !slices.Contains(languages, want) {
			t.Errorf("%s is missing", want)
		}
	}
	english := catalog(t, "en")
	placeholders := func(text string) []string {
		list := regexp.MustCompile(`\{\w*\}`).FindAllString(text, -1)
		slices.Sort(list)
		return slices.Compact(list)
	}
	for _, lang := range languages {
		texts := catalog(t, lang)
		if got, want := slices.Sorted(maps.Keys(texts)), slices.Sorted(maps.Keys(english)); !slices.Equal(got, want) {
			t.Errorf("%s has the keys %v, want %v", lang, got, want)
		}
		if texts["lang"] != lang {
			t.Errorf("%s calls itself %q", lang, texts["lang"])
		}
		if dir := texts["dir"]; (dir == "rtl") != (lang == "ar") || dir != "rtl" && dir != "ltr" {
			t.Errorf("%s runs %q", lang, dir)
		}
		for key, text := range texts {
			if !slices.Equal(placeholders(text), placeholders(english[key])) {
				t.Errorf("%s %s: placeholders %v, want %v", lang, key, placeholders(text), placeholders(english[key]))
			}
			if text == "" || text != strings.TrimSpace(text) || strings.Contains(text, "  ") {
				t.Errorf("%s %s: %q", lang, key, text)
			}
			if sentence := regexp.MustCompile(`[.。!！]$`); lang != "en" && sentence.MatchString(english[key]) && !sentence.MatchString(text) && lang != "ja" {
				t.Errorf("%s %s ends unlike the English text: %q", lang, key, text)
			}
			// What is set apart from the direction of the text must end again.
			if strings.Count(text, "\u2066")+strings.Count(text, "\u2068") != strings.Count(text, "\u2069") {
				t.Errorf("%s %s: unbalanced isolates", lang, key)
			}
			if lang != "en" && text == english[key] && len(text) > 12 {
				t.Errorf("%s %s is not translated: %q", lang, key, text)
			}
		}
	}
	files, err := os.ReadDir("messages")
	if err != nil || len(files) != len(languages) {
		t.Errorf("%d files, %d languages, %v", len(files), len(languages), err)
	}
}

// Words that were wrong once, in languages that few who change them can read.
func TestWordingThatBuyersRelyOn(t *testing.T) {
	for _, tc := range []struct{ lang, key, want string }{
		{"de", "deadline", "Zahlbar bis: {time}"},
		{"ja", "warning", "{crypto} のみを、{network} のみで"},
		{"ja", "memo", "メモ／宛先タグ"},
		{"tr", "problem.title", "İşlem tamamlanamadı"},
	} {
		if text := catalog(t, tc.lang)[tc.key]; !strings.Contains(text, tc.want) {
			t.Errorf("%s %s: %q", tc.lang, tc.key, text)
		}
	}
}

func TestTheReadersLanguageIsChosen(t *testing.T) {
	for header, want := range map[string]string{
		"":                                  "en",
		"*":                                 "en",
		"de":                                "de",
		"de-CH":                             "de",
		"DE-ch;q=0.9, en;q=0.8":             "de",
		"en;q=0.5, ru":                      "ru",
		"pt":                                "pt-BR",
		"pt-PT":                             "pt-BR",
		"zh-TW":                             "zh-CN",
		"zh-Hans-CN":                        "zh-CN",
		"da, sv;q=0.9":                      "en",
		"da, ja;q=0.1":                      "ja",
		"fr;q=0":                            "en",
		"fr;q=0, ar;q=0.2":                  "ar",
		"tr;q=x, es":                        "es",
		", ,;;, es-419":                     "es",
		"deutsch":                           "en",
		"uk":                                "en",
		strings.Repeat("xx,", 5000) + "ar":  "ar",
		"../../etc/passwd":                  "en",
		"en-US,en;q=0.9,de;q=0.8,fr;q=0.7":  "en",
		"nl-NL,nl;q=0.9,de;q=0.8,en-US;q=1": "en",
	} {
		if got := checkout.Language([]string{header}); got != want {
			t.Errorf("%.40q: %s, want %s", header, got, want)
		}
	}
	if got := checkout.Language([]string{"da", "ja"}); got != "ja" {
		t.Errorf("two headers: %s", got)
	}
	if got := checkout.Language(nil); got != "en" {
		t.Errorf("no header: %s", got)
	}
}

func TestEveryLanguageHasItsPages(t *testing.T) {
	for _, lang := range checkout.Languages() {
		texts := catalog(t, lang)
		l := links
		l.Language = lang
		for _, tc := range [][]bill.Payment{nil, {paid("20", bill.Success, created)}, {paid("60", bill.Success, created)}, {paid("20", bill.Failed, created)}} {
			b := example()
			b.Payments = tc
			w := httptest.NewRecorder()
			if err := checkout.WritePage(w, checkout.Describe(b, now, l), l); err != nil {
				t.Fatal(err)
			}
			expectSafe(t, w)
			expectFinished(t, w.Body.String())
			expectInOrder(t, w.Body.String(), `<html lang="`+lang+`" dir="`+texts["dir"]+`">`)
			expectInOrder(t, text(w.Body.String()), texts["order"])
			if got := w.Header().Get("Content-Language"); got != lang {
				t.Errorf("%s: Content-Language %q", lang, got)
			}
		}
		w := httptest.NewRecorder()
		if err := checkout.WriteProblem(w, checkout.Problem{Status: 502, Code: "gateway_unreachable", Detail: "In English.", Language: lang}); err != nil {
			t.Fatal(err)
		}
		if lang != "en" {
			expectInOrder(t, text(w.Body.String()), texts["problem.title"], texts["problem.gateway_unreachable"])
		}
		w = httptest.NewRecorder()
		if err := checkout.WriteProblem(w, checkout.Problem{Status: 418, Code: "teapot", Detail: "In English.", Language: lang}); err != nil {
			t.Fatal(err)
		}
		if lang != "en" {
			expectInOrder(t, text(w.Body.String()), texts["problem.title"], texts["problem.other"])
		} else {
			expectInOrder(t, text(w.Body.String()), "In English.")
		}
	}
}
