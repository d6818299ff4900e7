// Package catalog is the shop's price list: the only place a price comes from.
package catalog

import (
	"fmt"
	"regexp"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/shopspring/decimal"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
)

// maxLines bounds the lines of one cart.
const maxLines = 50

var productID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// A Product is one entry of the price list. It has either a price or, for a
// donation, bounds within which the buyer names the amount.
type Product struct {
	ID          string
	Name        string
	Price       decimal.Decimal
	Donation    bool
	Min, Max    decimal.Decimal
	MaxQuantity int
}

// A List is a price list in one currency. It is immutable.
type List struct {
	Currency string
	products map[string]Product
}

// A Line is what a buyer asks for: a product and how many of it.
type Line struct {
	ID       string
	Quantity string
}

// A Refusal is a cart that cannot be priced. Code is the code of the storefront
// API, Detail the sentence a buyer or a developer reads.
type Refusal struct {
	Code   string
	Detail string
}

func (r *Refusal) Error() string { return r.Detail }

func refuse(code, format string, args ...any) error {
	return &Refusal{Code: code, Detail: fmt.Sprintf(format, args...)}
}

// New makes a list of products that are written in the configuration.
func New(currency string, products []Product) (*List, error) {
	l := &List{Currency: currency, products: make(map[string]Product, len(products))}
	return l, l.add(products)
}

func (l *List) add(products []Product) error {
	for _, p := range products {
		if _, twice := l.products[p.ID]; twice {
			return fmt.Errorf("product %q: listed twice", p.ID)
		}
		l.products[p.ID] = p
	}
	return nil
}

// NewProduct checks an entry with a fixed price. The name defaults to the id.
func NewProduct(id, price, name string) (Product, error) {
	if !productID.MatchString(id) {
		return Product{}, fmt.Errorf("product %q: an id is 1 to 64 letters, digits, dots, dashes and underscores", id)
	}
	amount, err := bill.ParsePrice(price)
	if err != nil {
		return Product{}, fmt.Errorf("product %q: %v", id, err)
	}
	if name == "" {
		name = id
	}
	return Product{ID: id, Name: name, Price: amount}, nil
}

// file is the price list as people write it.
type file struct {
	Currency string  `json:"currency"`
	Products []entry `json:"products"`
}

type entry struct {
	ID          string  `json:"id"`
	Name        string  `json:"name"`
	Price       *string `json:"price"`
	Min         string  `json:"min"`
	Max         string  `json:"max"`
	MaxQuantity int     `json:"max_quantity"`
}

// Parse reads a price list. Unknown and repeated fields are errors, because a
// misspelt "max_quantity" must not go unnoticed. With a non-empty currency the
// list must be in it; further products come from the configuration.
func Parse(data []byte, currency string, further []Product) (*List, error) {
	var f file
	if err := json.Unmarshal(data, &f, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("not a price list: %v", err)
	}
	switch {
	case f.Currency == "":
		return nil, fmt.Errorf(`"currency" is missing`)
	case currency != "" && f.Currency != currency:
		return nil, fmt.Errorf("the price list is in %s, the option currency says %s", f.Currency, currency)
	case len(f.Products) == 0:
		return nil, fmt.Errorf(`"products" is empty`)
	}
	products := make([]Product, 0, len(f.Products)+len(further))
	for _, e := range f.Products {
		p, err := e.product()
		if err != nil {
			return nil, err
		}
		products = append(products, p)
	}
	return New(f.Currency, append(products, further...))
}

func (e entry) product() (Product, error) {
	if e.MaxQuantity < 0 {
		return Product{}, fmt.Errorf("product %q: max_quantity is negative", e.ID)
	}
	if e.Price != nil {
		if e.Min != "" || e.Max != "" {
			return Product{}, fmt.Errorf("product %q: has a price and also min or max; a donation has \"price\": null", e.ID)
		}
		p, err := NewProduct(e.ID, *e.Price, e.Name)
		p.MaxQuantity = e.MaxQuantity
		return p, err
	}
	if e.MaxQuantity != 0 {
		return Product{}, fmt.Errorf("product %q: a donation has no max_quantity", e.ID)
	}
	low, err := bill.ParsePrice(e.Min)
	if err != nil {
		return Product{}, fmt.Errorf("product %q: without a price it needs min and max: the min: %v", e.ID, err)
	}
	high, err := bill.ParsePrice(e.Max)
	if err != nil {
		return Product{}, fmt.Errorf("product %q: without a price it needs min and max: the max: %v", e.ID, err)
	}
	if high.LessThan(low) {
		return Product{}, fmt.Errorf("product %q: max is less than min", e.ID)
	}
	p, err := NewProduct(e.ID, e.Min, e.Name)
	p.Price, p.Donation, p.Min, p.Max = decimal.Zero, true, low, high
	return p, err
}

// Price prices a cart. The amount is what the buyer wants to give for a donation
// and is refused with anything else, since it would look like a price from a
// browser. The error is a *Refusal.
func (l *List) Price(lines []Line, amount string, maxQuantity int) ([]bill.Item, decimal.Decimal, error) {
	var total decimal.Decimal
	if len(lines) == 0 {
		return nil, total, refuse("unknown_product", "The cart is empty.")
	}
	if len(lines) > maxLines {
		return nil, total, refuse("bad_quantity", "A cart has at most %d lines.", maxLines)
	}

	items := make([]bill.Item, 0, len(lines))
	seen := make(map[string]bool, len(lines))
	donated := false
	for _, line := range lines {
		p, ok := l.products[line.ID]
		if !ok {
			return nil, total, refuse("unknown_product", "There is no product %q in the price list.", clip(line.ID))
		}
		if seen[p.ID] {
			return nil, total, refuse("bad_quantity", "Product %q is in the cart twice.", p.ID)
		}
		seen[p.ID] = true

		price, limit := p.Price, maxQuantity
		if p.MaxQuantity > 0 {
			limit = p.MaxQuantity
		}
		if p.Donation {
			if donated {
				return nil, total, refuse("bad_amount", "A cart has at most one donation.")
			}
			var err error
			if price, err = p.donation(amount); err != nil {
				return nil, total, err
			}
			donated, limit = true, 1
		}
		quantity, err := parseQuantity(line.Quantity, limit)
		if err != nil {
			return nil, total, err
		}
		items = append(items, bill.Item{ID: p.ID, Name: p.Name, Quantity: quantity, Price: price.StringFixed(2)})
		total = total.Add(price.Mul(decimal.NewFromInt(int64(quantity))))
	}
	if amount != "" && !donated {
		return nil, total, refuse("bad_amount", "An amount belongs to a donation; the prices here are fixed.")
	}
	return items, total, nil
}

func (p Product) donation(amount string) (decimal.Decimal, error) {
	d, err := bill.ParsePrice(amount)
	if err != nil || d.LessThan(p.Min) || d.GreaterThan(p.Max) {
		return d, refuse("bad_amount", "The amount must be between %s and %s, with at most two decimals.",
			p.Min.StringFixed(2), p.Max.StringFixed(2))
	}
	return d, nil
}

// parseQuantity takes a whole number from 1 to the limit, as a form sends it.
func parseQuantity(s string, limit int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || len(s) > 6 || s[0] == '+' || n < 1 || n > limit {
		return 0, refuse("bad_quantity", "The quantity must be a whole number from 1 to %d.", limit)
	}
	return n, nil
}

// clip keeps what a buyer sent short enough to be repeated to them.
func clip(s string) string {
	const most = 64
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
