package sandbox

import (
	"bytes"
	"embed"
	"encoding/json"
	"html/template"
	"net/http"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed assets/style.css
var style []byte

const shownOnPage = 25

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"clock": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") },
	"pretty": func(raw json.RawMessage) string {
		var b bytes.Buffer
		if err := json.Indent(&b, raw, "", "  "); err != nil {
			return string(raw)
		}
		return b.String()
	},
	"tone": tone,
}).ParseFS(templateFiles, "templates/*.html"))

// tone is the style of a status.
func tone(status string) string {
	switch status {
	case "Paid", "Overpayment", "Successful", statusSuccess, stateDelivered:
		return "good"
	case "Expired", statusFailed, stateGivenUp, stateUnsent:
		return "bad"
	case "Awaiting payment":
		return "calm"
	default:
		return "busy"
	}
}

// render writes a page. Nothing on it may run, load or frame anything but the
// simulator's own style sheet, pictures and forms.
func (s *Sandbox) render(w http.ResponseWriter, r *http.Request, status int, name string, data map[string]any) error {
	data["Prefix"] = prefix(r)
	data["Base"] = base(r)
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name+".html", data); err != nil {
		return caddyhttp.Error(http.StatusInternalServerError, err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self'; "+
		"form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	// Not no-referrer: without a referrer, forms come with the origin "null", which
	// looks like another site.
	h.Set("Referrer-Policy", "same-origin")
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return nil
	}
	_, err := w.Write(b.Bytes())
	return err
}

func (s *Sandbox) serveStyle(w http.ResponseWriter, r *http.Request) error {
	if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	_, err := w.Write(style)
	return err
}

// pageNumber reads ?page=, from 1.
func pageNumber(r *http.Request) int {
	n, err := strconv.Atoi(r.URL.Query().Get("page"))
	if err != nil || n < 1 || n > maxOrders {
		return 1
	}
	return n
}

// paging says where the pages before and after are; 0 for none.
func paging(data map[string]any, page, total int) {
	data["Total"], data["Newer"], data["Older"] = total, 0, 0
	if page > 1 {
		data["Newer"] = page - 1
	}
	if page*shownOnPage < total {
		data["Older"] = page + 1
	}
}

// serveIndex is the page with all orders.
func (s *Sandbox) serveIndex(w http.ResponseWriter, r *http.Request) error {
	if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	page := pageNumber(r)
	orders, total := s.newest(base(r), (page-1)*shownOnPage, shownOnPage)

	// Callbacks are logged oldest first, but read newest first.
	for i := range orders {
		c := orders[i].Callbacks
		for a, b := 0, len(c)-1; a < b; a, b = a+1, b-1 {
			c[a], c[b] = c[b], c[a]
		}
	}

	names := endpointNames()
	faults := []fault{}
	s.state.mu.Lock()
	for _, name := range names {
		if f := s.state.faults[name]; f != nil {
			faults = append(faults, *f)
		}
	}
	probe := s.state.probe
	s.state.mu.Unlock()

	data := map[string]any{
		"Probe": probe, "API": s.API,
		"Title": "Orders", "Orders": orders, "NotifyURL": s.notifyURL, "Speed": s.speed,
		"Endpoints": names, "FaultNames": faultNames, "Faults": faults,
	}
	paging(data, page, total)
	return s.render(w, r, http.StatusOK, "orders", data)
}

// showInbox is the page with the events received.
func (s *Sandbox) showInbox(w http.ResponseWriter, r *http.Request) error {
	page := pageNumber(r)
	st := s.state
	st.mu.Lock()
	in := &st.inbox
	data := map[string]any{
		"Title": "Inbox", "Entries": in.newest((page-1)*shownOnPage, shownOnPage),
		"FailStatus": in.failStatus, "FailTimes": in.failTimes, "Refused": in.refused,
		"Checks": s.inbox != nil,
	}
	total := len(in.entries)
	st.mu.Unlock()
	paging(data, page, total)
	return s.render(w, r, http.StatusOK, "inbox", data)
}
