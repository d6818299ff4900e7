package checkout

import (
	"bytes"
	_ "embed"
	"html/template"
	"net/http"
	"time"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
)

//go:embed page.html
var pageHTML string

//go:embed problem.html
var problemHTML string

// policy is the pages' content security policy: nothing but this server's own
// style and images, no script, no frame.
const policy = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"

// pages are the templates of one language.
type pages struct{ bill, problem *template.Template }

var allPages = parsePages()

func parsePages() map[string]pages {
	all := make(map[string]pages)
	for lang, m := range texts {
		functions := template.FuncMap{
			"t":      m.text,
			"groups": groups,
			"utc":    func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") },
			"iso":    func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
			// The templates see addresses of known schemes only, so that html/template
			// leaves them alone instead of taking "bitcoin:" for an attack.
			"wallet": func(uri string) template.URL { return template.URL(uri) },
		}
		parse := func(name, text string) *template.Template {
			return template.Must(template.New(name).Funcs(functions).Parse(text))
		}
		all[lang] = pages{parse("page", pageHTML), parse("problem", problemHTML)}
	}
	return all
}

// pagesIn returns the templates of a language.
func pagesIn(lang string) pages {
	if p, ok := allPages[lang]; ok {
		return p
	}
	return allPages[fallback]
}

// view is what the bill's page shows.
type view struct {
	Bill
	Style string
	// Heading and Explain are the keys of the page's main texts.
	Heading, Explain string
	PaidInFull       bool
	Failed           bool
	Minutes          int64
}

// WritePage writes the page of a bill. It needs no JavaScript.
func WritePage(w http.ResponseWriter, b Bill, l Links) error {
	v := view{
		Bill:       b,
		Style:      assetURL(l.Prefix, "checkout.css"),
		Heading:    "heading." + string(b.Status),
		PaidInFull: b.Status.PaidInFull(),
		Minutes:    (b.ExpiresIn + 59) / 60,
	}
	switch {
	case b.Confirming && !v.PaidInFull:
		v.Heading, v.Explain = "heading.confirming", "explain.confirming"
	case b.Status != bill.Awaiting:
		v.Explain = "explain." + string(b.Status)
	}
	for _, p := range b.Payments {
		v.Failed = v.Failed || p.Status == bill.Failed
	}
	return write(w, http.StatusOK, pagesIn(l.Language).bill, l.Language, v)
}

// A Problem is an error as a buyer sees it.
type Problem struct {
	Status int
	Code   string
	// Detail is in English. Readers of other languages get the text of the code.
	Detail     string
	Retryable  bool
	SupportURL string
	Prefix     string
	Language   string
	Style      string
}

// WriteProblem writes the page of a problem.
func WriteProblem(w http.ResponseWriter, p Problem) error {
	p.Style = assetURL(p.Prefix, "checkout.css")
	if m, ok := texts[p.Language]; ok && p.Language != fallback {
		detail, ok := m["problem."+p.Code]
		if !ok {
			detail = m["problem.other"]
		}
		p.Detail = detail
	}
	return write(w, p.Status, pagesIn(p.Language).problem, p.Language, p)
}

// write renders the whole page before the first byte of it is sent.
func write(w http.ResponseWriter, status int, t *template.Template, lang string, data any) error {
	var page bytes.Buffer
	if err := t.Execute(&page, data); err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	if lang != "" {
		h.Set("Content-Language", lang)
	}
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(status)
	_, err := w.Write(page.Bytes())
	return err
}

// groups splits an address into groups of four, which people can compare. The last
// has four as well, since the ends are what wallets show.
func groups(s string) []string {
	var list []string
	for len(s) > 4 {
		n := min(4, len(s)-4)
		list, s = append(list, s[:n]), s[n:]
	}
	return append(list, s)
}
