package ccpayment

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	strictjson "github.com/go-json-experiment/json"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/gateway"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/store"
)

// adminAPI is what operators ask and order at Caddy's admin endpoint, below
// /ccpayment/. Lists are JSON arrays, newest first; the header Link leads to the
// next page. Bills' tokens are never shown: they belong to buyers.
type adminAPI struct{}

// CaddyModule returns the Caddy module information.
func (adminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.ccpayment",
		New: func() caddy.Module { return new(adminAPI) },
	}
}

// adminPrefix is where the admin API begins.
const adminPrefix = "/ccpayment/"

// Bounds of the admin API.
const (
	adminLimit    = 50
	maxAdminLimit = 500
	maxAdminBody  = 1 << 20
)

// reading has one place: lists of a large store take the readers' time, which buyers
// and upstreams need as well.
var reading = make(chan struct{}, 1)

// Routes returns the one route below which everything is.
func (adminAPI) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{{Pattern: adminPrefix, Handler: caddy.AdminHandlerFunc(serveAdmin)}}
}

// An adminRoute is one thing that can be asked or ordered. Parameters in braces stand
// for a segment of the path; query has the names that may stand behind it.
type adminRoute struct {
	method, path string
	query        []string
	serve        func(adminRequest) (any, error)
}

var adminRoutes = []adminRoute{
	{http.MethodGet, "status", nil, adminStatus},
	{http.MethodGet, "bills", []string{"status", "limit", "before"}, adminBills},
	{http.MethodGet, "bills/{reference}", nil, adminBill},
	{http.MethodGet, "events", []string{"limit", "before"}, adminEvents},
	{http.MethodGet, "events/{id}", nil, adminEvent},
	{http.MethodPost, "events/replay", nil, adminReplay},
	{http.MethodGet, "deliveries", []string{"state", "upstream", "limit", "before"}, adminDeliveries},
	{http.MethodPost, "deliveries/{id}/retry", []string{"upstream"}, adminRetry},
	{http.MethodPost, "reconcile", nil, adminReconcile},
}

// An adminRequest is a request with what its route needs.
type adminRequest struct {
	*http.Request
	header http.Header // of the answer
	query  url.Values
	param  string // the segment in braces
	app    *App
	store  *store.Store
	closed error // why there is no store
}

func apiError(status int, format string, args ...any) error {
	return caddy.APIError{HTTPStatus: status, Err: fmt.Errorf(format, args...)}
}

// serveAdmin answers one request of an operator. Whatever is wrong with it is said
// before anything is changed.
func serveAdmin(w http.ResponseWriter, r *http.Request) error {
	// 1. What is asked for?
	route, param, err := findAdminRoute(w, r)
	if err != nil {
		return err
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return apiError(http.StatusBadRequest, "the query is malformed: %v", err)
	}
	for name, values := range query {
		if !slices.Contains(route.query, name) {
			return apiError(http.StatusBadRequest, "unrecognized parameter %q; known here: %s", name, known(route.query))
		}
		if len(values) > 1 {
			return apiError(http.StatusBadRequest, "parameter %q is there twice", name)
		}
	}

	// 2. Is there anything to ask?
	app := currentApp()
	if app == nil {
		return apiError(http.StatusServiceUnavailable, "the running configuration has no global option block 'ccpayment'")
	}
	req := adminRequest{Request: r, header: w.Header(), query: query, param: param, app: app}
	req.store, req.closed = app.store()
	if err := req.closed; err != nil && route.path != "status" {
		return apiError(http.StatusServiceUnavailable, "the store is not open: %v", err)
	}

	// 3. Answer.
	if r.Method == http.MethodGet {
		select {
		case reading <- struct{}{}:
			defer func() { <-reading }()
		case <-r.Context().Done():
			return apiError(http.StatusServiceUnavailable, "another list is still being read")
		}
	}
	answer, err := route.serve(req)
	if err != nil {
		return adminProblem(err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	return json.NewEncoder(w).Encode(answer)
}

func findAdminRoute(w http.ResponseWriter, r *http.Request) (adminRoute, string, error) {
	path := strings.TrimPrefix(r.URL.Path, adminPrefix)
	var methods, paths []string
	for _, route := range adminRoutes {
		param, ok := matchPath(route.path, path)
		if ok && r.Method == route.method {
			return route, param, nil
		}
		if ok {
			methods = append(methods, route.method)
		}
		paths = append(paths, route.method+" "+adminPrefix+route.path)
	}
	if methods != nil {
		w.Header().Set("Allow", strings.Join(methods, ", "))
		return adminRoute{}, "", apiError(http.StatusMethodNotAllowed, "method %s is not allowed here; use %s", r.Method, strings.Join(methods, " or "))
	}
	return adminRoute{}, "", apiError(http.StatusNotFound, "there is no %s; known: %s", r.URL.Path, strings.Join(paths, ", "))
}

// matchPath compares a path with one that has a parameter in braces.
func matchPath(pattern, path string) (param string, ok bool) {
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return "", false
	}
	for i := range want {
		switch {
		case strings.HasPrefix(want[i], "{") && got[i] != "":
			param = got[i]
		case want[i] != got[i]:
			return "", false
		}
	}
	return param, true
}

func known(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// adminProblem turns an error into one that Caddy's admin endpoint reports.
func adminProblem(err error) error {
	var (
		g     *gateway.Error
		api   caddy.APIError
		taken *store.TakenError
	)
	switch {
	case errors.As(err, &api):
		return api
	case errors.Is(err, store.ErrNotFound):
		return apiError(http.StatusNotFound, "there is none of that name")
	case errors.As(err, &taken):
		return apiError(http.StatusConflict, "%v", err)
	case errors.As(err, &g):
		return apiError(http.StatusBadGateway, "asking the gateway: %v", err)
	}
	return apiError(http.StatusInternalServerError, "%v", err)
}

// limit is how many entries a page has.
func (r adminRequest) limit() (int, error) {
	v := r.query.Get("limit")
	if v == "" {
		return adminLimit, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > maxAdminLimit {
		return 0, apiError(http.StatusBadRequest, "limit must be a number from 1 to %d", maxAdminLimit)
	}
	return n, nil
}

// next leads to the page after one that is full.
func (r adminRequest) next(full bool, last string) {
	if !full {
		return
	}
	query := maps.Clone(r.query)
	query.Set("before", last)
	r.header.Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, r.URL.Path, query.Encode()))
}

// readBodyOf reads the body of an order whole; none is an empty object. Names nobody
// knows are errors, since a misspelt one would change what is ordered.
func readBodyOf(r adminRequest, to any) error {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxAdminBody+1))
	if err != nil {
		return apiError(http.StatusBadRequest, "reading the body: %v", err)
	}
	if len(body) > maxAdminBody {
		return apiError(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes", maxAdminBody)
	}
	if len(body) == 0 {
		return nil
	}
	err = strictjson.Unmarshal(body, to, strictjson.RejectUnknownMembers(true))
	wrong := new(strictjson.SemanticError)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, strictjson.ErrUnknownName):
		_ = errors.As(err, &wrong)
		return apiError(http.StatusBadRequest, "the body has a member %q, which is not known here", wrong.JSONPointer.LastToken())
	case errors.As(err, &wrong) && wrong.JSONPointer != "":
		return apiError(http.StatusBadRequest, "the member %q of the body is not of the form it should have", wrong.JSONPointer.LastToken())
	}
	return apiError(http.StatusBadRequest, "the body is not one JSON object")
}

// Interface guards
var _ caddy.AdminRouter = (*adminAPI)(nil)
