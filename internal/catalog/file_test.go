package catalog_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/catalog"
)

// mug is a price list with one product.
func mug(price string) string {
	return `{"currency": "USD", "products": [{"id": "mug", "price": "` + price + `"}]}`
}

// priceFile is a price list on disk that a test changes.
type priceFile struct {
	*testing.T
	path    string
	written int
	file    *catalog.File
	reports []error
}

// openFile opens a file that prices the mug at 10.
func openFile(t *testing.T) *priceFile {
	t.Helper()
	f := &priceFile{T: t, path: filepath.Join(t.TempDir(), "catalog.json")}
	f.write(mug("10"))
	var err error
	f.file, err = catalog.Open(f.path, "USD", nil, func(err error) { f.reports = append(f.reports, err) })
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// write replaces the content. Each version is a second younger than the last one,
// however fast the test is.
func (f *priceFile) write(content string) {
	f.Helper()
	if err := os.WriteFile(f.path, []byte(content), 0o600); err != nil {
		f.Fatal(err)
	}
	f.written++
	at := time.Unix(1_700_000_000+int64(f.written), 0)
	if err := os.Chtimes(f.path, at, at); err != nil {
		f.Fatal(err)
	}
}

func (f *priceFile) remove() {
	f.Helper()
	if err := os.Remove(f.path); err != nil {
		f.Fatal(err)
	}
}

// expect looks at the price in force, twice, and at how many problems were reported.
func (f *priceFile) expect(when, price string, reports int) {
	f.Helper()
	for range 2 {
		_, total, err := f.file.List().Price([]catalog.Line{{ID: "mug", Quantity: "1"}}, "", 1)
		if err != nil || total.String() != price {
			f.Errorf("%s: the mug costs %s (%v), want %s", when, total, err, price)
		}
	}
	if len(f.reports) != reports {
		f.Errorf("%s: %d problems reported, want %d: %v", when, len(f.reports), reports, f.reports)
	}
}

func TestAPriceListIsReadAgainWhenItChanges(t *testing.T) {
	f := openFile(t)
	f.expect("at first", "10", 0)
	f.write(mug("12.50"))
	f.expect("changed", "12.5", 0)
	f.write(mug("13.50"))
	f.expect("changed to the same size", "13.5", 0)
}

func TestAPriceListIsReadAgainWhenAnotherFileTakesItsPlace(t *testing.T) {
	f := openFile(t)
	place := f.path
	f.path += ".new"
	f.write(mug("20")) // as long as the old one
	if err := os.Rename(f.path, place); err != nil {
		t.Fatal(err)
	}
	f.path = place
	f.expect("replaced", "20", 0)
}

func TestABrokenPriceListKeepsTheOldOneAndIsReportedOnce(t *testing.T) {
	f := openFile(t)
	f.write(`{"currency": "USD", "products": [{"id": "mug", "price": "free"}]}`)
	f.expect("broken", "10", 1)
	if report := f.reports[0].Error(); !strings.Contains(report, f.path) || !strings.Contains(report, `"mug"`) {
		t.Errorf("the report names neither file nor product: %s", report)
	}
	f.write(`{`)
	f.expect("broken in another way", "10", 2)
	f.write(mug("11"))
	f.expect("mended", "11", 2)
	f.write(strings.Replace(mug("5"), "USD", "EUR", 1))
	f.expect("in another currency", "11", 3)
}

func TestAMissingPriceListKeepsTheOldOneAndIsReportedOnce(t *testing.T) {
	f := openFile(t)
	f.remove()
	f.expect("removed", "10", 1)
	if report := f.reports[0].Error(); !strings.Contains(report, f.path) {
		t.Errorf("the report does not name the file: %s", report)
	}
	f.write(mug("11"))
	f.expect("restored", "11", 1)
	f.remove()
	f.expect("removed again", "11", 2)
	f.written-- // the very file that was there before
	f.write(mug("11"))
	f.expect("restored as it was", "11", 2)
}

func TestAPriceListMustBeGoodAtFirst(t *testing.T) {
	for name, content := range map[string]string{
		"broken":    `{`,
		"too large": mug("1") + strings.Repeat(" ", 4<<20),
	} {
		path := filepath.Join(t.TempDir(), "catalog.json")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := catalog.Open(path, "USD", nil, nil); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := catalog.Open(filepath.Join(t.TempDir(), "missing.json"), "USD", nil, nil); err == nil || !strings.Contains(err.Error(), "missing.json") {
		t.Errorf("missing: %v", err)
	}
	if _, err := catalog.Open(t.TempDir(), "USD", nil, nil); err == nil {
		t.Error("a directory is taken")
	}
}
