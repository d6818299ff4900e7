package catalog_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/catalog"
)

const maxQuantity = 99

// shop is the price list of these tests.
const shop = `{
	"currency": "USD",
	"products": [
		{"id": "field-guide", "name": "Field guide", "price": "25.00", "max_quantity": 9},
		{"id": "sticker", "name": "Sticker", "price": "0.1"},
		{"id": "gift", "name": "A gift", "price": null, "min": "1.00", "max": "500.00"},
		{"id": "tip", "name": "A tip", "price": null, "min": "0.01", "max": "5"}
	]
}`

func parse(t *testing.T, list string, further ...catalog.Product) *catalog.List {
	t.Helper()
	l, err := catalog.Parse([]byte(list), "USD", further)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// list is a price list with these entries.
func list(entries ...string) string {
	return `{"currency": "USD", "products": [` + strings.Join(entries, ",") + `]}`
}

func TestAWrongPriceListSaysWhatIsWrong(t *testing.T) {
	const good = `{"id": "good", "price": "1"}`
	for name, tc := range map[string]struct {
		list string
		says []string
	}{
		"nothing":                     {``, []string{"not a price list"}},
		"not JSON":                    {`currency: USD`, []string{"not a price list"}},
		"not an object":               {`[]`, []string{"not a price list"}},
		"two objects":                 {list(good) + list(good), []string{"not a price list"}},
		"not UTF-8":                   {list(`{"id": "good", "price": "1", "name": "` + "\xff" + `"}`), []string{"not a price list"}},
		"unknown field":               {`{"currency": "USD", "products": [` + good + `], "discount": "5%"}`, []string{"discount"}},
		"field twice":                 {`{"currency": "USD", "currency": "EUR", "products": [` + good + `]}`, []string{"currency"}},
		"no currency":                 {`{"products": [` + good + `]}`, []string{"currency"}},
		"another currency":            {`{"currency": "EUR", "products": [` + good + `]}`, []string{"EUR", "USD"}},
		"no products":                 {`{"currency": "USD"}`, []string{"products"}},
		"empty products":              {list(), []string{"products"}},
		"misspelt field of a product": {list(good, `{"id": "mug", "price": "1", "maxquantity": 1}`), []string{"maxquantity", "/products/1"}},
		"field in another case":       {list(good, `{"id": "mug", "Price": "1"}`), []string{"Price", "/products/1"}},
		"field of a product twice":    {list(good, `{"id": "mug", "price": "1", "price": "2"}`), []string{"price", "/products/1"}},
		"price as a number":           {list(good, `{"id": "mug", "price": 25.00}`), []string{"/products/1/price"}},
		"quantity as a string":        {list(good, `{"id": "mug", "price": "1", "max_quantity": "9"}`), []string{"/products/1/max_quantity"}},
		"fraction of a quantity":      {list(good, `{"id": "mug", "price": "1", "max_quantity": 1.5}`), []string{"/products/1/max_quantity"}},

		"negative quantity":    {list(good, `{"id": "mug", "price": "1", "max_quantity": -1}`), []string{`"mug"`, "max_quantity"}},
		"no price":             {list(good, `{"id": "mug"}`), []string{`"mug"`, "min"}},
		"empty price":          {list(good, `{"id": "mug", "price": ""}`), []string{`"mug"`, "25.00"}},
		"price of zero":        {list(good, `{"id": "mug", "price": "0.00"}`), []string{`"mug"`, "zero"}},
		"negative price":       {list(good, `{"id": "mug", "price": "-1"}`), []string{`"mug"`}},
		"three decimals":       {list(good, `{"id": "mug", "price": "1.005"}`), []string{`"mug"`, "two decimals"}},
		"price in thousands":   {list(good, `{"id": "mug", "price": "1,000.00"}`), []string{`"mug"`}},
		"exponent":             {list(good, `{"id": "mug", "price": "1e3"}`), []string{`"mug"`}},
		"product twice":        {list(good, `{"id": "mug", "price": "1"}`, `{"id": "mug", "price": "2"}`), []string{`"mug"`, "twice"}},
		"id with a space":      {list(good, `{"id": "a mug", "price": "1"}`), []string{`"a mug"`}},
		"id like a path":       {list(good, `{"id": "../mug", "price": "1"}`), []string{`"../mug"`}},
		"long id":              {list(good, `{"id": "`+strings.Repeat("m", 65)+`", "price": "1"}`), []string{strings.Repeat("m", 65)}},
		"no id":                {list(good, `{"price": "1"}`), []string{`""`}},
		"price and bounds":     {list(good, `{"id": "mug", "price": "1", "min": "1"}`), []string{`"mug"`, "min"}},
		"donation without min": {list(good, `{"id": "gift", "price": null, "max": "5"}`), []string{`"gift"`, "min"}},
		"donation without max": {list(good, `{"id": "gift", "price": null, "min": "5"}`), []string{`"gift"`, "max"}},
		"bounds reversed":      {list(good, `{"id": "gift", "price": null, "min": "5", "max": "4.99"}`), []string{`"gift"`, "less"}},
		"donation from zero":   {list(good, `{"id": "gift", "price": null, "min": "0", "max": "5"}`), []string{`"gift"`, "min"}},
		"bound with decimals":  {list(good, `{"id": "gift", "price": null, "min": "1", "max": "5.001"}`), []string{`"gift"`, "max"}},
		"donation without id":  {list(good, `{"price": null, "min": "1", "max": "5"}`), []string{`""`}},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := catalog.Parse([]byte(tc.list), "USD", nil)
			if err == nil {
				t.Fatalf("is taken: %+v", l)
			}
			for _, word := range tc.says {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("the message does not name %s: %v", word, err)
				}
			}
		})
	}
}

func TestAListIsInItsOwnCurrencyUnlessOneIsConfigured(t *testing.T) {
	l, err := catalog.Parse([]byte(`{"currency": "EUR", "products": [{"id": "mug", "price": "1"}]}`), "", nil)
	if err != nil || l.Currency != "EUR" {
		t.Errorf("got %+v, %v", l, err)
	}
}

func TestProductsOfTheConfigurationStandBesideThoseOfTheFile(t *testing.T) {
	mug, err := catalog.NewProduct("mug", "12.50", "")
	if err != nil {
		t.Fatal(err)
	}
	items, total, err := parse(t, shop, mug).Price([]catalog.Line{{ID: "mug", Quantity: "1"}, {ID: "sticker", Quantity: "1"}}, "", maxQuantity)
	if err != nil || total.StringFixed(2) != "12.60" || items[0].Name != "mug" {
		t.Errorf("got %+v, %s, %v", items, total, err)
	}

	sticker, err := catalog.NewProduct("sticker", "99", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := catalog.Parse([]byte(shop), "USD", []catalog.Product{sticker}); err == nil || !strings.Contains(err.Error(), `"sticker"`) {
		t.Errorf("a product in both places: %v", err)
	}
}

func TestCartsArePricedFromTheListExactly(t *testing.T) {
	l := parse(t, shop)
	for name, tc := range map[string]struct {
		lines  []catalog.Line
		amount string
		items  []bill.Item
		total  string
	}{
		"one": {
			lines: []catalog.Line{{"field-guide", "1"}},
			items: []bill.Item{{ID: "field-guide", Name: "Field guide", Quantity: 1, Price: "25.00"}},
			total: "25",
		},
		"several": {
			lines: []catalog.Line{{"sticker", "3"}, {"field-guide", "2"}},
			items: []bill.Item{
				{ID: "sticker", Name: "Sticker", Quantity: 3, Price: "0.10"},
				{ID: "field-guide", Name: "Field guide", Quantity: 2, Price: "25.00"},
			},
			total: "50.3",
		},
		"as many as allowed": {
			lines: []catalog.Line{{"sticker", "99"}, {"field-guide", "9"}},
			items: []bill.Item{
				{ID: "sticker", Name: "Sticker", Quantity: 99, Price: "0.10"},
				{ID: "field-guide", Name: "Field guide", Quantity: 9, Price: "25.00"},
			},
			total: "234.9",
		},
		"the least donation": {
			lines: []catalog.Line{{"gift", "1"}}, amount: "1",
			items: []bill.Item{{ID: "gift", Name: "A gift", Quantity: 1, Price: "1.00"}},
			total: "1",
		},
		"the greatest donation": {
			lines: []catalog.Line{{"gift", "1"}}, amount: "500.00",
			items: []bill.Item{{ID: "gift", Name: "A gift", Quantity: 1, Price: "500.00"}},
			total: "500",
		},
		"a donation on top": {
			lines: []catalog.Line{{"sticker", "2"}, {"gift", "1"}}, amount: "19.99",
			items: []bill.Item{
				{ID: "sticker", Name: "Sticker", Quantity: 2, Price: "0.10"},
				{ID: "gift", Name: "A gift", Quantity: 1, Price: "19.99"},
			},
			total: "20.19",
		},
	} {
		t.Run(name, func(t *testing.T) {
			items, total, err := l.Price(tc.lines, tc.amount, maxQuantity)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(items, tc.items) {
				t.Errorf("items are %+v", items)
			}
			if total.String() != tc.total {
				t.Errorf("total is %s, want %s", total, tc.total)
			}
		})
	}
}

func TestCartsThatCannotBePricedAreRefusedWithACode(t *testing.T) {
	l := parse(t, shop)
	one := func(id string) []catalog.Line { return []catalog.Line{{id, "1"}} }
	for name, tc := range map[string]struct {
		lines  []catalog.Line
		amount string
		code   string
	}{
		"empty cart":                      {nil, "", "unknown_product"},
		"unknown product":                 {one("mug"), "", "unknown_product"},
		"no product":                      {one(""), "", "unknown_product"},
		"product in another case":         {one("Sticker"), "", "unknown_product"},
		"known and unknown product":       {append(one("sticker"), one("mug")...), "", "unknown_product"},
		"a product twice":                 {append(one("sticker"), one("sticker")...), "", "bad_quantity"},
		"more than the product's limit":   {[]catalog.Line{{"field-guide", "10"}}, "", "bad_quantity"},
		"more than the general limit":     {[]catalog.Line{{"sticker", "100"}}, "", "bad_quantity"},
		"amount for a fixed price":        {one("sticker"), "0.01", "bad_amount"},
		"amount equal to the fixed price": {one("sticker"), "0.1", "bad_amount"},
		"donation without amount":         {one("gift"), "", "bad_amount"},
		"donation below the bounds":       {one("gift"), "0.99", "bad_amount"},
		"donation above the bounds":       {one("gift"), "500.01", "bad_amount"},
		"donation with three decimals":    {one("gift"), "5.005", "bad_amount"},
		"donation of nothing":             {one("tip"), "0", "bad_amount"},
		"negative donation":               {one("gift"), "-5", "bad_amount"},
		"donation with an exponent":       {one("gift"), "1e2", "bad_amount"},
		"donation in another notation":    {one("gift"), "5,00", "bad_amount"},
		"two donations":                   {append(one("gift"), one("tip")...), "2", "bad_amount"},
		"a donation twice over":           {[]catalog.Line{{"gift", "2"}}, "2", "bad_quantity"},
	} {
		t.Run(name, func(t *testing.T) {
			items, _, err := l.Price(tc.lines, tc.amount, maxQuantity)
			var r *catalog.Refusal
			if !errors.As(err, &r) {
				t.Fatalf("got %+v, %v", items, err)
			}
			if r.Code != tc.code || r.Detail == "" || items != nil {
				t.Errorf("got code %q, detail %q, items %+v; want code %q", r.Code, r.Detail, items, tc.code)
			}
		})
	}
}

func TestAQuantityIsAWholeNumberFromOne(t *testing.T) {
	l := parse(t, shop)
	quantity := func(s string) (int, error) {
		items, _, err := l.Price([]catalog.Line{{"sticker", s}}, "", maxQuantity)
		if err != nil {
			return 0, err
		}
		return items[0].Quantity, nil
	}
	for in, want := range map[string]int{"1": 1, "01": 1, "42": 42, "99": 99} {
		if got, err := quantity(in); err != nil || got != want {
			t.Errorf("%q: got %d, %v", in, got, err)
		}
	}
	for _, in := range []string{
		"", "0", "00", "-1", "-0", "+1", "1.5", "1.0", "1e1", "0x1", "0b1", "1_0", " 1", "1 ", "1\n",
		"one", "٣", "１", "NaN", "1\x00", "100", "0000001", "999999999999", "99999999999999999999", "-9223372036854775808",
	} {
		got, err := quantity(in)
		var r *catalog.Refusal
		if !errors.As(err, &r) || r.Code != "bad_quantity" {
			t.Errorf("%q: got %d, %v", in, got, err)
		}
	}
}

func TestACartHasAtMostFiftyLines(t *testing.T) {
	entries := make([]string, 51)
	lines := make([]catalog.Line, len(entries))
	for i := range entries {
		id := fmt.Sprintf("p%d", i)
		entries[i] = fmt.Sprintf(`{"id": %q, "price": "0.01"}`, id)
		lines[i] = catalog.Line{ID: id, Quantity: "1"}
	}
	l := parse(t, list(entries...))
	if _, total, err := l.Price(lines[:50], "", maxQuantity); err != nil || total.String() != "0.5" {
		t.Errorf("50 lines: %s, %v", total, err)
	}
	var r *catalog.Refusal
	if _, _, err := l.Price(lines, "", maxQuantity); !errors.As(err, &r) || r.Code != "bad_quantity" {
		t.Errorf("51 lines: %v", err)
	}
}

func TestARefusalRepeatsLittleOfWhatTheBuyerSent(t *testing.T) {
	l := parse(t, shop)
	_, _, err := l.Price([]catalog.Line{{strings.Repeat("é", 10_000), "1"}}, "", maxQuantity)
	if err == nil || len(err.Error()) > 300 {
		t.Errorf("got %.400v", err)
	}
}
