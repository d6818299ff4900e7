package checkout

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"html/template"
	"net/http"
	"strings"
	"time"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
)

//go:embed page.html
var pageHTML string

//go:embed problem.html
var problemHTML string

//go:embed checkout.css
var stylesheet []byte

// policy is the pages' content security policy: nothing but this server's own
// style and images, no script, no frame.
const policy = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"

var functions = template.FuncMap{
	"t":      texts.text,
	"groups": groups,
	"utc":    func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") },
	"iso":    func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	// The templates see addresses of known schemes only, so that html/template
	// leaves them alone instead of taking "bitcoin:" for an attack.
	"wallet": func(uri string) template.URL { return template.URL(uri) },
}

var (
	pageTemplate    = template.Must(template.New("page").Funcs(functions).Parse(pageHTML))
	problemTemplate = template.Must(template.New("problem").Funcs(functions).Parse(problemHTML))
)

// view is what the bill's page shows.
type view struct {
	Bill
	Style string
	// Heading and Explain are the keys of the page's main texts.
	Heading, Explain string
	PaidInFull       bool
	Failed           bool
	Minutes          int64
	Test             bool
}

// WritePage writes the page of a bill. It needs no JavaScript.
func WritePage(w http.ResponseWriter, b Bill, l Links) error {
	v := view{
		Bill:       b,
		Style:      styleURL(l.Prefix),
		Test:       l.Test,
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
	return write(w, http.StatusOK, pageTemplate, v)
}

// A Problem is an error as a buyer sees it.
type Problem struct {
	Status     int
	Code       string
	Detail     string
	Retryable  bool
	SupportURL string
	Prefix     string
	Style      string
}

// WriteProblem writes the page of a problem.
func WriteProblem(w http.ResponseWriter, p Problem) error {
	p.Style = styleURL(p.Prefix)
	return write(w, p.Status, problemTemplate, p)
}

// write renders the whole page before the first byte of it is sent.
func write(w http.ResponseWriter, status int, t *template.Template, data any) error {
	var page bytes.Buffer
	if err := t.Execute(&page, data); err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(status)
	_, err := w.Write(page.Bytes())
	return err
}

// groups splits an address into groups of four, which people can compare.
func groups(s string) []string {
	var list []string
	for len(s) > 4 {
		list, s = append(list, s[:4]), s[4:]
	}
	return append(list, s)
}

// styleHash names the content of the stylesheet.
var styleHash = func() string {
	sum := sha256.Sum256(stylesheet)
	return hex.EncodeToString(sum[:8])
}()

// styleURL is the stylesheet's address. It changes with the content, so that the
// file itself can be kept for as long as a browser likes.
func styleURL(prefix string) string { return prefix + "/checkout.css?v=" + styleHash }

// WriteAsset serves a file of the checkout.
func WriteAsset(w http.ResponseWriter, r *http.Request, name string) error {
	h := w.Header()
	h.Set("Content-Type", "text/css; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("ETag", `"`+styleHash+`"`)
	h.Set("Cache-Control", "public, max-age=3600")
	if strings.Contains(r.URL.RawQuery, styleHash) {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(stylesheet))
	return nil
}
