package bill_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
)

func TestAmountsAreReadExactly(t *testing.T) {
	for in, want := range map[string]string{
		"0":                    "0",
		"25":                   "25",
		"25.00":                "25",
		"007":                  "7",
		"0.279173646007816863": "0.279173646007816863",
		"100000000000000000000.000000000000000001": "100000000000000000000.000000000000000001",
		"0.000000000000000000000001":               "0.000000000000000000000001",
		strings.Repeat("9", 64):                    strings.Repeat("9", 64),
	} {
		got, err := bill.ParseAmount(in)
		if err != nil {
			t.Errorf("%q: %v", in, err)
		} else if got.String() != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

// hostile are texts that some parser of numbers takes and that are no amounts here.
var hostile = []string{
	"", " ", "1e9", "1E9", "1e-9", "+1", "-1", "-0", " 1", "1 ", "1\n", "\t1",
	".", "1.", ".5", "1..5", "1.2.3", "1,5", "1,000.00", "1_000", "1'000",
	"0x10", "0b1", "1/2", "NaN", "Inf", "-Inf", "Infinity", "null", "true", `"1"`,
	"٣", "１", "1٫5", "½", "1\x00", "\x001", "\xff", "\ufeff1", "$1", "1USD",
	strings.Repeat("9", 65), "0." + strings.Repeat("0", 63), strings.Repeat("1", 1<<20),
}

func TestWhatIsNotAPlainDecimalIsNoAmount(t *testing.T) {
	for _, in := range hostile {
		if got, err := bill.ParseAmount(in); err == nil {
			t.Errorf("%.80q: read as %s", in, got)
		}
	}
}

func TestPricesAreAmountsGreaterThanZeroWithAtMostTwoDecimals(t *testing.T) {
	for in, want := range map[string]string{
		"25.00":   "25",
		"0.01":    "0.01",
		"1":       "1",
		"19.9":    "19.9",
		"25.5000": "25.5", // more digits, no more decimals
	} {
		got, err := bill.ParsePrice(in)
		if err != nil {
			t.Errorf("%q: %v", in, err)
		} else if got.String() != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
	for _, in := range append([]string{"0", "0.00", "0.001", "25.005", "0.999"}, hostile...) {
		if got, err := bill.ParsePrice(in); err == nil {
			t.Errorf("%.80q: read as %s", in, got)
		}
	}
}

// FuzzParseAmount holds the parser to its grammar, and what it reads to what was written.
func FuzzParseAmount(f *testing.F) {
	for _, in := range hostile[:len(hostile)-1] {
		f.Add(in)
	}
	for _, in := range []string{"0", "25.00", "0.279173646007816863", "100000000000000000000.000000000000000001", strings.Repeat("9", 64)} {
		f.Add(in)
	}
	plain := regexp.MustCompile(`^[0-9]+(\.[0-9]+)?$`)
	f.Fuzz(func(t *testing.T, in string) {
		got, err := bill.ParseAmount(in)
		if accepted := err == nil; accepted != (len(in) <= 64 && plain.MatchString(in)) {
			t.Fatalf("%q: error %v", in, err)
		}
		if err != nil {
			return
		}
		if want := canonical(in); got.String() != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
		again, err := bill.ParseAmount(got.String())
		if err != nil || !again.Equal(got) {
			t.Errorf("%q: its own text %s is read as %s, %v", in, got, again, err)
		}
	})
}

// canonical takes the zeros that mean nothing from a plain decimal, by hand.
func canonical(s string) string {
	whole, decimals, _ := strings.Cut(s, ".")
	if whole = strings.TrimLeft(whole, "0"); whole == "" {
		whole = "0"
	}
	if decimals = strings.TrimRight(decimals, "0"); decimals == "" {
		return whole
	}
	return whole + "." + decimals
}
