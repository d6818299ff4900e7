package ccpayment

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/catalog"
)

const (
	maxOrder = 64 << 10 // bytes of a request body
	maxNote  = 64       // characters
	maxKey   = 200      // characters of an idempotency key
)

// An order is what a buyer's page may say. There is no field for a price or an
// address: what a request has beside these has no effect.
type order struct {
	lines  []catalog.Line
	method string
	amount string // of a donation
	note   string
	key    string
}

// orderJSON is an order as a program sends it.
type orderJSON struct {
	Items []struct {
		ID       string         `json:"id"`
		Quantity jsontext.Value `json:"quantity"`
	} `json:"items"`
	Method string `json:"method"`
	Amount string `json:"amount"`
	Note   string `json:"note"`
	Key    string `json:"idempotency_key"`
}

// readOrder reads an order from a form or from JSON.
func readOrder(w http.ResponseWriter, r *http.Request) (*order, error) {
	mediaType, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return nil, errType
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxOrder)
	var o *order
	switch mediaType {
	case "application/json":
		o, err = readJSON(r.Body)
	case "application/x-www-form-urlencoded":
		o, err = readForm(r.Body)
	case "multipart/form-data":
		o, err = readMultipart(r, params)
	default:
		return nil, errType
	}
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return nil, errTooLarge
	}
	if err != nil {
		return nil, err
	}
	if key := r.Header.Get("Idempotency-Key"); key != "" {
		o.key = key
	}
	return o, o.check()
}

func readJSON(body io.Reader) (*order, error) {
	data, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	var in orderJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, badRequest("The order is not JSON of the documented form.")
	}
	o := &order{method: in.Method, amount: in.Amount, note: in.Note, key: in.Key}
	for _, item := range in.Items {
		quantity := "1"
		switch item.Quantity.Kind() {
		case '0', '"':
			quantity = strings.Trim(string(item.Quantity), `"`)
		case 0:
		default:
			return nil, badRequest("The quantity of an item is a number.")
		}
		o.lines = append(o.lines, catalog.Line{ID: item.ID, Quantity: quantity})
	}
	return o, nil
}

func readForm(body io.Reader) (*order, error) {
	data, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(data))
	if err != nil {
		return nil, badRequest("The order is not a well-formed form.")
	}
	return orderOf(form)
}

func readMultipart(r *http.Request, params map[string]string) (*order, error) {
	if params["boundary"] == "" {
		return nil, errType
	}
	if err := r.ParseMultipartForm(maxOrder); err != nil {
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			return nil, err
		}
		return nil, badRequest("The order is not a well-formed form.")
	}
	return orderOf(r.PostForm)
}

// orderOf reads the fields of a form. Items and quantities belong together in the
// order in which they stand.
func orderOf(form url.Values) (*order, error) {
	items, quantities := form["item"], form["quantity"]
	if len(quantities) == 0 {
		for range items {
			quantities = append(quantities, "1")
		}
	}
	if len(items) != len(quantities) {
		return nil, badRequest("The form has %d items and %d quantities.", len(items), len(quantities))
	}
	o := &order{
		method: form.Get("method"),
		amount: strings.TrimSpace(form.Get("amount")),
		note:   form.Get("note"),
		key:    form.Get("idempotency_key"),
	}
	for i, id := range items {
		o.lines = append(o.lines, catalog.Line{ID: id, Quantity: strings.TrimSpace(quantities[i])})
	}
	return o, nil
}

// check bounds what will be stored.
func (o *order) check() error {
	if utf8.RuneCountInString(o.note) > maxNote || !utf8.ValidString(o.note) {
		return badRequest("The note has more than %d characters.", maxNote)
	}
	if strings.ContainsFunc(o.note, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return badRequest("The note has control characters.")
	}
	if len(o.key) > maxKey {
		return badRequest("The idempotency key has more than %d characters.", maxKey)
	}
	for i := range len(o.key) {
		if o.key[i] < 0x21 || o.key[i] > 0x7e {
			return badRequest("The idempotency key may have visible ASCII characters only.")
		}
	}
	return nil
}
