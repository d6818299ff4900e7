package ccpayment

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// checkOrigin lets pages of the same host and of the allowed origins in. Browsers
// name the origin of a request that is not a plain navigation; what has neither
// header is no browser and gains nothing by another's page.
func (h *Bill) checkOrigin(w http.ResponseWriter, r *http.Request) bool {
	if len(h.AllowOrigin) > 0 {
		w.Header().Add("Vary", "Origin")
	}
	origins := r.Header.Values("Origin")
	if len(origins) == 0 {
		// Links from anywhere may lead to a bill; orders come from the shop alone.
		return r.Method != http.MethodPost || r.Header.Get("Sec-Fetch-Site") != "cross-site"
	}
	if len(origins) > 1 {
		return false
	}
	origin := origins[0]
	if origin == "null" {
		// Also what a page of this very host sends whose policy is no-referrer. Only
		// the browser itself can tell it from a foreign one.
		return r.Header.Get("Sec-Fetch-Site") == "same-origin"
	}
	if slices.Contains(h.AllowOrigin, origin) {
		w.Header().Set("Access-Control-Allow-Origin", origin)
		w.Header().Set("Access-Control-Expose-Headers", "Location, Retry-After")
		return true
	}
	// The scheme is not compared: behind another proxy this server does not know it.
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// preflight answers a browser's question whether a page may make a request.
func (h *Bill) preflight(w http.ResponseWriter, r *http.Request, rt route) error {
	header := w.Header()
	header.Set("Allow", strings.Join(append(rt.kind.methods(), http.MethodOptions), ", "))
	if header.Get("Access-Control-Allow-Origin") != "" && r.Header.Get("Access-Control-Request-Method") != "" {
		header.Set("Access-Control-Allow-Methods", strings.Join(rt.kind.methods(), ", "))
		header.Set("Access-Control-Allow-Headers", "Accept, Content-Type, Idempotency-Key, Last-Event-ID")
		header.Set("Access-Control-Max-Age", "600")
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
