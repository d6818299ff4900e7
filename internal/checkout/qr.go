package checkout

import (
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/boombuler/barcode"
	"github.com/boombuler/barcode/qr"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
)

const (
	quiet    = 4  // modules of white around a code, as the standard asks
	pngScale = 10 // pixels for a module
)

// schemes are the payment URIs that wallets read alike (BIP 21 and its kin). On
// every other network wallets read different ones or none, a URI can name the
// wrong chain, and the bare address is what all of them understand.
var schemes = []struct {
	crypto, scheme string
	chains         []string
}{
	{"BTC", "bitcoin", []string{"BTC", "Bitcoin"}},
	{"LTC", "litecoin", []string{"LTC", "Litecoin"}},
	{"BCH", "bitcoincash", []string{"BCH", "Bitcoin Cash", "BitcoinCash"}},
	{"DOGE", "dogecoin", []string{"DOGE", "Dogecoin"}},
}

// Payload is the content of a bill's QR code, empty while nothing is to be paid.
func Payload(b *bill.Bill, now time.Time) string {
	payload, _ := payment(b, b.StateAt(now))
	return payload
}

// payment returns what a wallet needs and whether it is a URI.
func payment(b *bill.Bill, s bill.State) (payload string, uri bool) {
	if !s.Payable || b.Address == "" || !b.Due.IsPositive() {
		return "", false
	}
	for _, known := range schemes {
		if !strings.EqualFold(known.crypto, b.Pays.Crypto) || b.Memo != "" {
			continue
		}
		for _, chain := range known.chains {
			if strings.EqualFold(chain, b.Pays.Chain) {
				// The case of the address is left as it is: some wallets care.
				address := strings.TrimPrefix(b.Address, known.scheme+":")
				return known.scheme + ":" + address + "?amount=" + url.QueryEscape(s.Left.String()), true
			}
		}
	}
	return b.Address, false
}

// WriteQR draws a payload as svg or png, dark on white with its quiet zone, so that
// it can be read on a page of any color.
func WriteQR(w http.ResponseWriter, payload, format string) error {
	code, err := qr.Encode(payload, qr.M, qr.Auto)
	if err != nil {
		return err
	}
	if format == "png" {
		w.Header().Set("Content-Type", "image/png")
		return png.Encode(w, raster(code))
	}
	w.Header().Set("Content-Type", "image/svg+xml")
	w.Header().Set("Content-Security-Policy", "default-src 'none'")
	return writeSVG(w, code)
}

func dark(code barcode.Barcode, x, y int) bool {
	return color.GrayModel.Convert(code.At(x, y)).(color.Gray).Y == 0
}

// writeSVG draws each run of dark modules as one rectangle of a single path.
func writeSVG(w io.Writer, code barcode.Barcode) error {
	n := code.Bounds().Dx()
	var path strings.Builder
	for y := range n {
		for x := 0; x < n; x++ {
			run := 0
			for x+run < n && dark(code, x+run, y) {
				run++
			}
			if run > 0 {
				fmt.Fprintf(&path, "M%d %dh%dv1h-%dz", x+quiet, y+quiet, run, run)
				x += run
			}
		}
	}
	size := n + 2*quiet
	_, err := fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" shape-rendering="crispEdges"><path fill="#fff" d="M0 0h%dv%dH0z"/><path d="%s"/></svg>`,
		size, size, size, size, path.String())
	return err
}

func raster(code barcode.Barcode) image.Image {
	n := code.Bounds().Dx()
	size := (n + 2*quiet) * pngScale
	img := image.NewPaletted(image.Rect(0, 0, size, size), color.Palette{color.White, color.Black})
	for y := range n * pngScale {
		for x := range n * pngScale {
			if dark(code, x/pngScale, y/pngScale) {
				img.SetColorIndex(x+quiet*pngScale, y+quiet*pngScale, 1)
			}
		}
	}
	return img
}
