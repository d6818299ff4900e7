package ccpayment

import (
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// routeKind is one of the things ccpayment_bill serves.
type routeKind int

const (
	routeBills routeKind = iota
	routeBill
	routeEvents
	routeQR
	routeMethods
	routeAsset
)

func (k routeKind) methods() []string {
	if k == routeBills {
		return []string{http.MethodPost}
	}
	return []string{http.MethodGet, http.MethodHead}
}

// A route is what a request asks for.
type route struct {
	kind routeKind
	// prefix is the path before the handler's own part, as the browser sees it.
	prefix string
	// name is the bill's token or the file's name.
	name string
	// format of a QR code: svg or png
	format string
}

// billToken is the form of a bill's token: 128 bits in base64url.
const billToken = `([A-Za-z0-9_-]{22})`

// routes are tried in this order; each matches the end of a path.
var routes = []struct {
	kind routeKind
	end  *regexp.Regexp
}{
	{routeBill, regexp.MustCompile(`/bills/` + billToken + `$`)},
	{routeEvents, regexp.MustCompile(`/bills/` + billToken + `/events$`)},
	{routeQR, regexp.MustCompile(`/bills/` + billToken + `/qr\.(svg|png)$`)},
	{routeBills, regexp.MustCompile(`/bills$`)},
	{routeMethods, regexp.MustCompile(`/methods$`)},
	{routeAsset, regexp.MustCompile(`/(checkout(?:-[a-z]+)?\.js|checkout\.css|messages/[A-Za-z0-9-]{1,35}\.json)$`)},
}

// findRoute reads a request's path. The prefix comes from the path as it was before
// any rewriting, since links in answers must lead back here.
func findRoute(r *http.Request) (route, bool) {
	for _, candidate := range routes {
		m := candidate.end.FindStringSubmatchIndex(r.URL.Path)
		if m == nil {
			continue
		}
		rt := route{kind: candidate.kind, prefix: r.URL.Path[:m[0]]}
		groups := candidate.end.FindStringSubmatch(r.URL.Path)
		if len(groups) > 1 {
			rt.name = groups[1]
		}
		if len(groups) > 2 {
			rt.format = groups[2]
		}
		if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && original.URL != nil {
			if before, found := strings.CutSuffix(original.URL.Path, r.URL.Path[m[0]:]); found {
				rt.prefix = before
			}
		}
		if !plainPrefix(rt.prefix) {
			return route{}, false
		}
		rt.prefix = (&url.URL{Path: rt.prefix}).EscapedPath()
		return rt, true
	}
	return route{}, false
}

// plainPrefix reports whether links may begin with a prefix. It comes from whoever
// made the request: "//host" would lead to another server.
func plainPrefix(p string) bool {
	if p == "" {
		return true
	}
	return p[0] == '/' && path.Clean(p) == p && !strings.ContainsFunc(p, func(c rune) bool { return c == '\\' || c < ' ' || c == 0x7f })
}
