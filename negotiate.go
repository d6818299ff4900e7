package ccpayment

import (
	"mime"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// wantsJSON reports whether a client asks for JSON by name and at least as much as
// for a page. A wildcard asks for nothing in particular; browsers send one.
func wantsJSON(r *http.Request) bool {
	var jsonQ, htmlQ float64
	for _, header := range r.Header.Values("Accept") {
		for part := range strings.SplitSeq(header, ",") {
			mediaType, params, err := mime.ParseMediaType(part)
			if err != nil {
				continue
			}
			q := 1.0
			if s, ok := params["q"]; ok {
				if q, err = strconv.ParseFloat(s, 64); err != nil {
					continue
				}
			}
			switch mediaType {
			case "application/json", "application/problem+json":
				jsonQ = max(jsonQ, q)
			case "text/html", "application/xhtml+xml":
				htmlQ = max(htmlQ, q)
			}
		}
	}
	return jsonQ > 0 && jsonQ >= htmlQ
}

// sendsJSON reports whether the request itself is JSON, so that its sender surely
// is a program.
func sendsJSON(r *http.Request) bool {
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && mediaType == "application/json"
}

// prefixOf is the handler's prefix for links on an error page, a guess where the
// path itself is wrong.
func prefixOf(r *http.Request) string {
	if rt, ok := findRoute(r); ok {
		return rt.prefix
	}
	p := r.URL.Path
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && original.URL != nil {
		p = original.URL.Path
	}
	prefix := strings.TrimSuffix(path.Dir(p), "/")
	if before, _, found := strings.Cut(p, "/bills/"); found {
		prefix = before
	}
	if !plainPrefix(prefix) {
		return ""
	}
	return (&url.URL{Path: prefix}).EscapedPath()
}
